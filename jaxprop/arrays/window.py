r"""A window that slides over an array: the one trilinear form behind a convolution and both its derivatives.

    S(f, W, c) = Σ_n Σ_t Σ_k Σ_io  f_{n, s t + d k − p, i}  W_{k i o}  c_{n t o}

f `[N, *F, I]` is the fine array (0 outside), c `[N, *T, O]` the coarse one; t and k run over all spatial axes, with
stride s, dilation d and padding p on the low side of each. S is linear in all three, so every derivative is a
convolution of the other two:

    `gather`    ∂S/∂c_{n t o} = Σ_ki f_{n, st+dk−p, i} W_{k i o}       what a convolution does to its inputs
    `spread`    ∂S/∂f_{n q i} = Σ_{t,k: st+dk−p = q} Σ_o W_{k i o} c_{n t o}      its way back; a transposed convolution
    `contract`  ∂S/∂W_{k i o} = Σ_nt f_{n, st+dk−p, i} c_{n t o}       the weight gradient of either

One offset k at a time, f_{n, st+dk−p, i} is a strided slice (`slice`, and its transpose `place`): per-example weight
gradients are outer products of such slices with c. A grouped convolution with N in the groups would be the other way;
JAX computes it wrongly where N is sharded under jit.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

SPATIAL = "HWD"


@dataclass(frozen=True)
class Window:
    """Where the windows lie, per spatial axis: static, made from a layer's settings and the shape of its input.

    kernel K, strides s, dilation d; low: the padding p before the first element (negative crops); fine and coarse: the
    extents F and T. `flipped`: W is `[*K, O, I]` with every kernel axis running backwards, as `ConvTranspose` has it.

    >>> window = Window((2,), (1,), (1,), (0,), (3,), (2,))
    >>> print(window.gather(jnp.array([[[1.0], [3.0], [7.0]]]), jnp.array([[[-1.0]], [[1.0]]])).ravel())
    [2. 4.]
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    low: tuple[int, ...]
    fine: tuple[int, ...]
    coarse: tuple[int, ...]
    groups: int = 1
    flipped: bool = False

    def gather(self, fine: Array, W: Array) -> Array:
        """Return Σ_ki f_{st+dk−p, i} W_{k i o}, `[N, *T, O]`."""
        fine, W = _promoted(fine, W)
        W, channels = (lax.rev(W, self._axes), "OI") if self.flipped else (W, "IO")
        return _convolved(
            fine, W, self.strides, self.pads, None, self.dilation, self._dimensions(channels), self.groups
        )

    def spread(self, coarse: Array, W: Array) -> Array:
        """Return Σ_{t,k: st+dk−p = q} Σ_o W_{k i o} c_{t o}, `[N, *F, I]`: c with s − 1 zeros between, under W."""
        pads = [
            ((k - 1) * d - lo, f - (t - 1) * s - 1 + lo)
            for k, s, d, lo, f, t in zip(
                self.kernel, self.strides, self.dilation, self.low, self.fine, self.coarse, strict=True
            )
        ]
        coarse, W = _promoted(coarse, W)
        W, channels = (W, "IO") if self.flipped else (lax.rev(self._regrouped(W), self._axes), "OI")
        ones = (1,) * len(self.kernel)
        return _convolved(coarse, W, ones, pads, self.strides, self.dilation, self._dimensions(channels), self.groups)

    def contract(self, fine: Array, coarse: Array, dtype: DTypeLike) -> Array:
        """Return Σ_nt f_{n, st+dk−p, i} c_{n t o} in W's shape: c is the kernel, I the batch, and N is summed over."""
        fine, coarse = _promoted(fine, coarse)
        widest = max(
            jnp.dtype(dtype), fine.dtype, key=lambda kind: kind.itemsize
        )  # XLA adds up no narrower than it reads
        sp = SPATIAL[: len(self.kernel)]
        channels = "CN" if self.flipped else "NC"
        dimensions = (f"C{sp}N", f"I{sp}O", f"{sp}{channels}")
        # strides and dilation change places: a step of k is d elements of f, a step of t is s
        W = _convolved(
            fine, coarse, self.dilation, self._exact_pads, None, self.strides, dimensions,
            batch_group_count=self.groups, preferred_element_type=widest,
        )  # fmt: skip
        return (lax.rev(W, self._axes) if self.flipped else W).astype(dtype)

    def offsets(self) -> Iterator[tuple[int, ...]]:
        """Go through every k in the order of W's entries, backwards for a flipped W."""
        return itertools.product(*map(range, self.kernel))

    def slice(self, fine: Array, k: tuple[int, ...], outside: float = 0) -> Array:
        """Return f_{n, st+dk−p, i} for one k, `[N, *T, I]`."""
        start = [offset * d for offset, d in zip(k, self.dilation, strict=True)]
        limit = [b + span for b, span in zip(start, self._spans, strict=True)]
        N, I = fine.shape[0], fine.shape[-1]
        return lax.slice(self.padded(fine, outside), (0, *start, 0), (N, *limit, I), (1, *self.strides, 1))

    def padded(self, fine: Array, outside: float = 0) -> Array:
        """Return f, padded or cropped to where windows reach."""
        pads = [(0, 0, 0), *((lo, hi, 0) for lo, hi in self._exact_pads), (0, 0, 0)]
        return lax.pad(fine, jnp.asarray(outside, fine.dtype), pads)

    def slice_of(self, padded: Array, k: Array) -> Array:
        """Do what `slice` does on an array already padded, for a traced k `[spatial axes]`."""
        N, I = padded.shape[0], padded.shape[-1]
        start = [k[axis] * d for axis, d in enumerate(self.dilation)]
        zero = jnp.zeros_like(start[0])
        found = lax.dynamic_slice(padded, (zero, *start, zero), (N, *self._spans, I))
        return lax.slice(found, (0,) * found.ndim, found.shape, (1, *self.strides, 1))

    def place(self, coarse: Array, k: tuple[int, ...]) -> Array:
        """Put c back where the slice of k came from, 0 elsewhere: `[N, *F, O]`, the transpose of `slice`."""
        pads = [
            (offset * d - lo, f + lo - offset * d - (t - 1) * s - 1, s - 1)
            for offset, d, lo, f, t, s in zip(
                k, self.dilation, self.low, self.fine, self.coarse, self.strides, strict=True
            )
        ]
        return lax.pad(coarse, jnp.zeros((), coarse.dtype), [(0, 0, 0), *pads, (0, 0, 0)])

    @property
    def size(self) -> tuple[int, int, int]:
        """How many offsets k, fine positions and coarse positions there are."""
        return math.prod(self.kernel), math.prod(self.fine), math.prod(self.coarse)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(len(self.kernel)))

    @property
    def pads(self) -> list[tuple[int, int]]:
        """Padding of f on both sides, for what counts whole steps: elements behind the last window need no cropping."""
        return [(lo, max(hi, 0) if hi > -s else hi) for (lo, hi), s in zip(self._exact_pads, self.strides, strict=True)]

    @property
    def _spans(self) -> tuple[int, ...]:
        """How far it is from the first to the last element that one offset meets."""
        return tuple((t - 1) * s + 1 for t, s in zip(self.coarse, self.strides, strict=True))

    @property
    def _exact_pads(self) -> list[tuple[int, int]]:
        """Padding of f with which the last window ends at the last element."""
        return [
            (lo, (k - 1) * d + (t - 1) * s + 1 - f - lo)
            for k, s, d, lo, f, t in zip(
                self.kernel, self.strides, self.dilation, self.low, self.fine, self.coarse, strict=True
            )
        ]

    def _dimensions(self, channels: str) -> tuple[str, str, str]:
        sp = SPATIAL[: len(self.kernel)]
        return f"N{sp}C", f"{sp}{channels}", f"N{sp}C"

    def _regrouped(self, W: Array) -> Array:
        """`[*K, I/G, O]` as `[*K, I, O/G]`: on the way back the groups lie in the other channel axis."""
        if self.groups == 1:
            return W
        *K, I, O = W.shape
        W = W.reshape(*K, I, self.groups, O // self.groups)
        return jnp.swapaxes(W, -3, -2).reshape(*K, self.groups * I, O // self.groups)


def _convolved(
    array: Array,
    kernel: Array,
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    spread: Sequence[int] | None,
    dilation: Sequence[int],
    dimensions: tuple[str, str, str],
    groups: int = 1,
    **more: Any,
) -> Array:
    """`lax.conv_general_dilated`, with a padding that crops at the low side, or holds whole windows, done before it.

    XLA:CPU of jax 0.10 computes float32 convolutions of two axes wrongly where their padding on the low side is
    negative: it reads what lies beside the array. JAX's derivatives crop so where a window lies in padding alone.
    """
    axes = SPATIAL[: len(pads)]
    reach = [(kernel.shape[dimensions[1].index(axis)] - 1) * d for axis, d in zip(axes, dilation, strict=True)]
    if not all(0 <= low <= most for (low, _), most in zip(pads, reach, strict=True)):
        before = [(0, 0, 0)] * array.ndim
        for axis, (low, high), step in zip(axes, pads, spread or (1,) * len(pads), strict=True):
            before[dimensions[0].index(axis)] = (low, high, step - 1)
        array, spread = lax.pad(array, jnp.zeros((), array.dtype), before), None
        pads = [(0, 0)] * len(pads)
    return lax.conv_general_dilated(array, kernel, strides, pads, spread, dilation, dimensions, groups, **more)


def _promoted(one: Array, other: Array) -> tuple[Array, Array]:
    """Both in the dtype that `one @ other` would have: XLA's convolutions do not mix dtypes."""
    dtype = jnp.result_type(one, other)
    return one.astype(dtype), other.astype(dtype)
