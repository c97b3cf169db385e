"""Margins: what is right by a margin of 1 costs nothing and is left alone."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxprop.costs.cost import Cost, divided, do_not_fit, is_integer, labels_of, per_example, positions
from jaxprop.errors import DataError, ShapeError


@dataclass(frozen=True)
class Hinge(Cost):
    """The cost of support vector machines, of labels among classes or of signs ±1; the shape of targets says which.

    Labels `[N, (T)]`, integers l, for scores y `[N, (T,) C]` (Crammer and Singer): by how much the best rival, with a
    head start of 1, is above the right one; with positions, the mean over them.

        C = max_c m_c,   m_c = y_c − y_l + [c ≠ l]        δ_k = ([k = c*] − [k = l]) / T   with c* where m is largest

    (m_l = 0, so C ≥ 0; where c* = l, δ = 0. ∂max/∂m_c is 1 at c* and ∂m_c/∂y_k = [k = c] − [k = l].)
    Signs ŷ = ±1 of y's own shape `[N, ...]`: each output is a yes or no of its own, and C is their sum.

        C = Σ_o max(0, 1 − ŷ_o y_o)                       δ_o = −ŷ_o where ŷ_o y_o < 1, else 0

    C is made of straight pieces: H = 0 wherever it exists, so S is one column of zeros, and every curvature of a
    network that comes from H is 0. It is the −ln of no probability: targets cannot be drawn.

    Edge cases, as JAX has them: at ŷ y = 1 the slope is 0 (`jax.nn.relu`); where several m are largest they share the
    slope (`jnp.max`). A label out of range makes C and δ NaN; `fit` and the commands refuse it before.
    Source: Crammer and Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines, 2001;
    `optax.losses.multiclass_hinge_loss`, `optax.losses.hinge_loss` summed.

    >>> y = jnp.array([[2.0, 1.5, -1.0]])
    >>> print(Hinge()(y, jnp.array([0])), Hinge().delta(y, jnp.array([0])))
    [0.5] [[-1.  1.  0.]]
    >>> print(Hinge()(y, jnp.array([[1.0, -1.0, -1.0]])), Hinge().delta(y, jnp.array([[1.0, -1.0, -1.0]])))
    [2.5] [[-0.  1.  0.]]
    """

    outputs: ClassVar[str] = "scores"
    takes_labels: ClassVar[bool] = True

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """max_c m_c, the mean over positions; or Σ_o max(0, 1 − ŷ_o y_o)."""
        if self._are_labels(y, targets):
            return jnp.mean(per_example(jnp.max(self._margins(y, targets)[0], axis=-1)), axis=1)
        return jnp.sum(per_example(jax.nn.relu(1 - self._like(y, targets) * y)), axis=1)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """The rival's 1 less the right one's; or −ŷ inside the margin."""
        if self._are_labels(y, targets):
            m, right = self._margins(y, targets)
            best = (m == jnp.max(m, axis=-1, keepdims=True)).astype(y.dtype)
            return divided(best / jnp.sum(best, axis=-1, keepdims=True) - right, positions(y))
        signs = self._like(y, targets)
        return -signs * (signs * y < 1).astype(y.dtype)

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """One column of zeros."""
        self.check(y, targets)
        return jnp.zeros_like(y)[None]

    def check(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise ShapeError unless targets are labels for y or of y's shape."""
        if not self._are_labels(y, targets) and jnp.shape(targets) != jnp.shape(y):
            raise ShapeError(
                f"Hinge: {do_not_fit(y, targets)}: expected integer labels {tuple(jnp.shape(y)[:-1])}, or the same "
                "shape, holding −1 and 1"
            )

    def check_values(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise DataError for labels outside 0..C−1, or signs other than ±1."""
        super().check_values(y, targets)
        found = np.asarray(targets)
        if self._are_labels(y, targets):
            classes = jnp.shape(y)[-1]
            wrong = found[(found < 0) | (found >= classes)]
            expected = f"label {{}}, expected 0 to {classes - 1} for {classes} outputs"
        else:
            wrong = found[np.abs(found) != 1]
            expected = "{}, expected −1 and 1 in targets of the outputs' shape; labels are integers [N]"
        if wrong.size:
            raise DataError(f"Hinge: targets hold {expected.format(wrong.flat[0])}")

    def _are_labels(self, y: ArrayLike, targets: ArrayLike) -> bool:
        return is_integer(targets) and jnp.shape(targets) == jnp.shape(y)[:-1]

    def _margins(self, y: Array, targets: ArrayLike) -> tuple[Array, Array]:
        """m `[N, (T,) C]`, and 1 at the label; NaN where the label is none."""
        labels, classes = labels_of(targets), y.shape[-1]
        known = ((labels >= 0) & (labels < classes))[..., None]
        right = jnp.where(known, jax.nn.one_hot(labels, classes, dtype=y.dtype), jnp.nan)
        # the difference first: it is exact where a score is large, and the 1 is not lost
        return y - jnp.sum(right * y, axis=-1, keepdims=True) + (1 - right), right
