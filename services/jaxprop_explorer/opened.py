"""Networks that are given, not made by the page: a saved model, with rows that it is shown on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop import data as datasets
from jaxprop.cli.runs import open_run, part_of, rows_of, targets_for
from jaxprop.costs import Cost, HalfSquaredError, SoftmaxCrossEntropy
from jaxprop.errors import DataError, JaxpropError
from jaxprop.layers import Embedding, Layer
from jaxprop.network import leaves
from jaxprop_explorer.experiment import Experiment
from jaxprop_explorer.problems import Problem
from jaxprop_explorer.settings import Settings

MADE_UP = 16  # rows, where a model's own are not to be had
MOST_ROWS = 2000  # that a page can look through


class Given(NamedTuple):
    """A network with its θ, and rows to see it on; `notes` say what a reader must know of them."""

    name: str
    net: Layer
    cost: Cost
    rows: Problem
    params: PyTree
    notes: tuple[str, ...] = ()


class Opened(Experiment):
    """An experiment on a network that is given."""

    def __init__(self, given: Given, steerable: bool = False) -> None:
        super().__init__(given.net, given.cost, given.rows, given.params, Settings(), steerable)
        self.given = given


def of_run(path: Path, data: str | None = None) -> Given:
    """Return a saved run with rows of `data`, by default the held-out part of what it was trained on."""
    run = open_run(path)
    about = run.about
    spec, classes = about.one_input, about.info.classes or ()
    try:
        found = rows_of(run, data, ":")
    except DataError as error:
        if data is not None:
            raise
        made = made_up(run.net, run.params, about.cost, (1, *spec.shape[1:]), spec.dtype)
        why = f"{error}. The rows are made up: inputs drawn at random, targets from what the model answers."
        return Given(str(path), run.net, made[0], problem(*made[1:], None, classes), run.params, (why,))
    if found.targets is None:
        raise DataError(f"{found.source}: has no targets, and without them there is no error to propagate")
    cost, notes = known_cost(about.cost, found.targets)
    targets = targets_for(cost, found.targets, about.outputs.shape[-1])
    shown = problem(found.x, targets, about.info.columns, classes)
    return Given(str(path), run.net, cost, shown, run.params, (f"Rows: {found.source}.", *notes))


def of_served(name: str, loaded: Any) -> Given:
    """Return a served model (a `Loaded` of the model server) with rows to see it on.

    Its own rows are read only where they come from a source that the library has by name: a model's folder does not
    decide which files of the server's machine a page may see.
    """
    if loaded.net is None:
        raise JaxpropError(f"model {name!r} is an exported function: it has no layers to open")
    net, info, spec = loaded.net, loaded.info, loaded.signature.inputs[0]
    source = info.get("data") or {}
    if source.get("name") in datasets.SOURCES:
        again = datasets.load_again(source["name"], source.get("options", {}), source.get("seen"))
        x, targets, told = part_of(again, "validation")
        cost, notes = known_cost(loaded.cost, targets)
        targets = targets_for(cost, targets, loaded.signature.outputs[0].shape[-1])
        notes = (f"Rows: {told}.", *notes)
    else:
        cost, x, targets = made_up(net, loaded.params, loaded.cost, (1, *spec.shape[1:]), spec.dtype)
        notes = ("The rows are made up: inputs drawn at random, targets from what the model answers.",)
    shown = problem(x.astype(spec.dtype), targets, info.get("columns"), loaded.classes or ())
    return Given(name, net, cost, shown, loaded.params, notes)


def known_cost(cost: Cost | None, targets: np.ndarray) -> tuple[Cost, tuple[str, ...]]:
    """Return the cost of a model, and what is to be said where it names none."""
    if cost is not None:
        return cost, ()
    usual = SoftmaxCrossEntropy() if targets.ndim == 1 and targets.dtype.kind in "iu" else HalfSquaredError()
    return usual, (f"The model names no cost: errors are those of {usual!r}.",)


def made_up(
    net: Layer, params: PyTree, cost: Cost | None, shape: Sequence[int], dtype: Any
) -> tuple[Cost, np.ndarray, np.ndarray]:
    """Return a cost, inputs drawn at random and targets drawn from what the model answers to them."""
    rng, shape = np.random.default_rng(0), (MADE_UP, *shape[1:])
    if np.issubdtype(dtype, np.integer):
        sizes = [leaf.layer.vocabulary for leaf in leaves(net) if isinstance(leaf.layer, Embedding)]
        x = rng.integers(0, min(sizes, default=2), shape).astype(dtype)
    else:
        x = rng.standard_normal(shape).astype(dtype)
    cost = HalfSquaredError() if cost is None else cost
    try:
        targets = np.asarray(cost.sample(net(jnp.asarray(x), params), jax.random.key(0)))
    except JaxpropError as error:
        raise DataError(f"no rows to see the model on: it does not say what it was trained on, and {error}") from None
    return cost, x, targets


def problem(x: np.ndarray, targets: np.ndarray, columns: Sequence[str] | None, classes: Sequence[str]) -> Problem:
    """Return rows as a page goes through them: at most MOST_ROWS, with a name for every input."""
    width = int(np.prod(x.shape[1:]))
    names = tuple(columns) if columns and len(columns) == width else tuple(f"x[{i}]" for i in range(width))
    return Problem(x[:MOST_ROWS], targets[:MOST_ROWS], names, tuple(classes))


def label(rows: Problem, targets: np.ndarray) -> str | None:
    """Return the name of a row's class, if it has one."""
    value = np.asarray(targets)
    if not rows.classes or value.size == 0:
        return None
    at = int(value) if value.ndim == 0 else int(np.argmax(value))
    return rows.classes[at] if at < len(rows.classes) else None
