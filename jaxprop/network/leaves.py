"""The leaves of a network are its layers that are not made of layers; here they are found, and recorded."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from jaxtyping import PyTree

from jaxprop.arrays.paths import join
from jaxprop.layers.layer import Env, Layer
from jaxprop.network.repeat import Repeat
from jaxprop.network.walk import Combinator, Pulled, Pushed, Walk


class Leaf(NamedTuple):
    """One layer with its path, its part of θ, and the combinators around it with their paths, outermost first.

    >>> from jaxprop.layers import Tanh
    >>> Leaf("0", Tanh(), (), ()).repeats
    0
    """

    path: str
    layer: Layer
    params: PyTree
    inside: tuple[tuple[str, Combinator], ...]

    @property
    def repeats(self) -> int:
        """How many `Repeat`s are around it: so many leading axes its arrays, and what a walk notes of it, have."""
        return sum(isinstance(around, Repeat) for _, around in self.inside)


def leaves(net: Layer, params: PyTree = None) -> Iterator[Leaf]:
    """Yield the leaves of `net` in the order of the forward pass, through every combinator.

    A leaf's part of params comes as θ holds it: stacked inside a `Repeat`, which is gone through once, and with None
    where `Shared` ties an array to another.

    Args:
        net: any layer; one that is not made of layers is its own only leaf.
        params: θ, or anything with its tree (gradients, uses, shapes); without it every leaf's `params` is None.

    Raises:
        ShapeError: params do not have one item per child.

    >>> from jaxprop.layers import Linear, Sigmoid
    >>> from jaxprop.network import Chain, Residual
    >>> net = Chain(Residual(Chain(Linear(2), Sigmoid())), Repeat(Linear(2), 3))
    >>> [(leaf.path, leaf.layer, leaf.repeats) for leaf in leaves(net)]
    [('0.inner.0', Linear(2), 0), ('0.inner.1', Sigmoid(), 0), ('1.inner', Linear(2), 1)]
    """
    yield from _below(Leaf("", net, params, ()))


def _below(here: Leaf) -> Iterator[Leaf]:
    path, layer, params, inside = here
    if not isinstance(layer, Combinator):
        yield here
        return
    children = layer.children()
    if params is None:
        parts = (None,) * len(children)
    else:
        layer.check_params(params, path)
        parts = params
    for name, child, part in zip(layer.names(), children, parts, strict=True):
        yield from _below(Leaf(join(path, name), child, part, (*inside, (path, layer))))


def in_order(net: Layer, found: dict[str, PyTree]) -> dict[str, PyTree]:
    """Return {path of a leaf: what was found} in the order of the forward pass; a walk back notes it reversed.

    >>> from jaxprop.layers import Linear, Sigmoid
    >>> from jaxprop.network import Chain
    >>> in_order(Chain(Linear(2), Sigmoid()), {"1": "σ", "0": "z"})
    {'0': 'z', '1': 'σ'}
    """
    return {leaf.path: found[leaf.path] for leaf in leaves(net) if leaf.path in found}


class Recorder(Walk):
    """Walk plainly and note something at every leaf, made by `note` of what `keep` held back on the way forward.

    >>> import jax.numpy as jnp
    >>> from jaxprop.layers import Sigmoid
    >>> class Inputs(Recorder):
    ...     def keep(self, layer, x, y, params, env):
    ...         return x
    ...     def note(self, layer, kept, dy, dx, cache, params):
    ...         return {"x": kept, "dx": dx}
    >>> y, cache = Inputs().push(Sigmoid(), jnp.zeros(1), (), None, "0")
    >>> notes = Inputs().pull(Sigmoid(), jnp.ones(1), cache, (), "0")[2]
    >>> print(notes["0"]["x"], notes["0"]["dx"])
    [0.] [0.25]
    """

    def keep(self, layer: Layer, x: PyTree, y: PyTree, params: PyTree, env: Env | None) -> PyTree:
        """Return what of a leaf's way forward its note needs: a pytree."""
        raise TypeError(f"{type(self).__name__} must define keep(layer, x, y, params, env)")

    def note(self, layer: Layer, kept: PyTree, dy: PyTree, dx: PyTree, cache: PyTree, params: PyTree) -> PyTree:
        """Return what is noted at a leaf's path on the way back: a pytree, or None for nothing."""
        raise TypeError(f"{type(self).__name__} must define note(layer, kept, dy, dx, cache, params)")

    def push(self, layer: Layer, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go through one layer forward; what a leaf keeps goes beside its cache."""
        y, cache = super().push(layer, x, params, env, path)
        return (y, cache) if isinstance(layer, Combinator) else (y, (self.keep(layer, x, y, params, env), cache))

    def pull(self, layer: Layer, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Go through one layer back and add a leaf's note."""
        if isinstance(layer, Combinator):
            return super().pull(layer, dy, cache, params, path)
        kept, cache = cache
        dx, uses, notes = super().pull(layer, dy, cache, params, path)
        noted = self.note(layer, kept, dy, dx, *self.bare(cache, params))
        return dx, uses, notes if noted is None else notes | {path: noted}

    def over(self, walk: Walk) -> Self:
        """Return this recorder, going through a network as `walk` does (by another backward rule, say).

        >>> import jax.numpy as jnp
        >>> from jaxprop.layers import Sigmoid
        >>> class Inputs(Recorder):
        ...     def keep(self, layer, x, y, params, env):
        ...         return x
        ...     def note(self, layer, kept, dy, dx, cache, params):
        ...         return dx
        >>> class Half(Walk):
        ...     def pull(self, layer, dy, cache, params, path):
        ...         return super().pull(layer, dy / 2, cache, params, path)
        >>> walk = Inputs().over(Half())
        >>> y, cache = walk.push(Sigmoid(), jnp.zeros(1), (), None, "0")
        >>> print(walk.pull(Sigmoid(), jnp.ones(1), cache, (), "0")[2]["0"])
        [0.125]
        """
        if type(walk) is Walk:
            return self
        kind: Any = type(type(self).__name__, (type(self), type(walk)), {})
        both = object.__new__(kind)
        vars(both).update(vars(walk) | vars(self))
        return both
