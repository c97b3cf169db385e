"""A layer with all that it is tried at, and the two ways to its cotangents: by its own rule, and by `jax.vjp`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.checks import is_floating
from jaxprop.layers.activations import Activation
from jaxprop.layers.layer import Env, Layer
from jaxprop.uses import is_use


class At(NamedTuple):
    """x, θ and env of the forward pass, and the error dy `[N, ...]` that comes back.

    >>> At._fields
    ('x', 'params', 'env', 'dy')
    """

    x: PyTree
    params: PyTree
    env: Env | None
    dy: Any

    @property
    def examples(self) -> int:
        """N."""
        return jax.tree.leaves(self.x)[0].shape[0]

    @property
    def has_gradient(self) -> bool:
        """Whether x has one: integers have none."""
        return all(map(is_floating, jax.tree.leaves(self.x)))

    @property
    def primals(self) -> "Found":
        """What has a gradient."""
        return Found(x=self.x if self.has_gradient else None, params=self.params)


class Found(NamedTuple):
    """What one way to compute finds: y, φ'(z) of an activation, and the cotangents of x and θ; None is not asked for.

    >>> Found(x=1.0)
    Found(y=None, slope=None, x=1.0, params=None)
    """

    y: PyTree = None
    slope: PyTree = None
    x: PyTree = None
    params: PyTree = None


def as_dtype(tree: PyTree, dtype: Any) -> Any:
    """Return a tree with its floating arrays in a dtype; integers, masks and keys stay as they are."""
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def in_float64(tree: PyTree) -> PyTree:
    """Return a tree of concrete arrays in float64, by way of numpy: nothing is compiled for it."""
    return jax.device_put(as_dtype(jax.tree.map(np.asarray, tree), "float64"))


def answer(layer: Layer, at: At) -> Callable[[Found], Array]:
    """Return y as a function of what has a gradient."""
    return lambda primals: layer(at.x if primals.x is None else primals.x, primals.params, at.env)


def backward(layer: Layer, at: At) -> tuple[Array, PyTree, PyTree]:
    """Return y, dx and the uses, by the layer's own rule."""
    y, cache = layer.forward(at.x, at.params, at.env)
    dx, uses = layer.backward(at.dy, cache, at.params)
    return y, dx, uses


def by_hand(layer: Layer, at: At) -> Found:
    """Return y and the cotangents of x and θ by the layer's own rule."""
    y, dx, uses = backward(layer, at)
    grads = jax.tree.map(lambda use: use.total(None).astype(use.dtype), uses, is_leaf=is_use)
    return Found(y=y, x=dx if at.has_gradient else None, params=grads)


def by_jax(layer: Layer, at: At) -> Found:
    """Return the same by `jax.vjp` of the call."""
    y, vjp = jax.vjp(answer(layer, at), at.primals)
    return vjp(at.dy)[0]._replace(y=y)


def both_ways(layer: Layer, at: At) -> tuple[Found, Found]:
    """Return what the layer's own rule finds and what `jax.vjp` does; of an activation its derivative φ'(z) as well."""
    mine, theirs = by_hand(layer, at), by_jax(layer, at)
    if isinstance(layer, Activation):
        y, cache = layer.forward(at.x, at.params, at.env)
        diagonal = by_jax(layer, at._replace(dy=jnp.ones_like(y))).x
        mine = mine._replace(slope=jnp.broadcast_to(layer.derivative(cache), y.shape))
        theirs = theirs._replace(slope=diagonal)
    return mine, theirs


def other_dtypes(layer: Layer, at: At, dtype: str) -> list[str]:
    """Return what comes out in another dtype where all goes in in this one: "params.W float32", and so on."""
    out = jax.eval_shape(lambda at: by_hand(layer, as_dtype(at, dtype)), at)
    return [f"{path} {a.dtype.name}" for path, a in by_path(out).items() if a.dtype.name != dtype]
