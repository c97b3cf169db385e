"""y = (x − mean) / std: preprocessing as part of the network, so that whoever serves it gives it raw rows.

Forward:   y = (x − mean) / std          mean, std: a number, or one per feature (the last axis)
Backward:  dx = dy / std                 mean and std are settings, not parameters: nothing to learn

`Unstandardize` is the inverse, y = x · std + mean, dx = dy · std: the last layer of a network that was trained on
standardised targets and should answer in the targets' own unit.

Edge cases: a feature that never varies, or by no more than one unit in the last place, has std 0; `of` keeps it at 1,
so the feature becomes 0 (given by hand, 0 is refused). Integer inputs become floating here and have no gradient
(dx = None).
Source: LeCun, Bottou, Orr, Müller, "Efficient BackProp" (1998), section 4.3.
"""

from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.arrays.given import as_numbers
from jaxprop.checks import Spec, is_real, kind_of
from jaxprop.errors import DataError, JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer

Numbers = float | tuple[float, ...]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Floating:
    """Whether the input was floating: a static fact that backward needs."""

    value: bool


def _check_finite(x: np.ndarray, what: str) -> None:
    if not x.size:
        raise DataError(f"{what} is empty, of shape {list(x.shape)}; expected at least one row")
    if not np.all(np.isfinite(x)):
        row, *rest = index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        where = f"row {row}" + (f", column {', '.join(map(str, rest))}" if rest else "")
        raise DataError(f"{what} {where} is {x[index]}; expected finite numbers: remove or repair the row")


@dataclass(frozen=True)
class _Moments(Layer):
    """What the two share: a mean and a standard deviation that fit the last axis."""

    mean: Numbers
    std: Numbers

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field, values in (("mean", self.mean), ("std", self.std)):
            if not np.all(np.isfinite(values)):
                raise JaxpropError(f"{name}: {field} must be finite, found {values}")
        if np.any(np.asarray(self.std) <= 0):
            raise JaxpropError(f"{name}: std must be positive, found {self.std}; use 1 for a feature that never varies")

    @classmethod
    def of(cls, x: Any, per_feature: bool = True) -> Self:
        """Return the layer with the mean and standard deviation of rows x `[N, ..., I]` (a constant's std is 1).

        x `[N]` is one number a row. Raises DataError for no rows, and for NaN and infinity, which have no mean.
        """
        given = np.asarray(as_numbers(x, "x"))
        x = given.astype(np.float64)
        _check_finite(x, f"{cls.__name__}.of: x")
        axes = tuple(range(x.ndim - 1)) if per_feature and x.ndim > 1 else None
        low, high = x.min(axis=axes), x.max(axis=axes)
        size = np.maximum(np.abs(low), np.abs(high))
        # by a power of two, which rounds nothing, so that squares neither overflow nor vanish
        exponent = np.frexp(size)[1]
        x = np.ldexp(x, -exponent)
        mean, std = np.ldexp(x.mean(axis=axes), exponent), np.ldexp(x.std(axis=axes), exponent)
        # what the sum of equal numbers rounds away is no spread, nor is one unit in the last place
        unit = np.finfo(given.dtype).eps if np.issubdtype(given.dtype, np.floating) else 0.0
        constant = high - low <= unit * size
        return cls(np.where(constant, low, mean).tolist(), np.where(constant, 1.0, std).tolist())

    def _arrays(self, x: Array) -> tuple[Array, Array]:
        """Return mean and std in the dtype that y will have."""
        if not hasattr(x, "dtype") or not is_real(x):
            raise ShapeError(f"{self!r}: inputs must be one array of real numbers, found {kind_of(x)}")
        for field, values in (("mean", self.mean), ("std", self.std)):
            if isinstance(values, tuple) and x.shape[-1:] != (len(values),):
                raise ShapeError(
                    f"{type(self).__name__}: {field} has {len(values)} features, inputs {tuple(x.shape)} have "
                    f"{x.shape[-1] if x.ndim else 0}; its last axis must match"
                )
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
        least, largest, std = float(jnp.finfo(dtype).tiny), float(jnp.finfo(dtype).max), np.asarray(self.std)
        if np.max(np.abs(self.mean)) > largest or np.max(std) > largest or np.min(std) < least:
            raise JaxpropError(
                f"{self!r}: mean and std must fit {dtype}, which holds numbers from {least:.1g} to {largest:.1g}; "
                "rescale the rows, as with another unit"
            )
        return across(jnp.asarray(self.mean, dtype), x), across(jnp.asarray(self.std, dtype), x)


@dataclass(frozen=True)
class Standardize(_Moments):
    """y = (x − mean) / std, x `[N, ..., I]`; mean and std are numbers or `[I]`.

    >>> layer = Standardize(mean=8.0, std=4.0)
    >>> print(layer(jnp.array([[16, 8, 4]]), ()))
    [[ 2.  0. -1.]]
    """

    def forward(self, x: Array, params: tuple[()], env: Env | None = None) -> tuple[Array, Floating]:
        mean, std = self._arrays(x)
        return (x.astype(std.dtype) - mean) / std, Floating(jnp.issubdtype(x.dtype, jnp.floating))

    def backward(self, dy: Array, cache: Floating, params: tuple[()]) -> tuple[Array | None, tuple[()]]:
        _, std = self._arrays(dy)
        return (dy / std if cache.value else None), ()

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return 2 * y.size, y.size


@dataclass(frozen=True)
class Unstandardize(_Moments):
    """y = x · std + mean, the inverse of `Standardize`: answers in the targets' own unit.

    >>> print(Unstandardize(mean=8.0, std=4.0)(jnp.array([[2.0, 0.0, -1.0]]), ()))
    [[16.  8.  4.]]
    """

    def forward(self, x: Array, params: tuple[()], env: Env | None = None) -> tuple[Array, Floating]:
        mean, std = self._arrays(x)
        return x.astype(std.dtype) * std + mean, Floating(jnp.issubdtype(x.dtype, jnp.floating))

    def backward(self, dy: Array, cache: Floating, params: tuple[()]) -> tuple[Array | None, tuple[()]]:
        _, std = self._arrays(dy)
        return (dy * std if cache.value else None), ()

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return 2 * y.size, y.size
