"""Our backward rules inside JAX's own differentiation: f(x, params) whose `jax.grad` runs them."""

from collections.abc import Callable

import jax
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.given import as_arrays
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Walk
from jaxprop.network.call import require_layer


def mixed(net: Layer) -> Callable[..., Array]:
    """Return f(x, params, env=None), equal to net's, whose reverse-mode derivative is the hand-derived one.

    Args:
        net: a Layer.

    Raises:
        JaxpropError: `net` is a plain function, which has no hand-derived rule.

    Anything may surround it: `jax.grad`, `jax.vjp`, `vmap`, `jit`, a cost of your own. Forward mode (`jax.jvp`) is not
    to be had: a backward rule says nothing about it, and JAX raises TypeError.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Linear
    >>> net, x = Linear(2), jnp.ones((3, 4))
    >>> params = net.init(jax.random.key(0), x)
    >>> jax.grad(lambda p: jnp.sum(mixed(net)(x, p) ** 2))(params).W.shape
    (4, 2)
    """
    require_layer(net, "mixed")
    # dy already carries whatever weighs the examples, so each counts once
    walk = Walk().closing(lambda use, path: use.total(None))

    @jax.custom_vjp
    def f(x: PyTree, params: PyTree, env: Env | None) -> Array:
        return net(x, params, env)

    def forward(x: PyTree, params: PyTree, env: Env | None) -> tuple[Array, PyTree]:
        y, cache = walk.push(net, x, params, env, "")
        return y, (x, params, env, cache)

    def backward(kept: PyTree, dy: Array) -> tuple[PyTree, PyTree, PyTree]:
        x, params, env, cache = kept
        dx, uses, _ = walk.pull(net, dy, cache, params, "")
        grads = walk.close_all(uses)
        dx = _no_gradient(x) if dx is None else jax.tree.map(_like, x, dx)
        return dx, jax.tree.map(_like, params, grads), _no_gradient(env)

    f.defvjp(forward, backward)
    return lambda x, params, env=None: f(as_arrays(x, "x"), params, env)


def _like(primal: PyTree, cotangent: PyTree) -> PyTree:
    """A cotangent in its primal's dtype, and under `shard_map` summed over the mesh axes that its primal is replicated
    over, as `jax.grad` does."""
    varying = jax.typeof(cotangent).manual_axis_type.varying - jax.typeof(primal).manual_axis_type.varying
    return (jax.lax.psum(cotangent, tuple(varying)) if varying else cotangent).astype(primal.dtype)


def _no_gradient(tree: PyTree) -> PyTree:
    """The cotangent that JAX asks of what has none (integers, keys)."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), tree)
