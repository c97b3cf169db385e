"""Where a kernel meets patches: convolutions, transposed ones too."""

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.arrays.window import Window
from jaxprop.uses import Patch
from jaxprop.xray.following.meetings import Found, Meeting, Met, cut, of_one_dtype
from jaxprop.xray.following.parts import Lost, Part
from jaxprop.xray.versions import Equation


class Convolution(Meeting):
    """A convolution, transposed ones too: `Patch`."""

    def check(self, part: Part) -> None:
        """What `Window` can say, of a kernel that is whole in each of its windows."""
        numbers = self.equation.params["dimension_numbers"].rhs_spec
        full = part.full(self.given)
        if full is None or any(full.view.seen[axis] != self.given[axis] for axis in numbers[2:]):
            raise Lost("a convolution with a kernel in which the parameter is repeated, or beside others")
        grouped = self.equation.params["feature_group_count"] > 1
        if grouped and full.view.seen != self.given:
            raise Lost("a convolution of groups with a kernel in which the parameter lies beside others")
        if window_of(self.equation) is None:
            raise Lost("a convolution that is spread and has strides, groups of examples, or both")

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t u_t ⊗ δ_t; steps of scans, and an axis of examples inside one, are positions more."""
        window, numbers = window_of(self.equation), self.equation.params["dimension_numbers"]
        assert window is not None
        full = self.full(part)
        out, into, *kernel = numbers.rhs_spec
        a, delta = met.a, met.delta
        if window.groups == 1:
            a, delta = cut(a, full, {into: numbers.lhs_spec[1]}), cut(delta, full, {out: numbers.out_spec[1]})
        a, delta = of_one_dtype(_channels_last(a, numbers.lhs_spec), _channels_last(delta, numbers.out_spec))
        view = full.view.transposed((*kernel, into, out))
        B = a.shape[1] * a.shape[2]
        if B > 1:
            window = _beside(window, B)
            view = view.reshaped((1, *view.seen))
        a, delta = (each.reshape(each.shape[0], *((B,) if B > 1 else ()), *each.shape[3:]) for each in (a, delta))
        return Patch(a, delta, view.seen, dtype, window), view


def window_of(equation: Equation) -> Window | None:
    """Where the windows of a convolution lie; None where a `Window` cannot say it."""
    params, (x, W), y = equation.params, (v.aval.shape for v in equation.invars), equation.outvars[0].aval.shape
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    low = [pad for pad, _ in params["padding"]]
    kernel, fine, coarse = (
        tuple(shape[axis] for axis in spec[2:])
        for shape, spec in ((W, numbers.rhs_spec), (x, numbers.lhs_spec), (y, numbers.out_spec))
    )
    strides, dilation, spread = (tuple(params[name]) for name in ("window_strides", "rhs_dilation", "lhs_dilation"))
    if params["batch_group_count"] > 1:
        return None
    if set(spread) <= {1}:
        return Window(kernel, strides, dilation, tuple(low), fine, coarse, groups)
    if set(strides) <= {1} and groups == 1:  # z_q meets x_t where q = s t + d (K − 1 − k) − p, with k running backwards
        low = tuple(d * (k - 1) - pad for d, k, pad in zip(dilation, kernel, low, strict=True))
        return Window(kernel, spread, dilation, low, coarse, fine, groups, flipped=True)
    return None


def _beside(window: Window, B: int) -> Window:
    """A window one wide along an axis more, in front."""
    return replace(
        window, kernel=(1, *window.kernel), strides=(1, *window.strides), dilation=(1, *window.dilation),
        low=(0, *window.low), fine=(B, *window.fine), coarse=(B, *window.coarse),
    )  # fmt: skip


def _channels_last(array: Array, spec: Sequence[int]) -> Array:
    """`[N, C, ...]` as `[N, C, B, *spatial, channels]`."""
    examples, channels, *spatial = spec
    return jnp.transpose(array, (0, 1, *(2 + axis for axis in (examples, *spatial, channels))))
