"""A `Use` is the place where an activation meets an error; every gradient quantity is a small function of it.

The backward pass returns, for every parameter, the activation `a` that entered and the error δ = ∂C_n/∂z that came
back, per example and before anything is summed. What is done with the pair is decided here and nowhere else:

    gradient        Σ_n w_n · ∂C_n/∂θ          the parameter's shape; w_n = 1/N unless weights are given
    per_example     ∂C_n/∂θ                    [N, ...]
    squared_norms   ‖∂C_n/∂θ‖²                 [N], without building per-example gradients where shapes allow

Letters: N examples, T positions (any axes between N and the features), I inputs, O outputs. δ is never divided by N
on its way here: `weighted` is the one place where the mean over examples is taken.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.errors import ShapeError


def _static() -> Any:
    return field(metadata={"static": True})


def check_weights(weights: Array, examples: int) -> None:
    """Raise ShapeError unless `weights` is one number per example, `[N]`."""
    if jnp.shape(weights) != (examples,):
        raise ShapeError(
            f"weights: found shape {jnp.shape(weights)}, expected {(examples,)}, one weight per example; "
            "None means 1/N each"
        )


def weighted(total: Callable[[Array | None], Any], weights: Array | None, examples: int) -> Any:
    """Return Σ_n w_n (...)_n, where `total(w)` sums with weights, `total(None)` without: the one place for the mean.

    Dividing the sum, not every δ, by N keeps half precision from underflowing. Raises ShapeError for no examples.
    """
    if examples == 0:
        raise ShapeError("found no examples (N = 0), expected at least one row in x")
    if weights is not None:
        check_weights(weights, examples)
        return total(weights)
    return jax.tree.map(lambda s: s / examples, total(None))


def _scale(delta: Array, weights: Array | None) -> Array:
    """w_n δ_n, broadcast over all but the example axis."""
    if weights is None:
        return delta
    return delta * jnp.reshape(weights, (-1,) + (1,) * (delta.ndim - 1)).astype(delta.dtype)


def _positions(a: Array) -> Array:
    """[N, ..., F] as [N, T, F]."""
    return a.reshape(a.shape[0], math.prod(a.shape[1:-1]), a.shape[-1])


class Use(abc.ABC):
    """What meets at one parameter: enough for its gradient, per-example gradients and their norms.

    `shape` and `dtype` are the parameter's, and static. A use is a pytree: it travels through jit, vmap and scan.

    >>> use = Shift(jnp.array([[2.0], [4.0]]), (1,), jnp.float32)
    >>> isinstance(use, Use), use.gradient(weights=jnp.array([1.0, 0.0]))
    (True, Array([2.], dtype=float32))
    """

    shape: tuple[int, ...]
    dtype: Any

    @property
    @abc.abstractmethod
    def examples(self) -> int:
        """N, the number of examples."""

    @abc.abstractmethod
    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n ∂C_n/∂θ (w_n = 1 for None), in the parameter's shape, accumulated at its dtype."""

    @abc.abstractmethod
    def per_example(self) -> Array:
        """∂C_n/∂θ for every example, `[N, *shape]`."""

    def gradient(self, weights: Array | None = None) -> Array:
        """Σ_n w_n ∂C_n/∂θ in the parameter's shape and dtype; `weights` is `[N]`, None means 1/N each."""
        return weighted(self.total, weights, self.examples)

    def squared_norms(self) -> Array:
        """‖∂C_n/∂θ‖² for every example, `[N]`."""
        g = self.per_example()
        return jnp.sum(g * g, axis=tuple(range(1, g.ndim)))


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
    shape: tuple[int, ...] = _static()
    dtype: Any = _static()

    @property
    def examples(self) -> int:
        """N."""
        return self.delta.shape[0]

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n Σ_t a_nt ⊗ δ_nt: one contraction over all examples and positions."""
        a = self.a.reshape(-1, self.a.shape[-1])  # [NT, I]: XLA needs less memory for it than for [N, T, I]
        delta = _scale(self.delta, weights).reshape(-1, self.delta.shape[-1])
        return jax.lax.dot_general(a, delta, (((0,), (0,)), ((), ())), preferred_element_type=self.dtype)

    def per_example(self) -> Array:
        """Σ_t a_nt ⊗ δ_nt, `[N, I, O]`."""
        a, delta = _positions(self.a), _positions(self.delta)
        return jnp.einsum("nti,nto->nio", a, delta, preferred_element_type=self.dtype)

    @property
    def norm_method(self) -> str:
        """How `squared_norms` goes about it, chosen from static shapes.

        'product'  T = 1:        ‖a_n‖² ‖δ_n‖²
        'gram'     2T² ≤ I·O:    Σ_ts (a_t·a_s)(δ_t·δ_s), memory 2T² an example
        'direct'   otherwise:    the per-example gradient itself, memory I·O an example
        The switch is the memory rule of mixed ghost clipping (Bu et al. 2022, arXiv 2205.10683, section 4).
        """
        positions = math.prod(self.a.shape[1:-1])
        if positions == 1:
            return "product"
        return "gram" if 2 * positions**2 <= self.a.shape[-1] * self.delta.shape[-1] else "direct"

    def squared_norms(self) -> Array:
        """‖Σ_t a_nt ⊗ δ_nt‖², `[N]`, by `norm_method`."""
        if self.norm_method == "direct":
            return super().squared_norms()
        a, delta = _positions(self.a), _positions(self.delta)
        # einsum, never a @ a.T: XLA:CPU miscompiles the explicit transpose of a broadcast operand (jax#39103)
        gram_a = jnp.einsum("nti,nsi->nts", a, a, preferred_element_type=self.dtype)
        gram_delta = jnp.einsum("nto,nso->nts", delta, delta, preferred_element_type=self.dtype)
        return jnp.maximum(jnp.sum(gram_a * gram_delta, axis=(1, 2)), 0)  # a norm; rounding may say −0.0…1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shift(Use):
    """A bias in z = … + b: ∂C_n/∂b = Σ_t δ_nt, with δ `[N, (T,) O]`.

    >>> Shift(jnp.array([[2.0], [4.0]]), (1,), jnp.float32).gradient()
    Array([3.], dtype=float32)
    """

    delta: Array
    shape: tuple[int, ...] = _static()
    dtype: Any = _static()

    @property
    def examples(self) -> int:
        """N."""
        return self.delta.shape[0]

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n Σ_t δ_nt."""
        delta = _scale(self.delta, weights).astype(self.dtype)
        return jnp.sum(delta, axis=tuple(range(delta.ndim - 1)))

    def per_example(self) -> Array:
        """Σ_t δ_nt, `[N, O]`."""
        return jnp.sum(_positions(self.delta).astype(self.dtype), axis=1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dense(Use):
    """Per-example gradients themselves, `[N, *shape]`: always right, never small. For a layer without a better use.

    >>> Dense(jnp.array([[1.0, 0.0], [0.0, 3.0]]), (2,), jnp.float32).gradient()
    Array([0.5, 1.5], dtype=float32)
    """

    gradients: Array
    shape: tuple[int, ...] = _static()
    dtype: Any = _static()

    @property
    def examples(self) -> int:
        """N."""
        return self.gradients.shape[0]

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n g_n."""
        return jnp.sum(_scale(self.gradients, weights).astype(self.dtype), axis=0)

    def per_example(self) -> Array:
        """g_n, `[N, *shape]`."""
        return self.gradients.astype(self.dtype)


def is_use(node: Any) -> bool:
    """Whether a node of a tree of uses is one `Use` (for `jax.tree.map(..., is_leaf=is_use)`)."""
    return isinstance(node, Use)
