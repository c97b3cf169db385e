"""Cross-entropy of independent yes-or-no outputs."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Key

from jaxprop.costs.cost import Cost, diagonal, per_example
from jaxprop.errors import DataError


@dataclass(frozen=True)
class SigmoidCrossEntropy(Cost):
    """C = −Σ_o [ŷ ln σ(y) + (1 − ŷ) ln(1 − σ(y))] for logits y; δ = σ(y) − ŷ: no σ', so no slow start.

    H is diagonal, σ'(y) = σ(y) σ(−y), whatever the targets are: the variance of a yes or no drawn with chance σ(y).

    y and targets (in [0, 1]) have one shape `[N, ...]`. The book's cross-entropy (Nielsen, ch. 3, eq. 63).

    >>> import math
    >>> print(SigmoidCrossEntropy()(jnp.array([[0.0]]), jnp.array([[1.0]])), math.log(2))
    [0.693...] 0.693...
    """

    outputs: ClassVar[str] = "logits"
    applies: ClassVar[str] = "the sigmoid"

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """Σ_o ŷ softplus(−y) + (1 − ŷ) softplus(y): finite for any y, and smooth at 0 for `jax.grad` too."""
        targets = self._like(y, targets)
        costs = targets * jax.nn.softplus(-y) + (1 - targets) * jax.nn.softplus(y)
        return jnp.sum(per_example(costs), axis=1)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """σ(y) − ŷ."""
        return jax.nn.sigmoid(y) - self._like(y, targets)

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """√(σ(y) σ(−y)) on the diagonal."""
        self.check(y, targets)
        return diagonal(jnp.sqrt(jax.nn.sigmoid(y) * jax.nn.sigmoid(-y)))

    def sample(self, y: Array, key: Key[Array, ""]) -> Array:
        """1 with chance σ(y), else 0."""
        return jax.random.bernoulli(key, jax.nn.sigmoid(y)).astype(y.dtype)

    def expected(self, y: Any) -> Any:
        """σ(y)."""
        return jax.nn.sigmoid(y)

    def check_values(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise DataError for targets outside [0, 1]."""
        super().check_values(y, targets)
        targets = np.asarray(targets)
        wrong = targets[(targets < 0) | (targets > 1)]
        if wrong.size:
            raise DataError(f"SigmoidCrossEntropy: targets hold {wrong.flat[0]}, expected values from 0 to 1")
