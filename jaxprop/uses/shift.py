"""The use of a bias in z = … + b: the error alone, since ∂z/∂b = 1."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.uses.use import Use, positions, scale, static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shift(Use):
    """A bias in z = … + b: ∂C_n/∂b = Σ_t δ_nt, with δ `[N, (T,) O]`.

    >>> Shift(jnp.array([[2.0], [4.0]]), (1,), jnp.float32).gradient()
    Array([3.], dtype=float32)
    """

    delta: Array
    shape: tuple[int, ...] = static()
    dtype: Any = static()

    @property
    def examples(self) -> int:
        """N."""
        return self.delta.shape[0]

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n Σ_t δ_nt."""
        delta = scale(self.delta, weights).astype(self.dtype)
        return jnp.sum(delta, axis=tuple(range(delta.ndim - 1)))

    def per_example(self) -> Array:
        """Σ_t δ_nt, `[N, O]`."""
        return jnp.sum(positions(self.delta).astype(self.dtype), axis=1)
