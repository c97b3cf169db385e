"""The variance of the gradients over the examples, number by number: how far one example may be from the mean.

    ḡ = Σ_n p_n g_n        Var = Σ_n p_n (g_n − ḡ)² = Σ_n p_n g_n² − ḡ²        p_n = w_n / Σ_m w_m

The difference of two moments is what needs no gradients of single examples. Rounding may bring it below 0, and is taken
away there; but where ḡ² is so much larger than the variance that the two moments differ in their last digits only (by
10⁵ in float32), the variance that is found is rounding.

Edge cases: weights count in proportion, whatever their sum; a weight of 0 leaves an example out. With one example the
variance is 0 and the unbiased one, 0/0, NaN.
Source: Dangel et al., "BackPACK: Packing more into Backprop" (2020), whose Variance divides by N as this does.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.stats.quantity import Context
from jaxprop.stats.second_moment import SecondMoment
from jaxprop.stats.shares import Shares


@dataclass(frozen=True)
class Variance(SecondMoment):
    """Find Σ_n p_n (∂C_n/∂θ − ḡ)², the variance of the gradients over the examples, in the tree of θ.

    Args:
        unbiased: divide by 1 − Σ_n p_n² too, (N − 1)/N without weights, so that its mean over batches is the variance
            over all the examples that there could be. By default this batch's own, as BackPACK has it.

    In half precision it is float32, with the digits of a gradient in half precision.

    Raises:
        JaxpropError: at the first call, by `collect`, for a network that mixes the examples of a batch.

    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))          # g_n = 3 and 12, ḡ = 7.5
    >>> run = stats.collect(net, HalfSquaredError(), [Variance(), Variance(unbiased=True)])
    >>> value, grads, (own, unbiased) = run(x, params, jnp.zeros((2, 1)))
    >>> print(own.W, unbiased.W)
    [[20.25]] [[40.5]]
    """

    unbiased: bool = False

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Take the square of the mean off."""
        shares, variances = Shares.of(context), centred(kept, context)
        return jax.tree.map(shares.unbiased, variances) if self.unbiased else variances


def centred(second: PyTree, context: Context) -> PyTree:
    """Return Σ_n p_n (g_n − ḡ)² of Σ_n w_n g_n², array by array: at least 0.

    >>> context = Context(jnp.zeros(2), None, (), jnp.array(7.5), None)
    >>> print(centred(jnp.array(76.5), context))
    20.25
    """
    total = Shares.of(context).total

    def one(squares: Array, gradient: Array) -> Array:
        weight = total.astype(squares.dtype)
        return jnp.maximum(squares / weight - jnp.square(gradient.astype(squares.dtype) / weight), 0)

    return jax.tree.map(one, second, context.grads)
