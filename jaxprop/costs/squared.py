"""Squared errors: the cost of the article, and the mean of the field."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Key

from jaxprop.costs.cost import Cost, diagonal, divided, per_example


@dataclass(frozen=True)
class HalfSquaredError(Cost):
    """C = ½ Σ_o (y_o − ŷ_o)², the article's cost (there y is a and ŷ the label); δ = y − ŷ: the ½ cancels the 2.

    C = −ln P + constant for targets that are y and normal noise of variance 1, so H = I: S has V = O columns,
    S_v = e_v, and E[δ̲ δ̲ᵀ] = E[noise²] = I.

    Half of scikit-learn's and `optax.squared_error`'s, equal to `optax.l2_loss` summed over outputs. y, targets
    `[N, ...]` of one shape.

    >>> y, targets = jnp.array([[0.79413]]), jnp.array([[1.0]])
    >>> print(HalfSquaredError()(y, targets), HalfSquaredError().delta(y, targets))
    [0.0211...] [[-0.2058...]]
    """

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """½ Σ_o (y_o − ŷ_o)²."""
        return 0.5 * jnp.sum(per_example(jnp.square(self._difference(y, targets))), axis=1)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """y − ŷ."""
        return self._difference(y, targets)

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """I: S_v = e_v."""
        self.check(y, targets)
        return diagonal(jnp.ones_like(y))

    def sample(self, y: Array, key: Key[Array, ""]) -> Array:
        """y + N(0, I)."""
        return y + jax.random.normal(key, y.shape, y.dtype)


@dataclass(frozen=True)
class MeanSquaredError(Cost):
    """C = (1/O) Σ_o (y_o − ŷ_o)², the mean over an example's outputs; δ = 2 (y − ŷ) / O.

    H = (2/O) I. It is the −ln of normal noise of variance O/2: then E[δ̲ δ̲ᵀ] = (4/O²)(O/2) I = H.

    >>> print(MeanSquaredError()(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]])))
    [5.]
    """

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """(1/O) Σ_o (y_o − ŷ_o)²."""
        return jnp.mean(per_example(jnp.square(self._difference(y, targets))), axis=1)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """2 (y − ŷ) / O."""
        return divided(2 * self._difference(y, targets), math.prod(y.shape[1:]))

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """√(2/O) I."""
        self.check(y, targets)
        return diagonal(jnp.full_like(y, math.sqrt(2 / math.prod(y.shape[1:]))))

    def sample(self, y: Array, key: Key[Array, ""]) -> Array:
        """y + √(O/2) N(0, I)."""
        return y + math.sqrt(math.prod(y.shape[1:]) / 2) * jax.random.normal(key, y.shape, y.dtype)
