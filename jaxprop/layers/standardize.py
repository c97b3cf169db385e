"""y = (x − mean) / std: preprocessing as part of the network, so that whoever serves it gives it raw rows.

Forward:   y = (x − mean) / std          mean, std: a number, or one per feature (the last axis)
Backward:  dx = dy / std                 mean and std are settings, not parameters: nothing to learn

`Unstandardize` is the inverse, y = x · std + mean, dx = dy · std: the last layer of a network that was trained on
standardised targets and should answer in the targets' own unit.

Edge cases: a feature that never varies has std 0; `of` keeps it at 1, so the feature becomes 0 (given by hand, 0 is
refused). Integer inputs become floating here and have no gradient (dx = None).
Source: LeCun, Bottou, Orr, Müller, "Efficient BackProp" (1998), section 4.3.
"""

from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.checks import Spec
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer

Numbers = float | tuple[float, ...]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Floating:
    """Whether the input was floating: a static fact that backward needs."""

    value: bool


def _as_floats(numbers: Any) -> Numbers:
    array = np.asarray(numbers, dtype=np.float64)
    return tuple(float(v) for v in array) if array.ndim else float(array)


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
        """Return the layer with the mean and standard deviation of rows x `[N, ..., I]` (a constant's std is 1)."""
        x = np.asarray(x, dtype=np.float64)
        axes = tuple(range(x.ndim - 1)) if per_feature else None
        std = x.std(axis=axes)
        return cls(_as_floats(x.mean(axis=axes)), _as_floats(np.where(std > 0, std, 1.0)))

    def _arrays(self, x: Array) -> tuple[Array, Array]:
        """Return mean and std in the dtype that y will have."""
        for field, values in (("mean", self.mean), ("std", self.std)):
            if isinstance(values, tuple) and x.shape[-1:] != (len(values),):
                raise ShapeError(
                    f"{type(self).__name__}: {field} has {len(values)} features, inputs {tuple(x.shape)} have "
                    f"{x.shape[-1] if x.ndim else 0}; its last axis must match"
                )
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
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
