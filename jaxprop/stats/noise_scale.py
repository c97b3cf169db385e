r"""The noise scale: how many examples a batch may have before more of them stop helping.

With G the gradient over all the examples that there could be and Σ the covariance of one example's, the gradient ḡ of a
batch of N has the mean G and the covariance Σ/N, so that

    E |ḡ|² = |G|² + tr Σ / N        E |g_n|² = |G|² + tr Σ

Solved for the two, from one batch, both without bias:

    tr Σ = (mean |g_n|² − |ḡ|²) / (1 − 1/N)        |G|² = (|ḡ|² − mean |g_n|² / N) / (1 − 1/N)

    B = tr Σ / |G|²

With weights p_n = w_n / Σ_m w_m take the place of 1/N in the means, and Σ_n p_n² elsewhere.

Edge cases: of one example, NaN. The estimate of |G|² is below 0 now and then, and so is B: of two numbers without bias
the ratio has one. Average numerator and denominator over steps, each by itself, and divide then.
Source: McCandlish et al., "An Empirical Model of Large-Batch Training" (2018), appendix A.1, with batches of 1 and N.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError
from jaxprop.stats.example_norms import Per, grouped
from jaxprop.stats.quantity import Context, Quantity
from jaxprop.stats.shares import Shares
from jaxprop.uses import Use
from jaxprop.uses.widened import squared_norms


class Noise(NamedTuple):
    """Hold the noise scale B = tr Σ / |G|², and the two estimates that it is the ratio of.

    scale: B, in examples.    numerator: tr Σ, the variances of one example's gradient, added up.
    denominator: |G|², the squared norm of the gradient without noise.    steps: of how many steps they are the mean.

    >>> Noise._fields
    ('scale', 'numerator', 'denominator', 'steps')
    """

    scale: PyTree
    numerator: PyTree
    denominator: PyTree
    steps: Array


@dataclass(frozen=True)
class NoiseScale(Quantity):
    """Find B = tr Σ / |G|², the batch size at which the noise of the gradient is as large as the gradient.

    Args:
        per: "total" of all parameters together; "layer" of each layer, {path: number}; "parameter" of each array, the
            tree of θ. Each block of a `Repeat` is a layer of its own: there they are `[L]`.
        decay: between 0 and 1: how much of the mean over the steps before is kept at each step of training.

    Returns: `Noise(scale, numerator, denominator, steps)`. `fit(..., monitor=)` reports the ratio of the two means over
    steps; in a loop of your own that is `NoiseScale().over_steps(before, now)`.

    Raises:
        JaxpropError: `per` or `decay` is something else; and at the first call for a network that mixes the examples.

    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))          # g_n = 3 and 12
    >>> *_, (noise,) = stats.collect(net, HalfSquaredError(), [NoiseScale()])(x, params, jnp.zeros((2, 1)))
    >>> print(noise.numerator, noise.denominator, noise.scale)
    40.5 36.0 1.125
    """

    norms: ClassVar[bool] = True

    per: Per = "total"
    decay: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise JaxpropError(f"NoiseScale: decay must be a number from 0 up to 1, found {self.decay}")

    def close(self, use: Use, path: str, weights: Array | None) -> Array:
        """Keep the squared norms of a use."""
        return squared_norms(use)

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> Noise:
        """Return both estimates, and their ratio."""
        shares = Shares.of(context)
        of_examples = grouped(kept, self.per, context.costs)
        of_mean = grouped(_of_gradient(kept, context.grads), self.per, context.costs[:1])

        def mean(norms: Array) -> Array:
            return norms @ shares.p.astype(norms.dtype)

        def signal(norms: Array, of_mean: Array) -> Array:
            return shares.unbiased(_squared_mean(of_mean, shares) - shares.squares.astype(norms.dtype) * mean(norms))

        def noise(norms: Array, of_mean: Array) -> Array:
            return shares.unbiased(mean(norms) - _squared_mean(of_mean, shares))

        numerator = jax.tree.map(noise, of_examples, of_mean)
        denominator = jax.tree.map(signal, of_examples, of_mean)
        return Noise(_ratio(numerator, denominator), numerator, denominator, jnp.ones_like(shares.total))

    def over_steps(self, before: Noise | None, now: Noise) -> Noise:
        """Return the means over steps, numerator and denominator apart: each step counts `decay` of the next one."""
        if before is None:
            return now
        kept = self.decay * before.steps
        steps = kept + now.steps

        def mean(old: Array, new: Array) -> Array:
            return old + (now.steps / steps).astype(new.dtype) * (new - old)

        numerator = jax.tree.map(mean, before.numerator, now.numerator)
        denominator = jax.tree.map(mean, before.denominator, now.denominator)
        return Noise(_ratio(numerator, denominator), numerator, denominator, steps)


def _of_gradient(norms: PyTree, grads: PyTree) -> PyTree:
    """‖Σ_n w_n g_n‖² of each array, with an axis of 1 where norms `[(L,) N]` have one of N."""

    def one(norm: Array, gradient: Array) -> Array:
        squares = jnp.square(gradient.astype(norm.dtype))
        return jnp.sum(squares, axis=tuple(range(norm.ndim - 1, squares.ndim)))[..., None]

    return jax.tree.map(one, norms, grads)


def _squared_mean(of_gradient: Array, shares: Shares) -> Array:
    """|ḡ|² of ‖Σ_n w_n g_n‖²."""
    return of_gradient[..., 0] / jnp.square(shares.total).astype(of_gradient.dtype)


def _ratio(numerator: PyTree, denominator: PyTree) -> PyTree:
    return jax.tree.map(jnp.divide, numerator, denominator)
