"""`precondition`: a step along the natural gradient as K-FAC approximates it, for optax and `fit`.

    before    ∂C/∂θ                                        every parameter's gradient G, as a matrix
    after     (A + π√λ 1)⁻¹ G (B + √λ/π 1)⁻¹               what (A ⊗ B + λ 1)⁻¹ comes to, nearly, for little more

A and B are averages over the latest steps. λ is the damping: the model of the cost is good near θ alone, and small
eigenvalues are known badly. π² = (tr A / R) / (tr B / C) shares it out between the sides by their mean eigenvalue.
"""

import math
import numbers
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import ArrayLike, PyTree

from jaxprop.arrays.given import as_arrays
from jaxprop.checks import check_whole
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly
from jaxprop.stats.collect import collect
from jaxprop.stats.foreign import Function
from jaxprop.stats.kronecker_factors import Errors, KroneckerFactors, is_factors
from jaxprop.uses.kronecker import Factors, between, traces


class PreconditionState(NamedTuple):
    """Hold what `precondition` keeps: how many steps it took, the averaged factors, and their damped inverses.

    >>> PreconditionState._fields
    ('count', 'factors', 'inverses')
    """

    count: Array
    factors: PyTree
    inverses: PyTree


def precondition(
    net: Layer | Function,
    cost: Cost,
    data: tuple[Any, ...],
    learning_rate: Any = None,
    *,
    momentum: float = 0.9,
    damping: float = 1e-2,
    clip: float | None = 0.1,
    decay: float = 0.95,
    every: int = 1,
    inverse_every: int = 10,
    kind: Literal["expand", "reduce"] = "expand",
    errors: Errors = "sampled",
    samples: int = 1,
    in_axes: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return an optax optimizer whose steps are preconditioned by Kronecker factors of the curvature (K-FAC).

    θ ← θ − η (A ⊗ B + λ)⁻¹ ∂C/∂θ for every parameter. `fit` gives it the factors of its batches; in a loop of one's own
    they come from `collect`, as `update(grads, state, params, factors=factors)`, see the example. Under `optax.masked`
    or `optax.partition` it is for some parameters, and others have another optimizer or are frozen.

    Args:
        net: a Layer that does not mix examples, or f(params, x), y of one example, of Flax, Equinox or plain JAX.
        cost: C_n; "sampled" and "exact" errors need its `sample` or `hessian_root`.
        data: rows (x, targets) like those to train on: their shapes and dtypes are read, nothing else. Of a function
            what it takes behind params, and then targets.
        learning_rate: η, a number or an optax schedule. None returns the preconditioned gradient itself, with neither
            sign nor momentum, for `optax.chain`.
        momentum: μ of the running sum of steps, from 0 to below 1.
        damping: λ > 0, in the unit of the curvature.
        clip: κ, or None. A step is made shorter where η² Σ_θ ⟨G, (A ⊗ B + λ)⁻¹ G⟩ would be above κ: that is about twice
            the change of the cost that its quadratic model predicts (for likelihoods, twice the KL divergence). Where
            the learning rate is None or a schedule, η counts as 1 here.
        decay: ε, how much of the average of factors stays at a step, at most: 1 − 1/t at first, so that it is a mean.
        every: the factors are computed at every so many steps (in `fit`).
        inverse_every: the inverses are made anew at every so many steps, and at each of the first so many.
        kind, errors, samples: as for `KroneckerFactors`.
        in_axes: of a function, as for `collect`: (None, 0) for f(params, x). `fit` cannot give it factors.

    Raises:
        JaxpropError: a setting is out of its range, or an update has neither factors nor what to compute them with;
            parameters of a function are masked.

    >>> import numpy as np
    >>> from jaxprop import HalfSquaredError, Linear, fit
    >>> x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32) * np.array([1, 0.1], np.float32)
    >>> net, cost, rows = Linear(1, bias=False), HalfSquaredError(), (x, x @ np.ones((2, 1), np.float32))
    >>> optimizer = precondition(net, cost, rows, 1.0, momentum=0.0, damping=1e-10, clip=None, errors="exact")
    >>> result = fit(net, cost, optimizer, rows, epochs=1, batch_size=64, progress=False)
    >>> print(result.params.W.ravel().round(2))
    [1. 1.]

    Or in a loop of one's own:

    >>> run = jax.jit(collect(net, cost, [KroneckerFactors(errors="exact")]))
    >>> params = net.init(jax.random.key(0), x)
    >>> state = optimizer.init(params)
    >>> value, grads, (factors,) = run(rows[0], params, rows[1])
    >>> updates, state = optimizer.update(grads, state, params, factors=factors)
    >>> print(optax.apply_updates(params, updates).W.ravel().round(2))
    [1. 1.]

    Sources: Martens and Grosse, arXiv 1503.05671, sections 3, 5 and 6.3; clipping as in Ba et al., "Distributed
    Second-Order Optimization using Kronecker-Factored Approximations" (ICLR 2017), section 5.
    """
    _check(momentum, damping, clip, decay, every, inverse_every)
    quantity = KroneckerFactors(kind=kind, errors=errors, samples=samples)
    of_rows = (
        _of_network(net, cost, data, quantity)
        if isinstance(net, Layer)
        else _of_function(net, cost, data, quantity, in_axes)
    )
    rate = learning_rate if _is_number(learning_rate) else 1.0

    def init(params: PyTree) -> PreconditionState:
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), _masked(of_rows(params), params))
        return PreconditionState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(
        grads: PyTree,
        state: PreconditionState,
        params: PyTree = None,
        *,
        factors: PyTree = None,
        collect_fn: Callable[[Any], tuple[PyTree, ...]] | None = None,
        **extra: Any,
    ) -> tuple[PyTree, PreconditionState]:
        if factors is None and collect_fn is None:
            raise JaxpropError(
                "precondition: update has no factors: give factors=, which stats.collect(net, cost, "
                f"[stats.{quantity}]) computes; fit does it by itself, unless an optimizer around this one hands on no "
                "more than gradients, such as optax.MultiSteps"
            )

        def found() -> PyTree:
            return _masked(factors if collect_fn is None else collect_fn([quantity])[0], grads)

        if collect_fn is None or every == 1:  # no cond: XLA finds that the forward pass is the gradient's own
            averaged = _averaged(state, found(), decay)
        else:
            averaged = jax.lax.cond(
                state.count % every == 0,
                lambda: _averaged(state, found(), decay, every),
                lambda: state.factors,
            )
        inverses = jax.lax.cond(
            (state.count % inverse_every == 0) | (state.count < inverse_every),
            lambda: jax.tree.map(lambda f: inverse(f, damping), averaged, is_leaf=is_factors),
            lambda: state.inverses,
        )
        updates = jax.tree.map(_times, inverses, grads, is_leaf=is_factors)
        if clip is not None:
            updates = _clipped(updates, grads, clip / rate**2)
        return updates, PreconditionState(state.count + 1, averaged, inverses)

    core = optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]
    if learning_rate is None:
        return core
    return optax.chain(core, optax.sgd(learning_rate, momentum=momentum or None))


def inverse(factors: Factors, damping: float) -> Factors:
    """Return the factors of (A ⊗ B + λ)⁻¹, nearly: each side's own inverse, with its share of the damping λ.

    >>> found = inverse(Factors(4 * jnp.eye(1), jnp.eye(1)), 1.0)
    >>> print(found.A.ravel(), found.B.ravel())
    [0.166...] [0.666...]
    """
    of_A, of_B = (
        traces(side, diagonal) / side.shape[-1]
        for side, diagonal in zip((factors.A, factors.B), factors.diagonal, strict=True)
    )
    π = jnp.sqrt(jnp.where((of_A > 0) & (of_B > 0), of_A / jnp.where(of_B > 0, of_B, 1), 1))
    root = math.sqrt(damping)
    A, B = (
        _inverse_of(side, share, diagonal)
        for side, share, diagonal in zip((factors.A, factors.B), (π * root, root / π), factors.diagonal, strict=True)
    )
    return replace(factors, A=A, B=B, joined=False)


def _inverse_of(side: Array, damping: Array, diagonal: bool) -> Array:
    """(M + d 1)⁻¹ of every block, by its Cholesky factor; d is no less than what rounding may have taken from M."""
    damping = jnp.maximum(damping, jnp.finfo(side.dtype).eps * traces(side, diagonal))
    if diagonal:
        return 1 / (side + damping[..., None])
    eye = jnp.eye(side.shape[-1], dtype=side.dtype)
    L = jnp.linalg.cholesky(side + damping[..., None, None] * eye)
    root = jax.lax.linalg.triangular_solve(L, jnp.broadcast_to(eye, side.shape), left_side=True, lower=True)
    return jnp.swapaxes(root, -1, -2) @ root


def _times(inverse: Factors, gradient: Array) -> Array:
    wide = gradient.astype(inverse.A.dtype)
    product = between(inverse.A, inverse.as_matrix(wide), inverse.B, inverse.diagonal)
    return inverse.as_theta(product, gradient.shape).astype(gradient.dtype)


def _averaged(state: PreconditionState, factors: PyTree, decay: float, every: int = 1) -> PyTree:
    """ε of the average and 1 − ε of what is new; ε = 1 − 1/t until that is above `decay`."""
    seen = state.count // every
    keep = jnp.minimum(1 - 1 / (seen + 1), decay)
    return jax.tree.map(lambda old, new: old + (1 - keep).astype(old.dtype) * (new - old), state.factors, factors)


def _clipped(updates: PyTree, grads: PyTree, most: ArrayLike) -> PyTree:
    products = jax.tree.map(lambda u, g: jnp.sum(u * g), updates, grads)
    length = jnp.asarray(sum(jax.tree.leaves(products)))
    within = jnp.asarray(most, length.dtype) / jnp.maximum(length, jnp.finfo(length.dtype).tiny)
    factor = jnp.minimum(1, jnp.sqrt(within))
    return jax.tree.map(lambda u: (factor * u).astype(u.dtype), updates)


def _is_masked(node: object) -> bool:
    return isinstance(node, optax.MaskedNode)


def _has_masked(params: PyTree) -> bool:
    return any(map(_is_masked, jax.tree.leaves(params, is_leaf=_is_masked)))


def _of_network(net: Layer, cost: Cost, data: tuple[Any, ...], quantity: KroneckerFactors) -> Callable[..., PyTree]:
    """The function that returns the factors' shapes for θ."""
    run = collect(net, cost, [quantity])
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise JaxpropError(f"precondition: data must be rows (x, targets), found {shortly(data)}")
    x, targets = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), _shapes(data))

    def factors(params: PyTree) -> PyTree:
        whole = params
        if _has_masked(params):
            first = jax.eval_shape(net.init, jax.random.key(0), x)
            whole = jax.tree.map(lambda p, f: f if _is_masked(p) else p, params, first, is_leaf=_is_masked)
        return jax.eval_shape(run, x, whole, targets, rng=jax.random.key(0)).found[0]

    return factors


def _of_function(
    f: Function, cost: Cost, data: tuple[Any, ...], quantity: KroneckerFactors, in_axes: Any
) -> Callable[..., PyTree]:
    """The same for a function, of which nothing is known but what it does with all of θ."""
    run, rows = collect(f, cost, [quantity], in_axes=in_axes), _shapes(data)

    def factors(params: PyTree) -> PyTree:
        if _has_masked(params):
            raise JaxpropError(
                "precondition: found masked parameters of a function, which is called with all of them: close over "
                "those that are to have another optimizer, and let params be the others"
            )
        return jax.eval_shape(run, params, *rows, rng=jax.random.key(0)).found[0]

    return factors


def _masked(factors: PyTree, params: PyTree) -> PyTree:
    """The factors of the parameters that `optax.masked` and its like leave to this optimizer."""
    return jax.tree.map(lambda p, f: p if _is_masked(p) else f, params, factors, is_leaf=_is_masked)


def _shapes(data: tuple[Any, ...]) -> tuple[PyTree, ...]:
    """The shapes of rows and targets, in JAX's own precision."""
    names = [*("x" for _ in data[1:]), "targets"]
    rows = tuple(as_arrays(part, name) for part, name in zip(data, names, strict=True))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jax.dtypes.canonicalize_dtype(a.dtype)), rows)


def _check(momentum: float, damping: float, clip: float | None, decay: float, every: int, inverse_every: int) -> None:
    check_whole(every, "precondition: every")
    check_whole(inverse_every, "precondition: inverse_every")
    for name, value in {"damping": damping, "clip": 1.0 if clip is None else clip}.items():
        if not (_is_number(value) and value > 0):
            raise JaxpropError(f"precondition: {name} is {value!r}, expected a number above 0")
    for name, value in {"momentum": momentum, "decay": decay}.items():
        if not (_is_number(value) and 0 <= value < 1):
            raise JaxpropError(f"precondition: {name} is {value!r}, expected a number from 0 to below 1")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real | np.ndarray | Array)
