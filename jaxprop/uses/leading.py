"""The use of a table whose first T rows are added, row t to position t: the error alone, in the row it came from."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.kronecker import Factors, Kind, factors_of
from jaxprop.uses.use import Use, scale, static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Leading(Use):
    """A table in z_nt = … + W_t: ∂C_n/∂W_t = δ_nt for t < T, 0 in the rows above; δ `[N, T, D]`, W `[length, D]`.

    >>> use = Leading(jnp.array([[[2.0]], [[4.0]]]), (3, 1), jnp.float32)
    >>> print(use.gradient().ravel(), use.squared_norms())
    [3. 0. 0.] [ 4. 16.]
    """

    delta: Array
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n δ_n, then zeros to the length."""
        return self._to_length(jnp.sum(scale(self.delta, weights).astype(self.wide), axis=0))

    def squares(self, weights: Array | None) -> Array:
        """Σ_n w_n δ_n², then zeros to the length."""
        delta = self.delta.astype(self.wide)
        return self._to_length(jnp.sum(scale(delta * delta, weights), axis=0))

    def per_example(self) -> Array:
        """δ_n with zeros to the length, `[N, length, D]`."""
        return jax.vmap(self._to_length)(self.delta.astype(self.dtype))

    def squared_norms(self) -> Array:
        """Σ_t ‖δ_nt‖²: zeros add nothing."""
        return jnp.sum(self.delta.astype(self.dtype) ** 2, axis=(1, 2))

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """A's diagonal, 1 for the first T rows, `[length]`, and B of δ, `[D, D]`: a `Lookup` of 0 … T − 1."""
        ids = jnp.broadcast_to(jnp.arange(self.delta.shape[1]), self.delta.shape[:2])
        view = (1, self.shape[0], 1, self.shape[1])
        return factors_of(ids, self.delta, weights, kind, self.wide, diagonal=(True, False), view=view)

    def _to_length(self, rows: Array) -> Array:
        """`[T, D]` as `[length, D]`."""
        return jnp.pad(rows, ((0, self.shape[0] - rows.shape[0]), (0, 0)))
