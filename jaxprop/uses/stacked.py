"""The uses of a stacked parameter: one a block of a `Repeat`, in arrays with a leading axis L."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.kronecker import Factors, Kind
from jaxprop.uses.use import Use, static
from jaxprop.uses.way import Way


def in_blocks(close: Callable[[Use], Any], use: Use) -> Any:
    """Return what `close` makes of a use, or of the blocks of a stacked one, one after the other.

    Side by side, what is made of them would be in memory together, and `jax.lax.cond` would go both ways.
    """
    if not isinstance(use, Stacked):
        return close(use)
    return jax.lax.map(lambda block: in_blocks(close, block), use.use)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stacked(Use):
    """L uses in one, every array of `use` with a leading axis L: ∂C_n/∂θ is `[L, ...]`, block by block.

    >>> from jaxprop.uses import Shift
    >>> blocks = Shift(jnp.array([[[2.0], [4.0]], [[1.0], [1.0]]]), (1,), jnp.float32)  # L = 2, N = 2
    >>> use = Stacked(blocks, (2, 1), jnp.float32)
    >>> print(use.gradient().ravel(), use.squared_norms())
    [3. 1.] [ 5. 17.]
    """

    use: Use
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()

    @property
    def examples(self) -> int:
        """N."""
        return self.block.examples

    @property
    def block(self) -> Use:
        """The use of one block, of shapes alone."""
        return jax.eval_shape(lambda use: jax.tree.map(lambda a: a[0], use), self.use)

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n ∂C_n/∂θ_l for every l."""
        return jax.vmap(lambda use: use.total(weights))(self.use)

    def squares(self, weights: Array | None) -> Array:
        """Σ_n w_n (∂C_n/∂θ_l)² for every l, one after the other: a block may hold examples' gradients meanwhile."""
        return jax.lax.map(lambda use: use.squares(weights), self.use)

    def within(self, most: int | None) -> "Stacked":
        """Return the blocks, each with the bound."""
        return replace(self, use=self.use.within(most), most=most)

    def squares_way(self) -> Way:
        """That of a block, L times."""
        way = self.block.squares_way()
        return way._replace(operations=self.shape[0] * way.operations)

    def per_example(self) -> Array:
        """`[N, L, ...]`."""
        return jnp.moveaxis(jax.vmap(lambda use: use.per_example())(self.use), 0, 1)

    def norm_way(self, shared: bool = False) -> Way:
        """The way of a block, L times as much to do and no more to hold: one block after the other."""
        way = self.block.norm_way(shared)
        return way._replace(operations=self.shape[0] * way.operations)

    def squared_norms(self) -> Array:
        """Σ_l ‖∂C_n/∂θ_l‖², each block by its own method."""
        return jnp.sum(jax.lax.map(lambda use: use.squared_norms(), self.use), axis=0)

    def total_and_norms(self, weights: Array | None) -> tuple[Array, Array]:
        """Those of every block, the norms added up."""
        total, norms = jax.lax.map(lambda use: use.total_and_norms(weights), self.use)
        return total, jnp.sum(norms, axis=0)

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """Those of every block, with an axis L in front."""
        return jax.vmap(lambda use: use.kronecker_factors(weights, kind))(self.use)
