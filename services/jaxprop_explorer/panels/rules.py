"""The panel of rules and quantities: how far a rule's gradient is from the true one, and what a batch is made of."""

import math
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from jaxprop import stats
from jaxprop.backward import manual
from jaxprop.backward.rules import Backprop, Rule, alignment
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer
from jaxprop.network import leaves
from jaxprop.stats.noise_scale import Noise
from jaxprop_explorer.experiments.settings import RULES
from jaxprop_explorer.panels.chain_rule import batch_of
from jaxprop_explorer.panels.command import Asked, Command
from jaxprop_explorer.sessions import Session
from jaxprop_explorer.shown.examples import example_json
from jaxprop_explorer.shown.ways_back import ABOUT, WayBack, way_back
from jaxprop_explorer.shown.written import Printer

MOST_ROWS = 512
MOST_BARS = 96
SATURATED = 0.05  # of the largest slope
QUANTITIES = (
    stats.ExampleNorms(),
    stats.NoiseScale(),
    stats.SignalToNoise(),
    stats.DeadUnits(),
    stats.SaturatedUnits(threshold=SATURATED),
    stats.Alignment(),
)


class Ask(Asked):
    """Of which rows: those of a batch, or all of them, up to 512."""

    of: Literal["batch", "all"] = "batch"


class Given(NamedTuple):
    """A network with θ on its way by a rule, and rows."""

    net: Layer
    cost: Cost
    params: PyTree
    rule: Rule | None
    feedback: PyTree
    x: ArrayLike
    targets: ArrayLike


@lru_cache(16)
def _collecting(net: Layer, cost: Cost, rule: Rule | None) -> Any:
    """One program for all that is asked of a batch."""
    return jax.jit(stats.collect(net, cost, QUANTITIES, rule=rule))


@lru_cache(32)
def _aligning(net: Layer, cost: Cost, rule: Rule) -> Any:
    return jax.jit(alignment(net, cost, rule))


@lru_cache(32)
def _tracing(net: Layer, cost: Cost, rule: Rule | None) -> Any:
    return jax.jit(manual.trace(net, cost, rule=rule))


def measured(given: Given) -> dict[str, Any]:
    """Return angles, norms and numbers of a batch at this θ."""
    x, targets = jnp.asarray(given.x), jnp.asarray(given.targets)
    run = _collecting(given.net, given.cost, given.rule)
    result = run(x, given.params, targets, feedback=given.feedback)
    norms, noise, signal, dead, saturated, angles = jax.tree.map(np.asarray, result.found)
    return {
        "angles": {"layers": _by_layer(given.net, angles.layers), "total": _angle(angles.total)},
        "norms": np.sqrt(norms).tolist(),
        "table": _table(len(x), noise, signal, dead, saturated, given.rule is not None),
    }


def _angle(angle: np.ndarray) -> dict[str, Any]:
    """Degrees, as a number, in words, and as a share of 180; None where one of the two gradients is 0."""
    if not np.isfinite(angle):
        return {"angle": None, "text": "none", "share": 0.0}
    return {"angle": float(angle), "text": f"{float(angle):.1f}°", "share": float(angle) / 180}


def _by_layer(net: Layer, angles: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    paths = [leaf.path for leaf in leaves(net) if leaf.path in angles]
    return [{"path": p, "label": f"layer {i}", **_angle(angles[p])} for i, p in enumerate(paths, 1)]


def _table(
    N: int, noise: Noise, signal: PyTree, dead: dict[str, Any], saturated: dict[str, Any], ruled: bool
) -> list[dict[str, Any]]:
    """Each number with a sentence on what it tells."""
    printer = Printer(digits=3)
    scale, of_parameters = float(noise.scale), np.concatenate([np.ravel(s) for s in jax.tree.leaves(signal)])
    certain = float(np.mean(of_parameters > 1 / N))
    rows = [
        {
            "name": "Noise scale", "value": printer.number(scale) if math.isfinite(scale) else "none",
            "tells": _noise_tells(N, scale) + (" This is the noise of the rule's gradient." if ruled else ""),
            "page": "noise_scale",
        },
        {
            "name": "Signal to noise", "value": f"{100 * certain:.0f} % of {len(of_parameters):,}",
            "tells": "The share of weights and biases whose mean derivative is larger than its own standard error. Of "
            "the others even the sign is chance.",
            "page": "variance",
        },
    ]  # fmt: skip
    for name, units, tells in (
        ("Dead units", dead, "Their activation is flat at every one of these examples, so no error goes back through "
         "them and the weights before them stay as they are."),
        ("Saturated units", saturated, f"At every example the slope is below {100 * SATURATED:.0f} % of the largest "
         "that it can be: they learn, but slowly."),
    ):  # fmt: skip
        count, of = sum(int(u.mask.sum()) for u in units.values()), sum(u.mask.size for u in units.values())
        if of:
            rows.append({"name": name, "value": f"{count} of {of}", "tells": tells, "page": "units"})
    return rows


def _noise_tells(N: int, scale: float) -> str:
    if not math.isfinite(scale):
        return "One example has no noise to speak of: there is nothing that it could differ from."
    if scale <= 0:
        return f"These {N} examples cannot tell it: their mean gradient is no larger than noise alone would make it."
    found = (
        "fewer: noise rules here" if scale > 2 * N else "about as many" if scale > N / 2 else "more: they agree well"
    )
    return f"The batch size at which noise is as large as the gradient. {N} examples are {found}."


def compared(given: Given, key: int) -> list[dict[str, Any]]:
    """Return, for every rule, the angle that its gradient would have at this θ, its feedback being drawn anew."""
    found = []
    for name, rule in RULES.items():
        about = ABOUT[name]
        row: dict[str, Any] = {
            "name": name,
            "title": about.title,
            "layers": [],
            "total": _angle(np.array(np.nan)),
            "refused": "",
        }
        try:
            if rule is None:
                rule = Backprop()
            feedback = rule.init(jax.random.key(key), given.net, given.params, jnp.asarray(given.x))
            if rule == given.rule:
                feedback = given.feedback
            angles = _aligning(given.net, given.cost, rule)(
                jnp.asarray(given.x), given.params, jnp.asarray(given.targets), feedback=feedback
            )
            row |= {"layers": _by_layer(given.net, angles.layers), "total": _angle(angles.total)}
        except JaxpropError as error:
            row["refused"] = str(error)
        found.append(row)
    return found


def way_of(given: Given, name: str, row: int) -> WayBack | None:
    """Return how the error of one example comes back to one hidden unit, by the rule and by the chain rule."""
    x, targets = jnp.asarray(given.x)[row : row + 1], jnp.asarray(given.targets)[row : row + 1]
    by_rule, true = (
        jax.tree.map(lambda a: np.asarray(a)[0], _tracing(given.net, given.cost, rule)(
            x, given.params, targets, feedback=given.feedback if rule is not None else None
        ))
        for rule in (given.rule, None)
    )  # fmt: skip
    return way_back(given.net, given.params, given.feedback, name, by_rule, true)


def formulas(given: Given, name: str, row: int) -> dict[str, Any] | None:
    """Return the same as a page shows it; None where there is no hidden layer."""
    way = way_of(given, name, row)
    if way is None:
        return None
    printer = Printer()
    return {
        "rule": [printer.equation(each) for each in (*way.helpers, way.by_rule)], "true": printer.equation(way.true),
        "words": [
            "For one unit of the last hidden layer, and the example in view. ", {"math": printer.math(way.came)},
            " is what comes back to it by this rule, in the place of ", {"math": printer.math(way.derivative)}, ".",
        ],
    }  # fmt: skip


def given_of(session: Session, of: str) -> tuple[Given, np.ndarray]:
    """Return what a session works on, and which rows are looked at."""
    e = session.experiment
    rows = batch_of(session) if of == "batch" else np.arange(min(len(e.rows.x), MOST_ROWS))
    return Given(e.net, e.cost, e.params, e.rule, e.feedback, e.rows.x[rows], e.rows.targets[rows]), rows


def measure(session: Session, asked: Ask) -> dict[str, Any]:
    """Measure at this step, and remember the angles, so that they can be drawn over time."""
    e, (given, rows) = session.experiment, given_of(session, asked.of)
    name = e.settings.rule
    found, about = measured(given), ABOUT[name]
    norms = found.pop("norms")
    bars = _bars(rows, norms)
    largest = int(rows[int(np.argmax(norms))])
    at = int(np.flatnonzero(rows == e.example)[0]) if e.example in rows else 0
    return found | {
        "version": e.version, "step": e.step, "rule": {"name": name, "title": about.title, "does": about.does},
        "choices": [{"name": each, "title": ABOUT[each].title} for each in RULES],
        "formula": formulas(given, name, at), "over_time": _over_time(session, name, found["angles"]),
        "bars": bars, "largest": largest, "in_view": e.example, "norms_words": _norms_words(rows, norms),
    }  # fmt: skip


def _bars(rows: np.ndarray, norms: list[float]) -> list[dict[str, Any]]:
    """A bar for every row, or for those with the largest norms where there are many, in the order of the rows."""
    kept = np.sort(np.argsort(norms)[::-1][:MOST_BARS])
    few, largest = Printer(digits=3), max(norms) or 1.0
    return [
        {"row": int(rows[i]), "norm": norms[i], "text": few.number(norms[i]), "share": norms[i] / largest} for i in kept
    ]


def _norms_words(rows: np.ndarray, norms: list[float]) -> str:
    few, at, mean = Printer(digits=3), int(np.argmax(norms)), float(np.mean(norms))
    words = f"Example {rows[at]} has {few.number(norms[at])}; the mean of {len(rows)} is {few.number(mean)}."
    return f"{words} Drawn are the {MOST_BARS} largest." if len(rows) > MOST_BARS else words


def _over_time(session: Session, name: str, angles: dict[str, Any]) -> list[dict[str, Any]]:
    """The angles of the steps so far, and these."""
    e = session.experiment
    kept = session.memory.setdefault("rules", {})
    if kept.get("net") != e.net or (kept.get("steps") and kept["steps"][-1]["step"] > e.step):
        kept.update(net=e.net, steps=[])
    steps = kept["steps"]
    now = {
        "step": e.step,
        "rule": name,
        "total": angles["total"]["angle"],
        "layers": [r["angle"] for r in angles["layers"]],
    }
    if steps and steps[-1]["step"] == e.step and steps[-1]["rule"] == name:
        steps[-1] = now
    else:
        steps.append(now)
    if len(steps) > 400:
        del steps[1:-1:2]
    return steps


def compare(session: Session, asked: Ask) -> dict[str, Any]:
    """Compare all rules at this θ."""
    given, _ = given_of(session, asked.of)
    return {"step": session.experiment.step, "rules": compared(given, session.experiment.settings.seed)}


class Row(Asked):
    """Which example, by the number of its row."""

    row: int


def example(session: Session, asked: Row) -> dict[str, Any]:
    """Draw an example: where it lies, what it should answer, what the network answers, and what that costs."""
    e = session.experiment
    if not 0 <= asked.row < len(e.rows.x):
        raise JaxpropError(f"row {asked.row}: there are {len(e.rows.x)} rows (0 to {len(e.rows.x) - 1})")
    return example_json(e.rows, e.net, e.cost, e.params, asked.row)


COMMANDS = {
    "measure": Command(measure, Ask),
    "compare": Command(compare, Ask),
    "example": Command(example, Row),
}
