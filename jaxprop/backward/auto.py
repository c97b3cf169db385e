"""The gradient by `jax.grad`: the second witness, and the only one for a plain function f(x, params)."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.varying import vary_with
from jaxprop.costs import Cost
from jaxprop.network.call import CostFunction, Network, Rng, Targets, Weights, call, require, takes_rows
from jaxprop.uses import rounded, weighted, weighted_sum

FLOAT16_HOLDS = 512  # examples at once, with gradients of up to 127 each


def value_and_grad(net: Network, cost: Cost) -> CostFunction[tuple[Array, PyTree]]:
    """Return `run`, which computes C = Σ_n w_n C_n and ∂C/∂θ by `jax.grad` of the cache-free call.

    Args:
        net: a Layer, or any callable f(x, params) whose params are a pytree of arrays.
        cost: C_n, such as `HalfSquaredError()`.

    Returns:
        `run(x, params, targets, *, weights=None, rng=None, mask=None)`, which returns (C, gradient). The gradient has
        the tree, shapes and dtypes of params. weights: w `[N]`, by default 1/N each.

    >>> import jax.numpy as jnp
    >>> from jaxprop.costs import HalfSquaredError
    >>> f = lambda x, w: w[0] * w[1] * x
    >>> value, grads = value_and_grad(f, HalfSquaredError())(jnp.ones((1, 1)), (0.4, 0.3), 2 * jnp.ones((1, 1)))
    >>> print(f"{value:.4f}, {grads[0]:.3f}, {grads[1]:.3f}")
    1.7672, -0.564, -0.752
    """

    require(net, cost, "auto")

    @takes_rows
    def run(
        x: PyTree, params: PyTree, targets: Targets, *, weights: Weights = None, rng: Rng = None, mask: PyTree = None
    ) -> tuple[Array, PyTree]:
        params = jax.tree.map(lambda p: vary_with(p, x), params)

        def summed(weights: Weights) -> tuple[Array, PyTree]:
            def C(params: PyTree) -> Array:
                return weighted_sum(cost(call(net, x, params, rng, mask), targets), weights)

            return jax.value_and_grad(C)(params) if weights is not None else _by_parts(C, params, examples)

        examples = jax.tree.leaves(x)[0].shape[0]
        value, grads = weighted(summed, weights, examples)
        return value, rounded(grads, params)

    return run


def _by_parts(C: Callable[[PyTree], Array], params: PyTree, examples: int) -> tuple[Array, PyTree]:
    """C and ∂C/∂θ for a C summed over N: JAX adds up float16 in float16, so that of many examples it is told 2⁻ᵏ C."""
    has_float16 = any(jnp.result_type(leaf) == jnp.float16 for leaf in jax.tree.leaves(params))
    k = max(0, math.ceil(math.log2(max(examples, 1) / FLOAT16_HOLDS))) if has_float16 else 0
    if k == 0:
        return jax.value_and_grad(C)(params)
    found = jax.value_and_grad(lambda p: C(p) * 2.0**-k)(params)
    return jax.tree.map(lambda part: part.astype(wide(part.dtype)) * 2.0**k, found)
