"""The second moment of the gradients: the mean of their squares, number by number.

With g_n = ∂C_n/∂θ it is Σ_n w_n g_n². For z = a W without positions g_n = a_n ⊗ δ_n, so the square is a_n² ⊗ δ_n² and
the sum is one more product of the size of the gradient's. With positions g_n = Σ_t a_nt ⊗ δ_nt has to be summed before
it is squared: one example after the other, with the operations of the gradient and room for two of them.

Source: Dangel et al., "BackPACK: Packing more into Backprop" (2020), which calls it SumGradSquared.
"""

from dataclasses import dataclass

from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.stats.quantity import Context, Quantity
from jaxprop.uses import Use, weighted


@dataclass(frozen=True)
class SecondMoment(Quantity):
    """Find Σ_n w_n (∂C_n/∂θ)², the mean of the squared gradients, number by number, in the tree of θ.

    It is what Adam's second moment would be without a batch: Adam squares the mean of the gradients, this is the mean
    of the squares. Without weights w_n = 1/N. In half precision it is float32.

    Raises:
        JaxpropError: at the first call, by `collect`, for a network that mixes the examples of a batch.

    >>> import jax, jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))          # g_n = 3 and 12
    >>> value, grads, (second,) = stats.collect(net, HalfSquaredError(), [SecondMoment()])(x, params, jnp.zeros((2, 1)))
    >>> print(second.W)
    [[76.5]]
    """

    def close(self, use: Use, path: str, weights: Float[Array, " N"] | None) -> Array:
        """Keep Σ_n w_n g_n², as wide as sums are taken."""
        return weighted(use.squares, weights, use.examples)

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Return what was kept: it has θ's shapes, also in a `Repeat`."""
        return kept
