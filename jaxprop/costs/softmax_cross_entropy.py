r"""Cross-entropy of one class among several: the cost of classifiers and of language models.

For one position with logits y and amounts q (what the targets, smoothed and weighted, put on each class):

    C = −Σ_c q_c ln softmax(y)_c,      ln softmax(y)_c = y_c − ln Σ_k e^{y_k}

    ∂ ln softmax(y)_c / ∂y_k = [k = c] − softmax(y)_k
    δ_k = ∂C/∂y_k = −Σ_c q_c ([k = c] − softmax(y)_k) = softmax(y)_k Σ_c q_c − q_k

Everything that is special about a position lies in q: one-hot for a label, p itself for probabilities,

    smoothed      p'_c = (1 − ε) p_c + ε Σp / C      no class is ever certain; Σp' = Σp
    weighted      q_c  = w_c p'_c                    a class that counts w_c times
    ignored       q    = 0                           C = 0 and δ = 0

and an example's C is the mean over its positions that are not ignored: C_n = Σ_t C_nt / T_n.

Its curvature, with s = softmax(y) and ∂s_k/∂y_l = s_k ([k = l] − s_l):

    H = ∂δ/∂y = Σq (diag(s) − s sᵀ) = S Sᵀ,      S_v = √Σq √s_v (e_v − s)      v = 1 … C

    (S Sᵀ)_kl = Σq Σ_v s_v ([k = v] − s_k)([l = v] − s_l) = Σq (s_k [k = l] − s_k s_l)

S_v is what a label v would send back, s − e_v, times the root of its chance s_v (the sign drops out). One column is
enough if it is random: with ĉ drawn with the chances s, δ̲ = √Σq (s − e_ĉ) has E[δ̲ δ̲ᵀ] = H.

With positions H_n has a block a position, divided by T_n. Every column of S lies at one position, since what meets in
a layer that mixes positions must not add up before it is squared: V = T·C, and S holds (T·C)² numbers an example.
Beyond small T take the random column, δ̲_t = √(Σq_t / T_n) (s_t − e_ĉ_t): labels at two positions are drawn apart, so
E[δ̲_t δ̲_uᵀ] = 0. (It is √T_n times the delta of the drawn labels: a sum over positions is a −ln P, their mean is not.)
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Key

from jaxprop.arrays.across import across
from jaxprop.arrays.dtypes import wide
from jaxprop.costs.cost import Cost, divided, do_not_fit, is_integer, labels_of, per_example, positions
from jaxprop.errors import DataError, JaxpropError, ShapeError


def softmax_root(y: Array, scale: Array) -> Array:
    """Return S `[T·C, N, (T,) C]` of logits y `[N, (T,) C]`: scale_t √s_c (e_c − s) at one position each.

    scale: the root of what the position counts, `[N, (T)]`.
    """
    N, T, C = y.shape[0], positions(y), y.shape[-1]
    s = jax.nn.softmax(y, axis=-1).reshape(N, T, C)
    away = jnp.eye(C, dtype=y.dtype)[None, None] - s[:, :, None, :]  # e_c − s at [n, t, c]
    block = (scale.reshape(N, T, 1) * jnp.sqrt(s))[..., None] * away
    if T > 1:
        block = jnp.eye(T, dtype=y.dtype)[:, None, :, None, None] * block[None]
    else:
        block = block[None]
    return jnp.moveaxis(block, 3, 1).reshape(T * C, *y.shape)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Cost):
    """C = −Σ_c p_c ln softmax(y)_c for logits y `[N, (T,) C]`; δ = softmax(y) Σp − p.

    targets are integer labels `[N, (T)]`, or probabilities `[N, (T,) C]`; with positions, C is the mean over them. A
    label out of range makes C and δ NaN (under jit nothing can be raised); `fit` and the commands refuse it before.

    label_smoothing: ε in [0, 1): p becomes (1 − ε) p + ε Σp / C.
    class_weights: one number ≥ 0 a class, or a dict {class: weight} that names all of them, after smoothing:
    q_c = w_c p_c, δ = softmax(y) Σq − q. The mean still divides by the number of positions, so C_n is the cost of one
    example whatever the others are; torch divides the sum over the batch by Σ w_label instead, which is
    Σ_n C_n / Σ_n w_label for labels `[N]`.
    ignore: the label of positions that do not count (padding; often −100 or −1): their C and δ are 0 and the mean is
    over the others. An example with none left costs 0, with δ 0. Needs integer labels.

    A logit of −∞ is a class that cannot be: it costs nothing where q_c = 0, else ∞. NaN at an ignored position is NaN.

    Source: Bishop, Pattern Recognition and Machine Learning, 4.3.4; smoothing: Szegedy et al. 2016, arXiv 1512.00567.

    >>> print(SoftmaxCrossEntropy()(jnp.zeros((1, 4)), jnp.array([2])), math.log(4))
    [1.386...] 1.386...
    >>> y, labels = jnp.zeros((2, 3, 4)), jnp.array([[2, 1, -1], [-1, -1, -1]])
    >>> print(SoftmaxCrossEntropy(ignore=-1)(y, labels))
    [1.386... 0.       ]
    """

    outputs: ClassVar[str] = "class logits"
    applies: ClassVar[str] = "softmax"
    takes_labels: ClassVar[bool] = True

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    ignore: int | None = None

    def __post_init__(self) -> None:
        smoothing, weights = self.label_smoothing, self.class_weights
        if not 0 <= smoothing < 1:
            raise JaxpropError(f"SoftmaxCrossEntropy: label_smoothing must be from 0 to below 1, found {smoothing!r}")
        if weights is not None and not (weights and all(0 <= w < math.inf for w in weights)):
            raise JaxpropError(f"SoftmaxCrossEntropy: class_weights must be finite numbers ≥ 0, found {weights}")

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """−Σ_c q_c ln softmax(y)_c = Σq · ln Σ_c e^{y_c} − Σ_c q_c y_c, the mean over positions."""
        q = self._amounts(y, targets)
        costs = -jnp.sum(jnp.where(q == 0, 0, q * jax.nn.log_softmax(y, axis=-1)), axis=-1)
        return self._over_counted(jnp.mean(per_example(costs), axis=1), targets)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """(softmax(y) Σq − q) / T."""
        q = self._amounts(y, targets)
        delta = jax.nn.softmax(y, axis=-1) * jnp.sum(q, axis=-1, keepdims=True) - q
        return self._over_counted(divided(delta, positions(y)), targets)

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """√(Σq / T_n) √s_c (e_c − s) at one position each: V = T·C columns."""
        return softmax_root(y, self._scale(y, targets))

    def sample(self, y: Array, key: Key[Array, ""]) -> Array:
        """Labels drawn with the chances softmax(y), at every position."""
        return jax.random.categorical(key, y)

    def sampled_delta(self, y: Array, targets: ArrayLike, key: Key[Array, ""]) -> Array:
        """√(Σq / T_n) (s − e_ĉ), which is 0 where the targets are ignored."""
        drawn = jax.nn.one_hot(self.sample(y, key), y.shape[-1], dtype=y.dtype)
        return self._scale(y, targets)[..., None] * (jax.nn.softmax(y, axis=-1) - drawn)

    def expected(self, y: Any) -> Any:
        """softmax(y)."""
        return jax.nn.softmax(y, axis=-1)

    def check(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise ShapeError unless targets are labels or probabilities for y, with a weight for every class."""
        expected = jnp.shape(y)[:-1] if is_integer(targets) else jnp.shape(y)
        if jnp.shape(targets) != expected:
            kind = "integer labels" if is_integer(targets) else "probabilities"
            raise ShapeError(
                f"SoftmaxCrossEntropy: {do_not_fit(y, targets)}: expected {kind} of shape {tuple(expected)}; "
                "labels are integers [N], probabilities floating [N, C]"
            )
        if self.ignore is not None and not is_integer(targets):
            raise ShapeError(
                f"SoftmaxCrossEntropy: found probabilities, and ignore={self.ignore} is a label: give integer labels, "
                "or rows of zeros where nothing counts, without ignore"
            )
        if self.class_weights is not None and len(self.class_weights) != jnp.shape(y)[-1]:
            raise ShapeError(
                f"SoftmaxCrossEntropy: found {len(self.class_weights)} class_weights for {jnp.shape(y)[-1]} outputs, "
                "expected one a class"
            )

    def check_values(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise DataError for labels outside 0..C−1 (but for `ignore`) or probabilities that are negative."""
        classes, targets = jnp.shape(y)[-1], np.asarray(targets)
        if is_integer(targets):
            targets = targets if self.ignore is None else targets[targets != self.ignore]
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

    def _amounts(self, y: Array, targets: ArrayLike) -> Array:
        """q `[N, (T,) C]`: what the targets put on each class, smoothed, weighted, 0 where ignored."""
        p = self._probabilities(y, targets)
        if self.label_smoothing:
            total = jnp.sum(p, axis=-1, keepdims=True)
            p = (1 - self.label_smoothing) * p + (self.label_smoothing / y.shape[-1]) * total
        return p if self.class_weights is None else p * across(jnp.asarray(self.class_weights, y.dtype), p)

    def _scale(self, y: Array, targets: ArrayLike) -> Array:
        """√(Σq / T_n) of every position, `[N, (T)]`."""
        total = jnp.sum(self._amounts(y, targets).astype(wide(y.dtype)), axis=-1)
        return jnp.sqrt(self._over_counted(total / positions(y), targets)).astype(y.dtype)

    def _probabilities(self, y: Array, targets: ArrayLike) -> Array:
        self.check(y, targets)
        if not is_integer(targets):
            return jnp.asarray(targets).astype(y.dtype)
        targets, classes = labels_of(targets), y.shape[-1]
        known, p = (targets >= 0) & (targets < classes), jax.nn.one_hot(targets, classes, dtype=y.dtype)
        if self.ignore is not None:
            ignored = targets == self.ignore
            known, p = known | ignored, jnp.where(ignored[..., None], 0, p)
        return jnp.where(known[..., None], p, jnp.nan)

    def _over_counted(self, means: Array, targets: ArrayLike) -> Array:
        """A mean over all T positions as one over those that count: times T / T_n."""
        if self.ignore is None:
            return means
        counted = per_example(labels_of(targets) != self.ignore)
        share = counted.shape[1] / jnp.maximum(jnp.sum(counted, axis=1), 1)
        share = share.astype(wide(means.dtype)).reshape(-1, *(1,) * (means.ndim - 1))
        return (means.astype(share.dtype) * share).astype(means.dtype)
