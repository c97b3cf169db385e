"""The use of a weight in z = a W: the activation that entered and the error that came back, side by side."""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.chunked import in_chunks
from jaxprop.uses.gram import gram, squared_norm
from jaxprop.uses.kronecker import Factors, Kind, factors_of
from jaxprop.uses.use import Use, positions, scale, static, summed
from jaxprop.uses.way import Way, cheapest


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outer(Use):
    """A weight in z = a W: ∂C_n/∂W = Σ_t a_nt ⊗ δ_nt, with a `[N, (T,) I]` and δ `[N, (T,) O]`.

    scanned: a and δ `[N, T, ...]` came out of a scan over time and lie in memory with time first, so that `total` sums
    them in that order. To turn them would be a copy of each.

    >>> use = Outer(jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[-0.5]]), (3, 1), jnp.float32)
    >>> use.gradient().ravel()
    Array([-0.5, -1.5, -1. ], dtype=float32)
    >>> use.squared_norms(), use.norm_method
    (Array([3.5], dtype=float32), 'product')
    """

    a: Array
    delta: Array
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()
    scanned: bool = field(default=False, kw_only=True, metadata={"static": True})

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n Σ_t a_nt ⊗ δ_nt: one contraction over all examples and positions.

        XLA:CPU takes twice as long and longer for a tall result as for one that lies on its side. So a tall one is made
        as δᵀ a and turned, where that copy is at most half of δ; without the barrier XLA would turn the product back.
        """
        a, delta = self.a, scale(self.delta, weights)
        if self.scanned:
            a, delta = jnp.swapaxes(a, 0, 1), jnp.swapaxes(delta, 0, 1)
        # [NT, I]: XLA needs less memory for it than for [N, T, I]
        a, delta = a.reshape(-1, a.shape[-1]), delta.reshape(-1, delta.shape[-1])
        (rows, I), O = a.shape, delta.shape[1]
        if I < 2 * O or rows < 2 * I:
            return self._over_rows(a, delta)
        return jax.lax.transpose(jax.lax.optimization_barrier(self._over_rows(delta, a)), (1, 0))

    def _over_rows(self, left: Array, right: Array) -> Array:
        """leftᵀ right."""
        return jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())), preferred_element_type=self.wide)

    def squares(self, weights: Array | None) -> Array:
        """Σ_n w_n (Σ_t a_nt ⊗ δ_nt)²: for T = 1 it is a² ⊗ δ², one contraction."""
        if math.prod(self.a.shape[1:-1]) > 1:
            return super().squares(weights)
        a, delta = (jnp.square(each[:, 0].astype(self.wide)) for each in self.factors())
        return jax.lax.dot_general(a, scale(delta, weights), (((0,), (0,)), ((), ())))

    def squares_way(self) -> Way:
        """For T = 1 a product; else the products of the per-example gradient."""
        T, size = math.prod(self.a.shape[1:-1]), math.prod(self.shape)
        return Way("product", size, 0) if T == 1 else Way("direct", T * size, 2 * size)

    def per_example(self) -> Array:
        """Σ_t a_nt ⊗ δ_nt, `[N, I, O]`."""
        a, delta = self.factors()
        return jnp.einsum("nti,nto->nio", a, delta, preferred_element_type=self.dtype)

    def factors(self) -> tuple[Array, Array]:
        """a and δ."""
        return positions(self.a), positions(self.delta)

    def norm_way(self, shared: bool = False) -> Way:
        """How `squared_norms` goes about it, chosen from static shapes: whichever costs least (`way.py`).

        'product'  T = 1:  ‖a_n‖² ‖δ_n‖²
        'gram'     Σ_ts (a_t·a_s)(δ_t·δ_s): T² (I + O) multiply-adds, two T × T matrices an example
        'direct'   the per-example gradient itself: T I O multiply-adds, I × O numbers an example. Where the total is
                   wanted as well (shared) it is the sum of these, and their products are free
        Source: ghost norms and their mixture, Bu et al. 2022, arXiv 2205.10683; shared, Gray et al. 2024, arXiv
        2411.00999.
        """
        T, I, O = math.prod(self.a.shape[1:-1]), self.a.shape[-1], self.delta.shape[-1]
        if T == 1:
            return Way("product", I + O, 0)
        ways = [Way("gram", T**2 * (I + O), 2 * T**2), Way("direct", 0 if shared else T * I * O, I * O)]
        return cheapest(ways, self.most)

    def squared_norms(self) -> Array:
        """‖Σ_t a_nt ⊗ δ_nt‖², `[N]`, by `norm_way`."""
        way = self.norm_way()
        norms = (lambda use: squared_norm(use._examples() ** 2)) if way.name == "direct" else Outer._by_gram
        cached = way.name == "direct"
        found = in_chunks(lambda use, _: (None, norms(use)), self, None, way, self.most, cached=cached)
        return found[1].astype(self.dtype)

    def total_and_norms(self, weights: Array | None) -> tuple[Array, Array]:
        """Both, of per-example gradients that are built for a few examples at a time, where that costs least."""
        way = self.norm_way(shared=True)
        if way.name != "direct":
            return self.total(weights), self.squared_norms()

        def both(use: "Outer", w: Array | None) -> tuple[Array, Array]:
            examples = use._examples()
            return summed(examples, w), squared_norm(examples**2)

        total, norms = in_chunks(both, self, weights, way, self.most)
        return total, norms.astype(self.dtype)

    def _by_gram(self) -> Array:
        a, delta = self.factors()
        return squared_norm(gram(a, a, self.wide) * gram(delta, delta, self.wide)).astype(self.dtype)

    def _examples(self) -> Array:
        """Σ_t a_nt ⊗ δ_nt, `[N, I, O]`, as wide as sums are taken."""
        return jnp.einsum("nti,nto->nio", *self.factors(), preferred_element_type=self.wide)

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """A of a, `[I, I]`, and B of δ, `[O, O]`."""
        return factors_of(*self.factors(), weights, kind, self.wide)
