"""A layer with all that it is tried at, and the two ways to its cotangents: by its own rule, and by `jax.vjp`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.layers.layer import Env, Layer
from jaxprop.uses import is_use


class At(NamedTuple):
    """x, θ and env of the forward pass, and the error dy that comes back.

    >>> At._fields
    ('x', 'params', 'env', 'dy')
    """

    x: Any
    params: Any
    env: Env | None
    dy: Any

    @property
    def has_gradient(self) -> bool:
        """Whether x has one: integers have none."""
        return is_floating(self.x)

    @property
    def primals(self) -> dict[str, Any]:
        """What has a gradient."""
        return {"x": self.x, "params": self.params} if self.has_gradient else {"params": self.params}


def is_floating(tree: Any) -> bool:
    """Whether all arrays of a tree are."""
    return all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(tree))


def as_dtype(tree: Any, dtype: Any) -> Any:
    """A tree with its floating arrays in a dtype; integers, masks and keys as they are."""
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def answer(layer: Layer, at: At) -> Callable[[Any], Array]:
    """Y as a function of what has a gradient."""
    return lambda primals: layer(primals.get("x", at.x), primals["params"], at.env)


def each_use(uses: Any, what: Callable[[Any], Any]) -> Any:
    """A function of every use."""
    return jax.tree.map(what, uses, is_leaf=is_use)


def backward(layer: Layer, at: At) -> tuple[Array, Any, Any]:
    """Return y, dx and the uses, by the layer's own rule."""
    y, cache = layer.forward(at.x, at.params, at.env)
    dx, uses = layer.backward(at.dy, cache, at.params)
    return y, dx, uses


def by_hand(layer: Layer, at: At) -> tuple[Array, Any]:
    """(y, cotangents of the primals) by the layer's own rule."""
    y, dx, uses = backward(layer, at)
    grads = {"params": each_use(uses, lambda use: use.total(None))}
    return y, {"x": dx, **grads} if at.has_gradient else grads


def by_jax(layer: Layer, at: At) -> tuple[Array, Any]:
    """(y, cotangents of the primals) by `jax.vjp` of the call."""
    y, vjp = jax.vjp(answer(layer, at), at.primals)
    return y, vjp(at.dy)[0]


def compiled(function: Callable[..., Any], layer: Layer) -> Callable[..., Any]:
    """Compile anew at every call: a rule changed in place must not be judged from a cache."""
    return jax.jit(functools.partial(function, layer))
