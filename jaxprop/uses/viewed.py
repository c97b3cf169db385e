"""The use of a parameter that is looked at in another shape: a kernel `[D, H, K]` as a matrix, some rows of a table.

A view V moves numbers or leaves some out, and nothing more. So its adjoint puts each number of a gradient back where
it came from, with zeros elsewhere: norms stay as they are, and ∂C_n/∂θ = Vᵀ ∂C_n/∂(Vθ).
"""

from dataclasses import dataclass, replace

import jax
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.kronecker import Factors, Kind
from jaxprop.uses.use import Use, static
from jaxprop.uses.view import Numbers, View
from jaxprop.uses.way import Way


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Viewed(Use):
    """A parameter that is used through a view: ∂C_n/∂θ is `view.back` of that of `use`, and its norm is the same.

    >>> import jax.numpy as jnp
    >>> from jaxprop.uses import Shift
    >>> view = View((2, 2)).sliced((0, 0), (1, 2)).reshaped((2,))
    >>> use = Viewed(Shift(jnp.array([[3.0, 4.0]]), (2,), jnp.float32), view, (2, 2), jnp.float32)
    >>> print(use.gradient().tolist(), use.squared_norms())
    [[3.0, 4.0], [0.0, 0.0]] [25.]
    """

    use: Use
    view: View = static()
    shape: Numbers = static()
    dtype: DTypeLike = static()

    @property
    def examples(self) -> int:
        """N."""
        return self.use.examples

    def within(self, most: int | None) -> "Viewed":
        """Return the use with the bound."""
        return replace(self, use=self.use.within(most), most=most)

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n ∂C_n/∂θ."""
        return self.view.back(self.use.total(weights))

    def per_example(self) -> Array:
        """∂C_n/∂θ, `[N, *shape]`."""
        return jax.vmap(self.view.back)(self.use.per_example())

    def squares(self, weights: Array | None) -> Array:
        """Σ_n w_n (∂C_n/∂θ)²."""
        return self.view.back(self.use.squares(weights))

    def squares_way(self) -> Way:
        """That of the use."""
        return self.use.squares_way()

    def norm_way(self, shared: bool = False) -> Way:
        """That of the use."""
        return self.use.norm_way(shared)

    def squared_norms(self) -> Array:
        """Those of the use."""
        return self.use.squared_norms()

    def total_and_norms(self, weights: Array | None) -> tuple[Array, Array]:
        """Those of the use, the total put back."""
        total, norms = self.use.total_and_norms(weights)
        return self.view.back(total), norms

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """Those of the use, for what is seen of θ."""
        factors = self.use.kronecker_factors(weights, kind)
        return replace(factors, through=self.view)
