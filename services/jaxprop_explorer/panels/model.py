"""The model panel: any network, layer by layer; one layer opened, with what passes through it; one number explained.

Only what is asked is computed: the table needs shapes alone, one compiled pass serves every layer and every page.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from pydantic import Field

from jaxprop import derivations
from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import Layer, MultiHeadAttention
from jaxprop.network import Leaf, by_path, leaves
from jaxprop.network.summary import summary
from jaxprop_explorer.experiment import Experiment
from jaxprop_explorer.opened import Opened, label
from jaxprop_explorer.panels.command import Asked, Command
from jaxprop_explorer.pictures import picture
from jaxprop_explorer.sessions import Session

MOST = 64_000_000  # bytes of a tape that is kept as a whole; of a larger one a layer at a time is computed
LAYERS_A_PAGE = 60
SYMBOLS = {"x": "x", "y": "y", "dy": "∂C/∂y", "dx": "∂C/∂x", "weights": "p"}


class Page(Asked):
    """Which page of the table."""

    page: int = Field(0, ge=0)


class Example(Asked):
    """Which row is in view."""

    index: int = Field(ge=0)


class Place(Asked):
    """A layer by its path; of one that repeats, which time."""

    path: str
    time: int = Field(0, ge=0)


class Part(Place):
    """One picture of a layer: x, y, dy, dx, weights, or an array of θ by its name ("W"), or its gradient ("dW")."""

    what: str
    page: int = Field(0, ge=0)


class Entry(Asked):
    """One number of θ, or of the input ("x")."""

    path: str
    index: tuple[int, ...] | None = None


def about(session: Session, asked: Asked) -> dict[str, Any]:
    """What is in view: the network's name, where its rows come from, and what a reader must know."""
    seen = session.experiment
    given = seen.given if isinstance(seen, Opened) else None
    _, targets = seen.row
    x = np.asarray(seen.rows.x)
    return {
        "name": given.name if given else "the network of this page",
        "notes": list(given.notes) if given else [],
        "cost": repr(seen.cost), "input": list(x.shape[1:]), "rows": len(x), "example": seen.example,
        "target": label(seen.rows, targets[0]), "steerable": seen.steerable,
        "parameters": sum(np.size(leaf) for leaf in jax.tree.leaves(seen.params)),
    }  # fmt: skip


def table(session: Session, asked: Page) -> dict[str, Any]:
    """A page of the table of layers: path, kind, settings, the shape that comes out, parameters."""
    seen = session.experiment
    rows = summary(seen.net, jax.ShapeDtypeStruct((1, *np.shape(seen.rows.x)[1:]), seen.rows.x.dtype)).rows
    arrays = {leaf.path: leaf for leaf in leaves(seen.net, seen.params)}
    first = min(asked.page * LAYERS_A_PAGE, max(0, len(rows) - 1) // LAYERS_A_PAGE * LAYERS_A_PAGE)
    return {
        "first": first, "of": len(rows), "a_page": LAYERS_A_PAGE,
        "layers": [
            {
                "path": row.path, "kind": type(arrays[row.path].layer).__name__, "settings": row.layer,
                "output": list(row.output[1:]), "parameters": row.parameters, "repeats": _times(arrays[row.path]),
                "arrays": [[name, list(np.shape(a))] for name, a in by_path(arrays[row.path].params).items()],
            }
            for row in rows[first : first + LAYERS_A_PAGE]
        ],
    }  # fmt: skip


def measures(session: Session, asked: Asked) -> dict[str, Any]:
    """How large activations and errors are, layer by layer, for the example in view: their root mean squares."""
    seen, looked = session.experiment, _looked(session)
    if (tape := looked["tape"]) is not None:
        found = {path: (_size(record.y), _size(record.dy)) for path, record in tape.items()}
    else:
        found = _measured(seen.net, seen.cost)(*seen.row[:1], seen.params, *seen.row[1:])
    return {
        "version": seen.version, "example": seen.example, "cost": float(looked["cost"]),
        "layers": {path: [_number(y), _number(dy)] for path, (y, dy) in found.items()},
    }  # fmt: skip


def example(session: Session, asked: Example) -> dict[str, Any]:
    """Look at another row."""
    rows = len(session.experiment.rows.x)
    if asked.index >= rows:
        raise JaxpropError(f"row {asked.index}: there are {rows} rows (0 to {rows - 1})")
    session.experiment.example = asked.index
    session.experiment.version += 1
    session.publish("frame", session.frame())
    return about(session, Asked())


def layer(session: Session, asked: Place) -> dict[str, Any]:
    """One layer opened: what goes in and comes out, the errors that come back, its parameters and their gradients."""
    leaf = _leaf(session.experiment, asked.path)
    parts = [*_passing(session, leaf, asked.time), *_parameters(session, leaf, asked.time)]
    pictures = [
        picture(title, array, axes=axes) | {"what": what, "entry": entry} for what, title, array, axes, entry in parts
    ]
    return {
        "version": session.experiment.version, "example": session.experiment.example, "path": asked.path,
        "kind": type(leaf.layer).__name__, "settings": repr(leaf.layer), "time": asked.time, "times": _times(leaf),
        "documentation": (type(leaf.layer).__doc__ or "").partition("\n\n")[0].strip(), "pictures": pictures,
    }  # fmt: skip


def part(session: Session, asked: Part) -> dict[str, Any]:
    """Another page of one of a layer's pictures."""
    leaf = _leaf(session.experiment, asked.path)
    parts = {what: (title, array, axes, entry) for what, title, array, axes, entry in [
        *_passing(session, leaf, asked.time), *_parameters(session, leaf, asked.time)]}  # fmt: skip
    title, array, axes, entry = parts[pick(asked.what, parts, "picture")]
    return picture(title, array, asked.page, axes) | {"what": asked.what, "entry": entry}


def entry(session: Session, asked: Entry) -> dict[str, Any]:
    """One number explained: the derivative of this example's cost by it, written out."""
    seen = session.experiment
    x, targets = seen.row
    run = derivations.explain(seen.net, seen.cost, seen.settings.learning_rate)
    found = run(x, seen.params, targets, asked.path, asked.index)
    return {"path": asked.path, "index": asked.index, "text": str(found), **_written(found)}


def _written(found: derivations.Derivation) -> dict[str, Any]:
    to_mathml = getattr(derivations, "to_mathml", None)
    return {"mathml": None if to_mathml is None else to_mathml(found), "latex": derivations.to_latex(found)}


Pictured = tuple[str, str, Any, tuple[str, ...], str | None]  # what, title, array, axes, the path of its entries


def _passing(session: Session, leaf: Leaf, time: int) -> list[Pictured]:
    """What passes through a layer, of the example in view."""
    record = _record(session, leaf.path)
    found: list[Pictured] = []
    for what in ("x", "y", "dy", "dx"):
        for i, array in enumerate(jax.tree.leaves(getattr(record, what))):
            shown = _one(leaf, array, time)[0]
            more = f"{i + 1}" if i else ""
            found.append((what + more, SYMBOLS[what] + more, shown, _axes(shown), None))
    if isinstance(leaf.layer, MultiHeadAttention):
        x = jax.tree.map(lambda array: _one(leaf, array, time), record.x)
        p = leaf.layer.forward(x, jax.tree.map(lambda a: _one(leaf, a, time), leaf.params))[1].p[0]
        axes = ("query", "key", "head")
        found.append(("weights", "attention p", np.moveaxis(np.asarray(p), 0, 2), axes, None))
    return found


def _parameters(session: Session, leaf: Leaf, time: int) -> list[Pictured]:
    """A layer's parameters and their gradients, for the example in view."""
    grads = by_path(_looked(session)["grads"])
    found: list[Pictured] = []
    for name, array in by_path(leaf.params).items():
        path = f"{leaf.path}.{name}" if leaf.path else name
        found.append((name, name, _one(leaf, array, time), (), path))
        found.append(("d" + name, f"∂C/∂{name}", _one(leaf, grads[path], time), (), path))
    return found


def _leaf(seen: Experiment, path: str) -> Leaf:
    known = {leaf.path: leaf for leaf in leaves(seen.net, seen.params)}
    return known[pick(path, known, "layer")]


def _times(leaf: Leaf) -> int:
    """How often a layer is gone through: the product of the Repeats around it."""
    return int(np.prod([around.times for _, around in leaf.inside if hasattr(around, "times")], dtype=int))


def _one(leaf: Leaf, array: Any, time: int) -> Any:
    """An array of one time through the Repeats around a layer, whose axes come first."""
    if not leaf.repeats:
        return array
    shape = np.shape(array)
    return jnp.reshape(array, (-1, *shape[leaf.repeats :]))[min(time, _times(leaf) - 1)]


def _axes(array: Any) -> tuple[str, ...]:
    return {1: ("unit",), 2: ("position", "channel"), 3: ("row", "column", "channel")}.get(np.ndim(array), ())


def _record(session: Session, path: str) -> manual.Record:
    """What a layer saw. Of a long tape, its part alone is computed."""
    looked, seen = _looked(session), session.experiment
    if looked["tape"] is None:
        x, targets = seen.row
        return _one_record(seen.net, seen.cost, path)(x, seen.params, targets)
    return looked["tape"][path]


def _looked(session: Session) -> dict[str, Any]:
    """The tape and the gradient of this example at this θ: computed once, kept until one of them changes."""
    seen = session.experiment
    now, kept = (seen.version, seen.example), session.memory.get("model")
    if kept is None or kept["at"] != now:
        x, targets = seen.row
        given = (x, seen.params, targets)
        whole = kept["whole"] if kept else _bytes(jax.eval_shape(manual.trace(seen.net, seen.cost), *given)) <= MOST
        tape, cost, grads = _everything(seen.net, seen.cost, whole)(*given)
        kept = session.memory["model"] = {"at": now, "tape": tape, "cost": cost, "grads": grads, "whole": whole}
    return kept


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@lru_cache(8)
def _everything(net: Layer, cost: Cost, whole: bool) -> Any:
    """Return `run(x, params, targets)`: the tape, unless it is too long to be kept, the cost and the gradient."""

    def run(x: Any, params: PyTree, targets: Any) -> tuple[dict[str, manual.Record] | None, Any, PyTree]:
        tape = manual.trace(net, cost)(x, params, targets) if whole else None
        return tape, *manual.value_and_grad(net, cost)(x, params, targets)

    return jax.jit(run)


@lru_cache(8)
def _one_record(net: Layer, cost: Cost, path: str) -> Any:
    return jax.jit(lambda x, params, targets: manual.trace(net, cost)(x, params, targets)[path])


@lru_cache(8)
def _measured(net: Layer, cost: Cost) -> Any:
    """Return `run(x, params, targets)`: the root mean squares of y and of ∂C/∂y of every layer, and no more."""

    def run(x: Any, params: PyTree, targets: Any) -> dict[str, tuple[Any, Any]]:
        tape = manual.trace(net, cost)(x, params, targets)
        return {path: (_size(record.y), _size(record.dy)) for path, record in tape.items()}

    return jax.jit(run)


def _size(tree: PyTree) -> Any:
    """The root mean square of all numbers in a tree; None if there are none."""
    leaves = jax.tree.leaves(tree)
    if not leaves:
        return None
    total = sum(jnp.sum(jnp.square(jnp.asarray(leaf).astype(float))) for leaf in leaves)
    return jnp.sqrt(total / sum(leaf.size for leaf in leaves))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


COMMANDS = {
    "about": Command(about),
    "table": Command(table, Page),
    "measures": Command(measures),
    "example": Command(example, Example),
    "layer": Command(layer, Place),
    "part": Command(part, Part),
    "entry": Command(entry, Entry),
}
