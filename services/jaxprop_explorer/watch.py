"""A training run that is watched while it runs: what `fit(..., explore=True)` starts."""

from typing import Any

from jaxprop.errors import JaxpropError


def start(watched: Any) -> Any:
    """Serve the page of a run until it ends, and print its address."""
    raise JaxpropError("fit: explore: a run cannot be watched yet")
