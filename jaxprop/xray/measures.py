"""What is measured of an array, in one pass over it: a few numbers, whatever its size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

FULL = ("count", "nan", "inf", "zero", "square", "largest", "least", "most", "projection")
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
    count, nan, inf, zero, square, largest, least, most, projection = (measured[:, i] for i in range(len(FULL)))
    total, top = count.sum(), largest.max()
    share = (largest / xp.where(top > 0, top, 1)) ** 2 * square * count
    sums = (total, nan.sum(), inf.sum(), zero.sum(), share.sum() / xp.maximum(total, 1))
    projected = (projection * xp.sqrt(count)).sum() / xp.sqrt(xp.maximum(total, 1))
    return xp.stack([*sums, top, least.min(), most.max(), projected])


def width(dtype: Any) -> Any:
    """Give the dtype of the measures of an array: float64 for its own 64 bits, float32 for all others."""
    return jnp.float64 if jnp.finfo(dtype).dtype == jnp.float64 else jnp.float32


@jax.jit  # traced once for each shape, wherever it is asked for: a third of the time of tracing a whole network
def full(values: Array) -> Array:
    """Count the numbers, and those that are NaN, infinite and zero; of the finite ones measure the mean square, the
    largest absolute value, the least, the most and a projection. `[len(FULL)]`.

    The mean square is that of x / largest, so that the square of 1e30 does not overflow. The projection is
    Σ_i s_i x_i / √n with signs s_i that look random and are the same wherever an array of this shape is measured. So it
    tells apart what the other numbers cannot, two arrays with the same numbers in another order: of two arrays x and y
    its difference is about the RMS of x - y, as that of a random projection is.
    """
    values, dtype = _real(values)
    finite = jnp.isfinite(values)
    x = jnp.where(finite, values, 0)
    largest = jnp.max(jnp.abs(x), initial=0)
    scaled = x / jnp.where(largest > 0, largest, 1)
    projection = jnp.sum(jnp.where(_signs(values.shape), x, -x)) / max(values.size, 1) ** 0.5
    counts = (jnp.full((), values.size), jnp.isnan(values).sum(), jnp.isinf(values).sum(), (values == 0).sum())
    square = jnp.sum(scaled * scaled) / max(values.size, 1)
    least, most = jnp.min(x, initial=jnp.inf), jnp.max(x, initial=-jnp.inf)
    return jnp.stack([each.astype(dtype) for each in (*counts, square, largest, least, most, projection)])


@jax.jit
def light(values: Array) -> Array:
    """Measure how many numbers there are, the mean of their squares, and the largest absolute value: NaN and infinity
    show in all. `[len(LIGHT)]`.
    """
    values, dtype = _real(values)
    square = jnp.sum(values * values) / max(values.size, 1)
    largest = jnp.max(jnp.abs(values), initial=0)
    return jnp.stack([each.astype(dtype) for each in (jnp.full((), values.size), square, largest)])


def _signs(shape: tuple[int, ...]) -> Array:
    """Toss a coin for each place of an array: a hash of its number, made where it is used, and nothing is kept."""
    number, stride = jnp.zeros(shape, jnp.uint32), 1
    for axis in reversed(range(len(shape))):  # not by a reshape, which would bring together what devices share
        number += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    mixed = number * jnp.uint32(2654435769)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(2246822507)
    return ((mixed ^ (mixed >> 13)) * jnp.uint32(3266489909)) >> 31 == 1


def _real(values: Array) -> tuple[Array, Any]:
    """Take complex numbers by their absolute value, and half precision in float32."""
    dtype = width(values.dtype)
    return (jnp.abs(values) if jnp.iscomplexobj(values) else values).astype(dtype), dtype
