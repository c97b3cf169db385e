"""The use of a table in y = W[id]: which rows were looked up, and the error that came back to each."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.chunked import in_chunks
from jaxprop.uses.gram import gram, squared_norm
from jaxprop.uses.kronecker import Factors, Kind, factors_of
from jaxprop.uses.use import Use, positions, scale, static
from jaxprop.uses.way import TOUCHED, Way, cheapest


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Lookup(Use):
    """A table in y = W[id]: ∂C_n/∂W = Σ_t e(id_nt) ⊗ δ_nt, with ids `[N, (T...)]`, δ `[N, (T...), D]`, W `[V, D]`.

    e(id) is the one-hot row of id: every error is added to the row it came from. Ids outside 0 … V − 1 have no row.

    >>> use = Lookup(jnp.array([[2, 0, 2]]), jnp.array([[[1.0], [3.0], [1.0]]]), (3, 1), jnp.float32)
    >>> print(use.gradient().ravel(), use.squared_norms(), use.norm_method)
    [3. 0. 2.] [13.] segments
    """

    ids: Array
    delta: Array
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n Σ_t e(id_nt) ⊗ δ_nt: one scatter-add."""
        delta = scale(self.delta, weights)
        return self._added(self.ids.ravel(), delta.reshape(-1, delta.shape[-1]))

    def squares(self, weights: Array | None) -> Array:
        """Σ_n w_n (Σ_t e(id_nt) ⊗ δ_nt)²: the errors of equal ids of an example are summed before they are squared."""
        ids, delta = self.factors()
        sums = jax.vmap(_sums_of_equals)(ids, delta.astype(self.wide))  # of the id that is sorted to this place
        squares = scale(sums * sums, weights)
        return self._added(jnp.sort(ids, axis=1).ravel(), squares.reshape(-1, squares.shape[-1]))

    def per_example(self) -> Array:
        """Σ_t e(id_nt) ⊗ δ_nt, `[N, V, D]`."""
        return jax.vmap(self._added)(*self.factors()).astype(self.dtype)

    def factors(self) -> tuple[Array, Array]:
        """The ids of the one-hot rows, `[N, T]`, and δ, which is 0 where an id has no row."""
        ids, delta = self.ids.reshape(self.ids.shape[0], math.prod(self.ids.shape[1:])), positions(self.delta)
        known = (ids >= 0) & (ids < self.shape[0])
        return jnp.where(known, ids, 0), jnp.where(known[..., None], delta, 0)

    def norm_way(self, shared: bool = False) -> Way:
        """How `squared_norms` goes about it, chosen from static shapes: whichever costs least (`way.py`).

        'gram'      Σ_ts [id_t = id_s] (δ_t·δ_s): T² D multiply-adds, two T × T matrices an example
        'segments'  the errors of equal ids summed, then squared: T × D numbers an example, written twice
        Neither builds `[N, V, D]`.
        """
        T, D = math.prod(self.ids.shape[1:]), self.delta.shape[-1]
        return cheapest([Way("gram", T**2 * D, 2 * T**2), Way("segments", TOUCHED * T * D, T * D)], self.most)

    def squared_norms(self) -> Array:
        """‖Σ_t e(id_nt) ⊗ δ_nt‖², `[N]`, by `norm_way`."""
        way = self.norm_way()

        def norms(use: "Lookup", _: Array | None) -> tuple[None, Array]:
            ids, delta = use.factors()
            if way.name == "segments":
                return None, squared_norm(jax.vmap(_sums_of_equals)(ids, delta.astype(use.dtype)) ** 2)
            same = ids[:, :, None] == ids[:, None, :]
            return None, squared_norm(jnp.where(same, gram(delta, delta, use.dtype), 0))

        return in_chunks(norms, self, None, way, self.most, cached=False)[1]

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """A's diagonal, how often each row is looked up, `[V]`, and B of δ, `[D, D]`."""
        _, delta = self.factors()
        view = (1, self.shape[0], 1, delta.shape[-1])
        ids = self.ids.reshape(delta.shape[:2])
        return factors_of(ids, delta, weights, kind, self.wide, diagonal=(True, False), view=view)

    def _added(self, ids: Array, delta: Array) -> Array:
        """Rows δ `[T, D]` added to the rows `ids` of an empty table."""
        table = jnp.zeros(self.shape, self.wide)
        return table.at[ids].add(delta.astype(self.wide), mode="drop", wrap_negative_indices=False)


def _sums_of_equals(ids: Array, delta: Array) -> Array:
    """Sum the rows of δ `[T, D]` that have the same id: `[T, D]`, zeros where there are fewer different ids."""
    places = jnp.searchsorted(jnp.sort(ids), ids)  # of the first equal among the sorted: one for each different id
    return jnp.zeros_like(delta).at[places].add(delta)
