"""The chain-rule panel: one weight, bias, unit or input, its derivative as cards that multiply, and what a step does.

Everything is computed in float64 by `jp.explain` and, for a batch, by the same engines; the page lays it out.
"""

import math
import re
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, PyTree
from pydantic import Field

from jaxprop.arrays.paths import by_path, join
from jaxprop.costs import Cost
from jaxprop.derivations import Derivation, explain
from jaxprop.derivations.derivation import Prose
from jaxprop.derivations.formula import H
from jaxprop.derivations.mathml import term_colours
from jaxprop.derivations.question import X
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer
from jaxprop_explorer.panels.command import Asked, Command
from jaxprop_explorer.panels.network import shown
from jaxprop_explorer.sessions import Session
from jaxprop_explorer.shown import cards
from jaxprop_explorer.shown.batch import of_batch
from jaxprop_explorer.shown.exports import exported
from jaxprop_explorer.shown.nudges import Nudges, costs_along, nudges, sizes
from jaxprop_explorer.shown.slopes import slope_json
from jaxprop_explorer.shown.updates import update_json
from jaxprop_explorer.shown.written import Printer

NUMBERED = re.compile(r"[a-z][0-9₀-₉]*")  # x1 says no more than x[0]
MOST = 5  # terms of a sum that are written out


class Place(Asked):
    """What was clicked: a parameter ("0.W"), a layer's unit ("0") or an input ("x"), and which number of it."""

    path: str
    index: tuple[int, ...]


class Ask(Place):
    """The question, and how it is to be answered. Without a path it is about what changes the cost most."""

    path: str | None = None
    index: tuple[int, ...] = ()

    whole_batch: bool = False
    article: bool = False
    every_step: bool = False
    learning_rate: float | None = Field(default=None, gt=0)


class Export(Place):
    """The question, and the form of the answer."""

    form: Literal["latex", "document", "mathml", "json", "text", "html"]
    article: bool = False


class Step(Place):
    """The number that takes a step of gradient descent, or with the sign flipped."""

    flipped: bool = False
    whole_batch: bool = False
    learning_rate: float | None = Field(default=None, gt=0)


class Given(NamedTuple):
    """A network with θ, its rows, the row in view and those of a batch, and η."""

    net: Layer
    cost: Cost
    params: PyTree
    x: ArrayLike
    targets: ArrayLike
    row: int
    batch: np.ndarray
    learning_rate: float
    columns: tuple[str, ...] | None = None


def place_of(params: PyTree, path: str, index: tuple[int, ...]) -> tuple[str, tuple[int, ...], bool]:
    """Return the parameter that is asked about, its index, and whether a unit was meant: the bias is its own.

    >>> place_of(({"W": np.ones((3, 2)), "b": np.ones(2)},), "0", (1,)), place_of(({"W": np.ones((3, 2))},), "x", (1,))
    (('0.b', (1,), True), ('x', (1,), False))
    """
    known = by_path(params)
    if path in known or path == X or join(path, "W") not in known:
        return path, index, False
    if join(path, "b") in known:
        return join(path, "b"), index, True
    return join(path, "W"), (0, *index), True


def article_names(given: Given) -> dict[str, str]:
    """Return the article's names: a for the answer, ŷ for what it should be, n₁, n₂ … for inputs, w₁ … for weights."""
    targets = np.asarray(given.targets)
    count = targets.shape[1] if targets.ndim > 1 else 0
    below = (lambda k: "") if count == 1 else (lambda k: f"_{k}")
    names = {f"a{below(k)}": f"y[{k}]" for k in range(count)} | {f"ŷ{below(k)}": f"target[{k}]" for k in range(count)}
    size = np.asarray(given.x).shape[1:]
    if len(size) == 1 and size[0] <= 9:
        names |= {"x": "x[0]"} if size[0] == 1 else {f"n{i + 1}": f"x[{i}]" for i in range(size[0])}
    return names | _numbered(given.params)


def _numbered(params: PyTree) -> dict[str, str]:
    """Return w1, w2, … and b1, … in order, for a network whose layers have one unit each."""
    known = {path: np.shape(leaf) for path, leaf in by_path(params).items()}
    if any(shape[-1:] != (1,) for shape in known.values()) or sum(map(np.prod, known.values())) > 12:
        return {}
    weights = [f"{path}[{i},0]" for path, shape in known.items() if len(shape) == 2 for i in range(shape[0])]
    biases = [f"{path}[0]" for path, shape in known.items() if len(shape) == 1]
    ends = lambda count: [""] if count == 1 else [str(i + 1) for i in range(count)]  # noqa: E731
    return {
        **{f"w{end}": place for end, place in zip(ends(len(weights)), weights, strict=True)},
        **{f"b{end}": place for end, place in zip(ends(len(biases)), biases, strict=True)},
    }


def derivation_of(given: Given, path: str | None, index: tuple[int, ...] | None, article: bool = False) -> Derivation:
    """Return what `jp.explain` says of a number, for the row in view."""
    names = article_names(given) if article else None
    columns = None if article else given.columns
    run = explain(given.net, given.cost, given.learning_rate, MOST, names=names, columns=columns)
    return run(given.x, given.params, given.targets, path, index, row=given.row)


def chain_rule(given: Given, asked: Ask) -> dict[str, Any]:
    """Return all that the panel shows of one number."""
    place = (None, None, False) if asked.path is None else place_of(given.params, asked.path, asked.index)
    found, is_unit = derivation_of(given, place[0], place[1], asked.article), place[2]
    path, index = found.facts["path"], tuple(found.facts["index"])
    chain = cards.chain(found, is_unit)
    printer = Printer(term_colours(found))
    is_input = path == X
    whole_batch = asked.whole_batch and not (is_input or is_unit)
    is_own = not is_unit or _kind(path) == "bias"  # else the other ways are of the weight that δ was read off
    told, errors = _batch(given, found) if whole_batch else (found, _nudges(given, found))
    return {
        "path": asked.path or path, "index": list(asked.index if asked.path else index),
        "kind": "input" if is_input else "unit" if is_unit else _kind(path),
        "number": {"path": path, "index": list(index), "value": found.facts["parameter"],
                   "text": f"{found.facts['parameter']:.6g}", "reach": _reach(found.facts["parameter"])},
        "asked": printer.prose(_of_unit(chain) if is_unit else found.steps[0].sentence),
        "symbol": printer.math(chain.gradient),
        "value": printer.number(chain.value), "cost": _whose(given, found, told if whole_batch else None, printer),
        "cards": [cards.card_json(card, printer) for card in chain.cards],
        "product": printer.equation(chain.product) if chain.product else None,
        "others": [printer.equation(each) for each in chain.others],
        "paths": cards.paths_json(chain, printer),
        "batch": cards.mean_json(told.steps[0], printer) if whole_batch else None,
        "witnesses": _witnesses(told, printer) if is_own else [],
        "nudge": _nudge_json(errors, printer) if is_own else None,
        "update": None if is_input or is_unit else update_json(told, printer),
        "slope": None if is_input else slope_json(given.net, path, found, printer),
        "steps": [cards.step_json(step, printer) for step in found.steps] if asked.every_step else None,
    }  # fmt: skip


def _kind(path: str) -> str:
    """What a parameter is called."""
    name = path.rpartition(".")[2]
    return "weight" if name.startswith("W") else "bias" if name in ("b", "bias") else "number"


def _of_unit(chain: cards.Chain) -> Prose:
    """Say what the error of a unit is good for."""
    δ = chain.gradient
    return (δ, " is the error of this unit: how the cost changes with its sum. Each weight that ends here gets ", δ,
            " times what comes in at its other end, and the bias gets ", δ, " itself.")  # fmt: skip


def _whose(given: Given, found: Derivation, batch: Derivation | None, printer: Printer) -> dict[str, str]:
    """Say plainly whose cost is shown."""
    N, name = len(given.batch), type(given.cost).__name__
    if batch is not None:
        words = f"C is the mean cost of the {N} examples of the batch, by {name}. The cards are of the one in view."
        return {"words": words, "value": printer.number(batch.facts["before"])}
    words = f"C is the cost of example {given.row} alone, by {name}."
    return {"words": words, "value": printer.number(found.facts["before"])}


def _reach(value: float) -> float:
    """How far a slider goes on both sides of 0: 2, or the power of two that leaves room."""
    return max(2.0, 2.0 ** math.ceil(math.log2(1.5 * abs(value)))) if value else 2.0


def _witnesses(found: Derivation, printer: Printer) -> list[dict[str, Any]]:
    """The same number by other ways."""
    facts, few = found.facts, Printer(digits=2)
    h = few.number(H * max(1.0, abs(facts["parameter"])))
    ways = {"value": "the chain rule", "jax_grad": "jax.grad", "finite_difference": f"a nudge both ways by {h}"}
    return [
        {
            "label": label, "value": printer.number(facts[name]), "exact": facts[name],
            "off": "" if name == "jax_grad" else f"off by {few.number(abs(facts[name] - facts['jax_grad']))}",
        }
        for name, label in ways.items()
    ]  # fmt: skip


def _batch(given: Given, found: Derivation) -> tuple[Derivation, Nudges]:
    """The derivative of the mean cost of the batch, in the place of the example's, and nudges of it."""
    return of_batch(given.net, given.cost, given.params, given.x, given.targets, found, given.batch, MOST)


def _nudges(given: Given, found: Derivation) -> Nudges:
    """Nudges of every size of the example's cost."""
    row, path, index, by = given.row, found.facts["path"], found.facts["index"], sizes(found.facts["parameter"])
    x, targets = np.asarray(given.x)[row : row + 1], np.asarray(given.targets)[row : row + 1]
    at = (0, *index) if path == X else tuple(index)
    costs = costs_along(given.net, given.cost, x, given.params, targets, path, at, by)
    return nudges(by, costs[:, 0], found.facts["jax_grad"])


def _nudge_json(errors: Nudges, printer: Printer) -> dict[str, Any]:
    """How far nudges of every size are from `jax.grad`, and which size is the best."""
    best = int(np.argmin(errors.both_ways))
    return {
        "h": errors.h.tolist(), "both_ways": errors.both_ways.tolist(), "one_way": errors.one_way.tolist(),
        "best": _best(errors, best),
        "words": "Nudged both ways the error falls with h²: a tenth of h, a hundredth of the error. Nudged one way it "
        "falls with h. Below some h all that is left of two costs' difference is rounding, and the error rises again.",
    }  # fmt: skip


def _best(errors: Nudges, best: int) -> dict[str, str]:
    few = Printer(digits=2)
    h, error = few.number(errors.h[best]), few.number(errors.both_ways[best])
    return {"h": h, "error": error, "words": f"Here h = {h} is best, with an error of {error}."}


def given_of(session: Session, learning_rate: float | None = None) -> Given:
    """Return what a session works on now."""
    e = session.experiment
    rate = (e.settings.learning_rate or 0.1) if learning_rate is None else learning_rate
    columns = tuple(e.rows.names)
    columns = None if all(NUMBERED.fullmatch(name) for name in columns) else columns
    return Given(e.net, e.cost, e.params, e.rows.x, e.rows.targets, e.example, batch_of(session), rate, columns)


def batch_of(session: Session) -> np.ndarray:
    """Return the rows of the batch that the next step goes by; of a model that is not trained here, the first ones."""
    e = session.experiment
    return np.unique(e.batch() if e.steerable else np.arange(min(64, len(e.rows.x))))


def explained(session: Session, asked: Ask) -> dict[str, Any]:
    """Answer for what was clicked."""
    return chain_rule(given_of(session, asked.learning_rate), asked) | {"version": session.experiment.version}


def derivation(session: Session, asked: Export) -> dict[str, Any]:
    """Write the derivation out in another form."""
    given = given_of(session)
    path, index, _ = place_of(given.params, asked.path, asked.index)
    return exported(derivation_of(given, path, index, asked.article), asked.form)


def move(session: Session, asked: Step) -> None:
    """Move the one number by −η·g, or by +η·g with the sign flipped."""
    given = given_of(session, asked.learning_rate)
    path, index, is_unit = place_of(given.params, asked.path, asked.index)
    if path == X or is_unit:
        raise JaxpropError("an input is given, not learned: no step moves it; choose a weight or a bias")
    found = derivation_of(given, path, index)
    if asked.whole_batch:
        found, _ = _batch(given, found)
    step = given.learning_rate * found.facts["value"]
    session.experiment.edit(path, index, found.facts["parameter"] + (step if asked.flipped else -step))


def take_step(session: Session, asked: Step) -> dict[str, Any]:
    """Move the one number, and show what has become of the network."""
    move(session, asked)
    return shown(session)


COMMANDS = {
    "explain": Command(explained, Ask),
    "derivation": Command(derivation, Export),
    "step": Command(take_step, Step),
}
