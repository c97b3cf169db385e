"""The use of a weight in z = a W: the activation that entered and the error that came back, side by side."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.gram import gram, squared_norm
from jaxprop.uses.kronecker import Factors, Kind, factors_of
from jaxprop.uses.use import Use, positions, scale, static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outer(Use):
    """A weight in z = a W: ∂C_n/∂W = Σ_t a_nt ⊗ δ_nt, with a `[N, (T,) I]` and δ `[N, (T,) O]`.

    >>> use = Outer(jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[-0.5]]), (3, 1), jnp.float32)
    >>> use.gradient().ravel()
    Array([-0.5, -1.5, -1. ], dtype=float32)
    >>> use.squared_norms(), use.norm_method
    (Array([3.5], dtype=float32), 'product')
    """

    a: Array
    delta: Array
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n Σ_t a_nt ⊗ δ_nt: one contraction over all examples and positions."""
        a = self.a.reshape(-1, self.a.shape[-1])  # [NT, I]: XLA needs less memory for it than for [N, T, I]
        delta = scale(self.delta, weights).reshape(-1, self.delta.shape[-1])
        return jax.lax.dot_general(a, delta, (((0,), (0,)), ((), ())), preferred_element_type=self.wide)

    def squares(self, weights: Array | None) -> Array:
        """Σ_n w_n (Σ_t a_nt ⊗ δ_nt)²: for T = 1 it is a² ⊗ δ², one contraction."""
        if math.prod(self.a.shape[1:-1]) > 1:
            return super().squares(weights)
        a, delta = (jnp.square(each[:, 0].astype(self.wide)) for each in self.factors())
        return jax.lax.dot_general(a, scale(delta, weights), (((0,), (0,)), ((), ())))

    def per_example(self) -> Array:
        """Σ_t a_nt ⊗ δ_nt, `[N, I, O]`."""
        a, delta = self.factors()
        return jnp.einsum("nti,nto->nio", a, delta, preferred_element_type=self.dtype)

    def factors(self) -> tuple[Array, Array]:
        """a and δ."""
        return positions(self.a), positions(self.delta)

    @property
    def norm_method(self) -> str:
        """How `squared_norms` goes about it, chosen from static shapes.

        'product'  T = 1:        ‖a_n‖² ‖δ_n‖²
        'gram'     2T² ≤ I·O:    Σ_ts (a_t·a_s)(δ_t·δ_s), memory 2T² an example
        'direct'   otherwise:    the per-example gradient itself, memory I·O an example
        The switch is the memory rule of mixed ghost clipping (Bu et al. 2022, arXiv 2205.10683, section 4).
        """
        T = math.prod(self.a.shape[1:-1])
        if T == 1:
            return "product"
        return "gram" if 2 * T**2 <= self.a.shape[-1] * self.delta.shape[-1] else "direct"

    def squared_norms(self) -> Array:
        """‖Σ_t a_nt ⊗ δ_nt‖², `[N]`, by `norm_method`."""
        if self.norm_method == "direct":
            return super().squared_norms()
        a, delta = self.factors()
        return squared_norm(gram(a, a, self.dtype) * gram(delta, delta, self.dtype))

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """A of a, `[I, I]`, and B of δ, `[O, O]`."""
        return factors_of(*self.factors(), weights, kind, self.wide)
