"""Layers made of layers, and the `Walk` that visits them: the one replaceable thing in the engine.

A combinator sends its children through a walk. The plain walk computes; a tape, statistics or another backward rule is
another walk, not another engine. `Chain` is the derivation of a deep network: f = f_L ∘ … ∘ f_1, so forward goes left
to right and the chain rule right to left, each layer handing ∂C/∂(its input) to the one before.
"""

from dataclasses import dataclass
from typing import Any

import jax
from jax import Array

from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.uses import Use


def join(path: str, child: object) -> str:
    """Dotted path of a child: the one name that params, tapes, files and messages share.

    >>> join("", 0), join("0", "W")
    ('0', '0.W')
    """
    return f"{path}.{child}" if path else str(child)


def by_path(tree: Any) -> dict[str, Any]:
    """Every leaf of a tree under its dotted path.

    >>> by_path(({"W": 1.0, "b": 2.0}, ()))
    {'0.W': 1.0, '0.b': 2.0}
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


class Walk:
    """How a network is visited: each layer forward (`push`), back (`pull`), and what becomes of a use (`close`).

    A subclass changes one of the three, and `manual.uses(net, cost, walk)` goes through the network with it:

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear, manual
    >>> class Norms(Walk):
    ...     def close(self, use, path):
    ...         return use.squared_norms()
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))
    >>> print(manual.uses(net, HalfSquaredError(), Norms())(x, params, jnp.zeros((2, 1)))[1].W)
    [  9. 144.]
    """

    def push(self, layer: Layer, x: Array, params: Any, env: Env | None, path: str) -> tuple[Array, Any]:
        """One layer forward: (y, cache)."""
        if isinstance(layer, Combinator):
            return layer.push(self, x, params, env, path)
        return layer.forward(x, params, env)

    def pull(self, layer: Layer, dy: Any, cache: Any, params: Any, path: str) -> tuple[Any, Any, dict[str, Any]]:
        """One layer back: (dx, uses, notes), notes being {path: pytree}."""
        if isinstance(layer, Combinator):
            return layer.pull(self, dy, cache, params, path)
        dx, uses = layer.backward(dy, cache, params)
        return dx, uses, {}

    def close(self, use: Use, path: str) -> Any:
        """What becomes of a use: by default itself."""
        return use


@dataclass(frozen=True)
class Combinator(Layer):
    """A layer made of layers: it says how a walk goes through them, and is itself a layer by the plain walk."""

    def push(self, walk: Walk, x: Array, params: Any, env: Env | None, path: str) -> tuple[Array, Any]:
        """Forward through the children: (y, cache)."""
        raise TypeError(f"{type(self).__name__} must define push(walk, x, params, env, path)")

    def pull(self, walk: Walk, dy: Any, cache: Any, params: Any, path: str) -> tuple[Any, Any, dict[str, Any]]:
        """Back through the children: (dx, uses, notes)."""
        raise TypeError(f"{type(self).__name__} must define pull(walk, dy, cache, params, path)")

    def children(self) -> tuple[Layer, ...]:
        """The layers inside, in the order of params."""
        raise TypeError(f"{type(self).__name__} must define children()")

    @property
    def mixes_examples(self) -> bool:
        """Whether any child does."""
        return any(child.mixes_examples for child in self.children())

    def forward(self, x: Array, params: Any, env: Env | None = None) -> tuple[Array, Any]:
        """The plain walk forward."""
        return self.push(Walk(), x, params, env, "")

    def backward(self, dy: Array | None, cache: Any, params: Any) -> tuple[Any, Any]:
        """The plain walk back."""
        dx, uses, _ = self.pull(Walk(), dy, cache, params, "")
        return dx, uses


@dataclass(frozen=True, init=False, repr=False)
class Chain(Combinator):
    """y = f_L(… f_2(f_1(x, θ_1), θ_2) …, θ_L): layers one after another; θ is the tuple of theirs.

    Raises ShapeError, naming the layer's path, when params are not one per layer.

    >>> from jaxprop.layers import Linear, Sigmoid
    >>> net = Chain(Linear(30), Sigmoid(), Linear(10))
    >>> x = jax.numpy.zeros((5, 64))
    >>> params = net.init(jax.random.key(0), x)
    >>> net(x, params).shape
    (5, 10)
    """

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer) -> None:
        object.__setattr__(self, "layers", layers)
        self.__post_init__()

    def __post_init__(self) -> None:
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise JaxpropError(
                    f"Chain: item {i} is {layer!r}, expected a Layer such as Linear(30) or Sigmoid(); "
                    "a plain function f(x, params) goes to jaxprop.auto and jaxprop.fit as it is"
                )
        if not self.layers:
            raise JaxpropError("Chain: found no layers, expected at least one")

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.layers))})"

    def children(self) -> tuple[Layer, ...]:
        """The layers."""
        return self.layers

    def init(self, key: Array | None, x: Any) -> tuple[Any, ...]:
        """θ of every layer, each drawn with its own key for the shape that reaches it."""
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        params = []
        for layer, layer_key in zip(self.layers, keys, strict=True):
            params.append(layer.init(layer_key, x))
            x = jax.eval_shape(layer, x, params[-1])
        return tuple(params)

    def __call__(self, x: Array, params: Any, env: Env | None = None) -> Array:
        """f(x, θ), keeping nothing for a backward pass."""
        self._check(params, "")
        for layer, p, e in zip(self.layers, params, self._split(env), strict=True):
            x = layer(x, p, e)
        return x

    def push(self, walk: Walk, x: Array, params: Any, env: Env | None, path: str) -> tuple[Array, Any]:
        """Left to right: each y is the next x."""
        self._check(params, path)
        caches = []
        for i, (layer, p, e) in enumerate(zip(self.layers, params, self._split(env), strict=True)):
            x, cache = walk.push(layer, x, p, e, join(path, i))
            caches.append(cache)
        return x, tuple(caches)

    def pull(self, walk: Walk, dy: Any, cache: Any, params: Any, path: str) -> tuple[Any, Any, dict[str, Any]]:
        """Right to left: each dx is the previous dy."""
        uses, notes = [], {}
        for i in reversed(range(len(self.layers))):
            dy, layer_uses, layer_notes = walk.pull(self.layers[i], dy, cache[i], params[i], join(path, i))
            uses.append(layer_uses)
            notes |= layer_notes
        return dy, tuple(reversed(uses)), notes

    def operations(self, x: Any, y: Any) -> tuple[int, int]:
        """Those of a chain are its layers'; `summary` asks each of them."""
        raise TypeError("ask each layer of a Chain for its operations, as summary(net, x) does")

    def _split(self, env: Env | None) -> list[Env | None]:
        if env is None or env.rng is None:
            return [env] * len(self.layers)
        return [env._replace(rng=key) for key in jax.random.split(env.rng, len(self.layers))]

    def _check(self, params: Any, path: str) -> None:
        if not isinstance(params, tuple | list) or len(params) != len(self.layers):
            found = f"{len(params)} items" if isinstance(params, tuple | list) else type(params).__name__
            raise ShapeError(
                f"Chain{' at ' + path if path else ''}: params must be a tuple of {len(self.layers)}, one per layer, "
                f"found {found}; make them with net.init(key, x)"
            )
