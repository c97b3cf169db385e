"""What is measured of an array, in one pass over it: a few numbers, whatever its size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

FULL = ("count", "nan", "inf", "zero", "square", "largest", "least", "most")
LIGHT = ("count", "square", "largest")


def names(light: bool) -> tuple[str, ...]:
    """Name the numbers of a measure, in their order."""
    return LIGHT if light else FULL


def joined(measured: Any, xp: Any = np) -> Any:
    """Make one measure of several arrays' `[n, measures]`, as if they were one array: of a scan's steps, say.

    xp: NumPy, or `jax.numpy` inside a program.
    """
    if measured.shape[-1] == len(LIGHT):
        count, square, largest = (measured[:, i] for i in range(len(LIGHT)))
        total = count.sum()
        return xp.stack([total, (square * count).sum() / xp.maximum(total, 1), largest.max()])
    count, nan, inf, zero, square, largest, least, most = (measured[:, i] for i in range(len(FULL)))
    total, top = count.sum(), largest.max()
    share = (largest / xp.where(top > 0, top, 1)) ** 2 * square * count
    sums = (total, nan.sum(), inf.sum(), zero.sum(), share.sum() / xp.maximum(total, 1))
    return xp.stack([*sums, top, least.min(), most.max()])


def width(dtype: Any) -> Any:
    """Give the dtype of the measures of an array: float64 for its own 64 bits, float32 for all others."""
    return jnp.float64 if jnp.finfo(dtype).dtype == jnp.float64 else jnp.float32


@jax.jit  # traced once for each shape, wherever it is asked for: a third of the time of tracing a whole network
def full(values: Array) -> Array:
    """Count the numbers, and those that are NaN, infinite and zero; of the finite ones measure the mean square, the
    largest absolute value, the least and the most. `[len(FULL)]`.

    The mean square is that of x / largest, so that the square of 1e30 does not overflow.
    """
    values, dtype = _real(values)
    finite = jnp.isfinite(values)
    x = jnp.where(finite, values, 0)
    largest = jnp.max(jnp.abs(x), initial=0)
    scaled = x / jnp.where(largest > 0, largest, 1)
    counts = (jnp.full((), values.size), jnp.isnan(values).sum(), jnp.isinf(values).sum(), (values == 0).sum())
    square = jnp.sum(scaled * scaled) / max(values.size, 1)
    least, most = jnp.min(x, initial=jnp.inf), jnp.max(x, initial=-jnp.inf)
    return jnp.stack([each.astype(dtype) for each in (*counts, square, largest, least, most)])


@jax.jit
def light(values: Array) -> Array:
    """Measure how many numbers there are, the mean of their squares, and the largest absolute value: NaN and infinity
    show in all. `[len(LIGHT)]`.
    """
    values, dtype = _real(values)
    square = jnp.sum(values * values) / max(values.size, 1)
    largest = jnp.max(jnp.abs(values), initial=0)
    return jnp.stack([each.astype(dtype) for each in (jnp.full((), values.size), square, largest)])


def _real(values: Array) -> tuple[Array, Any]:
    """Take complex numbers by their absolute value, and half precision in float32."""
    dtype = width(values.dtype)
    return (jnp.abs(values) if jnp.iscomplexobj(values) else values).astype(dtype), dtype
