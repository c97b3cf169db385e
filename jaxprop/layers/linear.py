r"""z = x W + b: every output is a weighted sum of all inputs, plus a bias.

Forward, for example n, position t, output o:

    z_nto = Σ_i x_nti W_io + b_o                       x [N, (T,) I]   W [I, O]   b [O]   z [N, (T,) O]

Backward: let δ = ∂C_n/∂z be given. A nudge of any quantity reaches C only through z, so by the chain rule

    the way to the input        ∂C_n/∂x_nti = Σ_o δ_nto W_io            every path back from the outputs, summed
    the way to the weight       ∂C_n/∂W_io  = Σ_t x_nti δ_nto           because ∂z_nto/∂W_io = x_nti
    the way to the bias         ∂C_n/∂b_o   = Σ_t δ_nto                 because ∂z_nto/∂b_o  = 1

The backward pass does not carry the last two sums out: it hands on the pairs (x, δ) and δ as uses.

Edge cases: `bias=False` has b = None (f(x) = xW cannot even be x + 1). Integer inputs are refused: they have no
gradient, and scaling them is a decision (`Standardize`).
Source: Nielsen, Neural Networks and Deep Learning, ch. 2, BP2 to BP4; initialisers: `jax.nn.initializers`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.checks import TO_FLOATING, Spec, as_rows, check_array, check_floating, check_key, check_theta, check_whole
from jaxprop.errors import ShapeError, pick
from jaxprop.layers.initializers import initializers
from jaxprop.layers.layer import Env, Layer
from jaxprop.uses import Outer, Shift


class LinearParams(NamedTuple):
    """θ of a `Linear`: W `[I, O]` and b `[O]` (None without bias). Its uses have the same shape.

    >>> import jax.numpy as jnp
    >>> LinearParams(W=jnp.zeros((3, 1)), b=None).W.shape
    (3, 1)
    """

    W: Any
    b: Any


@dataclass(frozen=True, init=False)
class Linear(Layer):
    """z = x W + b, with x `[N, (T,) I]`, W `[I, features]`, b `[features]`.

    `init` (of W) and `bias_init` are names in `jax.nn.initializers`, or 'standard_normal' for the book's N(0, 1).
    Raises JaxpropError for a name it does not know, ShapeError for inputs that do not fit (both before any step runs).

    >>> import jax.numpy as jnp
    >>> layer = Linear(1)
    >>> x = jnp.array([[1.0, 3.0, 2.0]])
    >>> print(layer(x, LinearParams(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1]))))
    [[1.35]]
    """

    features: int
    bias: bool
    weight_init: str
    bias_init: str
    instead: ClassVar = {"bias": "the inputs are read off x: what is Linear(64, 32) elsewhere is Linear(32) here"}

    def __init__(
        self, features: int, bias: bool = True, init: str = "glorot_uniform", bias_init: str = "zeros"
    ) -> None:
        self._keep(features=features, bias=bias, init=init, bias_init=bias_init)

    def __post_init__(self) -> None:
        check_whole(self.features, "Linear: features")
        pick(self.weight_init, initializers(), "init")
        pick(self.bias_init, initializers(), "bias_init")

    def init(self, key: Array | None, x: Spec) -> LinearParams:
        self._check_inputs(x)
        W_key, b_key = jax.random.split(check_key(key, "Linear.init", "W"))
        make = initializers()
        W = make[self.weight_init](W_key, (x.shape[-1], self.features), x.dtype)
        # a bias has no fan-in: initialisers that need one see it as a column
        b = make[self.bias_init](b_key, (self.features, 1), x.dtype)[:, 0] if self.bias else None
        return LinearParams(W, b)

    def forward(self, x: Array, params: LinearParams, env: Env | None = None) -> tuple[Array, Array]:
        self._check_inputs(x)
        check_theta(params, LinearParams, self, ("b",))
        W, b = params
        if W.shape != (x.shape[-1], self.features):
            raise ShapeError(
                f"Linear({self.features}): inputs {tuple(x.shape)} need W of shape {(x.shape[-1], self.features)}, "
                f"found {tuple(W.shape)}; were these params made for other inputs?"
            )
        if (b is not None) != self.bias or (b is not None and b.shape != (self.features,)):
            found = "None" if b is None else f"shape {tuple(b.shape)}"
            expected = f"shape {(self.features,)}" if self.bias else "None (bias=False)"
            raise ShapeError(f"{self!r}: found b of {found}, expected {expected}; make params with init(key, x)")
        z = x @ W
        return (z if b is None else z + across(b, z)), x

    def backward(self, dy: Array, cache: Array, params: LinearParams) -> tuple[Array, LinearParams]:
        x, delta, (W, b) = cache, dy, params
        dx = delta @ W.T  # Σ_o δ_o W_io
        W_use = Outer(x, delta, W.shape, W.dtype)
        b_use = None if b is None else Shift(delta, b.shape, b.dtype)
        return dx, LinearParams(W_use, b_use)

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        multiply_adds = 2 * x.size * self.features  # x W forward; δ Wᵀ and xᵀ δ backward
        shifts = y.size if self.bias else 0
        return multiply_adds + shifts, 2 * multiply_adds + shifts

    def _check_inputs(self, x: Spec) -> None:
        check_array(x, self, "[N, ..., I]")
        if len(x.shape) < 2:
            raise ShapeError(
                f"Linear({self.features}): inputs must be [N, ..., I], found shape {tuple(x.shape)}; {as_rows(x)}"
            )
        check_floating(x, f"Linear({self.features})", hint=TO_FLOATING)
        if not x.shape[-1]:
            raise ShapeError(f"{self!r}: inputs {tuple(x.shape)} have no features, expected at least one")
