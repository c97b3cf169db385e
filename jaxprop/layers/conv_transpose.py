r"""z = x ∗ᵀ W + b: every input position paints its kernel onto a finer grid; what overlaps is added.

Forward, for example n, output position q, output o, with stride s, dilation d and padding p of the painted grid:

    z_nqo = Σ_{t,k: st − dk + p = q} Σ_i x_nti W_kio + b_o      x [N, *T, I]   W [*K, I, O]   b [O]   z [N, *F, O]

It is x with s − 1 zeros between its elements, p zeros before them, under an ordinary convolution of stride 1.

Backward: let δ = ∂C_n/∂z be given. A nudge of x_t reaches z wherever t painted, so by the chain rule

    the way to the input        ∂C_n/∂x_nti = Σ_k Σ_o W_kio δ_{n, st−dk+p, o}       a convolution of δ, with stride s
    the way to the weight       ∂C_n/∂W_kio = Σ_t x_nti δ_{n, st−dk+p, o}           patches of δ meet x
    the way to the bias         ∂C_n/∂b_o   = Σ_q δ_nqo

With j = K − 1 − k in place of k this is the window of `Conv` with the roles of x and δ swapped
(`jaxprop/arrays/window.py`, `flipped`).

Edge cases: padding "SAME" gives F = sT, "VALID" F = sT + max(d(K − 1) + 1 − s, 0): no painted element is lost. Pairs
(low, high) pad the grid itself, F = s(T − 1) + 1 + low + high − d(K − 1), as `jax.lax.conv_transpose` reads them: they
are not the padding of the convolution that this one would undo. Output positions that nothing reaches are b.
Source: Dumoulin and Visin (2016), section 4; names, padding and W as Flax's `ConvTranspose`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from jax import Array

from jaxprop.arrays.across import across
from jaxprop.arrays.window import Window
from jaxprop.checks import Spec, check_theta
from jaxprop.errors import ShapeError
from jaxprop.layers.convolution import Convolution, Padding, Sizes
from jaxprop.layers.layer import Env
from jaxprop.uses import Patch, Shift


class ConvTransposeParams(NamedTuple):
    """θ of a `ConvTranspose`: W `[*K, I, O]` and b `[O]` (None without bias).

    >>> import jax.numpy as jnp
    >>> ConvTransposeParams(W=jnp.zeros((3, 3, 8, 1)), b=None).W.shape
    (3, 3, 8, 1)
    """

    W: Any
    b: Any


@dataclass(frozen=True, init=False)
class ConvTranspose(Convolution):
    """z = x ∗ᵀ W + b, with x `[N, *T, I]` (channels last), W `[*K, I, features]`, z `[N, *F, features]`.

    kernel: a tuple, one size a spatial axis; strides, dilation: a number, or one an axis; padding: "SAME", "VALID" or
    pairs (low, high) of the finer grid. `init` and `bias_init` are names as for `Linear`.
    Raises JaxpropError for settings that cannot be, ShapeError for inputs that do not fit.

    >>> import jax.numpy as jnp
    >>> layer, x = ConvTranspose(1, (2,), strides=2, bias=False), jnp.array([[[1.0], [3.0]]])
    >>> print(layer(x, ConvTransposeParams(W=jnp.array([[[1.0]], [[10.0]]]), b=None)).ravel())
    [10.  1. 30.  3.]
    """

    made: ClassVar[type] = ConvTransposeParams

    def __init__(
        self,
        features: int,
        kernel: tuple[int, ...],
        strides: Sizes = 1,
        padding: Padding = "SAME",
        dilation: Sizes = 1,
        bias: bool = True,
        init: str = "glorot_uniform",
        bias_init: str = "zeros",
    ) -> None:
        self._keep(
            features=features, kernel=kernel, strides=strides, padding=padding, dilation=dilation,
            bias=bias, init=init, bias_init=bias_init,
        )  # fmt: skip

    def window(self, x: Spec) -> Window:
        self._check_inputs(x)
        coarse, strides = tuple(x.shape[1:-1]), self.strides
        extents = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        pads = self._pads(extents)
        fine = tuple(
            (t - 1) * s + 2 + lo + hi - e for t, s, (lo, hi), e in zip(coarse, strides, pads, extents, strict=True)
        )
        if min(fine) < 1:
            raise ShapeError(
                f"{self!r}: inputs {tuple(x.shape)} would give outputs of extent {fine}, expected at least one "
                "position along each axis; use more padding"
            )
        low = tuple(e - 1 - lo for e, (lo, _) in zip(extents, pads, strict=True))
        return Window(self.kernel, strides, self.dilation, low, fine, coarse, flipped=True)

    def forward(self, x: Array, params: ConvTransposeParams, env: Env | None = None) -> tuple[Array, Array]:
        window = self.window(x)
        check_theta(params, self.made, self, ("b",))
        W, b = params
        self._check_params(x, W, b)
        z = window.spread(x, W)
        return z if b is None else z + across(b, z), x

    def backward(self, dy: Array, cache: Array, params: ConvTransposeParams) -> tuple[Array, ConvTransposeParams]:
        x, delta, (W, b) = cache, dy, params
        window = self.window(x)
        dx = window.gather(delta, W)  # Σ_k Σ_o W_ko δ_{st−dk+p, o}
        W_use = Patch(x, delta, W.shape, W.dtype, window)
        b_use = None if b is None else Shift(delta, b.shape, b.dtype)
        return dx, ConvTransposeParams(W_use, b_use)

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        K, _, _ = self.window(x).size
        multiply_adds = 2 * x.size * K * self.features  # what x paints forward; the ways to x and W backward
        shifts = y.size if self.bias else 0
        return multiply_adds + shifts, 2 * multiply_adds + shifts

    def _pads(self, extents: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Zeros before and after the grid, as `jax.lax.conv_transpose` counts them."""
        if not isinstance(self.padding, str):
            return self.padding
        pads = []
        for e, s in zip(extents, self.strides, strict=True):
            if self.padding == "VALID":
                pads.append((e - 1, s - 1 + max(e - s, 0)))
            else:
                low = e - 1 if s > e - 1 else (e + s - 1) // 2
                pads.append((low, e + s - 2 - low))
        return tuple(pads)
