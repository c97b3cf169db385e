"""When numbers stop being numbers: which step, and which layer was the first."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.arrays.paths import by_path
from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.layers.layer import Layer
from jaxprop.network import leaves
from jaxprop.network.call import Network, call

ADVICE = (
    "Try a smaller learning rate, standardised inputs (a Standardize layer first), "
    "clipped gradients (optax.chain(optax.clip_by_global_norm(1.0), ...)), or another init"
)


def all_finite(tree: Any) -> Array:
    """Whether every floating number in a tree is finite.

    >>> bool(all_finite({"w": jnp.ones(2), "b": jnp.array(jnp.nan)}))
    False
    """
    arrays = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return jnp.all(jnp.array([True, *(jnp.all(jnp.isfinite(leaf)) for leaf in arrays)]))


def first_nonfinite(net: Network, cost: Cost, x: Any, params: Any, targets: Any, grads: Any) -> str | None:
    """Say where the first non-finite number of one step arises: in a layer's output, the cost, an error, a gradient.

    Forward order first, then backward order; None if all are finite.

    >>> from jaxprop import Chain, HalfSquaredError, Linear, ReLU
    >>> net, x = Chain(Linear(2), ReLU()), jnp.array([[jnp.inf]])
    >>> params = net.init(jax.random.key(0), x)
    >>> first_nonfinite(net, HalfSquaredError(), x, params, jnp.zeros((1, 2)), params)
    'the output of layer 0, Linear(2)'
    """
    for path, leaf in by_path(params).items():
        if not all_finite(leaf):
            return f"parameter {path}"
    y = call(net, x, params, None)
    if isinstance(net, Layer):
        layers = {leaf.path: leaf.layer for leaf in leaves(net)}
        tape = manual.trace(net, cost)(x, params, targets)
        for path, record in tape.items():
            if not all_finite(record.y):
                return f"the output of layer {path}, {layers[path]!r}"
        if not all_finite(cost(y, targets)):
            return f"the cost, {cost!r}"
        for path, record in reversed(tape.items()):
            if record.dx is not None and not all_finite(record.dx):
                return f"the error going back through layer {path}, {layers[path]!r}"
    elif not all_finite(y):
        return "the output of f(x, params)"
    elif not all_finite(cost(y, targets)):
        return f"the cost, {cost!r}"
    for path, leaf in by_path(grads).items():
        if not all_finite(leaf):
            return f"the gradient of {path}"
    return None
