r"""A long short-term memory: a state c that is added to, and gates that say when.

One step, with z_t = x_t W_input + b from `recurrent.py`, which says how steps become a layer; σ(z) = 1/(1 + e^−z):

    (i, f, g, o) = (σ, σ, tanh, σ)(z_t + h_{t−1} W_hidden)      input gate, forget gate, candidate, output gate
    c_t = f c_{t−1} + i g                                       i, f, g, o, c, h [N, F]   W_hidden [F, 4F]
    h_t = o k,   k = tanh c_t

Backward: let dh_t and dc_t be given, all that reaches C through h_t and past it through c_t.

    dc  = dc_t + dh_t o (1 − k²)                     c_t reaches C through h_t as well
    δ_i = dc g i (1 − i)        δ_f = dc c_{t−1} f (1 − f)      σ' = σ (1 − σ)
    δ_g = dc i (1 − g²)         δ_o = dh_t k o (1 − o)
    δ_t = (δ_i, δ_f, δ_g, δ_o)                       the error at what the gates were taken of
    dc_{t−1} = dc f,   dh_{t−1} = δ_t W_hiddenᵀ

Kept: the gates, k and c_{t−1}. The 4F columns of W_input, W_hidden and b are in the order
i, f, g, o. One bias a gate: Flax's `LSTMCell` and `OptimizedLSTMCell` have it on the hidden side (`hi`, `hf`, `hg`,
`ho`), which is the same sum; like Flax's, and unlike Keras', the bias of the forget gate starts at 0.
Edge cases: those of `recurrent.py`. Source: Hochreiter & Schmidhuber 1997; the forget gate: Gers et al. 2000.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.layers.recurrent import Recurrent, State


class LSTMParams(NamedTuple):
    """θ of an `LSTM`: W_input `[I, 4F]`, W_hidden `[F, 4F]`, b `[4F]`, the gates in the order i, f, g, o.

    >>> LSTMParams._fields
    ('W_input', 'W_hidden', 'b')
    """

    W_input: Any
    W_hidden: Any
    b: Any


@dataclass(frozen=True)
class LSTM(Recurrent):
    """c_t = f c_{t−1} + i g, h_t = o tanh c_t: x `[N, T, I]` to h `[N, T, features]`, or sequence=False to h_T.

    A padding mask in `env.mask` `[N, T]` carries h and c over masked positions. Raises ShapeError for inputs that do
    not fit.

    >>> x = jnp.zeros((2, 5, 3))
    >>> layer = LSTM(4)
    >>> params = jax.eval_shape(layer.init, jax.random.key(0), x)
    >>> params.W_input.shape, jax.eval_shape(layer, x, params).shape
    ((3, 16), (2, 5, 4))
    """

    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def params_of(self, W_input: Any, W_hidden: Any, b: Any) -> LSTMParams:
        return LSTMParams(W_input, W_hidden, b)

    def step(self, z: Array, state: State, params: LSTMParams) -> tuple[State, Any]:
        h, c_before = state
        i, f, g, o = jnp.split(z + h @ params.W_hidden, 4, axis=1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        c = f * c_before + i * g
        k = jnp.tanh(c)
        return (o * k, c), (i, f, g, o, k, c_before)

    def step_back(self, d: State, h: Array, h_before: Array, kept: Any, params: LSTMParams) -> tuple[State, Array]:
        dh, dc = d
        i, f, g, o, k, c_before = kept
        dc = dc + dh * o * (1 - k * k)
        delta_i, delta_f = dc * g * i * (1 - i), dc * c_before * f * (1 - f)
        delta_g, delta_o = dc * i * (1 - g * g), dh * k * o * (1 - o)
        delta = jnp.concatenate([delta_i, delta_f, delta_g, delta_o], axis=1)
        return (delta @ params.W_hidden.T, dc * f), delta
