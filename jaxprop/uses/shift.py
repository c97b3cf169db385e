"""The use of a bias in z = … + b: the error alone, since ∂z/∂b = 1."""

from dataclasses import dataclass

import jax
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.kronecker import Factors, Kind, factors_of
from jaxprop.uses.use import Use, over_positions, positions, scale, static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shift(Use):
    """A bias in z = … + b: ∂C_n/∂b = Σ_t δ_nt, with δ `[N, (T,) O]`.

    >>> import jax.numpy as jnp
    >>> Shift(jnp.array([[2.0], [4.0]]), (1,), jnp.float32).gradient()
    Array([3.], dtype=float32)
    """

    delta: Array
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n Σ_t δ_nt."""
        return jax.lax.reduce_sum(scale(self._of_examples(), weights), (0,))

    def squares(self, weights: Array | None) -> Array:
        """Σ_n w_n g_n²: g `[N, O]` is no larger than δ."""
        return jax.lax.reduce_sum(scale(jax.lax.square(self._of_examples()), weights), (0,))

    def per_example(self) -> Array:
        """Σ_t δ_nt, `[N, O]`."""
        return self._of_examples().astype(self.dtype)

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """B of δ, `[O, O]`: what enters is a constant 1."""
        return factors_of(None, positions(self.delta), weights, kind, self.wide)

    def _of_examples(self) -> Array:
        return over_positions(self.delta.astype(self.wide))
