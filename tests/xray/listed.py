"""What an equation's place is, without running anything: the sites of a function that is only traced."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprop.xray.arguments import ArgNums
from jaxprop.xray.program import trace
from jaxprop.xray.sites import Site, sites


def sites_of(f: Callable[..., Any], *args: Any, argnums: ArgNums = 0, **kwargs: Any) -> tuple[Site, ...]:
    traced = trace(f, argnums, args, kwargs)
    return sites(traced.jaxpr, traced.names, traced.modules)


def scopes_of(f: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, list[str]]:
    """{primitive: the scopes of its equations, in their order}, equal ones that follow on each other once."""
    found: dict[str, list[str]] = {}
    for site in sites_of(f, *args, **kwargs):
        if site.primitive != "argument":
            scopes = found.setdefault(site.primitive.split(" ")[-1], [])
            if scopes[-1:] != [site.scope]:
                scopes.append(site.scope)
    return found


def scopes_of_arguments(f: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, str]:
    return {site.name: site.scope for site in sites_of(f, *args, **kwargs) if site.primitive == "argument"}


def ones(shapes: Any) -> Any:
    """Arrays of these shapes: an initialisation would be compiled."""
    return jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes)


X = jnp.ones((2, 3), jnp.float32)
W = {"w": X[:1].T @ X[:1], "b": X[0]}


def dense(layer, x):
    return jnp.tanh(x @ layer["w"] + layer["b"])


def cost(model, x):
    return jnp.mean(model(x))
