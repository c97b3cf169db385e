"""What every way of differentiating shares: how a network is called, and how C(x, θ, y) is put together."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Env, Layer

Network = Layer | Callable[[Any, Any], Any]


def environment(rng: Array | None, mask: Any) -> Env | None:
    """What a forward pass needs beside x and θ, or None for nothing."""
    return None if rng is None and mask is None else Env(rng, mask)


def call(net: Network, x: Any, params: Any, rng: Array | None, mask: Any = None) -> Any:
    """f(x, θ) of a Layer or of any callable f(x, params)."""
    env = environment(rng, mask)
    if isinstance(net, Layer):
        return net(x, params, env)
    if env is not None:
        what = "mask" if rng is None else "rng"
        raise JaxpropError(
            f"{what} was given to a plain function f(x, params), which takes none: close over it, or put it into x "
            "or params"
        )
    return net(x, params)


def total(costs: Array, weights: Array | None) -> Array:
    """Σ_n w_n C_n, or Σ_n C_n without weights (the mean is taken by `uses.weighted`)."""
    return jnp.sum(costs) if weights is None else jnp.sum(costs * jnp.asarray(weights).astype(costs.dtype))


def require_layer(net: Any, what: str) -> None:
    """Raise unless `net` is a Layer: only layers carry hand-derived rules."""
    if not isinstance(net, Layer):
        raise JaxpropError(
            f"{what} needs a jaxprop Layer such as Chain(...), found {type(net).__name__}: a plain function has no "
            "hand-derived backward pass; use jaxprop.auto"
        )
