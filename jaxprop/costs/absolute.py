"""Costs that grow as the error, not its square: one far-off target does not pull at everything."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxprop.costs.cost import Cost, diagonal, per_example
from jaxprop.errors import JaxpropError


@dataclass(frozen=True)
class AbsoluteError(Cost):
    """C = Σ_o |y_o − ŷ_o|; δ = sign(y − ŷ): every error pulls alike, however large.

    With r = y − ŷ: |r| = r above 0, −r below, so ∂|r|/∂r = ±1. At r = 0 the slope is +1, as `jax.grad(jnp.abs)(0.0)`
    has it: an output that is exactly right still moves. y, targets `[N, ...]` of one shape. Its minimum over a constant
    is the median. H = 0 wherever it exists, so S is one column of zeros. As the −ln of Laplace's density its errors
    have a mean square of 1, which is not H: targets are not drawn. Source: Laplace; `jax.numpy.abs` for the kink.

    >>> y, targets = jnp.array([[3.0, -1.0, 2.0]]), jnp.array([[1.0, 0.0, 2.0]])
    >>> print(AbsoluteError()(y, targets), AbsoluteError().delta(y, targets))
    [3.] [[ 1. -1.  1.]]
    """

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """Σ_o |y_o − ŷ_o|."""
        return jnp.sum(per_example(jnp.abs(self._difference(y, targets))), axis=1)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """±1, and +1 at 0."""
        return jnp.where(self._difference(y, targets) >= 0, 1, -1).astype(y.dtype)

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """One column of zeros."""
        self.check(y, targets)
        return jnp.zeros_like(y)[None]


@dataclass(frozen=True)
class Huber(Cost):
    """C = Σ_o h(y_o − ŷ_o): half the square up to `threshold` t, a straight line beyond; δ = y − ŷ, kept within ±t.

        h(r) = ½ r²  for |r| ≤ t,   t |r| − ½ t²  beyond      h'(r) = r,   t sign(r)      both meet at |r| = t

    Equal to `HalfSquaredError` while all |r| ≤ t: h is what clipping its delta at t is the gradient of. h' has no jump,
    so there is no convention at a kink. H is diagonal: 1 where |r| < t and 0 beyond (at |r| = t, where h'' jumps, ½ as
    `jax.grad` has it), so a far-off target has no curvature. It depends on the targets, and targets are not drawn.
    y, targets `[N, ...]` of one shape; t is finite and above 0 (JaxpropError).
    Source: Huber, Robust Estimation of a Location Parameter, 1964; `optax.huber_loss`, summed over outputs.

    >>> y, targets = jnp.array([[0.5, -3.0]]), jnp.array([[0.0, 0.0]])
    >>> print(Huber()(y, targets), Huber(threshold=2.0).delta(y, targets))
    [2.625] [[ 0.5 -2. ]]
    """

    threshold: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < math.inf:
            raise JaxpropError(f"Huber: threshold must be a finite number > 0, found {self.threshold!r}")

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """Σ_o ½ q² + t (|r| − q) with q = min(|r|, t)."""
        size = jnp.abs(self._difference(y, targets))
        square = jnp.minimum(size, self.threshold)
        return jnp.sum(per_example(0.5 * square**2 + self.threshold * (size - square)), axis=1)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """y − ŷ within ±t."""
        return jnp.clip(self._difference(y, targets), -self.threshold, self.threshold)

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """√h'' on the diagonal."""
        return diagonal(jnp.sqrt(self.hessian_product(y, targets, jnp.ones_like(y))))
