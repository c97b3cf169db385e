"""Padding masks: which positions of a batch of sequences are real."""

from typing import Any

import jax.numpy as jnp

from jaxprop.errors import ShapeError


def check_mask(mask: Any, x: Any, what: str) -> Any:
    """Return `mask`, booleans `[N, T]` for x `[N, T, I]` (True = real), or None for no mask; else raise ShapeError.

    >>> check_mask(None, jnp.zeros((2, 3, 4)), "LSTM: mask") is None
    True
    """
    if mask is None:
        return None
    shape, dtype = getattr(mask, "shape", None), getattr(mask, "dtype", type(mask).__name__)
    if shape != x.shape[:2] or dtype != jnp.bool_:
        found = dtype if shape is None else f"{dtype}{list(shape)}"
        raise ShapeError(f"{what}: found {found}, expected bool{list(x.shape[:2])}, True where a position is real")
    return mask
