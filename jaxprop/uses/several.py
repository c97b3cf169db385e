"""The uses of one array in several places: tied weights, with the exact cross terms of their norms."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.gram import gram, squared_norm
from jaxprop.uses.kronecker import Factors, Kind, join, transposed
from jaxprop.uses.use import Use, static


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
        totals = [use.total(weights) for use in self.uses]
        return _sum([t.T if transpose else t for t, transpose in zip(totals, self.transposes, strict=True)])

    def per_example(self) -> Array:
        """Σ_k of the per-example gradients, `[N, *shape]`."""
        each = [use.per_example() for use in self.uses]
        return _sum([jnp.swapaxes(g, 1, 2) if t else g for g, t in zip(each, self.transposes, strict=True)])

    @property
    def norm_method(self) -> str:
        """'gram' where all uses are outer products and 2 (Σ_k T_k)² ≤ the array's size, else 'direct'."""
        factors = [factors for use in self.uses if (factors := use.factors()) is not None]
        if len(factors) < len(self.uses):
            return "direct"
        T = sum(right.shape[1] for _, right in factors)
        return "gram" if 2 * T**2 <= self.shape[0] * self.shape[1] else "direct"

    def squared_norms(self) -> Array:
        """‖Σ_k G_k‖², `[N]`, by `norm_method`."""
        if self.norm_method == "direct":
            return super().squared_norms()
        norms = _sum([use.squared_norms() for use in self.uses])
        factors: Any = [use.factors() for use in self.uses]
        pairs = [f[::-1] if t else f for f, t in zip(factors, self.transposes, strict=True)]
        for (left, right), (other_left, other_right) in itertools.combinations(pairs, 2):
            products = _dots(left, other_left, self.dtype) * _dots(right, other_right, self.dtype)
            norms = norms + 2 * jnp.sum(products, axis=(1, 2))
        return squared_norm(norms)

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """The partial traces of the sum of the places' blocks (`kronecker.join`): exact where they share A or B."""
        each = [use.kronecker_factors(weights, kind) for use in self.uses]
        each = [transposed(f) if transpose else f for f, transpose in zip(each, self.transposes, strict=True)]
        if len({(f.view, f.flipped) for f in each}) > 1:
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
