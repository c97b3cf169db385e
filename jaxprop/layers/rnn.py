r"""h_t = tanh(x_t W_input + b + h_{t−1} W_hidden): the simplest network with a memory.

One step, with z_t = x_t W_input + b from `recurrent.py`, which says how steps become a layer:

    h_t = tanh(z_t + h_{t−1} W_hidden)               h [N, F]   W_hidden [F, F]

Backward: let dh_t be given, all that reaches C through h_t. tanh' = 1 − tanh², so

    δ_t      = dh_t (1 − h_t²)                       the error at what tanh was taken of
    dh_{t−1} = δ_t W_hiddenᵀ

Nothing but h is kept. Gates and bias as in Flax's `SimpleCell`: one bias, on the input.
Edge cases: those of `recurrent.py`. Source: Elman 1990, "Finding structure in time".
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxprop.layers.recurrent import Recurrent, State


class RNNParams(NamedTuple):
    """θ of an `RNN`: W_input `[I, F]`, W_hidden `[F, F]`, b `[F]`.

    >>> RNNParams._fields
    ('W_input', 'W_hidden', 'b')
    """

    W_input: Any
    W_hidden: Any
    b: Any


@dataclass(frozen=True)
class RNN(Recurrent):
    """h_t = tanh(x_t W_input + b + h_{t−1} W_hidden): x `[N, T, I]` to `[N, T, features]`, or sequence=False to h_T.

    A padding mask in `env.mask` `[N, T]` carries h over masked positions. Raises ShapeError for inputs that do not fit.

    >>> import jax
    >>> x = jnp.zeros((2, 5, 3))
    >>> layer = RNN(4, sequence=False)
    >>> params = jax.eval_shape(layer.init, jax.random.key(0), x)
    >>> jax.eval_shape(layer, x, params).shape
    (2, 4)
    """

    gates: ClassVar[int] = 1

    def params_of(self, W_input: Any, W_hidden: Any, b: Any) -> RNNParams:
        return RNNParams(W_input, W_hidden, b)

    def step(self, z: Array, state: State, params: RNNParams) -> tuple[State, Any]:
        (h,) = state
        return (jnp.tanh(z + h @ params.W_hidden),), ()

    def step_back(self, d: State, h: Array, h_before: Array, kept: Any, params: RNNParams) -> tuple[State, Array]:
        (dh,) = d
        delta = dh * (1 - h * h)
        return (delta @ params.W_hidden.T,), delta
