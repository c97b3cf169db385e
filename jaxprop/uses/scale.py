"""The use of a gain in y = γ x̂: the normalised activation and the error, number by number."""

from dataclasses import dataclass

import jax
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.kronecker import Factors, Kind, factors_of
from jaxprop.uses.use import Use, over_positions, positions, scale, static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scale(Use):
    """A gain in y = γ ⊙ x̂: ∂C_n/∂γ = Σ_t δ_nt ⊙ x̂_nt, with x̂ and δ `[N, (T,) C]`.

    Norms are taken of `[N, C]`, which is never larger than δ itself: there is nothing to choose.

    >>> import jax.numpy as jnp
    >>> use = Scale(jnp.array([[1.0, -1.0]]), jnp.array([[0.5, 2.0]]), (2,), jnp.float32)
    >>> print(use.gradient(), use.squared_norms())
    [ 0.5 -2. ] [4.25]
    """

    normalized: Array
    delta: Array
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n Σ_t δ_nt ⊙ x̂_nt."""
        return jax.lax.reduce_sum(scale(self._of_examples(), weights), (0,))

    def squares(self, weights: Array | None) -> Array:
        """Σ_n w_n g_n²: g `[N, C]` is no larger than δ."""
        return jax.lax.reduce_sum(scale(jax.lax.square(self._of_examples()), weights), (0,))

    def per_example(self) -> Array:
        """Σ_t δ_nt ⊙ x̂_nt, `[N, C]`."""
        return self._of_examples().astype(self.dtype)

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """B of δ ⊙ x̂, `[C, C]`, with A = 1."""
        return factors_of(None, positions(self._terms()), weights, kind, self.wide)

    def _of_examples(self) -> Array:
        return over_positions(self._terms())

    def _terms(self) -> Array:
        return self.delta.astype(self.wide) * self.normalized.astype(self.wide)
