"""The use that is always right: per-example gradients themselves."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.use import Use, scale, static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dense(Use):
    """Per-example gradients themselves, `[N, *shape]`: always right, never small. For a layer without a better use.

    >>> Dense(jnp.array([[1.0, 0.0], [0.0, 3.0]]), (2,), jnp.float32).gradient()
    Array([0.5, 1.5], dtype=float32)
    """

    gradients: Array
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n g_n."""
        return jnp.sum(scale(self.gradients, weights).astype(self.wide), axis=0)

    def squares(self, weights: Array | None) -> Array:
        """Σ_n w_n g_n²."""
        return self._squares_at_once(weights)

    def per_example(self) -> Array:
        """g_n, `[N, *shape]`."""
        return self.gradients.astype(self.dtype)
