"""The `Walk` that visits a network, and what a `Combinator` owes it: the one replaceable thing in the engine.

A combinator sends its children through a walk. The plain walk computes; a tape, statistics or another backward rule is
another walk, not another engine.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import jax
from jax import Array
from jax.tree_util import KeyPath
from jaxtyping import Key, PyTree

from jaxprop.arrays.paths import dotted, join, place
from jaxprop.checks import kind_of
from jaxprop.errors import ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.network.initialize import in_one_program
from jaxprop.uses import Use, is_use

Pushed = tuple[PyTree, PyTree]  # y and the cache
Pulled = tuple[PyTree, PyTree, dict[str, PyTree]]  # dx, the uses, and the notes by path


class Walk:
    """Visit a network: every layer forward (`push`) and back (`pull`); `close` says what is made of a use.

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

    Inside a `Repeat` each of its L steps closes its own uses, so that what `close` returns has a leading axis L.
    """

    def push(self, layer: Layer, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go through one layer forward; return (y, cache)."""
        if isinstance(layer, Combinator):
            return layer.push(self, x, params, env, path)
        return layer.forward(x, params, env)

    def pull(self, layer: Layer, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Go through one layer back; return (dx, uses, notes), notes being {path: pytree}."""
        if isinstance(layer, Combinator):
            return layer.pull(self, dy, cache, params, path)
        dx, uses = layer.backward(dy, cache, params)
        return dx, uses, {}

    def close(self, use: Use, path: str) -> PyTree:
        """Return what is made of a use: by default the use itself."""
        return use

    def bare(self, cache: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        """Return the cache and θ of a leaf as the layer itself has them, where the walk keeps or carries more."""
        return cache, params

    def plain(self) -> Self:
        """Return the walk that goes back, through what this one pushed, by backpropagation: by default this one."""
        return self

    def closing(self, close: Callable[[Use, str], PyTree]) -> Self:
        """Return this walk with another `close`."""
        other = copy.copy(self)
        setattr(other, "close", close)  # noqa: B010 (a method of one object)
        return other

    def close_all(self, uses: PyTree, path: str = "") -> PyTree:
        """Close every use that is left in a tree that starts at `path`."""

        def one(inside: KeyPath, use: PyTree) -> PyTree:
            name = dotted(inside)
            return self.close(use, join(path, name) if name else path) if is_use(use) else use

        return jax.tree_util.tree_map_with_path(one, uses, is_leaf=is_use)


class Inner(NamedTuple):
    """Hold θ, or the uses, of a combinator with one child.

    >>> Inner(inner=()).inner
    ()
    """

    inner: PyTree


@dataclass(frozen=True)
class Combinator(Layer):
    """Make a layer of layers: a subclass says how a walk goes through them, and the plain walk makes it a layer.

    Its params are a tuple with one item a child, in the order of `children()`. `names()` are the children's parts of a
    path. A subclass defines `push`, `pull`, `children`, `with_children`, `init` and `__call__`.

    >>> from jaxprop import Chain, Linear, Residual, Tanh
    >>> Residual(Tanh()).children(), Residual(Tanh()).names(), Chain(Linear(2), Tanh()).names()
    ((Tanh(),), ('inner',), ('0', '1'))
    """

    def push(self, walk: Walk, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go forward through the children; return (y, cache)."""
        raise TypeError(f"{type(self).__name__} must define push(walk, x, params, env, path)")

    def pull(self, walk: Walk, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Go back through the children; return (dx, uses, notes)."""
        raise TypeError(f"{type(self).__name__} must define pull(walk, dy, cache, params, path)")

    def children(self) -> tuple[Layer, ...]:
        """Return the layers inside, in the order of params."""
        raise TypeError(f"{type(self).__name__} must define children()")

    def with_children(self, children: Sequence[Layer]) -> "Combinator":
        """Return the same combinator around other layers."""
        raise TypeError(f"{type(self).__name__} must define with_children(children)")

    def names(self) -> tuple[str, ...]:
        """Return what the children are called in a path."""
        return tuple(str(i) for i in range(len(self.children())))

    @property
    def mixes_examples(self) -> bool:
        """Tell whether any child mixes the examples of a batch."""
        return any(child.mixes_examples for child in self.children())

    def check_values(self, x: PyTree) -> None:
        """Ask the children that x reaches as it is: by default all."""
        for child in self.children():
            child.check_values(x)

    def forward(self, x: PyTree, params: PyTree, env: Env | None = None) -> tuple[PyTree, PyTree]:
        """Go forward with the plain walk."""
        return self.push(Walk(), x, params, env, "")

    def backward(self, dy: PyTree, cache: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        """Go back with the plain walk."""
        dx, uses, _ = self.pull(Walk(), dy, cache, params, "")
        return dx, uses

    def operations(self, x: PyTree, y: PyTree) -> tuple[int, int]:
        """Raise TypeError: operations are counted layer by layer, as `summary` does."""
        raise TypeError(f"ask each layer of a {type(self).__name__} for its operations, as summary(net, x) does")

    def check_params(self, params: PyTree, path: str) -> None:
        """Raise ShapeError unless params have one item a child."""
        expected = len(self.children())
        if not isinstance(params, tuple | list) or len(params) != expected:
            found = f"{len(params)} items" if isinstance(params, tuple | list) else kind_of(params)
            raise ShapeError(
                f"{place(type(self).__name__, path)}: params must be a tuple of {expected}, "
                f"one per layer, found {found}; make them with net.init(key, x)"
            )


@dataclass(frozen=True)
class Wrapper(Combinator):
    """A combinator with one child, `inner`."""

    inner: Layer

    def children(self) -> tuple[Layer, ...]:
        """Return the child."""
        return (self.inner,)

    def names(self) -> tuple[str, ...]:
        """Return its name, inner."""
        return ("inner",)

    @in_one_program
    def init(self, key: Key[Array, ""] | None, x: PyTree) -> Inner:
        """Return θ of the child."""
        return Inner(self.inner.init(key, x))


def as_one(layers: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the layers that were given one by one, or as one list.

    >>> as_one(([1, 2],)), as_one((1, 2))
    ((1, 2), (1, 2))
    """
    alone = len(layers) == 1 and isinstance(layers[0], list | tuple)
    return tuple(layers[0]) if alone else layers


def split(env: Env | None, parts: int) -> list[Env | None]:
    """env for each of some children: a key of its own for each, if there is one; all else is shared."""
    if env is None or env.rng is None:
        return [env] * parts
    return [env._replace(rng=key) for key in jax.random.split(env.rng, parts)]


def add_errors(*errors: PyTree) -> PyTree:
    """The sum of the errors of paths that met in one x; None where x is of integers.

    >>> add_errors(None, 1.0, 2.0), add_errors(None, None)
    (3.0, None)
    """
    some = [error for error in errors if error is not None]
    return jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *some) if some else None
