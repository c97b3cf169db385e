"""The uses of one array in several places: tied weights, with the exact cross terms of their norms."""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.chunked import in_chunks
from jaxprop.uses.gram import gram, squared_norm
from jaxprop.uses.kronecker import Factors, Kind, join, transposed
from jaxprop.uses.use import Use, static, summed
from jaxprop.uses.way import Way, cheapest


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Several(Use):
    """One parameter used in several places, transposed in some: ∂C_n/∂W = Σ_k (the k-th use).

    ‖Σ_k G_k‖² = Σ_k ‖G_k‖² + 2 Σ_{j<k} ⟨G_j, G_k⟩. Where every use is a sum of outer products Σ_t l_t ⊗ r_t (`Outer`;
    `Lookup`, with l_t one-hot), ⟨G_j, G_k⟩ = Σ_ts (l_t · l_s)(r_t · r_s): no per-example gradient is built.

    >>> from jaxprop.uses import Outer
    >>> one = Outer(jnp.array([[1.0, 2.0]]), jnp.array([[3.0]]), (2, 1), jnp.float32)
    >>> other = Outer(jnp.array([[1.0]]), jnp.array([[4.0, 5.0]]), (1, 2), jnp.float32)
    >>> use = Several((one, other), (False, True), (2, 1), jnp.float32)
    >>> print(use.gradient().ravel(), use.squared_norms(), use.norm_method)
    [ 7. 11.] [170.] direct
    """

    uses: tuple[Use, ...]
    transposes: tuple[bool, ...] = static()
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()

    def total(self, weights: Array | None) -> Array:
        """Σ_k of the totals."""
        return self._joined([use.total(weights) for use in self.uses], (0, 1))

    def within(self, most: int | None) -> "Several":
        """Return the uses, each with the bound."""
        return replace(self, uses=tuple(use.within(most) for use in self.uses), most=most)

    def per_example(self) -> Array:
        """Σ_k of the per-example gradients, `[N, *shape]`."""
        return self._joined([use.per_example() for use in self.uses], (1, 2))

    def norm_way(self, shared: bool = False) -> Way:
        """How `squared_norms` goes about it, chosen from static shapes: whichever costs least (`way.py`).

        'gram'    where all uses are outer products: the norms of each, and for every pair two T_j × T_k matrices
        'direct'  the per-example gradients, summed over the uses. Where the total is wanted as well (shared) it is
                  their sum, and they are no extra work
        """
        pairs = jax.eval_shape(lambda use: use._pairs(), self)
        size = math.prod(self.shape)
        positions = sum(0 if left.ndim == 2 else right.shape[1] for left, right in pairs)
        direct = Way("direct", 0 if shared else positions * size, size)
        if len(pairs) < len(self.uses):
            return direct
        ways = [use.norm_way(shared) for use in self.uses]
        crossed = [(one[1].shape[1] * other[1].shape[1]) for one, other in itertools.combinations(pairs, 2)]
        operations = sum(way.cost for way in ways) + sum(crossed) * sum(self.shape)
        return cheapest([Way("gram", operations, 2 * sum(crossed)), direct], self.most)

    def squared_norms(self) -> Array:
        """‖Σ_k G_k‖², `[N]`, by `norm_way`."""
        way = self.norm_way()
        if way.name == "direct":
            return in_chunks(lambda use, _: (None, Use.squared_norms(use)), self, None, way, self.most)[1]
        return squared_norm(_sum([use.squared_norms() for use in self.uses]) + self._crossed(way))

    def total_and_norms(self, weights: Array | None) -> tuple[Array, Array]:
        """Both, of per-example gradients that are built for a few examples at a time, where that costs least."""
        way = self.norm_way(shared=True)
        if way.name == "gram":
            each = [use.total_and_norms(weights) for use in self.uses]
            norms = squared_norm(_sum([norms for _, norms in each]) + self._crossed(way))
            return self._joined([total for total, _ in each], (0, 1)), norms
        if self.wide != self.dtype:  # gradients of examples are rounded, and the total must not be
            return self.total(weights), self.squared_norms()

        def both(use: "Several", w: Array | None) -> tuple[Array, Array]:
            examples = use.per_example()
            return summed(examples, w), squared_norm(examples**2)

        return in_chunks(both, self, weights, way, self.most)

    def _crossed(self, way: Way) -> Array:
        """2 Σ_{j<k} ⟨G_j, G_k⟩, `[N]`."""

        def terms(use: "Several", _: Array | None) -> tuple[None, Array]:
            products = [
                jnp.sum(_dots(left, other_left, use.wide) * _dots(right, other_right, use.wide), axis=(1, 2))
                for (left, right), (other_left, other_right) in itertools.combinations(use._pairs(), 2)
            ]
            return None, 2 * _sum(products)

        return in_chunks(terms, self, None, way, self.most, cached=False)[1].astype(self.dtype)

    def _pairs(self) -> list[Any]:
        """The factors of the uses that have some, turned as the array is."""
        each = zip((use.factors() for use in self.uses), self.transposes, strict=True)
        return [factors[::-1] if transpose else factors for factors, transpose in each if factors is not None]

    def _joined(self, parts: list[Array], axes: tuple[int, int]) -> Array:
        """Σ_k of the parts, turned as the array is."""
        each = zip(parts, self.transposes, strict=True)
        return _sum([jnp.swapaxes(part, *axes) if transpose else part for part, transpose in each])

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """The partial traces of the sum of the places' blocks (`kronecker.join`): exact where they share A or B."""
        each = [use.kronecker_factors(weights, kind) for use in self.uses]
        each = [transposed(f) if transpose else f for f, transpose in zip(each, self.transposes, strict=True)]
        if len({(f.view, f.flipped, f.through) for f in each}) > 1:
            return super().kronecker_factors(weights, kind)
        return join(each)


def _sum(parts: list[Array]) -> Array:
    return sum(parts[1:], parts[0])


def _dots(one: Array, other: Array, dtype: DTypeLike) -> Array:
    """one_t · other_s, `[N, T, S]`, of dense or one-hot rows."""
    if one.ndim == 2 and other.ndim == 2:
        return (one[:, :, None] == other[:, None, :]).astype(dtype)
    if one.ndim == 2:  # e_id · other_s is one entry of other_s
        return jnp.swapaxes(_dots(other, one, dtype), 1, 2)
    if other.ndim == 2:
        return jnp.take_along_axis(one, other[:, None, :], axis=2).astype(dtype)
    return gram(one, other, dtype)
