r"""Three tests of whether a batch is large enough: whether its gradient points where that of all examples would.

With ḡ = mean g_n over N examples and d_n = g_n · ḡ, each test asks whether a part of the gradient's standard error is
small beside the gradient itself:

    norm            √(Σ_n |g_n − ḡ|² / (N − 1) / N) ≤ θ |ḡ|             all of it
    inner product   √(Σ_n (d_n − |ḡ|²)² / (N − 1) / N) ≤ θ |ḡ|²          what is along ḡ: it is a descent direction
    orthogonality   √(Σ_n |g_n − (d_n / |ḡ|²) ḡ|² / (N − 1) / N) ≤ ν |ḡ|   what is across it

What is found is the smallest θ, or ν, with which each is passed; norm² = inner product² + orthogonality². All three
come of |g_n|² and d_n alone. d_n is known once ḡ is: a second visit to every use, where for z = a W it is
Σ_t δ_nt · (ḡ a_nt). No gradient of one example is built.

With weights p_n = w_n / Σ_m w_m take the place of 1/N in the means, and Σ_n p_n² of 1/N elsewhere.

Edge cases: of one example NaN; where ḡ = 0, infinite or NaN.
Source: Byrd et al., "Sample size selection in optimization methods for machine learning" (2012), eq. 3.9; Bollapragada,
Byrd and Nocedal, "Adaptive Sampling Strategies for Stochastic Optimization" (2018), eq. 2.6 and 3.3; as Cockpit's
NormTest, InnerTest and OrthoTest (Schneider, Dangel and Hennig, 2021).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.stats.example_norms import grouped
from jaxprop.stats.quantity import Context, Quantity
from jaxprop.stats.shares import Shares
from jaxprop.uses import Use
from jaxprop.uses.widened import squared_norms


class Thresholds(NamedTuple):
    """Hold the smallest θ, θ and ν with which the three tests are passed: the smaller, the surer the gradient.

    >>> Thresholds._fields
    ('norm', 'inner_product', 'orthogonality')
    """

    norm: Float[Array, ""]
    inner_product: Float[Array, ""]
    orthogonality: Float[Array, ""]


@dataclass(frozen=True)
class GradientTests(Quantity):
    """Find how far a batch's gradient may be from that of all examples: norm, inner product, orthogonality test.

    Each is a standard error in units of the gradient: at 0.9, say, a test with θ = 0.9 is just passed. They fall as
    1/√N, so that a batch of N (found / θ)² examples would pass; Bollapragada et al. grow it so, with θ = 0.9 and
    ν = 5.84. Rows whose weight is 0 are left out.

    Raises:
        JaxpropError: at the first call, by `collect`, for a network that mixes the examples of a batch.

    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))          # g_n = 3 and 12
    >>> *_, (tests,) = stats.collect(net, HalfSquaredError(), [GradientTests()])(x, params, jnp.zeros((2, 1)))
    >>> print(*tests)                     # nothing is across a gradient of one number
    0.6 0.6 0.0
    """

    twice: ClassVar[bool] = True
    norms: ClassVar[bool] = True

    @property
    def parts(self) -> bool:
        """Tell that the second visit needs a tree: the gradient, of every array its own."""
        return True

    def close(self, use: Use, path: str, weights: Array | None) -> Array:
        """Keep the squared norms of a use."""
        return squared_norms(use)

    def between(self, kept: PyTree, context: Context) -> PyTree:
        """Return Σ_n w_n g_n, which every use meets again."""
        return context.grads

    def again(self, use: Use, path: str, part: Array) -> Array:
        """Return g_n · Σ_m w_m g_m of a use."""
        return use.dots(part)

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> Thresholds:
        """Return what the three tests need to be passed."""
        shares = Shares.of(context)
        norms = grouped(kept, "total", context.costs)
        total = shares.total.astype(norms.dtype)
        dots = grouped(context.again, "total", context.costs) / total
        p, squares = shares.p.astype(norms.dtype), shares.squares.astype(norms.dtype)
        leaves = jax.tree.leaves(context.grads)
        of_mean = sum(jnp.sum(jnp.square(g.astype(norms.dtype) / total)) for g in leaves)

        def error(spread: Array) -> Array:
            return jnp.sqrt(shares.unbiased(jnp.maximum(spread, 0)) * squares / of_mean)

        along = p @ jnp.square(dots - of_mean) / of_mean
        across = p @ (norms - jnp.square(dots) / of_mean)
        return Thresholds(error(p @ norms - of_mean), error(along), error(across))
