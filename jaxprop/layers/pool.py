r"""A window slides, and of what it sees the largest or the mean is kept.

Forward, for example n, window t, channel c, with stride s, padding p and the window's offsets k (`uses/window.py`):

    max         y_ntc = max_k x_{n, st+k−p, c}                    outside x is −∞
    average     y_ntc = Σ_k x_{n, st+k−p, c} / K                  outside x is 0, and counts
    global      y_nc  = Σ_t x_ntc / T                             one window: everything

Backward: let δ = ∂C_n/∂y be given. ∂y_t/∂x_q is the part that x_q has in y_t,

    max         dx_q = Σ_{t,k: st+k−p = q} δ_t [k = k*_t]         k*_t: the window's first maximum
    average     dx_q = Σ_{t,k: st+k−p = q} δ_t / K
    global      dx_t = δ / T

Kept by max: k* alone, one byte a window up to 256 offsets; by the averages: a shape.

Edge cases: a tie's error goes to the first maximum in row-major order, as in JAX (max has a kink there). Windows that
overlap add up. Elements that no window reaches get dx = 0. Padding counts in averages: the sum is divided by K
everywhere, as by Flax's `avg_pool` (count_include_pad=True). A NaN in a window is its maximum; its error goes to some
element of that window. A window of padding alone has maximum −∞, as in Flax, and its error goes nowhere. Masked
positions are not skipped. Half precision: means and sums are taken in float32.
Source: Boureau, Ponce, LeCun, "A Theoretical Analysis of Feature Pooling in Visual Recognition" (2010).
"""

import functools
import math
import operator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.window import Window
from jaxprop.checks import Spec, check_array
from jaxprop.errors import ShapeError
from jaxprop.layers.convolution import PADDING, Padding, Sizes, along, check_images, check_window, sliding
from jaxprop.layers.flatten import Shape
from jaxprop.layers.layer import Env, Layer


class _First(NamedTuple):
    """Which offset was the first maximum, and the shape it was found in."""

    index: Array
    x: Shape


@dataclass(frozen=True)
class _Pool(Layer):
    """What the two windowed pools share: settings and their checks."""

    window: tuple[int, ...]
    strides: Sizes | None = None
    padding: Padding = "VALID"
    instead: ClassVar = {"window": "(2,) slides along a sequence, (2, 2) over an image", "padding": PADDING}

    def __post_init__(self) -> None:
        check_window(type(self).__name__, "window", self.window, self.padding)
        strides = self.window if self.strides is None else self.strides
        object.__setattr__(self, "strides", along(type(self).__name__, "strides", strides, self.window))

    def _sliding(self, shape: tuple[int, ...]) -> Window:
        steps, ones = along("", "strides", self.strides, self.window), (1,) * len(self.window)
        return sliding(self, self.window, steps, self.padding, ones, shape)

    def _reduced(self, x: Array, outside: Any, combine: Any) -> Array:
        """`combine` over every window, by XLA's own reduce_window."""
        check_images(self, x, len(self.window))
        window = self._sliding(x.shape)
        steps, pads = (1, *window.strides, 1), [(0, 0), *window.pads, (0, 0)]
        return lax.reduce_window(x, outside, combine, (1, *self.window, 1), steps, pads)

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return y.size * math.prod(self.window), y.size * math.prod(self.window)


@dataclass(frozen=True)
class MaxPool(_Pool):
    """y = max over each window: x `[N, *F, C]` to y `[N, *T, C]`; a tie's error goes to the first maximum.

    window: a tuple, one size a spatial axis. strides: a number, or one an axis; None means windows side by side (Flax's
    default is 1). padding: "SAME", "VALID" or pairs (low, high); outside is −∞.
    Raises JaxpropError for settings that cannot be, ShapeError for inputs that do not fit.

    >>> layer, x = MaxPool((2,)), jnp.array([[[1.0], [3.0], [5.0], [5.0]]])
    >>> y, first = layer.forward(x, ())
    >>> print(y.ravel(), layer.backward(jnp.ones_like(y), first, ())[0].ravel())
    [3. 5.] [0. 1. 1. 0.]
    """

    def __call__(self, x: Array, params: tuple[()] = (), env: Env | None = None) -> Array:
        return self._reduced(x, -jnp.inf, lax.max)

    def forward(self, x: Array, params: tuple[()], env: Env | None = None) -> tuple[Array, _First]:
        check_images(self, x, len(self.window))
        window = self._sliding(x.shape)
        slices = [window.slice(x, k, outside=-jnp.inf) for k in window.offsets()]
        dtype = np.min_scalar_type(len(slices) - 1)
        y, index = slices[0], jnp.zeros(slices[0].shape, dtype)
        for k, candidate in enumerate(slices[1:], start=1):
            index = jnp.where(candidate > y, jnp.asarray(k, dtype), index)  # >, so the first of equals stays
            y = jnp.maximum(y, candidate)
        return y, _First(index, Shape(x.shape))

    def backward(self, dy: Array, cache: _First, params: tuple[()]) -> tuple[Array, tuple[()]]:
        window, delta = self._sliding(cache.x.shape), dy.astype(wide(dy.dtype))
        k_star = cache.index
        parts = [window.place(jnp.where(k_star == i, delta, 0), k) for i, k in enumerate(window.offsets())]
        return functools.reduce(operator.add, parts).astype(dy.dtype), ()


@dataclass(frozen=True)
class AvgPool(_Pool):
    """y = mean over each window: x `[N, *F, C]` to y `[N, *T, C]`; padding is 0 and counts.

    Settings and errors as for `MaxPool`.

    >>> layer, x = AvgPool((2,), padding="SAME"), jnp.array([[[1.0], [3.0], [5.0]]])
    >>> print(layer(x, ()).ravel())
    [2.  2.5]
    """

    def forward(self, x: Array, params: tuple[()], env: Env | None = None) -> tuple[Array, Shape]:
        check_images(self, x, len(self.window))
        sums = self._reduced(x.astype(wide(x.dtype)), 0, lax.add)
        return (sums / math.prod(self.window)).astype(x.dtype), Shape(x.shape)

    def backward(self, dy: Array, cache: Shape, params: tuple[()]) -> tuple[Array, tuple[()]]:
        window, delta = self._sliding(cache.shape), dy.astype(wide(dy.dtype)) / math.prod(self.window)
        parts = [window.place(delta, k) for k in window.offsets()]
        return functools.reduce(operator.add, parts).astype(dy.dtype), ()


@dataclass(frozen=True)
class GlobalAvgPool(Layer):
    """y = mean over all positions: x `[N, *T, C]` to y `[N, C]`.

    Raises ShapeError for inputs without positions, or that are not floating.

    >>> print(GlobalAvgPool()(jnp.array([[[1.0], [3.0]], [[0.0], [1.0]]]), ()).ravel())
    [2.  0.5]
    """

    def forward(self, x: Array, params: tuple[()], env: Env | None = None) -> tuple[Array, Shape]:
        check_array(x, self, "[N, ..., C]")
        check_images(self, x, max(len(x.shape) - 2, 1))
        if 0 in x.shape[1:-1]:
            raise ShapeError(f"GlobalAvgPool(): found no positions in inputs {tuple(x.shape)}, expected at least one")
        axes = tuple(range(1, x.ndim - 1))
        return jnp.mean(x.astype(wide(x.dtype)), axis=axes).astype(x.dtype), Shape(x.shape)

    def backward(self, dy: Array, cache: Shape, params: tuple[()]) -> tuple[Array, tuple[()]]:
        N, *T, C = cache.shape
        each = (dy.astype(wide(dy.dtype)) / math.prod(T)).astype(dy.dtype)
        return jnp.broadcast_to(each.reshape(N, *(1 for _ in T), C), cache.shape), ()

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return x.size, y.size
