"""y = x, seen as rows: [N, ...] becomes [N, F].

Forward:   y_nf = x_n(f), every example's numbers in row-major order
Backward:  nothing is computed, so nothing changes on the way back: dx is dy in x's shape.

Edge cases: x `[N]` becomes `[N, 1]`; integer inputs stay integers and have no gradient (dx = None).
"""

import math
from dataclasses import dataclass

import jax
from jax import Array

from jaxprop.checks import Spec, check_array
from jaxprop.layers.layer import Env, Layer


@jax.tree_util.register_static
@dataclass(frozen=True)
class Shape:
    """A static shape that rides in a cache (ints there would become tracers inside a scan)."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Flatten(Layer):
    """Rows out of anything: x `[N, ...]` to y `[N, F]`.

    >>> import jax.numpy as jnp
    >>> Flatten()(jnp.zeros((5, 8, 8)), ()).shape
    (5, 64)
    """

    def forward(self, x: Array, params: tuple[()], env: Env | None = None) -> tuple[Array, Shape]:
        check_array(x, self)
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), Shape(x.shape)

    def backward(self, dy: Array | None, cache: Shape, params: tuple[()]) -> tuple[Array | None, tuple[()]]:
        return (None if dy is None else dy.reshape(cache.shape)), ()

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return 0, 0
