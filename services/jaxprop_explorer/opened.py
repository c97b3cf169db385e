"""Networks that are given, not made by the page: a saved model, with rows that it is shown on."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop import data as datasets
from jaxprop.backward import manual
from jaxprop.cli.runs import SavedRun, open_run, part_of, rows_of, targets_for
from jaxprop.costs import Cost, HalfSquaredError, SoftmaxCrossEntropy
from jaxprop.errors import DataError, JaxpropError
from jaxprop.layers import Activation, Dropout, Embedding, Flatten, Layer, Linear, Softmax, Standardize, Unstandardize
from jaxprop.network import Chain, leaves
from jaxprop_explorer.experiments.experiment import Experiment, Passed
from jaxprop_explorer.experiments.measuring import Measured
from jaxprop_explorer.experiments.problems import MARGIN, Problem
from jaxprop_explorer.experiments.settings import Settings, read
from jaxprop_explorer.sessions import Session

MADE_UP = 16  # rows, where a model's own are not to be had
MOST_ROWS = 10_000  # that a page can look through, and train on
LONG_TAPE = 64_000_000  # bytes: of a longer one a layer at a time is computed
INVENTED = "The rows are made up: inputs drawn at random, targets from what the model answers."


class Given(NamedTuple):
    """A network with its θ, and rows to see it on.

    notes: what a reader must know of them.    settings: how it is trained on.    fixed: why a page may not change it.
    """

    name: str
    net: Layer
    cost: Cost
    rows: Problem
    params: PyTree
    notes: tuple[str, ...] = ()
    settings: Settings = read({})
    fixed: str = ""


class Opened(Experiment):
    """An experiment on a network that is given, of any architecture."""

    def __init__(self, origin: Given, state: Mapping[str, Any] | None = None) -> None:
        self.origin = origin
        self.chain = is_chain(origin.net)
        self._long: bool | None = None
        super().__init__(origin.net, origin.cost, origin.rows, origin.params, origin.settings, not origin.fixed)
        state = state or {}
        if not origin.fixed:
            self.again(state.get("history", ()), state.get("steps", 0))
        example = state.get("example")
        if isinstance(example, int) and 0 < example < len(origin.rows.x):  # else the address is another model's
            self.look(example)

    def passed(self) -> Passed:
        """Return a forward and a backward pass of the example in view; a tape that is very long is left out."""
        if self._long is None:
            spec = jax.eval_shape(manual.trace(self.net, self.cost), self.row[0], self.params, self.row[1])
            self._long = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(spec)) > LONG_TAPE
        if not self._long:
            return super().passed()
        if self._passed is None or self._passed[0] != self.version:
            x, targets = self.row
            run = _value_and_grad(self.net, self.cost)
            self._passed = self.version, Passed(x, targets, {}, *run(x, self.params, targets))
        return self._passed[1]

    def measured(self) -> tuple[Measured, Measured | None]:
        """Return how good the network is: on some rows if it is a chain, else on the example in view alone."""
        if self.chain:
            return super().measured()
        return Measured(float(self.passed().cost), None), None

    def _steer(self) -> None:
        if self.origin.fixed:
            raise JaxpropError(self.origin.fixed)


def introduce(session: Session) -> None:
    """Let every frame of a page say what was opened, and whether the network panel can draw it."""
    seen = session.experiment
    if isinstance(seen, Opened):
        session.told["opened"] = {"name": seen.origin.name, "chain": seen.chain, "fixed": seen.origin.fixed}


@lru_cache(8)
def _value_and_grad(net: Layer, cost: Cost) -> Any:
    return jax.jit(manual.value_and_grad(net, cost))


def is_chain(net: Layer) -> bool:
    """Return whether the network panel can draw a network: Linear layers and activations, one after the other."""
    flat = (Linear, Activation, Softmax, Standardize, Unstandardize, Flatten, Dropout)
    return all(
        isinstance(leaf.layer, flat) and all(type(around) is Chain for _, around in leaf.inside) for leaf in leaves(net)
    )


def of_run(path: Path, data: str | None = None) -> Given:
    """Return a saved run with the rows that it was trained on, and those held out; or with the rows of `data`."""
    run = open_run(path)
    about, classes = run.about, run.about.info.classes or ()
    settings = _settings(run)
    try:
        found = rows_of(run, data, ":", "training", needs_targets=False)
        held = None if data is not None else rows_of(run, None, ":", needs_targets=False)
    except DataError as error:
        if data is not None:
            raise
        spec = about.one_input
        cost, x, targets = made_up(run.net, run.params, about.cost, spec.shape, spec.dtype)
        rows = problem(x, targets, None, classes)
        return Given(str(path), run.net, cost, rows, run.params, (f"{error}. {INVENTED}",), settings)
    if found.targets is None:
        raise DataError(f"{found.source}: has no targets, and without them there is no error to propagate")
    cost, notes = known_cost(about.cost, found.targets)
    outputs = about.outputs.shape[-1]
    targets = targets_for(cost, found.targets, outputs)
    apart = None
    if held is not None and held.targets is not None and held.source != found.source:
        apart = held.x, targets_for(cost, held.targets, outputs)
    rows = problem(found.x, targets, about.info.columns, classes, apart)
    return Given(str(path), run.net, cost, rows, run.params, (f"Rows: {found.source}.", *notes), settings)


def _settings(run: SavedRun) -> Settings:
    """How a saved run was trained, as far as it says so; it goes on like that."""
    known = run.training
    named = {name: known[name] for name in ("optimizer", "batch_size", "seed") if name in known}
    rate = known.get("learning_rate", 0.01)
    if named.get("optimizer", "sgd") in ("sgd", "momentum"):
        rate = run.rate(rate)
    return read({**named, "learning_rate": rate})


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
        cost, x, targets = made_up(net, loaded.params, loaded.cost, spec.shape, spec.dtype)
        notes = (INVENTED,)
    rows = problem(x.astype(spec.dtype), targets, info.get("columns"), loaded.classes or ())
    fixed = f"the model {name!r} is served as it is: to train it or to change a weight, open it with `jaxprop explore`"
    return Given(name, net, cost, rows, loaded.params, notes, fixed=fixed)


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
        targets = np.asarray(cost.sample(jax.jit(net)(jnp.asarray(x), params), jax.random.key(0)))
    except JaxpropError as error:
        raise DataError(f"no rows to see the model on: it does not say what it was trained on, and {error}") from None
    return cost, x, targets


def problem(
    x: np.ndarray, targets: np.ndarray, columns: Sequence[str] | None, classes: Sequence[str],
    held: tuple[np.ndarray, np.ndarray] | None = None,
) -> Problem:  # fmt: skip
    """Return rows as a page goes through them: at most MOST_ROWS, with a name for every input of a few."""
    width = int(np.prod(x.shape[1:]))
    names = tuple(columns) if columns and len(columns) == width else tuple(f"x{i + 1}" for i in range(width))
    some = slice(0, MOST_ROWS)
    apart = None if held is None else (held[0][some], held[1][some])
    return Problem(x[some], targets[some], names, tuple(classes), apart, bounds=_bounds(x))


def _bounds(x: np.ndarray) -> tuple[tuple[float, float], ...]:
    """From where to where one or two inputs are drawn; nothing for more."""
    if x.ndim != 2 or x.shape[1] > 2 or x.dtype.kind != "f":
        return ()
    low, high = x.min(axis=0), x.max(axis=0)
    margin = MARGIN * np.maximum(high - low, 1e-6)
    return tuple((float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True))


def label(rows: Problem, targets: np.ndarray) -> str | None:
    """Return the name of a row's class, if it has one."""
    value = np.asarray(targets)
    if not rows.classes or value.size == 0:
        return None
    at = int(value) if value.ndim == 0 else int(np.argmax(value))
    return rows.classes[at] if at < len(rows.classes) else None
