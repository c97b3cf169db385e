"""The model panel: any network, layer by layer; one layer opened, with what passes through it; one number explained.

Only what is asked is computed: the table needs shapes alone, one compiled pass serves every layer and every page.
"""

from typing import Any

import jax
import numpy as np
from pydantic import Field

from jaxprop import derivations
from jaxprop.errors import JaxpropError, pick
from jaxprop.network import by_path, leaves
from jaxprop.network.summary import summary
from jaxprop_explorer.experiments.frame import finite
from jaxprop_explorer.experiments.inside import leaf_at, pictures_of, sizes, times
from jaxprop_explorer.experiments.theta import is_in
from jaxprop_explorer.opened import Opened, label
from jaxprop_explorer.panels.command import Asked, Command
from jaxprop_explorer.sessions import Session

LAYERS_A_PAGE = 60
MOST_ENTRIES = 5  # of each parameter that leads to a unit


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


class Unit(Place):
    """One number of what passes through a layer, by the index in one of its pictures."""

    what: str
    index: tuple[int, ...]


class Hold(Asked):
    """Whether a run that is watched shall wait."""

    held: bool


class Entry(Asked):
    """One number of θ, or of the input ("x")."""

    path: str
    index: tuple[int, ...] | None = None


def about(session: Session, asked: Asked) -> dict[str, Any]:
    """What is in view: the network's name, where its rows come from, and what a reader must know."""
    seen = session.experiment
    given = seen.origin if isinstance(seen, Opened) else None
    _, targets = seen.row
    x = np.asarray(seen.rows.x)
    return {
        "name": given.name if given else "The network of this page",
        "notes": list(given.notes) if given else [],
        "cost": repr(seen.cost), "input": list(x.shape[1:]), "rows": len(x), "example": seen.example,
        "target": label(seen.rows, np.asarray(targets[0])), "steerable": seen.steerable,
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
                "output": list(row.output[1:]), "parameters": row.parameters, "repeats": times(arrays[row.path]),
                "arrays": [[name, list(np.shape(a))] for name, a in by_path(arrays[row.path].params).items()],
            }
            for row in rows[first : first + LAYERS_A_PAGE]
        ],
    }  # fmt: skip


def measures(session: Session, asked: Asked) -> dict[str, Any]:
    """How large activations and errors are, layer by layer, for the example in view: their root mean squares."""
    seen = session.experiment
    return {
        "version": seen.version, "example": seen.example, "cost": finite(float(seen.passed().cost)),
        "layers": {path: [_number(y), _number(dy)] for path, (y, dy) in sizes(seen).items()},
    }  # fmt: skip


def example(session: Session, asked: Example) -> dict[str, Any]:
    """Look at another row."""
    session.experiment.look(asked.index)
    session.publish("frame", session.frame())
    return about(session, Asked())


def layer(session: Session, asked: Place) -> dict[str, Any]:
    """One layer opened: what goes in and comes out, the errors that come back, its parameters and their gradients."""
    leaf = leaf_at(session.experiment, asked.path)
    parts = pictures_of(session.experiment, leaf, asked.time)
    return {
        "version": session.experiment.version, "example": session.experiment.example, "path": asked.path,
        "kind": type(leaf.layer).__name__, "settings": repr(leaf.layer), "time": asked.time, "times": times(leaf),
        "documentation": (type(leaf.layer).__doc__ or "").partition("\n\n")[0].strip(),
        "pictures": [part.drawn() for part in parts],
    }  # fmt: skip


def part(session: Session, asked: Part) -> dict[str, Any]:
    """Another page of one of a layer's pictures."""
    leaf = leaf_at(session.experiment, asked.path)
    parts = {part.what: part for part in pictures_of(session.experiment, leaf, asked.time)}
    return parts[pick(asked.what, parts, "picture")].drawn(asked.page)


def entry(session: Session, asked: Entry) -> dict[str, Any]:
    """One number explained: the derivative of this example's cost by it, written out."""
    seen = session.experiment
    x, targets = seen.row
    run = derivations.explain(seen.net, seen.cost, seen.settings.learning_rate or 0.01)
    found = run(x, seen.params, targets, asked.path, asked.index)
    return {
        "path": asked.path, "index": asked.index, "text": str(found), "json": found.json(None),
        "latex": derivations.to_latex(found), "mathml": derivations.to_mathml(found, heading=3),
    }  # fmt: skip


def unit(session: Session, asked: Unit) -> dict[str, Any]:
    """One unit opened: what goes through it, and the parameters that lead to it, those with the largest slopes first.

    The parameters are those whose last axis counts the units: the weights into it and its bias.
    """
    leaf = leaf_at(session.experiment, asked.path)
    parts = {part.what: part for part in pictures_of(session.experiment, leaf, asked.time)}
    seen = np.asarray(parts[pick(asked.what, parts, "picture")].array)
    if not is_in(asked.index, seen.shape):
        raise JaxpropError(
            f"there is no {asked.what}[{', '.join(map(str, asked.index))}]: its shape is {list(seen.shape)}"
        )
    same = {part.title: finite(float(part.array[asked.index])) for part in parts.values()
            if part.entry is None and np.shape(part.array) == seen.shape}  # fmt: skip
    channel, leading = asked.index[-1] if asked.index else 0, []
    for part in parts.values():
        slopes = parts.get("d" + part.what)
        if slopes is None or part.entry is None or np.shape(part.array)[-1:] != np.shape(parts["y"].array)[-1:]:
            continue
        into = np.asarray(slopes.array)[..., channel]
        for at in np.argsort(-np.abs(into), axis=None)[:MOST_ENTRIES]:
            index = (*map(int, np.unravel_index(at, into.shape)), channel)
            leading.append({
                "path": part.entry, "index": [*part.before, *index], "name": part.title,
                "value": finite(float(part.array[index])), "slope": finite(float(into.ravel()[at])),
            })  # fmt: skip
    of_y = asked.what in ("y", "dy")
    return {"index": list(asked.index), "values": same, "entries": leading if of_y else []}


def hold(session: Session, asked: Hold) -> dict[str, Any]:
    """Let a run that is watched wait, or go on."""
    watch = session.memory.get("watch")
    if watch is None:
        raise JaxpropError("no training is watched here")
    watch.hold(asked.held)
    return watch.told()


def _number(value: Any) -> float | None:
    return None if value is None else finite(float(value))


COMMANDS = {
    "about": Command(about),
    "table": Command(table, Page),
    "measures": Command(measures),
    "example": Command(example, Example),
    "layer": Command(layer, Place),
    "part": Command(part, Part),
    "unit": Command(unit, Unit),
    "entry": Command(entry, Entry),
    "hold": Command(hold, Hold, locked=False),
}
