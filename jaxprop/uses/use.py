"""A `Use` is the place where an activation meets an error; every gradient quantity is a small function of it.

The backward pass returns, for every parameter, the activation `a` that entered and the error δ = ∂C_n/∂z that came
back, per example and before anything is summed. What is done with the pair is decided here and nowhere else:

    gradient        Σ_n w_n · ∂C_n/∂θ          the parameter's shape; w_n = 1/N unless weights are given
    per_example     ∂C_n/∂θ                    [N, ...]
    squared_norms   ‖∂C_n/∂θ‖²                 [N], without building per-example gradients where shapes allow
    total_and_norms                            the gradient before it is divided, and squared norms, for less than both
    second_moment   Σ_n w_n · (∂C_n/∂θ)²       the parameter's shape, squared number by number
    dots            ⟨∂C_n/∂θ, V⟩               [N], for a V of the parameter's shape

Letters: N examples, T positions (any axes between N and the features), I inputs, O outputs. δ is never divided by N
on its way here: `weighted` is the one place where the mean over examples is taken.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.varying import vary_with
from jaxprop.errors import ShapeError
from jaxprop.uses.chunked import in_chunks
from jaxprop.uses.kronecker import Factors, Kind, factors_of
from jaxprop.uses.way import Way


def static() -> Any:
    """A field of a use that is no array: part of its type, for jit."""
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

    Dividing the sum, not every δ, by N keeps half precision from underflowing; totals come as wide as sums are taken,
    since a sum, and N itself, may be larger than float16 can hold. Who asks rounds what comes out (`rounded`). Raises
    ShapeError for no examples.
    """
    if examples == 0:
        raise ShapeError("found no examples (N = 0), expected at least one row in x")
    if weights is not None:
        check_weights(weights, examples)
        return total(weights)
    return jax.tree.map(lambda s: _divided(s.astype(wide(s.dtype)), examples), total(None))


def _divided(total: Array, examples: int) -> Array:
    """By lax, for it is once for every parameter: jnp would take four times as long to trace."""
    return jax.lax.div(total, total.dtype.type(examples))


def weighted_sum(terms: Array, weights: Array | None) -> Array:
    """Σ_n w_n C_n of terms `[N]`, or Σ_n C_n without weights, as wide as sums are taken: `weighted` takes its mean."""
    terms = terms.astype(wide(terms.dtype))
    return jnp.sum(terms) if weights is None else jnp.sum(terms * jnp.asarray(weights).astype(terms.dtype))


def rounded(gradients: Any, params: Any) -> Any:
    """Return a tree of gradients in the dtypes of params."""
    return jax.tree.map(lambda g, p: g.astype(jnp.result_type(p)), gradients, params)


def scale(delta: Array, weights: Array | None) -> Array:
    """Return w_n δ_n, with w broadcast over all but the example axis."""
    if weights is None:
        return delta
    dtype = wide(delta.dtype)  # a weight of 1e-7 is not to be rounded to float16
    weights = jnp.reshape(weights, (-1,) + (1,) * (delta.ndim - 1)).astype(dtype)
    return (delta.astype(dtype) * weights).astype(delta.dtype)


def positions(a: Array) -> Array:
    """Return `[N, ..., F]` as `[N, T, F]`."""
    return a.reshape(a.shape[0], math.prod(a.shape[1:-1]), a.shape[-1])


def over_positions(terms: Array) -> Array:
    """Return Σ_t of terms `[N, (T...,) F]`, `[N, F]`."""
    return jax.lax.reduce_sum(terms, tuple(range(1, terms.ndim - 1)))


def squared(g: Array) -> Array:
    """Return |g|², number by number."""
    return g.real**2 + g.imag**2 if jnp.issubdtype(g.dtype, jnp.complexfloating) else g * g


def summed(examples: Array, weights: Array | None) -> Array:
    """Return Σ_n w_n of arrays `[N, ...]`, w_n = 1 for None: as a product, which XLA:CPU takes no detours for."""
    weights = jnp.ones(examples.shape[0], examples.dtype) if weights is None else weights.astype(examples.dtype)
    return jnp.tensordot(weights, examples, 1, precision=jax.lax.Precision.HIGHEST)


@dataclass(frozen=True)
class _Bounded:
    most: int | None = field(default=None, kw_only=True, metadata={"static": True})


class Use(_Bounded, abc.ABC):
    """What meets at one parameter: enough for its gradient, per-example gradients and their norms.

    `shape` and `dtype` are the parameter's, and static. A use is a pytree: it travels through jit, vmap and scan.
    `most` is how many numbers may be held at a time of what is built of single examples; by default as many as the use
    holds itself.

    >>> from jaxprop.uses import Shift
    >>> use = Shift(jnp.array([[2.0], [4.0]]), (1,), jnp.float32)
    >>> isinstance(use, Use), use.gradient(weights=jnp.array([1.0, 0.0]))
    (True, Array([2.], dtype=float32))
    """

    shape: tuple[int, ...]
    dtype: DTypeLike

    @property
    def examples(self) -> int:
        """N, the number of examples: the first axis of every array of a use."""
        return jax.tree.leaves(self)[0].shape[0]

    @property
    def wide(self) -> DTypeLike:
        """The dtype to add up in: in half precision every term of a sum would be rounded."""
        return wide(self.dtype)

    @abc.abstractmethod
    def total(self, weights: Array | None) -> Array:
        """Return Σ_n w_n ∂C_n/∂θ (w_n = 1 for None) in the parameter's shape, left as `wide` as it is summed."""

    @abc.abstractmethod
    def per_example(self) -> Array:
        """Return ∂C_n/∂θ for every example, `[N, *shape]`."""

    def gradient(self, weights: Array | None = None) -> Array:
        """Return Σ_n w_n ∂C_n/∂θ in the parameter's shape and dtype; `weights` is `[N]`, None means 1/N each."""
        return weighted(self.total, weights, self.examples).astype(self.dtype)

    def squares(self, weights: Array | None) -> Array:
        """Return Σ_n w_n (∂C_n/∂θ)² (w_n = 1 for None), squared number by number, left as `wide` as it is summed.

        A sum over positions has to be taken before it is squared: a few examples at a time.
        """
        way = self.squares_way()
        return in_chunks(lambda use, w: (use._squares_at_once(w), None), self, weights, way, self.most)[0]

    def squares_way(self) -> Way:
        """Return what `squares` costs: the gradient of an example, and its square beside it."""
        return Way("direct", 0, 2 * math.prod(self.shape))

    def within(self, most: int | None) -> "Use":
        """Return the use with a bound on how many numbers of single examples may be held at a time."""
        return replace(self, most=most)

    def _squares_at_once(self, weights: Array | None) -> Array:
        g = self.per_example().astype(self.wide)
        return summed(squared(g), weights)

    def second_moment(self, weights: Array | None = None) -> Array:
        """Return Σ_n w_n (∂C_n/∂θ)², number by number, in the parameter's shape and dtype; None means 1/N each."""
        return weighted(self.squares, weights, self.examples).astype(self.dtype)

    def dots(self, direction: Array) -> Array:
        """Return ⟨∂C_n/∂θ, V⟩ for every example, `[N]`, as wide as sums are taken; V = `direction` has θ's shape.

        Σ_n w_n ∂C_n/∂θ is linear in w, and the derivative of its product with V by w_n is what is asked: `total`
        backwards, which for z = a W is Σ_t δ_nt · (V a_nt). No gradient of one example is built.
        """
        weights = vary_with(jnp.zeros(self.examples, self.wide), self)
        return jax.linear_transpose(self.total, weights)(vary_with(direction.astype(self.wide), self))[0]

    def factors(self) -> tuple[Array, Array] | None:
        """Return l and r where ∂C_n/∂θ = Σ_t l_nt ⊗ r_nt, else None.

        Each is `[N, T, F]`; l may be ids `[N, T]`, which stand for one-hot rows.
        """
        return None

    def norm_way(self, shared: bool = False) -> Way:
        """Return how `squared_norms` goes about it, chosen from static shapes, and what that costs an example.

        shared: how `total_and_norms` does, and what it costs beyond the total.
        """
        return Way("direct", 0, math.prod(self.shape))

    @property
    def norm_method(self) -> str:
        """The name of `norm_way`."""
        return self.norm_way().name

    def squared_norms(self) -> Array:
        """Return ‖∂C_n/∂θ‖² for every example, `[N]`."""

        def norms(use: Use, _: Array | None) -> tuple[None, Array]:
            g = use.per_example()
            return None, jnp.sum(squared(g), axis=tuple(range(1, g.ndim)))

        return in_chunks(norms, self, None, self.norm_way(), self.most, cached=False)[1]

    def total_and_norms(self, weights: Array | None) -> tuple[Array, Array]:
        """Return `total(weights)` and `squared_norms()` together.

        Where norms are taken of gradients of examples, these add up to the total: it needs no products of its own.
        """
        return self.total(weights), self.squared_norms()

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """Return A and B whose product A ⊗ B stands for Σ_n w_n g_n g_nᵀ; here its diagonal alone, with A = 1."""
        g = self.per_example()
        return factors_of(None, g.reshape(g.shape[0], 1, -1), weights, kind, self.wide, diagonal=(False, True))


def is_use(node: Any) -> bool:
    """Tell whether a node of a tree of uses is one `Use` (for `jax.tree.map(..., is_leaf=is_use)`)."""
    return isinstance(node, Use)
