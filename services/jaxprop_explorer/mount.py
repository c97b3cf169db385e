"""The explorer within the model server: `jaxprop serve runs --set services=explorer`, at /explorer/."""

from typing import Any

from jaxprop.errors import JaxpropError


def service(models: Any, settings: Any) -> list[Any]:
    """Return what the server answers under /explorer/: the served models, opened layer by layer."""
    raise JaxpropError("services: the explorer cannot be mounted yet")
