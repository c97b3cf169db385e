"""Which factor of which layer is wrong: every layer's backward pass against `jax.vjp` of that layer alone.

A wrong layer spoils the gradient of every parameter before it, so the gradients alone do not say who lied. Here each
layer gets an error dy of its own, drawn at random, and each of its factors is judged by itself.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.arrays.paths import by_path
from jaxprop.arrays.relative import relative
from jaxprop.layers.activations import Activation
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Recorder
from jaxprop.uses import is_use

VALUE = "the value (forward and the call differ)"
ACTIVATION = "the derivative of the activation ∂a/∂z"
INPUT = "the way to the input ∂z/∂x"
PARAMETER = "the way to the parameter"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Judgement:
    """A layer's relative error by factor."""

    errors: dict[str, Array]
    layer: str = field(metadata={"static": True})


class Judge(Recorder):
    """The plain walk, noting at every leaf how far each factor is from JAX's own."""

    def keep(self, layer: Layer, x: Any, y: Any, params: Any, env: Env | None) -> tuple[Any, Env | None]:
        """Keep what the leaf is called with."""
        return x, env

    def note(self, layer: Layer, kept: Any, dy: Any, dx: Any, cache: Any, params: Any) -> Judgement:
        """Judge a leaf."""
        x, env = kept
        return Judgement(factor_errors(layer, x, params, env), repr(layer))


def factor_errors(layer: Layer, x: Array, params: Any, env: Env | None = None) -> dict[str, Array]:
    """Return {factor: max|Δ| / max|reference|} of one layer at x, θ, for an error drawn at random.

    >>> from jaxprop import Sigmoid
    >>> [round(float(e), 3) for e in factor_errors(Sigmoid(), jnp.ones((2, 3)), ()).values()]
    [0.0, 0.0, 0.0]
    """
    y, cache = layer.forward(x, params, env)
    floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(x))
    primals = (x, params) if floating else (params,)

    def alone(*primals: Any) -> Array:
        return layer(primals[0] if floating else x, primals[-1], env)

    called, vjp = jax.vjp(alone, *primals)
    errors = {VALUE: relative(y, called)}
    if not jnp.issubdtype(y.dtype, jnp.floating):
        return errors
    dy = jax.random.normal(jax.random.key(7), y.shape, y.dtype)
    dx, uses = layer.backward(dy, cache, params)
    true, true_params = vjp(dy), vjp(dy)[-1]
    if isinstance(layer, Activation):
        errors[ACTIVATION] = relative(layer.derivative(cache), vjp(jnp.ones_like(y))[0])
    if floating:
        errors[INPUT] = relative(dx, true[0])
    grads = jax.tree.map(lambda use: use.total(None), uses, is_leaf=is_use)
    for (name, mine), theirs in zip(by_path(grads).items(), jax.tree.leaves(true_params), strict=True):
        errors[f"{PARAMETER} ∂z/∂{name}"] = relative(mine, theirs)
    return errors
