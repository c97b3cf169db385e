"""What `Conv` and `ConvTranspose` share: settings, how θ is drawn, and what is refused."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
from jax import Array

from jaxprop.arrays.window import Window
from jaxprop.checks import TO_FLOATING, Spec, check_array, check_floating, check_key, check_whole, is_whole
from jaxprop.errors import JaxpropError, ShapeError, pick
from jaxprop.layers.initializers import initializers
from jaxprop.layers.layer import Layer

Sizes = int | tuple[int, ...]
Padding = str | tuple[tuple[int, int], ...]
PADDING = "write 'SAME', 'VALID' or a pair (low, high) for every spatial axis"


@dataclass(frozen=True, init=False)
class Convolution(Layer):
    """A layer with a kernel W `[*K, I/groups, O]` that slides over x `[N, *F, I]`: 1-D, 2-D or 3-D by `kernel`.

    Raises JaxpropError for settings that cannot be, ShapeError for inputs or params that do not fit.
    """

    features: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    bias: bool
    weight_init: str
    bias_init: str
    made: ClassVar[type]  # the NamedTuple of θ
    instead: ClassVar = {
        "kernel": "(3,) slides along a sequence, (3, 3) over an image; the channels of x are read off x",
        "padding": PADDING,
    }

    @property
    def _groups(self) -> int:
        return getattr(self, "groups", 1)

    def __post_init__(self) -> None:
        what = type(self).__name__
        check_whole(self.features, f"{what}: features")
        check_window(what, "kernel", self.kernel, self.padding)
        for name in ("strides", "dilation"):
            object.__setattr__(self, name, along(what, name, getattr(self, name), self.kernel))
        pick(self.weight_init, initializers(), "init")
        pick(self.bias_init, initializers(), "bias_init")

    def init(self, key: Array | None, x: Spec) -> Any:
        self.window(x)
        key = check_key(key, f"{type(self).__name__}.init", "W")
        W_key, b_key = jax.random.split(key)
        make = initializers()
        W = make[self.weight_init](W_key, self._W_shape(x), x.dtype)
        # a bias has no fan-in: initialisers that need one see it as a column
        b = make[self.bias_init](b_key, (self.features, 1), x.dtype)[:, 0] if self.bias else None
        return self.made(W, b)

    def window(self, x: Spec) -> Window:
        """Where the windows lie for inputs like x."""
        raise TypeError(f"{type(self).__name__} must define window(x)")

    def _W_shape(self, x: Spec) -> tuple[int, ...]:
        return (*self.kernel, x.shape[-1] // self._groups, self.features)

    def _check_inputs(self, x: Spec) -> None:
        check_images(self, x, len(self.kernel))
        if x.shape[-1] % self._groups:
            raise ShapeError(
                f"{self!r}: found {x.shape[-1]} channels in inputs {tuple(x.shape)}, expected a multiple of "
                f"{self._groups} groups; use groups={math.gcd(x.shape[-1], self._groups, self.features)}, say"
            )

    def _check_params(self, x: Spec, W: Array, b: Array | None) -> None:
        if W.shape != self._W_shape(x):
            raise ShapeError(
                f"{self!r}: inputs {tuple(x.shape)} need W of shape {self._W_shape(x)}, found {tuple(W.shape)}; "
                "were these params made for other inputs?"
            )
        if (b is not None) != self.bias or (b is not None and b.shape != (self.features,)):
            found = "None" if b is None else f"shape {tuple(b.shape)}"
            expected = f"shape {(self.features,)}" if self.bias else "None (bias=False)"
            raise ShapeError(f"{self!r}: found b of {found}, expected {expected}; make params with init(key, x)")


def along(what: str, name: str, sizes: Any, window: tuple[int, ...]) -> tuple[int, ...]:
    """One whole number ≥ 1 for every axis of the window; JaxpropError for anything else.

    >>> along("Conv", "strides", 2, (3, 3, 3)), along("Conv", "strides", (1, 2), (3, 3))
    ((2, 2, 2), (1, 2))
    """
    if is_whole(sizes, 1):
        return (sizes,) * len(window)
    if not isinstance(sizes, tuple) or len(sizes) != len(window) or not all(is_whole(s, 1) for s in sizes):
        raise JaxpropError(
            f"{what}: {name} must be a whole number ≥ 1 or {len(window)} of them, one a spatial axis, found {sizes!r}"
        )
    return sizes


def explicit_padding(
    padding: Padding, fine: tuple[int, ...], extents: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """(low, high) of every axis. "SAME" gives ⌈F/s⌉ windows, the odd element of padding last; "VALID" none.

    >>> explicit_padding("SAME", (5, 4), (3, 2), (2, 1)), explicit_padding("VALID", (5,), (3,), (2,))
    (((1, 1), (0, 1)), ((0, 0),))
    """
    if not isinstance(padding, str):
        return padding
    if padding == "VALID":
        return ((0, 0),) * len(fine)
    totals = [max((-(-f // s) - 1) * s + e - f, 0) for f, e, s in zip(fine, extents, strides, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def sliding(
    what: object,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    padding: Padding,
    dilation: tuple[int, ...],
    shape: tuple[int, ...],
    groups: int = 1,
) -> Window:
    """The window of a layer that slides over x of `shape` `[N, *F, C]`."""
    fine = tuple(shape[1:-1])
    extents = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    pads = explicit_padding(padding, fine, extents, strides)
    room = [f + lo + hi - e for f, (lo, hi), e in zip(fine, pads, extents, strict=True)]
    if min(room) < 0:
        raise ShapeError(
            f"{what}: a window of {extents} does not fit into inputs {tuple(shape)} with padding {pads}, expected at "
            'least one window along each axis; use padding="SAME" or a smaller window'
        )
    coarse = tuple(r // s + 1 for r, s in zip(room, strides, strict=True))
    return Window(kernel, strides, dilation, tuple(lo for lo, _ in pads), fine, coarse, groups)


def check_window(what: str, name: str, window: Any, padding: Any) -> None:
    """Raise JaxpropError for a window or padding that cannot be."""
    if not isinstance(window, tuple) or not 1 <= len(window) <= 3 or not all(is_whole(k, 1) for k in window):
        raise JaxpropError(
            f"{what}: {name} must be a tuple of 1, 2 or 3 whole numbers ≥ 1, one a spatial axis, found {window!r}; "
            f"(3,) slides along a sequence, (3, 3) over an image"
        )
    pairs = isinstance(padding, tuple) and len(padding) == len(window)
    pairs = pairs and all(isinstance(p, tuple) and len(p) == 2 and all(is_whole(q, 0) for q in p) for p in padding)
    if padding not in ("SAME", "VALID") and not pairs:
        raise JaxpropError(
            f"{what}: padding must be 'SAME', 'VALID' or {len(window)} pairs (low, high) of whole numbers ≥ 0, found "
            f"{padding!r}"
        )


def check_images(what: object, x: Spec, rank: int) -> None:
    """Raise ShapeError unless x is floating and `[N, *F, C]` with `rank` spatial axes."""
    check_array(x, what, "[N, ..., C]")
    if len(x.shape) != rank + 2:
        raise ShapeError(
            f"{what}: inputs must be [N, {'..., ' if rank > 1 else 'T, '}C] with {rank} spatial axes, found shape "
            f"{tuple(x.shape)}; one example is x[None], one channel x[..., None]"
        )
    check_floating(x, what, hint=TO_FLOATING)
    if not x.shape[-1]:
        raise ShapeError(f"{what}: inputs {tuple(x.shape)} have no channels, expected at least one")
