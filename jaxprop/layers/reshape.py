"""y = x in another order or shape, example by example: no number changes.

Forward:   `Reshape`    y_n = x_n read in row-major order into another shape
           `Transpose`  y_n = x_n with its axes in another order, y[n, i_axes[0], i_axes[1], …] = x[n, i_0, i_1, …]
Backward:  nothing is computed, so dx is dy, read back into x's shape, or with its axes in the old order.

Edge cases: one −1 in the shape stands for what is left; integer inputs stay integers and have no gradient (dx = None).
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxprop.checks import Spec, check_array
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.flatten import Shape
from jaxprop.layers.layer import Env, Layer


@dataclass(frozen=True)
class Reshape(Layer):
    """Each example in another shape: x `[N, ...]` to y `[N, *shape]`, with at most one −1 for what is left.

    Raises JaxpropError for a shape that cannot be, ShapeError for inputs whose numbers do not fill it.

    >>> Reshape((8, 8, 1))(jnp.zeros((5, 64)), ()).shape
    (5, 8, 8, 1)
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.shape, default=0) < -1 or self.shape.count(-1) > 1:
            raise JaxpropError(
                f"Reshape: shape must be a tuple of whole numbers ≥ 0 with at most one −1, found {self.shape!r}; the "
                "example axis N is not part of it"
            )

    def forward(self, x: Array, params: tuple[()], env: Env | None = None) -> tuple[Array, Shape]:
        check_array(x, self)
        numbers, filled = math.prod(x.shape[1:]), math.prod(s for s in self.shape if s != -1)
        shape = tuple(numbers // max(filled, 1) if s == -1 else s for s in self.shape)
        if math.prod(shape) != numbers:
            raise ShapeError(
                f"{self!r}: found {numbers} numbers an example in inputs {tuple(x.shape)}, expected "
                f"{'a multiple of ' if -1 in self.shape else ''}{filled}"
            )
        return x.reshape(x.shape[0], *shape), Shape(x.shape)

    def backward(self, dy: Array | None, cache: Shape, params: tuple[()]) -> tuple[Array | None, tuple[()]]:
        return (None if dy is None else dy.reshape(cache.shape)), ()

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return 0, 0


@dataclass(frozen=True)
class Transpose(Layer):
    """Each example with its axes in another order; N stays first and is not counted: axes are 0 … r − 1.

    Raises JaxpropError for axes that are no such order, ShapeError for inputs with another number of axes.

    >>> Transpose((1, 0))(jnp.zeros((5, 3, 2)), ()).shape
    (5, 2, 3)
    """

    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.axes) != list(range(len(self.axes))):
            raise JaxpropError(
                f"Transpose: axes must be the numbers from 0 in some order, the example axis N not counted, found "
                f"{self.axes!r}; (1, 0) turns [N, T, C] into [N, C, T]"
            )

    def forward(self, x: Array, params: tuple[()], env: Env | None = None) -> tuple[Array, tuple[()]]:
        check_array(x, self)
        if len(x.shape) != len(self.axes) + 1:
            raise ShapeError(
                f"{self!r}: inputs must be [N, ...] with {len(self.axes)} axes after N, found shape {tuple(x.shape)}"
            )
        return jnp.transpose(x, (0, *(axis + 1 for axis in self.axes))), ()

    def backward(self, dy: Array | None, cache: Any, params: tuple[()]) -> tuple[Array | None, tuple[()]]:
        back = sorted(range(len(self.axes)), key=lambda axis: self.axes[axis])
        return (None if dy is None else jnp.transpose(dy, (0, *(axis + 1 for axis in back)))), ()

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return 0, 0
