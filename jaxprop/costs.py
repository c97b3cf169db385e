r"""Costs C(y, targets) -> [N], one number per example, each beside its delta ∂C_n/∂y_n: where the backward pass starts.

    cost(y, targets)          [N]         never averaged here: the mean over examples is taken once, at the end
    cost.delta(y, targets)    y's shape   BP1 without the activation's factor

y is what the network answers, targets what it should have answered. `targets` of another shape than y are an error,
also where numpy would broadcast ([N] against [N, 1] would silently become [N, N]).
"""

import abc
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprop.errors import DataError, ShapeError


def _per_example(values: Array) -> Array:
    """[N, ...] as [N, F]."""
    return values.reshape(values.shape[0], math.prod(values.shape[1:]))


def _found(y: Any, targets: Any) -> str:
    return f"targets {tuple(jnp.shape(targets))} do not fit outputs {tuple(jnp.shape(y))}"


def _is_integer(targets: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(targets), jnp.integer)


@dataclass(frozen=True)
class Cost(abc.ABC):
    """C(y, targets) -> [N] and its delta; frozen, hashable and JSON-able like a layer.

    Raises ShapeError, naming `targets` and both shapes, at trace time.

    >>> HalfSquaredError()(jnp.zeros((3, 1)), jnp.zeros(3))
    Traceback (most recent call last):
        ...
    jaxprop.errors.ShapeError: HalfSquaredError: targets (3,) do not fit outputs (3, 1): expected the same shape; ...
    """

    @abc.abstractmethod
    def __call__(self, y: Array, targets: Any) -> Array:
        """C_n, `[N]`."""

    @abc.abstractmethod
    def delta(self, y: Array, targets: Any) -> Array:
        """∂C_n/∂y_n, in y's shape and dtype."""

    def check(self, y: Any, targets: Any) -> None:
        """Raise ShapeError unless targets have y's own shape."""
        if jnp.shape(y) != jnp.shape(targets):
            hint = ""
            if jnp.shape(targets) == jnp.shape(y)[:-1] and jnp.shape(y)[-1:] == (1,):
                hint = "; numpy would broadcast them to a square: write targets[:, None]"
            elif _is_integer(targets) and jnp.ndim(targets) == jnp.ndim(y) - 1:
                hint = "; integer labels need SoftmaxCrossEntropy, or jax.nn.one_hot(targets, classes)"
            raise ShapeError(f"{type(self).__name__}: {_found(y, targets)}: expected the same shape{hint}")

    def check_values(self, y: Any, targets: Any) -> None:
        """Raise DataError for concrete targets that no output could match (y is only looked at for its shape)."""
        if not np.all(np.isfinite(np.asarray(targets, dtype=np.float64))):
            raise DataError(f"{type(self).__name__}: targets hold NaN or infinity; remove those rows")

    def _difference(self, y: Array, targets: Any) -> Array:
        self.check(y, targets)
        return y - jnp.asarray(targets).astype(y.dtype)


@dataclass(frozen=True)
class HalfSquaredError(Cost):
    """C = ½ Σ_o (y_o − ŷ_o)², the article's cost (there y is a and ŷ the label); δ = y − ŷ: the ½ cancels the 2.

    Half of scikit-learn's and `optax.squared_error`'s, equal to `optax.l2_loss` summed over outputs. y, targets
    `[N, ...]` of one shape.

    >>> y, targets = jnp.array([[0.79413]]), jnp.array([[1.0]])
    >>> print(HalfSquaredError()(y, targets), HalfSquaredError().delta(y, targets))
    [0.0211...] [[-0.2058...]]
    """

    def __call__(self, y: Array, targets: Any) -> Array:
        """½ Σ_o (y_o − ŷ_o)²."""
        return 0.5 * jnp.sum(_per_example(jnp.square(self._difference(y, targets))), axis=1)

    def delta(self, y: Array, targets: Any) -> Array:
        """y − ŷ."""
        return self._difference(y, targets)


@dataclass(frozen=True)
class MeanSquaredError(Cost):
    """C = (1/O) Σ_o (y_o − ŷ_o)², the mean over an example's outputs; δ = 2 (y − ŷ) / O.

    >>> print(MeanSquaredError()(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]])))
    [5.]
    """

    def __call__(self, y: Array, targets: Any) -> Array:
        """(1/O) Σ_o (y_o − ŷ_o)²."""
        return jnp.mean(_per_example(jnp.square(self._difference(y, targets))), axis=1)

    def delta(self, y: Array, targets: Any) -> Array:
        """2 (y − ŷ) / O."""
        return self._difference(y, targets) * (2 / math.prod(y.shape[1:]))


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Cost):
    """C = −Σ_c p_c ln softmax(y)_c for logits y `[N, (T,) C]`; δ = softmax(y) Σp − p.

    targets are integer labels `[N, (T)]`, or probabilities `[N, (T,) C]`; with positions, C is the mean over them. A
    label out of range makes C and δ NaN (under jit nothing can be raised); `fit` and the commands refuse it before.

    >>> print(SoftmaxCrossEntropy()(jnp.zeros((1, 4)), jnp.array([2])), math.log(4))
    [1.386...] 1.386...
    """

    def __call__(self, y: Array, targets: Any) -> Array:
        """−Σ_c p_c ln softmax(y)_c = Σp · ln Σ_c e^{y_c} − Σ_c p_c y_c."""
        p = self._probabilities(y, targets)
        costs = -jnp.sum(p * jax.nn.log_softmax(y, axis=-1), axis=-1)
        return jnp.mean(_per_example(costs), axis=1)

    def delta(self, y: Array, targets: Any) -> Array:
        """(softmax(y) Σp − p) / T."""
        p = self._probabilities(y, targets)
        positions = math.prod(y.shape[1:-1])
        delta = jax.nn.softmax(y, axis=-1) * jnp.sum(p, axis=-1, keepdims=True) - p
        return delta if positions == 1 else delta / positions

    def check(self, y: Any, targets: Any) -> None:
        """Raise ShapeError unless targets are labels or probabilities for y."""
        expected = jnp.shape(y)[:-1] if _is_integer(targets) else jnp.shape(y)
        if jnp.shape(targets) != expected:
            kind = "integer labels" if _is_integer(targets) else "probabilities"
            raise ShapeError(
                f"SoftmaxCrossEntropy: {_found(y, targets)}: expected {kind} of shape {tuple(expected)}; "
                "labels are integers [N], probabilities floating [N, C]"
            )

    def check_values(self, y: Any, targets: Any) -> None:
        """Raise DataError for labels outside 0..C−1 or probabilities that are negative."""
        classes, targets = jnp.shape(y)[-1], np.asarray(targets)
        if _is_integer(targets):
            wrong = targets[(targets < 0) | (targets >= classes)]
            if wrong.size:
                raise DataError(
                    f"SoftmaxCrossEntropy: targets hold label {int(wrong.flat[0])}, expected 0 to {classes - 1} for "
                    f"{classes} outputs; renumber the labels or give the last layer more outputs"
                )
            return
        super().check_values(y, targets)
        if np.any(targets < 0):
            raise DataError("SoftmaxCrossEntropy: targets hold a negative probability; floating targets are ≥ 0")

    def _probabilities(self, y: Array, targets: Any) -> Array:
        self.check(y, targets)
        targets = jnp.asarray(targets)
        if not _is_integer(targets):
            return targets.astype(y.dtype)
        classes = y.shape[-1]
        known = (targets >= 0) & (targets < classes)
        return jnp.where(known[..., None], jax.nn.one_hot(targets, classes, dtype=y.dtype), jnp.nan)


@dataclass(frozen=True)
class SigmoidCrossEntropy(Cost):
    """C = −Σ_o [ŷ ln σ(y) + (1 − ŷ) ln(1 − σ(y))] for logits y; δ = σ(y) − ŷ: no σ', so no slow start.

    y and targets (in [0, 1]) have one shape `[N, ...]`. The book's cross-entropy (Nielsen, ch. 3, eq. 63).

    >>> print(SigmoidCrossEntropy()(jnp.array([[0.0]]), jnp.array([[1.0]])), math.log(2))
    [0.693...] 0.693...
    """

    def __call__(self, y: Array, targets: Any) -> Array:
        """Σ_o ŷ softplus(−y) + (1 − ŷ) softplus(y): finite for any y, and smooth at 0 for `jax.grad` too."""
        self.check(y, targets)
        targets = jnp.asarray(targets).astype(y.dtype)
        costs = targets * jax.nn.softplus(-y) + (1 - targets) * jax.nn.softplus(y)
        return jnp.sum(_per_example(costs), axis=1)

    def delta(self, y: Array, targets: Any) -> Array:
        """σ(y) − ŷ."""
        self.check(y, targets)
        return jax.nn.sigmoid(y) - jnp.asarray(targets).astype(y.dtype)

    def check_values(self, y: Any, targets: Any) -> None:
        """Raise DataError for targets outside [0, 1]."""
        super().check_values(y, targets)
        targets = np.asarray(targets)
        wrong = targets[(targets < 0) | (targets > 1)]
        if wrong.size:
            raise DataError(f"SigmoidCrossEntropy: targets hold {wrong.flat[0]}, expected values from 0 to 1")
