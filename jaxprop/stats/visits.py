"""How every use of a network is visited: on the walk back, where it arises; for one column of errors or several; again.

A use is closed where it arises, so that inside a `Repeat` only what is kept is carried out of the scan, with a leading
axis L. A second visit reads the uses of the first where these were kept. Where a `Repeat` would stack them, and all
uses need the same array, it goes back once more with δ alone instead.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import KeyPath
from jaxtyping import PyTree

from jaxprop.arrays.paths import dotted
from jaxprop.layers.layer import Layer
from jaxprop.network import Walk, in_order, leaves
from jaxprop.uses import Stacked, Use, is_use
from jaxprop.uses.stacked import in_blocks

Close = Callable[[Use, str], PyTree]
Again = Callable[[Use, str, PyTree], PyTree]

COLUMNS_HOLD = 2**28  # bytes, of errors and results together


class Back(Protocol):
    """The way back from y to the uses of θ, gone as often as needed: through layers, or through any function."""

    @property
    def stacks(self) -> bool:
        """Tell whether uses arise in the body of a loop, so that keeping them would stack them."""
        ...

    @property
    def held(self) -> int:
        """How many bytes are held for it: about what going back with one error more takes."""
        ...

    def close(self, dy: PyTree, close: Close) -> tuple[PyTree, dict[str, PyTree]]:
        """Go back with the error dy; return the tree of θ with what `close` keeps of each use, and notes of layers."""
        ...

    def uses(self, dy: PyTree) -> tuple[PyTree, dict[str, PyTree]]:
        """Go back with the error dy and keep the uses themselves."""
        ...


class WayBack(NamedTuple):
    """The way back through the layers of a network: how, through what, and with which caches."""

    walk: Walk
    net: Layer
    cache: PyTree
    params: PyTree

    def close(self, dy: PyTree, close: Close) -> tuple[PyTree, dict[str, PyTree]]:
        """Go back with the error dy; return the tree of θ with what `close` keeps of each use, and the walk's notes."""
        walk = self.walk.closing(close)
        _, uses, notes = walk.pull(self.net, dy, self.cache, self.params, "")
        return walk.close_all(uses), in_order(self.net, notes)

    def uses(self, dy: PyTree) -> tuple[PyTree, dict[str, PyTree]]:
        """Go back with the error dy and keep the uses themselves."""
        _, uses, notes = self.walk.pull(self.net, dy, self.cache, self.params, "")
        return uses, in_order(self.net, notes)

    @property
    def stacks(self) -> bool:
        """Tell whether there is a `Repeat`."""
        return any(leaf.repeats for leaf in leaves(self.net))

    @property
    def held(self) -> int:
        """The bytes of what was kept on the way forward, which errors are as large as, and of θ, as results are."""
        return bytes_of((self.cache, self.params))


def close_columns(back: Back, columns: Array, close: Close) -> PyTree:
    """Go back with every column `[V, N, ...]`; return the sum of what is kept of each.

    Columns go together, as many as hold no more than `COLUMNS_HOLD`; groups of them follow one another.
    """
    if len(columns) == 1:
        return back.close(columns[0], close)[0]

    def together(columns: Array) -> PyTree:
        kept = jax.vmap(lambda dy: back.close(dy, close)[0])(columns)
        return jax.tree.map(lambda k: jnp.sum(k, axis=0), kept)

    def add(total: PyTree, columns: Array) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, together(columns)), None

    group = max(1, COLUMNS_HOLD // max(1, back.held))
    first = len(columns) % group or group
    total, rest = together(columns[:first]), columns[first:]
    return jax.lax.scan(add, total, rest.reshape(-1, group, *rest.shape[1:]))[0] if len(rest) else total


def with_norms(use: Use, weights: Array | None) -> tuple[Array, Use]:
    """Return `use.total(weights)`, and the use with its squared norms, which came of the same products, at hand."""
    total, norms = use.total_and_norms(weights)
    known = copy.copy(use)
    object.__setattr__(known, "squared_norms", lambda: norms)
    return total, known


def by_hand(uses: PyTree, close: Close) -> PyTree:
    """Return what `WayBack.close` does, of uses that were kept: the blocks of a `Stacked` use are closed one by one."""
    return jax.tree_util.tree_map_with_path(
        lambda path, use: in_blocks(lambda block: close(block, dotted(path)), use), uses, is_leaf=is_use
    )


def by_hand_again(uses: PyTree, again: Again, part: PyTree) -> PyTree:
    """Return what `again` keeps of every use, for its part: one array for all of them, or a prefix of their tree."""
    if isinstance(part, Array):
        return jax.tree_util.tree_map_with_path(
            lambda path, use: in_blocks(lambda block: again(block, dotted(path), part), use), uses, is_leaf=is_use
        )

    def below(path: KeyPath, part: PyTree, uses: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(
            lambda inside, use: _one(lambda use, p: again(use, dotted((*path, *inside)), p), use, part),
            uses, is_leaf=is_use,
        )  # fmt: skip

    return jax.tree_util.tree_map_with_path(below, part, uses)


def _one(close: Callable[[Use, PyTree], PyTree], use: Use, part: PyTree) -> PyTree:
    """Close one use with its part, or every block of a stacked one with its slice of it, one after the other."""
    if not isinstance(use, Stacked):
        return close(use, part)
    return jax.lax.map(lambda block: _one(close, *block), (use.use, part))


def bytes_of(tree: PyTree) -> int:
    """Count the bytes of all arrays of a tree, or of shapes of them."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
