"""How far one distribution is from another: the cost of learning from soft targets."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Key

from jaxprop.arrays.dtypes import wide
from jaxprop.costs.cost import Cost, divided, per_example, positions
from jaxprop.costs.softmax_cross_entropy import softmax_root
from jaxprop.errors import DataError

SUM_MAY_BE_OFF = 1e-2  # of probabilities rounded to bfloat16


@dataclass(frozen=True)
class KLDivergence(Cost):
    """C = Σ_c p_c (ln p_c − ln softmax(y)_c) for probabilities p and logits y `[N, (T,) C]`; δ = softmax(y) Σp − p.

    The cross-entropy of y less the entropy of p, so 0 where softmax(y) = p. Σ p ln p does not move with y, and
    ∂(−ln softmax(y)_c)/∂y_k = softmax(y)_k − [k = c]; times p_c and summed over c that is the delta of
    `SoftmaxCrossEntropy`. With positions, C is the mean over them and δ is divided by T. H is that of
    `SoftmaxCrossEntropy` as well, and δ̲ that of a class drawn with the chances softmax(y).

    Edge cases: p_c = 0 costs nothing (p ln p → 0), whatever y_c, −∞ included. Targets that do not add up to 1, or
    integer labels, are refused: labels need `SoftmaxCrossEntropy`.
    Source: Kullback and Leibler, On Information and Sufficiency, 1951; `optax.losses.kl_divergence`.

    >>> y, p = jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([[1.0, 0.0]])
    >>> print(KLDivergence()(y, p), KLDivergence().delta(y, p), KLDivergence()(y, jnp.array([[0.5, 0.5]])))
    [0.693...] [[-0.5  0.5]] [0.]
    """

    outputs: ClassVar[str] = "class logits"
    applies: ClassVar[str] = "softmax"

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """Σ_c p_c (ln p_c − ln softmax(y)_c), the mean over positions."""
        p = self._like(y, targets)
        log_p = jnp.log(jnp.where(p > 0, p, 1))
        of_classes = jnp.where(p == 0, 0, p * (log_p - jax.nn.log_softmax(y, axis=-1)))
        return jnp.mean(per_example(jnp.sum(of_classes, axis=-1)), axis=1)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """(softmax(y) Σp − p) / T."""
        p = self._like(y, targets)
        return divided(jax.nn.softmax(y, axis=-1) * jnp.sum(p, axis=-1, keepdims=True) - p, positions(y))

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """√(Σp / T) (diag(√s) − s √sᵀ) at every position, with s = softmax(y): V = T·C columns."""
        return softmax_root(y, self._scale(y, targets))

    def sample(self, y: Array, key: Key[Array, ""]) -> Array:
        """One-hot rows, of classes drawn with the chances softmax(y)."""
        return jax.nn.one_hot(jax.random.categorical(key, y), y.shape[-1], dtype=y.dtype)

    def sampled_delta(self, y: Array, targets: ArrayLike, key: Key[Array, ""]) -> Array:
        """√(Σp / T) (softmax(y) − e_ĉ)."""
        return self._scale(y, targets)[..., None] * (jax.nn.softmax(y, axis=-1) - self.sample(y, key))

    def expected(self, y: Any) -> Any:
        """softmax(y)."""
        return jax.nn.softmax(y, axis=-1)

    def check_values(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise DataError for targets that are no probabilities."""
        super().check_values(y, targets)
        targets = np.asarray(targets, np.float64)
        if np.any(targets < 0):
            raise DataError("KLDivergence: targets hold a negative probability, expected values from 0 to 1")
        sums = targets.sum(axis=-1)
        wrong = sums[np.abs(sums - 1) > SUM_MAY_BE_OFF]
        if wrong.size:
            raise DataError(
                f"KLDivergence: targets hold probabilities that add up to {wrong.flat[0]:.4g}, expected 1; divide them "
                "by their sum, or use SoftmaxCrossEntropy for amounts"
            )

    def _scale(self, y: Array, targets: ArrayLike) -> Array:
        """√(Σp / T) of every position, `[N, (T)]`."""
        total = jnp.sum(self._like(y, targets).astype(wide(y.dtype)), axis=-1)
        return jnp.sqrt(total / positions(y)).astype(y.dtype)
