"""Where the blocks of a `Repeat` stand in what is found: which arrays have an axis L, and the layers row by row."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.paths import dotted
from jaxprop.layers.layer import Layer
from jaxprop.network import leaves
from jaxprop.network.leaves import Leaf
from jaxprop.network.repeat import Repeat


class Row(NamedTuple):
    """A layer, and for one inside a `Repeat` which of its blocks (a number for every `Repeat` around it).

    >>> from jaxprop import Tanh
    >>> Row("1.inner", (2,), Tanh()).label, Row("0", (), Tanh()).label
    ('1.inner[2]', '0')
    """

    path: str
    block: tuple[int, ...]
    layer: Layer

    @property
    def label(self) -> str:
        """The path, and the block in brackets."""
        return labelled(self.path, self.block)


def labelled(name: str, block: tuple[int, ...]) -> str:
    """Return a name with the block in brackets, if it is one of several.

    >>> labelled("1.inner", (2,)), labelled("0", ())
    ('1.inner[2]', '0')
    """
    return f"{name}[{', '.join(map(str, block))}]" if block else name


def rows(net: Layer) -> list[Row]:
    """Return the layers in the order in which a forward pass goes through them, every block of a `Repeat` in its turn.

    >>> from jaxprop import Chain, Linear, Repeat, Tanh
    >>> [row.label for row in rows(Chain(Repeat(Chain(Linear(3), Tanh()), 2), Linear(1)))]
    ['0.inner.0[0]', '0.inner.1[0]', '0.inner.0[1]', '0.inner.1[1]', '1']
    """
    return [Row(leaf.path, block, leaf.layer) for leaf, block in _below(list(leaves(net)), 0)]


def _below(found: Sequence[Leaf], depth: int) -> Iterator[tuple[Leaf, tuple[int, ...]]]:
    for repeat, group in itertools.groupby(found, key=lambda leaf: _repeat(leaf, depth)):
        inside = list(group)
        if repeat is None:
            yield from ((leaf, ()) for leaf in inside)
            continue
        for i in range(repeat[1].times):
            yield from ((leaf, (i, *block)) for leaf, block in _below(inside, depth + 1))


def _repeat(leaf: Leaf, depth: int) -> tuple[str, Repeat] | None:
    """The `Repeat` around a leaf at a depth, 0 being the outermost, with its path."""
    around = [(path, layer) for path, layer in leaf.inside if isinstance(layer, Repeat)]
    return around[depth] if depth < len(around) else None


def by_block(net: Layer | None, function: Callable[..., PyTree], *trees: PyTree) -> PyTree:
    """Return `function` of every array of trees like θ; of one inside a `Repeat`, of every block, with an axis L.

    net: None of a function, which has no `Repeat`.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, Linear, Repeat
    >>> net = Chain(Linear(3), Repeat(Linear(3), 2))
    >>> params = net.init(jax.random.key(0), jnp.ones((1, 3)))
    >>> sums = by_block(net, jnp.sum, params)
    >>> sums[0].W.shape, sums[1].inner.W.shape
    ((), (2,))
    """
    if net is None:
        return jax.tree.map(function, *trees)
    depths = {leaf.path: leaf.repeats for leaf in leaves(net)}

    def one(path: jax.tree_util.KeyPath, *arrays: PyTree) -> PyTree:
        name = dotted(path)
        depth = next(depth for layer, depth in depths.items() if f"{name}.".startswith(layer and f"{layer}."))
        mapped = function
        for _ in range(depth):
            mapped = jax.vmap(mapped)
        return mapped(*arrays)

    return jax.tree_util.tree_map_with_path(one, *trees)


def numbers(found: dict[str, Array]) -> dict[str, Array]:
    """Return the numbers of some arrays by name; of one with blocks each block's, its number in brackets.

    >>> numbers({"0.W": np.array(2.0), "1.W": np.array([3.0, 4.0])})
    {'0.W': np.float64(2.0), '1.W[0]': np.float64(3.0), '1.W[1]': np.float64(4.0)}
    """
    return {
        labelled(name, block): array[block] for name, array in found.items() for block in np.ndindex(np.shape(array))
    }
