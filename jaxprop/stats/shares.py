"""The part that each example has in a mean: what weights say where it does not matter how large they are together."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxprop.arrays.dtypes import wide
from jaxprop.stats.quantity import Context


class Shares(NamedTuple):
    """Hold p_n = w_n / Σ_m w_m, `[N]`, with Σ_m w_m and Σ_n p_n².

    Σ_n p_n² is what is left of the variance of one example's gradient in that of the mean: 1/N without weights. So
    1 / Σ_n p_n² is the number of examples that the mean is worth, and a weight of 0 leaves an example out.

    >>> Shares._fields
    ('p', 'total', 'squares')
    """

    p: Float[Array, " N"]
    total: Float[Array, ""]
    squares: Float[Array, ""]

    @classmethod
    def of(cls, context: Context) -> "Shares":
        """Return those of the weights of C = Σ_n w_n C_n; without weights 1/N each.

        >>> context = Context(jnp.zeros(3), None, (), (), jnp.array([4.0, 4.0, 0.0]))
        >>> print(*Shares.of(context))
        [0.5 0.5 0. ] 8.0 0.5
        """
        dtype = wide(context.costs.dtype)
        N = len(context.costs)
        if context.weights is None:
            return cls(jnp.full(N, 1 / N, dtype), jnp.ones((), dtype), jnp.asarray(1 / N, dtype))
        w = jnp.asarray(context.weights, dtype)
        total = jnp.sum(w)
        return cls(w / total, total, jnp.sum((w / total) ** 2))

    def unbiased(self, spread: Array) -> Array:
        """Return the unbiased variance, of Σ_n p_n (g_n − ḡ)²: divided by 1 − Σ_n p_n², which is (N − 1)/N.

        Of one example it is NaN, 0/0: what rounding left of its spread is no 0, and would be infinite.
        """
        left = 1 - self.squares
        return spread / jnp.where(left > 0, left, jnp.nan).astype(spread.dtype)
