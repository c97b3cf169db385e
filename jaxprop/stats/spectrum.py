"""What a symmetric matrix is like that is known by its products alone: its trace and its largest eigenvalue.

    trace         tr A = E[zᵀ A z] for z of random signs     Hutchinson: the mean over samples, with its standard error
    eigenvalue    λ = max vᵀ A v over unit vectors v         each step takes the best v among three directions

The three directions are where v stands, the residual r = A v − λ v (the gradient of vᵀ A v), and the step before; the
best of them is the eigenvector of a 3 × 3 matrix. It is the conjugate gradient method for eigenvalues (LOBPCG of one
vector): nearly as quick as Lanczos, in the memory of six vectors of θ, where Lanczos keeps one for every step.

Both take any function that is linear and symmetric, of vectors in the tree of θ: most often `ggn_product` or
`hessian_product` with their x, θ and targets filled in by `functools.partial`.
Source: Hutchinson, "A Stochastic Estimator of the Trace of the Influence Matrix" (1989); Knyazev, "Toward the Optimal
Preconditioned Eigensolver" (2001), with k = 1 and no preconditioner.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Key, PyTree

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.given import as_key
from jaxprop.checks import check_key, check_whole
from jaxprop.errors import JaxpropError
from jaxprop.layers.settings import shortly

Symmetric = Callable[[PyTree], PyTree]


class Trace(NamedTuple):
    """Hold an estimate of a trace and its standard error: the true one lies within 3 of these 997 times in 1000.

    >>> Trace._fields
    ('value', 'error')
    """

    value: Float[Array, ""]
    error: Float[Array, ""]


class Eigenpair(NamedTuple):
    """Hold an eigenvalue, its vector of norm 1 in the tree of θ, ‖A v − λ v‖, and how many products it took.

    An eigenvalue of A lies within `error` of `value`, which is itself no larger than the largest, but for rounding.

    >>> Eigenpair._fields
    ('value', 'vector', 'error', 'products')
    """

    value: Float[Array, ""]
    vector: PyTree
    error: Float[Array, ""]
    products: Array


def trace(product: Symmetric, params: PyTree, key: Key[Array, ""], *, samples: int = 100) -> Trace:
    """Return the trace of A, estimated by products with `samples` random vectors of ±1, and its standard error.

    Args:
        product: v -> A v, for v in the tree of params.
        params: θ; its tree, shapes and dtypes are those of v.
        key: draws the signs.
        samples: products taken, one after another, at least 2. The error is √(2 Σ_{i≠j} A_ij² / samples): none for a
            diagonal matrix, and a tenth for a hundred times the samples.

    Raises:
        JaxpropError: samples is no whole number ≥ 2.

    >>> found = trace(lambda v: {"W": jnp.array([1.0, 5.0]) * v["W"]}, {"W": jnp.zeros(2)}, jax.random.key(0))
    >>> print(*found)
    6.0 0.0
    """
    check_whole(samples, "stats.trace: samples", 2)
    A, flat, _ = _flat(product, params, "stats.trace")

    def one(key: Array) -> Array:
        signs = jax.random.rademacher(key, flat.shape, wide(flat.dtype))
        return signs @ A(signs)

    found = jax.lax.map(one, jax.random.split(check_key(as_key(key, "key"), "stats.trace", "vectors"), samples))
    return Trace(jnp.mean(found), jnp.std(found, ddof=1) / math.sqrt(samples))


def largest_eigenvalue(
    product: Symmetric, params: PyTree, key: Key[Array, ""], *, iterations: int = 100, tolerance: float = 1e-3
) -> Eigenpair:
    """Return the largest eigenvalue of A and its vector, found by products.

    It is the largest by sign, not by size: the smallest is the negative of that of v -> −A v.

    Args:
        product: v -> A v, linear and symmetric, for v in the tree of params.
        params: θ; its tree, shapes and dtypes are those of v.
        key: draws the first vector.
        iterations: the most products before it stops; one more tells the error.
        tolerance: it stops where ‖A v − λ v‖ ≤ tolerance · |λ|. λ itself is by then far closer: its error is of the
            square of it. Float32 allows about 1e-5, bfloat16 about 0.05.

    Raises:
        JaxpropError: iterations is no whole number ≥ 1, or tolerance no number ≥ 0.

    >>> A = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> value, vector, error, products = largest_eigenvalue(lambda v: A @ v, jnp.zeros(2), jax.random.key(0))
    >>> print(f"{value:.4f}", jnp.abs(vector).round(3))
    3.0000 [0.707 0.707]
    """
    check_whole(iterations, "stats.largest_eigenvalue: iterations")
    if not tolerance >= 0:
        raise JaxpropError(f"stats.largest_eigenvalue: tolerance must be a number ≥ 0, found {tolerance!r}")
    A, flat, tree = _flat(product, params, "stats.largest_eigenvalue")
    dtype, eps = wide(flat.dtype), float(jnp.finfo(flat.dtype).eps)
    limit, smallest = max(tolerance, 4 * eps), jnp.finfo(dtype).tiny  # no closer than rounding

    def at(v: Array, Av: Array, step: Array, Astep: Array, products: Array) -> _Search:
        value = v @ Av
        return _Search(v, Av, step, Astep, value, jnp.linalg.norm(Av - value * v), products)

    def better(now: _Search) -> _Search:
        r = (now.Av - now.value * now.v) / now.error
        r = r - (r @ now.v) * now.v  # once more: near the end it is all rounding
        r = r / jnp.maximum(jnp.linalg.norm(r), smallest)
        three = jnp.stack([now.v, r, now.step])
        images = jnp.stack([now.Av, A(r), now.Astep])
        c = _best(three @ three.T, three @ images.T, math.sqrt(eps))
        v, step = c @ three, c[1:] @ three[1:]
        size, length = jnp.linalg.norm(v), jnp.maximum(jnp.linalg.norm(step), smallest)
        return at(v / size, c @ images / size, step / length, c[1:] @ images[1:] / length, now.products + 1)

    def goes_on(now: _Search) -> Array:
        return (now.error > limit * jnp.abs(now.value) + smallest) & (now.products < iterations)

    key = check_key(as_key(key, "key"), "stats.largest_eigenvalue", "a vector")
    v = jax.random.normal(key, flat.shape, dtype)
    v = v / jnp.linalg.norm(v)
    found = jax.lax.while_loop(goes_on, better, at(v, A(v), 0 * v, 0 * v, jnp.int32(1)))
    # A v was carried along: once more afresh, for an error that can be relied upon
    found = at(found.v, A(found.v), found.step, found.Astep, found.products + 1)
    return Eigenpair(found.value, tree(found.v.astype(flat.dtype)), found.error, found.products)


class _Search(NamedTuple):
    """Where the search stands: v of norm 1 and the step that led there, their images, λ, ‖A v − λ v‖ and the count."""

    v: Array
    Av: Array
    step: Array
    Astep: Array
    value: Array
    error: Array
    products: Array


def _best(G: Array, T: Array, least: float) -> Array:
    """The c that makes cᵀ T c largest for cᵀ G c = 1, of v, r and the step: G has their products, T those with images.

    v and r stand at right angles; what of the step does to them is taken, unless little is left (its square below
    `least`, and nothing at first). Its place is then held by a number that is not the largest.
    """
    a, b = G[0, 2], G[1, 2]
    left = G[2, 2] - a * a - b * b
    some = left > least
    length = jnp.where(some, jax.lax.rsqrt(jnp.where(some, left, 1)), 0)
    W = jnp.eye(3, dtype=G.dtype).at[:, 2].set(length * jnp.stack([-a, -b, jnp.ones_like(a)]))
    within = W.T @ ((T + T.T) / 2) @ W
    within = within.at[2, 2].add(jnp.where(some, 0, T[0, 0] - jnp.max(jnp.abs(T))))
    return W @ jnp.linalg.eigh(within)[1][:, 2]


def _flat(product: Symmetric, params: PyTree, what: str) -> tuple[Callable[[Array], Array], Array, Symmetric]:
    """The product for vectors `[P]`, as wide as sums are taken; θ as one of them; and how it is made a tree again."""
    if not callable(product):
        raise JaxpropError(
            f"{what}: product must be a function v -> A v, found {shortly(product)}; write "
            "functools.partial(jp.stats.ggn_product(net, cost), x, params, targets)"
        )
    flat, tree = ravel_pytree(params)

    def A(v: Array) -> Array:
        return ravel_pytree(product(tree(v.astype(flat.dtype))))[0].astype(wide(flat.dtype))

    return A, flat, tree
