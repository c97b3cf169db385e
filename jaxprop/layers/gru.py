r"""A gated recurrent unit: the new state is a mean of the old one and a candidate, and a gate says how much of each.

One step, with (z_r, z_u, z_n)_t = x_t W_input + b from `recurrent.py`, which says how steps become a layer:

    (a_r, a_u, a_n) = h_{t−1} W_hidden                          W_hidden [F, 3F]
    r = σ(z_r + a_r)                                            reset gate
    u = σ(z_u + a_u)                                            update gate (Flax's z)
    n = tanh(z_n + r m),   m = a_n + b_hidden                   candidate                r, u, n, h, m [N, F]
    h_t = (1 − u) n + u h_{t−1}

Backward: let dh be given, all that reaches C through h_t. With σ' = σ (1 − σ) and tanh' = 1 − tanh²,

    δ_n = dh (1 − u) (1 − n²)      δ_u = dh (h_{t−1} − n) u (1 − u)      δ_r = δ_n m r (1 − r)
    δ_t = (δ_r, δ_u, δ_n)                            the error at z: what W_input and b meet
    η_t = (δ_r, δ_u, δ_n r)                          the error at a: what W_hidden meets, and its last third b_hidden
    dh_{t−1} = dh u + η_t W_hiddenᵀ

Kept: r, u, n, m. The 3F columns of W_input, W_hidden and b are in the order r, u, n. Biases as in Flax's `GRUCell`: one
a gate on the input (`ir`, `iz`, `in`), and b_hidden on the candidate's hidden side (`hn`), where the reset gate makes
them two different things.
Edge cases: those of `recurrent.py`. Source: Cho et al. 2014, with the reset gate after the product (Chung et al. 2014).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.layers.recurrent import Recurrent, State
from jaxprop.uses import Outer, Shift


class GRUParams(NamedTuple):
    """θ of a `GRU`: W_input `[I, 3F]`, W_hidden `[F, 3F]`, b `[3F]`, in the order r, u, n; b_hidden `[F]` of n.

    >>> GRUParams._fields
    ('W_input', 'W_hidden', 'b', 'b_hidden')
    """

    W_input: Any
    W_hidden: Any
    b: Any
    b_hidden: Any


@dataclass(frozen=True)
class GRU(Recurrent):
    """h_t = (1 − u) n + u h_{t−1}: x `[N, T, I]` to h `[N, T, features]`, or sequence=False to h_T.

    A padding mask in `env.mask` `[N, T]` carries h over masked positions. Raises ShapeError for inputs that do not fit.

    >>> x = jnp.zeros((2, 5, 3))
    >>> layer = GRU(4)
    >>> params = jax.eval_shape(layer.init, jax.random.key(0), x)
    >>> params.W_input.shape, jax.eval_shape(layer, x, params).shape
    ((3, 12), (2, 5, 4))
    """

    gates: ClassVar[int] = 3

    def params_of(self, W_input: Any, W_hidden: Any, b: Any) -> GRUParams:
        return GRUParams(W_input, W_hidden, b, jnp.zeros(self.features, b.dtype))

    def step(self, z: Array, state: State, params: GRUParams) -> tuple[State, Any]:
        (h,) = state
        z_r, z_u, z_n = jnp.split(z, 3, axis=1)
        a_r, a_u, a_n = jnp.split(h @ params.W_hidden, 3, axis=1)
        r, u, m = jax.nn.sigmoid(z_r + a_r), jax.nn.sigmoid(z_u + a_u), a_n + across(params.b_hidden, a_n)
        n = jnp.tanh(z_n + r * m)
        return ((1 - u) * n + u * h,), (r, u, n, m)

    def step_back(self, d: State, h: Array, h_before: Array, kept: Any, params: GRUParams) -> tuple[State, Array]:
        (dh,) = d
        r, u, n, m = kept
        delta_n = dh * (1 - u) * (1 - n * n)
        delta_u = dh * (h_before - n) * u * (1 - u)
        delta_r = delta_n * m * r * (1 - r)
        eta = jnp.concatenate([delta_r, delta_u, delta_n * r], axis=1)
        return (dh * u + eta @ params.W_hidden.T,), jnp.concatenate([delta_r, delta_u, delta_n], axis=1)

    def uses(self, x: Array, h_before: Array, delta: Array, kept: Any, params: GRUParams) -> GRUParams:
        r, F = jnp.swapaxes(kept[0], 0, 1), self.features
        eta = jnp.concatenate([delta[..., : 2 * F], delta[..., 2 * F :] * r], axis=-1)
        W_input, W_hidden, b, b_hidden = params
        return GRUParams(
            Outer(x, delta, W_input.shape, W_input.dtype, scanned=True),
            Outer(h_before, eta, W_hidden.shape, W_hidden.dtype, scanned=True),
            Shift(delta, b.shape, b.dtype),
            Shift(eta[..., 2 * F :], b_hidden.shape, b_hidden.dtype),
        )

    def _shapes(self, I: int) -> dict[str, tuple[int, ...]]:
        return super()._shapes(I) | {"b_hidden": (self.features,)}
