"""The sum of gradients of which each is first made no longer than a bound: what DP-SGD adds its noise to.

    G = Σ_n w_n c_n g_n        c_n = min(1, C / ‖g_n‖)        g_n = ∂C_n/∂θ

One example can change G by C at most, whatever is in it. The norms are known once every use has been seen (see
`example_norms.py`), and G is then a sum over the uses with the weights w_n c_n: one backward pass, and no gradient of
one example.

Edge cases:
    ‖g_n‖ = 0                   c_n = 1: there is no 0/0
    ‖g_n‖ NaN or infinite       the example adds 0 and is counted in `dropped`, whatever it put into a and δ
    w_n = 0                     the example adds 0, even NaN, and is counted nowhere: rows that pad a batch
    C = ∞                       c_n = 1
    C = 0                       G = 0, but for what examples with a norm of 0 add, which is 0

Source: Abadi et al., "Deep Learning with Differential Privacy" (2016), algorithm 1; in one pass: Bu et al.,
"Differentially Private Optimization on Large Model at Small Cost" (2023), book-keeping.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.varying import vary_with
from jaxprop.errors import JaxpropError
from jaxprop.stats.example_norms import Per, grouped, to_parameters
from jaxprop.stats.quantity import Context, Quantity
from jaxprop.uses import Outer, Use
from jaxprop.uses.use import scale
from jaxprop.uses.widened import squared_norms, widened


class Clipped(NamedTuple):
    """Hold what `ClippedGradient` finds.

    gradient: Σ_n w_n c_n g_n, the tree of θ; float32 where θ is of half precision, for it is a sum.
    norms: ‖g_n‖ before clipping, `[N]`, or what `per` makes of it.
    fraction: the share of the examples that were made shorter, with w_n ≠ 0; with `per`, in any of their parts.
    dropped: how many examples with w_n ≠ 0 have a gradient that is NaN or infinite.

    >>> Clipped._fields
    ('gradient', 'norms', 'fraction', 'dropped')
    """

    gradient: PyTree
    norms: PyTree
    fraction: Float[Array, ""]
    dropped: Array


@dataclass(frozen=True)
class ClippedGradient(Quantity):
    """Find Σ_n w_n min(1, C / ‖∂C_n/∂θ‖) ∂C_n/∂θ, a sum of clipped gradients, in one backward pass.

    It is a sum and no mean, so that gradients of parts of a batch add up to the whole's; without weights w_n = 1.
    Weights of 0 leave out the rows that pad a batch. The bound holds but for the rounding of θ's dtype.

    Args:
        norm: C ≥ 0.
        per: what is clipped to C: "total" the whole gradient of an example, "layer" its part of each layer,
            "parameter" its part of each array. Of K parts, one example can change the sum by C √K. Each block of a
            `Repeat` is a layer of its own.

    Raises:
        JaxpropError: `norm` is negative or NaN, or `per` is something else.

    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))
    >>> run = stats.collect(net, HalfSquaredError(), [ClippedGradient(10.0)])
    >>> (clipped,) = run(x, params, jnp.zeros((2, 1))).found
    >>> print(clipped.gradient.W, clipped.norms, clipped.fraction)     # 3 + 10, and not 3 + 12
    [[13.]] [ 3. 12.] 0.5
    """

    twice: ClassVar[bool] = True
    norms: ClassVar[bool] = True

    norm: float
    per: Per = "total"

    def __post_init__(self) -> None:
        if not self.norm >= 0:
            raise JaxpropError(f"ClippedGradient: norm must be a number ≥ 0, found {self.norm}")

    @property
    def parts(self) -> bool:
        """Tell whether examples have several weights, one for each layer or array."""
        return self.per != "total"

    def close(self, use: Use, path: str, weights: Array | None) -> Array:
        """Keep the squared norms of a use."""
        return squared_norms(use)

    def between(self, kept: PyTree, context: Context) -> PyTree:
        """Return w_n c_n, and NaN for an example without a finite gradient."""
        norms = self._norms(kept, context)
        weights, finite = _weights(context), _finite(norms, context)

        def weight(norm: Array) -> Array:
            factor = jnp.where(norm > self.norm, self.norm / norm, 1)
            return jnp.where(finite, weights.astype(norm.dtype) * factor, jnp.nan)

        return to_parameters(jax.tree.map(weight, norms), kept, self.per)

    def again(self, use: Use, path: str, part: Array) -> Array:
        """Return Σ_n w_n c_n g_n of a use, without the examples whose weight is NaN.

        0 · NaN is no 0: they must leave a and δ as well. To copy both is dear, and where it can be it
        is done only if there is a NaN.
        """
        if sum(map(_is_floating, jax.tree.leaves(use))) == 1:  # g_n is linear in δ, which takes the weights
            return _weighted(use, part).total(None)
        if isinstance(use, Outer):
            return jax.lax.cond(jnp.any(jnp.isnan(part)), _total_one_by_one, _total, use, part)
        there = ~jnp.isnan(part)  # a convolution inside of a `cond` takes XLA:CPU twenty times as long
        return _total(_where(there, use), jnp.where(there, part, 0))

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> Clipped:
        """Count what was clipped and what was dropped."""
        norms = self._norms(kept, context)
        finite, counted = _finite(norms, context), _weights(context) != 0
        longer = [jnp.any((norm > self.norm).reshape(-1, len(finite)), axis=0) for norm in jax.tree.leaves(norms)]
        clipped = counted & finite & jnp.any(jnp.stack(longer), axis=0)
        count = jnp.sum(jnp.stack([clipped, counted]), axis=1, dtype=wide(context.costs.dtype))
        return Clipped(context.again, norms, count[0] / jnp.maximum(count[1], 1), jnp.sum(counted & ~finite))

    def _norms(self, kept: PyTree, context: Context) -> PyTree:
        return jax.tree.map(jnp.sqrt, grouped(kept, self.per, context.costs))


def _weights(context: Context) -> Array:
    """w `[N]`, 1 each where there are none."""
    return jnp.ones_like(context.costs) if context.weights is None else context.weights


def _finite(norms: PyTree, context: Context) -> Array:
    """Which examples have a finite gradient, in all of its parts, `[N]`."""
    N = len(context.costs)
    parts = [jnp.all(jnp.isfinite(norm).reshape(-1, N), axis=0) for norm in jax.tree.leaves(norms)]
    return jnp.all(jnp.stack(parts), axis=0)


def _total(use: Use, weights: Array) -> Array:
    return _wide_enough(use).total(weights)


def _total_one_by_one(use: Use, weights: Array) -> Array:
    """The total without the examples whose weight is NaN; slow, seldom needed, and without a copy of the use."""

    def add(n: Array, total: Array) -> Array:
        one, weight = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, n, 1), (use, weights))
        there = ~jnp.isnan(weight)
        return total + _total(_where(there, one), jnp.where(there, weight, 0))

    total = jax.eval_shape(_total, use, weights)
    return jax.lax.fori_loop(0, use.examples, add, vary_with(jnp.zeros(total.shape, total.dtype), (use, weights)))


def _weighted(use: Use, weights: Array) -> Use:
    """w_n c_n δ_n in the place of δ_n, and 0 where the weight is NaN."""
    scaled = jax.tree.map(lambda a: scale(a, weights) if _is_floating(a) else a, _wide_enough(use))
    return _where(~jnp.isnan(weights), scaled)


def _where(there: Array, use: Use) -> Use:
    """Zeros in the place of all other examples."""

    def one(array: Array) -> Array:
        rows = there.reshape(-1, *(1,) * (array.ndim - 1))
        return jnp.where(rows, array, 0) if _is_floating(array) else array

    return jax.tree.map(one, use)


def _wide_enough(use: Use) -> Use:
    """In float16, w_n c_n δ_n would soon be less than the smallest number."""
    return widened(use) if use.dtype == jnp.float16 else use


def _is_floating(array: Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)
