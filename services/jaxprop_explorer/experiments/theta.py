"""One number of θ: where it is, and θ with another one in its place."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError
from jaxprop.network import by_path


def array_at(tree: PyTree, path: str) -> Any:
    """Return the array at a path; raise `JaxpropError` if there is none."""
    known = by_path(tree)
    if path not in known:
        raise JaxpropError(f"there is no parameter {path!r}; known: {', '.join(known)}")
    return known[path]


def is_in(index: Sequence[int], shape: Sequence[int]) -> bool:
    """Return whether an array of this shape has a number at this index."""
    return len(index) == len(shape) and all(0 <= i < size for i, size in zip(index, shape, strict=True))


def with_number(tree: PyTree, path: str, index: Sequence[int], value: Any) -> PyTree:
    """Return a tree with one number set."""
    known = by_path(tree)
    changed = np.array(known[path])
    changed[tuple(index)] = value  # on the host: nothing is compiled for it
    known[path] = jnp.asarray(changed)
    return jax.tree.unflatten(jax.tree.structure(tree), known.values())
