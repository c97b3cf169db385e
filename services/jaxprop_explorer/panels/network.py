"""The network panel: train, step, stop; go forward and back slowly; edit or prune a weight; choose what is learned."""

from typing import Any

import jax.numpy as jnp
from pydantic import Field

from jaxprop.errors import JaxpropError
from jaxprop.layers import Linear
from jaxprop.network import leaves
from jaxprop_explorer.experiments.collapse import collapse as collapsed
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.frame import numbers
from jaxprop_explorer.experiments.measuring import MEASURED
from jaxprop_explorer.experiments.problems import NAMES, NOISE, OWN, TABLES, Table, offered
from jaxprop_explorer.experiments.settings import KEPT, MOST_LAYERS, MOST_UNITS, Settings, fitting_costs, known
from jaxprop_explorer.panels.command import Asked, Command
from jaxprop_explorer.sessions import Session


class Steps(Asked):
    """How many steps of the optimizer."""

    steps: int = Field(1, ge=1, le=10_000)


class Play(Asked):
    """How many steps a second, as many as can be if None."""

    speed: float | None = Field(None, gt=0)


class Look(Asked):
    """Which example to look at: its number, or how far from the one in view."""

    index: int | None = None
    by: int | None = None


class Edit(Asked):
    """One number of θ, and what it shall be."""

    path: str
    index: tuple[int, ...]
    value: float


class Point(Asked):
    """The inputs under the cursor."""

    x: tuple[float, ...] = Field(min_length=1, max_length=1000)


class Place(Asked):
    """One number of θ."""

    path: str
    index: tuple[int, ...]


class Prune(Asked):
    """One weight, and whether it is kept at 0."""

    path: str
    index: tuple[int, ...]
    pruned: bool = True


class Changes(Asked):
    """Settings by name; None stands for what is usual for the data."""

    changes: dict[str, Any] = Field(max_length=30)


class OwnTable(Asked):
    """The text of a CSV file with a line of column names; which column to predict, by default the last."""

    text: str
    name: str = Field("table.csv", max_length=200)
    target: str | None = None
    labels: bool | None = None


def step(session: Session, asked: Steps) -> dict[str, Any]:
    """Take some steps."""
    session.experiment.advance(asked.steps)
    return shown(session)


def play(session: Session, asked: Play) -> dict[str, Any]:
    """Train until told to stop."""
    owed = 0.0

    def work(seconds: float) -> bool:
        nonlocal owed
        if asked.speed is None:
            return session.experiment.run(seconds)
        owed += asked.speed * seconds
        now, owed = int(owed), owed % 1
        return session.experiment.run(seconds, now) if now else True

    session.play(work)
    return {}


def pause(session: Session, asked: Asked) -> dict[str, Any]:
    """Stop training."""
    session.pause()
    return shown(session)


def forward(session: Session, asked: Asked) -> dict[str, Any]:
    """Run a forward pass alone; with one example a step, of the one that is next."""
    session.experiment.forward()
    return shown(session)


def backward(session: Session, asked: Asked) -> dict[str, Any]:
    """Run a backward pass for the example in view."""
    session.experiment.backward()
    return shown(session)


def update(session: Session, asked: Asked) -> dict[str, Any]:
    """Take the step that the backward pass led to; its errors and gradients stay in view."""
    session.experiment.update()
    return shown(session)


def look(session: Session, asked: Look) -> dict[str, Any]:
    """Look at another example."""
    experiment = session.experiment
    if asked.index is None:
        experiment.look((experiment.example + (1 if asked.by is None else asked.by)) % len(experiment.rows.x))
    else:
        experiment.look(asked.index)
    return shown(session)


def choose(session: Session, asked: Place) -> dict[str, Any]:
    """Have a weight in every frame from now on, be it too small to be drawn."""
    session.experiment.choose(asked.path, asked.index)
    return shown(session)


def edit(session: Session, asked: Edit) -> dict[str, Any]:
    """Set one number of θ."""
    session.experiment.edit(asked.path, asked.index, asked.value)
    return shown(session)


def prune(session: Session, asked: Prune) -> dict[str, Any]:
    """Keep a weight at 0, or let it go again."""
    session.experiment.prune(asked.path, asked.index, asked.pruned)
    return shown(session)


def set_settings(session: Session, asked: Changes) -> dict[str, Any]:
    """Change settings; learning rate, batch size, optimizer and rule keep θ, the others start anew."""
    session.experiment.set(**asked.changes)
    return shown(session)


def restart(session: Session, asked: Asked) -> dict[str, Any]:
    """Start anew with the same settings."""
    session.experiment.restart(session.experiment.now())
    return shown(session)


def table(session: Session, asked: OwnTable) -> dict[str, Any]:
    """Learn from a table that was dropped on the page; beside the frame: its columns, and what was left out."""
    given = Table(asked.text, asked.name, asked.target, asked.labels)
    read = given.source(session.experiment.settings.validation)
    changes = {"data": OWN, "table": TABLES.keep(given), "target": read.data.target, "labels": asked.labels}
    session.experiment.set(**changes)
    return shown(session) | {
        "columns": given.columns(),
        "target_column": read.data.target,
        "notes": list(read.data.notes),
    }


def collapse(session: Session, asked: Asked) -> dict[str, Any]:
    """Return the one matrix that a network without bends is, and how far its answers are from the network's."""
    experiment = session.experiment
    W, b, difference = collapsed(experiment.net, experiment.params, jnp.asarray(experiment.rows.x[:MEASURED]))
    return {"W": W.tolist(), "b": b.tolist(), "difference": difference, "layers": _linear_layers(experiment)}


def _linear_layers(experiment: Experiment) -> int:
    return sum(isinstance(leaf.layer, Linear) for leaf in leaves(experiment.net))


def choices(session: Session, asked: Asked) -> dict[str, Any]:
    """Return what every control offers; a cost that does not fit the data is marked so."""
    source = session.experiment.source
    fitting = None if source is None else fitting_costs(source)
    found = {name: [_choice(value) for value in values] for name, values in known().items()}
    for choice in found["cost"]:
        choice["disabled"] = fitting is not None and choice["name"] not in fitting
    found["data"] = [
        {"name": name, "label": label, "noise": NOISE.get(name)} for name, label in (NAMES | offered()).items()
    ]
    limits = {"layers": MOST_LAYERS, "units": MOST_UNITS, "examples": len(session.experiment.rows.x)}
    return {**found, "limits": limits, "keeps": list(KEPT), "settings": list(Settings.model_fields)}


def _choice(name: str) -> dict[str, Any]:
    label = "linear" if name == "identity" else name.replace("_", " ")
    return {"name": name, "label": label}


def answer(session: Session, asked: Point) -> dict[str, Any]:
    """Return what the network answers for inputs of the reader's choice."""
    rows, experiment = session.experiment.rows, session.experiment
    if len(asked.x) != rows.inputs:
        raise JaxpropError(f"x: found {len(asked.x)} inputs, expected {rows.inputs}")
    x = jnp.asarray(asked.x, rows.x.dtype).reshape(1, *rows.x.shape[1:])
    return {"y": numbers(experiment.net(x, experiment.params))}


def shown(session: Session) -> dict[str, Any]:
    """Return the frame of now, and send it to the page as an event too."""
    found = session.frame()
    session.publish("frame", found)
    return found


COMMANDS = {
    "step": Command(step, Steps),
    "play": Command(play, Play),
    "pause": Command(pause, locked=False),  # it waits for the player, which needs the lock
    "forward": Command(forward),
    "backward": Command(backward),
    "update": Command(update),
    "look": Command(look, Look),
    "choose": Command(choose, Place),
    "edit": Command(edit, Edit),
    "prune": Command(prune, Prune),
    "set": Command(set_settings, Changes),
    "restart": Command(restart),
    "table": Command(table, OwnTable),
    "collapse": Command(collapse),
    "choices": Command(choices),
    "answer": Command(answer, Point),
}
