"""Which devices a run computes on, and what lies on which of them."""

from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError


@dataclass(frozen=True)
class Devices:
    """The devices of a run, as a mesh whose axes say what they are for: data, fsdp and model."""

    mesh: Mesh

    def place(self, state: PyTree) -> PyTree:
        """Return a state with each array where the layout says."""
        raise NotImplementedError

    def place_batches(self, batches: PyTree) -> PyTree:
        """Return batches `[steps, B, ...]`, whose rows lie on this process, spread over the devices along B."""
        raise NotImplementedError


def read_mesh(given: Any) -> Devices | None:
    """Return the devices that were asked for; None is one device.

    >>> read_mesh(None) is None
    True
    """
    if given is None:
        return None
    raise JaxpropError("fit: mesh is not there yet")
