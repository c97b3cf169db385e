"""What is measured of an array, in one pass over it: a few numbers, whatever its size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxprop.arrays.dtypes import wide
from jaxprop.xray.versions import explicit_sharding

FULL = ("count", "nan", "inf", "zero", "square", "largest", "least", "most", "projection")
LIGHT = ("count", "square", "largest")


def names(light: bool) -> tuple[str, ...]:
    """Name the numbers of a measure, in their order."""
    return LIGHT if light else FULL


def joined(measured: Any, xp: Any = np) -> Any:
    """Make one measure of several arrays' `[n, ..., measures]`, as if they were one array: of a scan's steps, say.

    xp: NumPy, or `jax.numpy` inside a program.
    """
    light = measured.shape[-1] == len(LIGHT)
    of = {name: measured[..., i] for i, name in enumerate(names(light))}
    total, top = of["count"].sum(0), of["largest"].max(0)
    squares = _divided(of["largest"], top, xp) ** 2 * of["square"] * of["count"]
    square = squares.sum(0) / xp.maximum(total, 1)
    if light:
        return xp.stack([total, square, xp.where(xp.isnan(square), xp.nan, top)], -1)
    sums = (of["nan"].sum(0), of["inf"].sum(0), of["zero"].sum(0))
    projected = (of["projection"] * xp.sqrt(of["count"])).sum(0) / xp.sqrt(xp.maximum(total, 1))
    least = xp.where(of["count"] > 0, of["least"], xp.inf).min(0)  # what did not run measured nothing
    most = xp.where(of["count"] > 0, of["most"], -xp.inf).max(0)
    return xp.stack([total, *sums, square, top, least, most, projected], -1)


def not_finite(measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say of measures, `[..., measures]`, whether they tell of NaN, and whether of infinities: `[...]` of bool each."""
    if measured.shape[-1] == len(LIGHT):
        largest = measured[..., LIGHT.index("largest")]
        return np.isnan(largest), np.isinf(largest)
    return measured[..., FULL.index("nan")] > 0, measured[..., FULL.index("inf")] > 0


def width(dtype: Any) -> Any:
    """Give the dtype of the measures of an array: float64 for its own 64 bits, float32 for all others."""
    return wide(jnp.finfo(dtype).dtype)


@jax.jit  # traced once for each shape, wherever it is asked for: a third of the time of tracing a whole network
def full(values: Array) -> Array:
    """Count the numbers, and those that are NaN, infinite and zero; of the finite ones measure the mean square, the
    largest absolute value, the least, the most and a projection. `[len(FULL)]`.

    The mean square is that of x / largest, so that neither 1e30 nor 1e-30 is lost by squaring. The projection is
    Σ_i s_i x_i / √n with signs s_i that look random and are the same wherever an array of this shape is measured. So it
    tells apart what the other numbers cannot, two arrays with the same numbers in another order: of two arrays x and y
    its difference is about the RMS of x - y, as that of a random projection is.

    All but the mean square are one reduction: each of its own took twice the time, to compile too.
    """
    values, dtype = _real(values)
    x = jnp.where(jnp.isfinite(values), values, 0)
    counts = [flags.astype(jnp.int32) for flags in (jnp.isnan(values), jnp.isinf(values), values == 0)]
    of = (*counts, x, x, jnp.where(_signs(x), x, -x))
    zero, none, infinity = np.zeros((), dtype), np.int32(0), np.asarray(np.inf, dtype)
    starts = (none, none, none, infinity, -infinity, zero)
    nan, inf, zeros, least, most, projection = lax.reduce(of, starts, _both, tuple(range(values.ndim)))
    largest = jnp.maximum(jnp.maximum(-least, most), 0)
    size = max(values.size, 1)
    measured = (values.size, nan, inf, zeros, _square(x, largest), largest, least, most, projection / size**0.5)
    return jnp.stack([jnp.asarray(each, dtype) for each in measured])


def _both(a: Any, b: Any) -> tuple[Any, ...]:
    """Join two parts of an array: sums of three counts, the least, the most, and a sum."""
    sums = tuple(one + other for one, other in zip(a[:3], b[:3], strict=True))
    return (*sums, lax.min(a[3], b[3]), lax.max(a[4], b[4]), a[5] + b[5])


@jax.jit
def light(values: Array) -> Array:
    """Measure how many numbers there are, the mean of their squares over that of the largest, and the largest absolute
    value: NaN and infinity show in the largest. `[len(LIGHT)]`.
    """
    values, dtype = _real(values)
    largest = jnp.max(jnp.abs(values), initial=0)
    square = _square(values, largest)
    largest = jnp.where(jnp.isnan(square), jnp.nan, largest)  # XLA's fast maximum on CPUs loses NaN, a sum does not
    return jnp.stack([jnp.asarray(each, dtype) for each in (values.size, square, largest)])


def _square(x: Array, largest: Array) -> Array:
    """The mean square of x / largest."""
    scaled = _divided(x, largest, jnp)
    return jnp.sum(scaled * scaled) / max(x.size, 1)


def _divided(x: Any, largest: Any, xp: Any) -> Any:
    """Divide by the largest, where that can be: so infinities stay what they are, and are not NaN.

    XLA divides by a number by multiplying by 1 / it, which is flushed to zero for the largest that there are, such as
    those that mask an attention. So both are made smaller first.
    """
    by = xp.where((largest > 0) & xp.isfinite(largest), largest, xp.ones_like(largest))
    smaller = xp.where(by > 1, xp.full_like(by, 1 / 8), xp.ones_like(by))
    return x * smaller / (by * smaller)


def _signs(x: Array) -> Array:
    """Toss a coin for each place of an array: a hash of its number, made where it is used, and nothing is kept."""
    shape, placed = x.shape, explicit_sharding(x)
    number, stride = jnp.zeros(shape, jnp.uint32, device=placed), 1
    for axis in reversed(range(len(shape))):  # not by a reshape, which would bring together what devices share
        number += lax.broadcasted_iota(jnp.uint32, shape, axis, out_sharding=placed) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    mixed = number * jnp.uint32(2654435769)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(2246822507)
    return ((mixed ^ (mixed >> 13)) * jnp.uint32(3266489909)) >> 31 == 1


def _real(values: Array) -> tuple[Array, Any]:
    """Take complex numbers by their absolute value, and half precision in float32."""
    dtype = width(values.dtype)
    return (jnp.abs(values) if jnp.iscomplexobj(values) else values).astype(dtype), dtype
