"""y = f_L(… f_1(x)): the derivation of a deep network.

Forward goes left to right and the chain rule right to left, each layer handing ∂C/∂(its input) to the one before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.arrays.paths import join
from jaxprop.errors import JaxpropError
from jaxprop.layers import Flatten, Identity, Reshape, Transpose
from jaxprop.layers.layer import Env, Layer
from jaxprop.network.initialize import in_one_program
from jaxprop.network.walk import Combinator, Pulled, Pushed, Walk, as_one, split

SHAPED_ONLY = (Flatten, Identity, Reshape, Transpose)


@dataclass(frozen=True, init=False)
class Chain(Combinator):
    """Apply layers one after another: y = f_L(… f_2(f_1(x, θ_1), θ_2) …, θ_L). θ is the tuple of theirs.

    Args:
        layers: one or more layers, or a list of them; what one gives, the next one takes.

    Raises:
        JaxpropError: an item is no layer, or there is none.
        ShapeError: params are not one per layer; the text names the layer's path.

    >>> from jaxprop.layers import Linear, Sigmoid
    >>> net = Chain(Linear(30), Sigmoid(), Linear(10))
    >>> x = jax.numpy.zeros((5, 64))
    >>> params = net.init(jax.random.key(0), x)
    >>> net(x, params).shape
    (5, 10)
    """

    layers: tuple[Layer, ...]

    instead: ClassVar = {"layers": "a plain function f(x, params) goes to jaxprop.auto and jaxprop.fit as it is"}

    def __init__(self, *layers: Layer) -> None:
        self._keep(layers=as_one(layers))

    def __post_init__(self) -> None:
        if not self.layers:
            raise JaxpropError("Chain: found no layers, expected at least one")

    def children(self) -> tuple[Layer, ...]:
        """Return the layers."""
        return self.layers

    def with_children(self, children: Sequence[Layer]) -> "Chain":
        """Return a chain of other layers."""
        return Chain(*children)

    def check_values(self, x: PyTree) -> None:
        """Ask the first layer, which alone sees x, or the first after those that only bring x into another shape."""
        first = next((layer for layer in self.layers if not isinstance(layer, SHAPED_ONLY)), self.layers[0])
        first.check_values(x)

    @in_one_program
    def init(self, key: Key[Array, ""] | None, x: PyTree) -> tuple[PyTree, ...]:
        """Return θ of every layer, each drawn with its own key for the shape that reaches it."""
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        params = []
        for layer, layer_key in zip(self.layers, keys, strict=True):
            params.append(layer.init(layer_key, x))
            x = jax.eval_shape(layer, x, params[-1])
        return tuple(params)

    def __call__(self, x: Array, params: PyTree, env: Env | None = None) -> Array:
        """Return f(x, θ) and keep nothing for a backward pass."""
        self.check_params(params, "")
        for layer, p, e in zip(self.layers, params, split(env, len(self.layers)), strict=True):
            x = layer(x, p, e)
        return x

    def push(self, walk: Walk, x: Array, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go from left to right: each y is the next x."""
        self.check_params(params, path)
        caches = []
        for i, (layer, p, e) in enumerate(zip(self.layers, params, split(env, len(self.layers)), strict=True)):
            x, cache = walk.push(layer, x, p, e, join(path, i))
            caches.append(cache)
        return x, tuple(caches)

    def pull(self, walk: Walk, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Go from right to left: each dx is the previous dy."""
        uses, notes = [], {}
        for i in reversed(range(len(self.layers))):
            dy, layer_uses, layer_notes = walk.pull(self.layers[i], dy, cache[i], params[i], join(path, i))
            uses.append(layer_uses)
            notes |= layer_notes
        return dy, tuple(reversed(uses)), notes
