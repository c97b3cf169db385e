"""Networks of ours as linen and nnx modules; `checkpoint.py` goes the other way.

`to_flax` goes down the description: a leaf becomes its counterpart (`layers.py`), a combinator one of the modules
below.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array
from jaxtyping import PyTree

from jaxprop import layers, network
from jaxprop.arrays.paths import join
from jaxprop.errors import JaxpropError
from jaxprop.flax.layers import COUNTERPARTS, Tree
from jaxprop.layers.layer import Layer
from jaxprop.network import Combinator

Part = Callable[[Any], Any]  # a linen module, or a function: both are called


class Chain(linen.Module):
    """One after another."""

    layers: tuple[Part, ...]

    def __call__(self, x: Array) -> Array:
        """f_L(… f_1(x))."""
        for layer in self.layers:
            x = layer(x)
        return x


class Residual(linen.Module):
    """x + inner(x)."""

    inner: Part

    def __call__(self, x: Array) -> Array:
        """x + inner(x)."""
        return x + self.inner(x)


class Parallel(linen.Module):
    """Branches on one x, joined."""

    branches: tuple[Part, ...]
    join: str

    def __call__(self, x: Array) -> Array:
        """The joined branches."""
        ys = [branch(x) for branch in self.branches]
        if self.join == "concatenate":
            return jnp.concatenate(ys, axis=-1)
        y = ys[0]
        for other in ys[1:]:
            y = y + other if self.join == "sum" else y * other
        return y


class Repeat(linen.Module):
    """inner, `times` times, its params stacked: linen's lifted scan."""

    inner: linen.Module
    times: int

    def __call__(self, x: Array) -> Array:
        """The scan."""

        def block(inner: Part, x: Array, _: None) -> tuple[Array, None]:
            return inner(x), None

        rngs: Any = {"params": True, "dropout": True}
        scan = linen.scan(block, variable_axes={"params": 0}, split_rngs=rngs, length=self.times)
        return scan(self.inner, x, None)[0]


class Remat(linen.Module):
    """inner, recomputed in the backward pass."""

    inner: linen.Module

    def __call__(self, x: Array) -> Array:
        """inner(x)."""
        return linen.remat(lambda inner, x: inner(x))(self.inner, x)


class Drop(linen.Module):
    """Dropout whenever there is an rng called "dropout", as ours is whenever there is one."""

    rate: float

    @linen.compact
    def __call__(self, x: Array) -> Array:
        """x, thinned."""
        return linen.Dropout(self.rate, deterministic=not self.has_rng("dropout"))(x)


def to_flax(net: Layer, params: PyTree) -> tuple[linen.Module, Tree]:
    """Return (module, variables): a linen module that is the same function as `net`, and its variables.

    `module.apply(variables, x)` is net(x, params), up to rounding. What the module does not take: a mask (`env.mask`;
    only `causal` attention comes along, so no padded sequences). Ties come apart, since linen has no such module: each
    place gets its own copy, and training moves them apart.

    Args:
        net: a network of ours.
        params: its θ.

    Raises:
        JaxpropError: linen has no counterpart of a layer, which the text names with its path.

    >>> import jaxprop as jp
    >>> net, x = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(2)), jnp.ones((1, 3))
    >>> params = net.init(jax.random.key(0), x)
    >>> module, variables = to_flax(net, params)
    >>> bool(jnp.allclose(module.apply(variables, x), net(x, params)))
    True
    """
    part, tree = _to_flax(net, params, "")
    if not isinstance(part, linen.Module):
        part, tree = Chain((part,)), {}
    return part, {"params": tree}


class OfLinen(nnx.Module):
    """A linen module with its variables, which are `nnx.Param`s here."""

    def __init__(self, module: linen.Module, params: Tree) -> None:
        self.module = module
        self.params = _of_params(params)

    def __call__(self, x: PyTree, rngs: nnx.Rngs | None = None) -> Any:
        """f(x); Dropout drops where there are `rngs`."""
        params = nnx.to_pure_dict(nnx.state(self.params, nnx.Param))
        return self.module.apply({"params": params}, x, rngs={"dropout": rngs.dropout()} if rngs else None)


def _of_params(tree: Tree) -> nnx.Dict:
    parts = {name: _of_params(v) if isinstance(v, dict) else nnx.Param(jnp.asarray(v)) for name, v in tree.items()}
    return nnx.Dict(parts)


def to_nnx(net: Layer, params: PyTree) -> nnx.Module:
    """Return an nnx module that is the same function as `net`, whose parameters are `nnx.Param`s.

    `module(x)` is net(x, params), up to rounding; `module(x, rngs=nnx.Rngs(0))` is in training, with Dropout. It goes
    through `to_flax`, with its names and its limits. `import_flax(module, net, inputs=x)` is the way back.

    Args:
        net: a network of ours.
        params: its θ.

    Raises:
        JaxpropError: linen has no counterpart of a layer, which the text names with its path.

    >>> import jaxprop as jp
    >>> net, x = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(2)), jnp.ones((1, 3))
    >>> params = net.init(jax.random.key(0), x)
    >>> module = to_nnx(net, params)
    >>> bool(jnp.allclose(module(x), net(x, params)))
    True
    """
    module, variables = to_flax(net, params)
    return OfLinen(module, variables["params"])


def _to_flax(layer: Layer, params: Any, path: str) -> tuple[Part, Tree]:
    """The counterpart of a layer, and its params."""
    if isinstance(layer, network.Shared):
        return _to_flax(layer.inner, layer.filled(params, path), join(path, "inner"))
    if isinstance(layer, Combinator):
        names = zip(layer.children(), params, layer.names(), strict=True)
        parts = [_to_flax(child, p, join(path, name)) for child, p, name in names]
        return _around(layer, [part for part, _ in parts], path), _tree(layer, [tree for _, tree in parts])
    if type(layer) in COUNTERPARTS:
        counterpart = COUNTERPARTS[type(layer)]
        dtype = jnp.result_type(*jax.tree.leaves(params)) if jax.tree.leaves(params) else jnp.float32
        return counterpart.module(layer, dtype), counterpart.tree(layer, params)
    if isinstance(layer, layers.Dropout):
        return Drop(layer.rate), {}
    if jax.tree.leaves(params) or layer.mixes_examples:
        raise _no_counterpart(layer, path)
    return (lambda x: layer(x, params)), {}


def _no_counterpart(layer: Layer, path: str) -> JaxpropError:
    return JaxpropError(
        f"to_flax: Flax has no counterpart of {layer!r} at {path or 'the top'}: take the network apart there, or call "
        "it from Flax as a function, jp.mixed(net)"
    )


def _around(layer: Combinator, parts: list[Part], path: str) -> linen.Module:
    """The linen module of a combinator."""
    if isinstance(layer, network.Chain):
        return Chain(tuple(parts))
    if isinstance(layer, network.Parallel):
        return Parallel(tuple(parts), layer.join)
    if isinstance(layer, network.Residual):
        return Residual(parts[0])
    if isinstance(layer, network.Repeat | network.Remat):  # linen lifts modules only, no plain functions
        inner = parts[0] if isinstance(parts[0], linen.Module) else Chain((parts[0],))
        return Repeat(inner, layer.times) if isinstance(layer, network.Repeat) else Remat(inner)
    raise _no_counterpart(layer, path)


def _tree(layer: Combinator, trees: list[Tree]) -> Tree:
    """Params under the names that linen gives to children; those without any are left out."""
    if isinstance(layer, network.Chain | network.Parallel):
        field = "layers" if isinstance(layer, network.Chain) else "branches"
        return {f"{field}_{i}": tree for i, tree in enumerate(trees) if tree}
    return {"inner": trees[0]} if trees[0] else {}
