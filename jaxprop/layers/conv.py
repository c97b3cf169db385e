r"""z = x ∗ W + b: the same small weighted sum at every position.

Forward, for example n, output position t, output o, with stride s, dilation d and padding p on the low side:

    z_nto = Σ_k Σ_i x_{n, st+dk−p, i} W_kio + b_o       x [N, *F, I]   W [*K, I/groups, O]   b [O]   z [N, *T, O]

x is 0 outside; t and k run over all spatial axes. (As everywhere in this field, the kernel is not mirrored.)

Backward: let δ = ∂C_n/∂z be given. A nudge of x_q reaches every z_t whose window holds q, so by the chain rule

    the way to the input        ∂C_n/∂x_nqi = Σ_{t,k: st+dk−p = q} Σ_o W_kio δ_nto      δ, transposed
    the way to the weight       ∂C_n/∂W_kio = Σ_t x_{n, st+dk−p, i} δ_nto              ∂z_nto/∂W_kio = x_{n, st+dk−p, i}
    the way to the bias         ∂C_n/∂b_o   = Σ_t δ_nto                                ∂z_nto/∂b_o   = 1

`jaxprop/arrays/window.py` has all three sums as one convolution each. The sums of the last two are left to the uses.

Edge cases: padding "SAME" gives ⌈F/s⌉ positions, the odd element of padding last; "VALID" none outside; pairs (low,
high) as given. Elements that no window reaches get dx = 0. groups: channels in groups that do not see each other;
groups = I is a depthwise convolution. Masked positions are not skipped: there is no mask in the formula.
Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016); names and W as Flax's `Conv`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from jax import Array

from jaxprop.arrays.across import across
from jaxprop.arrays.window import Window
from jaxprop.checks import Spec, check_theta, check_whole
from jaxprop.errors import JaxpropError
from jaxprop.layers.convolution import Convolution, Padding, Sizes, sliding
from jaxprop.layers.layer import Env
from jaxprop.uses import Patch, Shift


class ConvParams(NamedTuple):
    """θ of a `Conv`: W `[*K, I/groups, O]` and b `[O]` (None without bias).

    >>> import jax.numpy as jnp
    >>> ConvParams(W=jnp.zeros((3, 3, 1, 8)), b=None).W.shape
    (3, 3, 1, 8)
    """

    W: Any
    b: Any


@dataclass(frozen=True, init=False)
class Conv(Convolution):
    """z = x ∗ W + b, with x `[N, *F, I]` (channels last), W `[*K, I/groups, features]`, z `[N, *T, features]`.

    kernel: a tuple, one size a spatial axis: (3,) for sequences, (3, 3) for images, (3, 3, 3) for volumes.
    strides, dilation: a number, or one an axis. padding: "SAME", "VALID" or pairs (low, high), one an axis.
    `init` and `bias_init` are names as for `Linear`. Raises JaxpropError for settings that cannot be, ShapeError for
    inputs that do not fit.

    >>> import jax.numpy as jnp
    >>> layer, x = Conv(1, (2,), padding="VALID"), jnp.array([[[1.0], [3.0], [7.0]]])
    >>> print(layer(x, ConvParams(W=jnp.array([[[-1.0]], [[1.0]]]), b=jnp.array([0.5]))).ravel())
    [2.5 4.5]
    """

    groups: int
    made: ClassVar[type] = ConvParams

    def __init__(
        self,
        features: int,
        kernel: tuple[int, ...],
        strides: Sizes = 1,
        padding: Padding = "SAME",
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        init: str = "glorot_uniform",
        bias_init: str = "zeros",
    ) -> None:
        self._keep(
            features=features, kernel=kernel, strides=strides, padding=padding, dilation=dilation, groups=groups,
            bias=bias, init=init, bias_init=bias_init,
        )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self.groups, "Conv: groups")
        if self.features % self.groups:
            raise JaxpropError(f"Conv: features must be a multiple of groups, found {self.features} and {self.groups}")

    def window(self, x: Spec) -> Window:
        self._check_inputs(x)
        return sliding(self, self.kernel, self.strides, self.padding, self.dilation, x.shape, self.groups)

    def forward(self, x: Array, params: ConvParams, env: Env | None = None) -> tuple[Array, Array]:
        window = self.window(x)
        check_theta(params, self.made, self, ("b",))
        W, b = params
        self._check_params(x, W, b)
        z = window.gather(x, W)
        return z if b is None else z + across(b, z), x

    def backward(self, dy: Array, cache: Array, params: ConvParams) -> tuple[Array, ConvParams]:
        x, delta, (W, b) = cache, dy, params
        window = self.window(x)
        dx = window.spread(delta, W)  # Σ_{t,k} Σ_o W_ko δ_to
        W_use = Patch(x, delta, W.shape, W.dtype, window)
        b_use = None if b is None else Shift(delta, b.shape, b.dtype)
        return dx, ConvParams(W_use, b_use)

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        K, _, _ = self.window(x).size
        multiply_adds = 2 * y.size * K * (x.shape[-1] // self.groups)  # x ∗ W forward; the ways to x and W backward
        shifts = y.size if self.bias else 0
        return multiply_adds + shifts, 2 * multiply_adds + shifts
