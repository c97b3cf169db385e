"""y = m ⊙ x / (1 − rate): numbers dropped at random, the rest made up for them.

Forward:   y_i = m_i x_i / (1 − rate)           m_i = 1 with probability 1 − rate, else 0; E[y] = x
Backward:  dx_i = m_i dy_i / (1 − rate)         m is drawn once: what was dropped has no way back either

m is drawn from the key in `env.rng`, and kept as booleans. Without a key nothing is random and y = x: that is how a
network is used after training, with no mode to switch.
Edge cases: rate = 0 is y = x with a key too. One draw is for the whole batch: with other examples beside it, an example
gets another m, so quantities of single examples hold for the m that was drawn.
Source: Srivastava et al., "Dropout" (2014), with the scaling at training time ("inverted dropout", section 10).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.checks import check_floating
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Env, Layer


@dataclass(frozen=True)
class Dropout(Layer):
    """y = m ⊙ x / (1 − rate) with m drawn from `env.rng`, 0 ≤ rate < 1; y = x without a key. x of any shape.

    Raises JaxpropError for another rate, ShapeError for integer inputs.

    >>> x, env = jnp.ones((1, 100)), Env(rng=jax.random.key(3))
    >>> set(Dropout(0.5)(x, ()).ravel().tolist()), set(Dropout(0.5)(x, (), env).ravel().tolist())
    ({1.0}, {0.0, 2.0})
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise JaxpropError(f"Dropout: rate must be a number from 0 up to (not including) 1, found {self.rate!r}")

    def forward(self, x: Array, params: tuple[()], env: Env | None = None) -> tuple[Array, Array | None]:
        check_floating(x, self, hint="ids go through an Embedding first")
        if env is None or env.rng is None or self.rate == 0:
            return x, None
        kept = jax.random.bernoulli(env.rng, 1 - self.rate, x.shape)
        return self._through(x, kept), kept

    def backward(self, dy: Array, cache: Array | None, params: tuple[()]) -> tuple[Array, tuple[()]]:
        return (dy if cache is None else self._through(dy, cache)), ()

    def _through(self, x: Array, kept: Array) -> Array:
        return jnp.where(kept, x / (1 - self.rate), 0)
