"""Uses that are closed inside a scan, a step at a time, so that what they are made of need not be kept for all steps.

A program of one example cannot close a use, which is of all examples. So the sinks of a step are opened as a function
with a way back of its own: what landed in the step comes back to it for one example, and under vmap, which knows all
examples, a rule of its own makes the uses and closes them. What is kept belongs to no single example.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import eval_jaxpr
from jax.custom_batching import custom_vmap
from jaxtyping import PyTree

from jaxprop.arrays.varying import vary_with
from jaxprop.xray.following.follow import Followed
from jaxprop.xray.planning import Path, Sinks

Landings = dict[Path, dict[str, Array]]


def closed_inside(followed: Followed, asked: Sequence[int]) -> dict[Path, list[int]]:
    """Return which leaves are closed in the steps of which scan.

    Those that scans go over, from the outermost one on, and that meet what lands nowhere else; a scan in a branch of a
    cond is left out, since under vmap all branches are computed, for all examples.
    """
    homes: dict[int, Path | None] = {leaf: _home(followed, leaf) for leaf in asked if leaf not in followed.lost}
    while True:  # what lands at one place is closed in one place
        before = dict(homes)
        for place in followed.places.values():
            leaves = [part.leaf for part in place.parts]
            if len({homes[leaf] for leaf in leaves}) > 1 or place.meeting.counted is not None:
                homes |= dict.fromkeys(leaves, None)
        if homes == before:
            break
    found: dict[Path, list[int]] = {}
    for leaf, home in homes.items():
        if home is not None:
            found.setdefault(home, []).append(leaf)
    return found


def _home(followed: Followed, leaf: int) -> Path | None:
    """The innermost scan that goes over a leaf, if it is the same everywhere."""
    homes = set()
    for place in followed.places.values():
        for part in place.parts:
            if part.leaf == leaf:
                over = [level[0] == "over" for level in part.levels]
                depth = sum(over)
                if not depth or not all(over[:depth]) or place.scans[depth - 1].chosen:
                    return None
                homes.add(part.levels[depth - 1][1])
    return homes.pop() if len(homes) == 1 else None


class Closing:
    """What is closed in the steps of one scan.

    path: of the scan.    steps: its number of steps, after those of the scans around it.
    raw: the shapes of what lands in a step, for one example.
    close: takes what landed, with the axis of examples in front, and returns what is kept of every leaf, by its number.
    """

    def __init__(
        self,
        path: Path,
        raw: dict[Path, Any],
        examples: int,
        batch: Sequence[Any],
        close: Callable[[Landings], dict[int, PyTree]],
        steps: list[int],
    ) -> None:
        self.path, self.raw = path, raw
        every = jax.eval_shape(  # under shard_map, they vary over the mesh as the batch does
            lambda batch: jax.tree.map(lambda s: vary_with(jnp.zeros((examples, *s.shape), s.dtype), batch), raw), batch
        )
        closed, self.kept = jax.make_jaxpr(close, return_shape=True)(every)
        self.jaxpr, self.consts = closed.jaxpr, list(closed.consts)
        self.key = (*path, -1)
        self.sinks = jax.tree.map(lambda s: jax.ShapeDtypeStruct((*steps, *s.shape), s.dtype), self.kept)

    def run(self, consts: Sequence[Any], landed: Landings) -> list[Any]:
        """Close: what is kept, flat."""
        return eval_jaxpr(self.jaxpr, consts, *jax.tree.leaves(landed))


class Opener(NamedTuple):
    """Opens the sinks of a scan's step; `number` is one that every example has its own of."""

    closings: Sequence[Closing]
    number: Any

    def enter(self, path: Path, sinks: Sinks) -> Sinks:
        """Return the sinks of a step, with those of what lands in it in the place of those of what is closed."""
        for closing in self.closings:
            if closing.path == path:
                rest = {place: sink for place, sink in sinks.items() if place != closing.key}
                opened: Any = _opened(closing, sinks[closing.key], closing.consts, self.number)
                return rest | opened
        return sinks


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _opened(closing: Closing, sink: PyTree, consts: list[Any], number: Array) -> PyTree:
    return jax.tree.map(lambda s: vary_with(jnp.zeros(s.shape, s.dtype), number), closing.raw)


def _forward(closing: Closing, sink: PyTree, consts: list[Any], number: Array) -> Any:
    return _opened(closing, sink, consts, number), (consts, number)


def _backward(closing: Closing, residual: Any, landed: Landings) -> Any:
    consts, number = residual
    kept = jax.tree.structure(closing.kept).unflatten(_of_examples(closing)(number, consts, landed))
    return kept, None, None


_opened.defvjp(_forward, _backward)


def _of_examples(closing: Closing) -> Any:
    @custom_vmap
    def one(number: Array, consts: list[Any], landed: Landings) -> list[Any]:
        # shapes only: vmap has its rule
        return [vary_with(jnp.zeros(s.shape, s.dtype), number) for s in jax.tree.leaves(closing.kept)]

    @one.def_vmap
    def rule(size: int, mapped: Any, number: Array, consts: list[Any], landed: Landings) -> Any:  # pyright: ignore
        landed = jax.tree.map(
            lambda a, is_mapped: a if is_mapped else jnp.broadcast_to(a, (size, *a.shape)), landed, mapped[2]
        )
        kept = [vary_with(array, number) for array in closing.run(consts, landed)]
        return kept, [False] * len(kept)

    return one
