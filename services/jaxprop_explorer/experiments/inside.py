"""A network looked into at one moment: the tape of the example in view, and of a layer the arrays that can be drawn.

One pass serves every layer; it is run once for each θ and example that is looked at.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.errors import pick
from jaxprop.layers import Layer, MultiHeadAttention
from jaxprop.network import Leaf, Repeat, by_path, leaves
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.shown.pictures import picture

SYMBOLS = {"x": "x", "y": "y", "dy": "∂C/∂y", "dx": "∂C/∂x"}


class Pictured(NamedTuple):
    """What a picture shows; of parameters, the path of its numbers and the index before theirs (in a Repeat)."""

    what: str
    title: str
    array: Any
    axes: tuple[str, ...] = ()
    entry: str | None = None
    before: tuple[int, ...] = ()

    def drawn(self, page: int = 0) -> dict[str, Any]:
        """Return one page of it."""
        about = {"what": self.what, "entry": self.entry, "before": list(self.before)}
        return picture(self.title, self.array, page, self.axes) | about


def pictures_of(seen: Experiment, leaf: Leaf, time: int) -> list[Pictured]:
    """Return what passes through a layer, of the example in view, then its parameters and their gradients."""
    return [*passing(seen, leaf, time), *parameters(seen, leaf, time)]


def passing(seen: Experiment, leaf: Leaf, time: int) -> list[Pictured]:
    """What passes through a layer, of the example in view."""
    record, first = _record(seen, leaf.path), next(leaves(seen.net)).path == leaf.path
    found = []
    for what in ("x", "dx", "y", "dy"):  # values beside their errors
        arrays = [_one(leaf, array, time)[0] for array in jax.tree.leaves(getattr(record, what))]
        for i, array in enumerate(arrays, 1):
            number = str(i) if len(arrays) > 1 else ""
            entry = "x" if first and what in ("x", "dx") and len(arrays) == 1 and not _whole(array) else None
            found.append(Pictured(what + number, SYMBOLS[what] + number, array, _axes(array), entry))
    if isinstance(leaf.layer, MultiHeadAttention):
        x, params = jax.tree.map(lambda array: _one(leaf, array, time), (record.x, leaf.params))
        p = leaf.layer.forward(x, params)[1].p[0]
        found.append(Pictured("weights", "attention p", jnp.moveaxis(p, 0, 2), ("query", "key", "head")))
    return found


def parameters(seen: Experiment, leaf: Leaf, time: int) -> list[Pictured]:
    """A layer's parameters and their gradients, for the example in view."""
    grads, found = by_path(seen.passed().grads), []
    for name, array in by_path(leaf.params).items():
        path = f"{leaf.path}.{name}" if leaf.path else name
        before = _before(np.shape(array)[: leaf.repeats], time)
        found.append(Pictured(name, name, _one(leaf, array, time), (), path, before))
        found.append(Pictured("d" + name, f"∂C/∂{name}", _one(leaf, grads[path], time), (), path, before))
    return found


def _before(shape: tuple[int, ...], time: int) -> tuple[int, ...]:
    """The index of one time in the axes of the Repeats around a layer."""
    return tuple(map(int, np.unravel_index(min(time, math.prod(shape) - 1), shape))) if shape else ()


def _whole(array: Any) -> bool:
    return np.dtype(array.dtype).kind not in "fc"


def leaf_at(seen: Experiment, path: str) -> Leaf:
    """Return the layer of that path; JaxpropError names those that there are."""
    known = {leaf.path: leaf for leaf in leaves(seen.net, seen.params)}
    return known[pick(path, known, "layer")]


def times(leaf: Leaf) -> int:
    """How often a layer is gone through: the product of the Repeats around it."""
    return int(np.prod([around.times for _, around in leaf.inside if isinstance(around, Repeat)], dtype=int))


def _one(leaf: Leaf, array: Any, time: int) -> Any:
    """An array of one time through the Repeats around a layer, whose axes come first."""
    if not leaf.repeats:
        return array
    shape = np.shape(array)
    return jnp.reshape(array, (-1, *shape[leaf.repeats :]))[min(time, times(leaf) - 1)]


def _axes(array: Any) -> tuple[str, ...]:
    return {1: ("unit",), 2: ("position", "channel"), 3: ("row", "column", "channel")}.get(np.ndim(array), ())


def _record(seen: Experiment, path: str) -> manual.Record:
    """What a layer saw. Of a tape that is too long to be kept, this part alone is computed."""
    passed = seen.passed()
    found = passed.tape.get(path)
    return _one_record(seen.net, seen.cost, path)(passed.x, seen.params, passed.targets) if found is None else found


@lru_cache(8)
def _one_record(net: Layer, cost: Cost, path: str) -> Any:
    return jax.jit(lambda x, params, targets: manual.trace(net, cost)(x, params, targets)[path])


def sizes(seen: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return the root mean squares of y and of ∂C/∂y of every layer, by path."""
    passed = seen.passed()
    if passed.tape:
        return {path: (size(record.y), size(record.dy)) for path, record in passed.tape.items()}
    return _measured(seen.net, seen.cost)(passed.x, seen.params, passed.targets)


@lru_cache(8)
def _measured(net: Layer, cost: Cost) -> Any:
    def run(x: Any, params: PyTree, targets: Any) -> dict[str, tuple[Any, Any]]:
        tape = manual.trace(net, cost)(x, params, targets)
        return {path: (size(record.y), size(record.dy)) for path, record in tape.items()}

    return jax.jit(run)


def size(tree: PyTree) -> Any:
    """The root mean square of all numbers in a tree; None if there are none."""
    leaves = jax.tree.leaves(tree)
    if not leaves:
        return None
    total = sum(jnp.sum(jnp.square(jnp.asarray(leaf).astype(float))) for leaf in leaves)
    return jnp.sqrt(total / sum(leaf.size for leaf in leaves))
