"""A layer that says only what it computes: its way back is JAX's, its uses are `Dense`.

Always right, never small. The forward pass is computed again on the way back, and for every example the gradient of
every parameter is held, `[N, *shape]`, where a rule by hand holds what meets at it. Where y_n is not a function of x_n
and θ alone, because numbers are drawn for the whole batch or a statistic mixes it, each example's gradient takes a way
back of its own through the whole batch: N times the work and the memory of the activations as well.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.varying import vary_with
from jaxprop.checks import is_floating
from jaxprop.uses import Dense

Call = Callable[[PyTree, PyTree, Any], Array]  # y = call(x, params, env)


def back(call: Call, dy: Array | None, x: PyTree, params: PyTree, env: Any, alone: bool) -> tuple[PyTree, PyTree]:
    """Return dx, None where x is of integers, and the uses of θ for the error dy `[N, ...]` that comes back.

    alone: whether y_n can be computed from x_n alone.

    >>> dx, use = back(lambda x, g, env: g * x, jnp.ones((2, 1)), jnp.array([[2.0], [3.0]]), jnp.array(5.0), None, True)
    >>> print(dx.ravel(), use.per_example())
    [5. 5.] [2. 3.]
    """
    if dy is None:  # y is of integers
        N = jax.tree.leaves(x)[0].shape[0]
        return None, jax.tree.map(lambda p: Dense(jnp.zeros((N, *p.shape), p.dtype), p.shape, p.dtype), params)
    params = jax.tree.map(lambda p: vary_with(p, x), params)
    has_gradient = all(map(is_floating, jax.tree.leaves(x)))
    dx = jax.vjp(lambda x: call(x, params, env), x)[1](dy)[0] if has_gradient else None
    if not jax.tree.leaves(params):
        return dx, params
    way = _alone if alone else _among_others
    gradients = way(call, dy, x, params, env)
    return dx, jax.tree.map(lambda g, p: Dense(g, p.shape, p.dtype), gradients, params)


def _alone(call: Call, dy: Array, x: PyTree, params: PyTree, env: Any) -> PyTree:
    """∂C_n/∂θ of each example as a batch of one, `[N, *shape]`; a mask is per example as x is."""

    def one(dy: Array, x: PyTree, env: Any) -> PyTree:
        dy, x, env = jax.tree.map(lambda a: a[None], (dy, x, env))
        return jax.vjp(lambda params: call(x, params, env), params)[1](dy)[0]

    return jax.vmap(one)(dy, x, env)


def _among_others(call: Call, dy: Array, x: PyTree, params: PyTree, env: Any) -> PyTree:
    """∂C_n/∂θ through the whole batch, with the error of one example at a time."""
    pull = jax.vjp(lambda params: call(x, params, env), params)[1]
    only = jnp.eye(len(dy), dtype=dy.dtype).reshape(len(dy), len(dy), *(1,) * (dy.ndim - 1))
    return jax.vmap(lambda only: pull(only * dy)[0])(only)
