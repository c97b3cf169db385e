"""The use of a gain in y = γ x̂: the normalised activation and the error, number by number."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.uses.use import Use, positions, scale, static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scale(Use):
    """A gain in y = γ ⊙ x̂: ∂C_n/∂γ = Σ_t δ_nt ⊙ x̂_nt, with x̂ and δ `[N, (T,) C]`.

    Norms are taken of `[N, C]`, which is never larger than δ itself: there is nothing to choose.

    >>> use = Scale(jnp.array([[1.0, -1.0]]), jnp.array([[0.5, 2.0]]), (2,), jnp.float32)
    >>> print(use.gradient(), use.squared_norms())
    [ 0.5 -2. ] [4.25]
    """

    normalized: Array
    delta: Array
    shape: tuple[int, ...] = static()
    dtype: Any = static()

    @property
    def examples(self) -> int:
        """N."""
        return self.delta.shape[0]

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n Σ_t δ_nt ⊙ x̂_nt."""
        products = self._products(scale(self.delta, weights))
        return jnp.sum(products, axis=tuple(range(products.ndim - 1))).astype(self.dtype)

    def per_example(self) -> Array:
        """Σ_t δ_nt ⊙ x̂_nt, `[N, C]`."""
        return jnp.sum(positions(self._products(self.delta)), axis=1).astype(self.dtype)

    def _products(self, delta: Array) -> Array:
        # in half precision every product would be rounded before it is summed
        wide = jnp.float32 if jnp.dtype(self.dtype).itemsize < 4 else self.dtype
        return delta.astype(wide) * self.normalized.astype(wide)
