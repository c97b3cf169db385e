"""A number's derivative for a batch: the mean of the examples' own, what a nudge says, and what a step changes."""

from dataclasses import replace

import numpy as np
from jaxtyping import ArrayLike, PyTree

from jaxprop.costs import Cost
from jaxprop.derivations import Derivation
from jaxprop.derivations.derivation import Equation, Prose, Step, shorten, worked
from jaxprop.derivations.formula import Derivative, Formula, H, Number, Sum, Symbol, evaluate
from jaxprop.layers import Layer
from jaxprop_explorer.shown.cards import gradient_of
from jaxprop_explorer.shown.nudges import Nudges, costs_along, nudges, sizes, slopes

BATCH = Symbol("C", ("batch",))
WRITTEN = 3  # terms of the sum over examples


def of_batch(
    net: Layer, cost: Cost, params: PyTree, x: ArrayLike, targets: ArrayLike, found: Derivation, rows: np.ndarray,
    most: int,
) -> tuple[Derivation, Nudges]:  # fmt: skip
    """Return the derivation of ∂C/∂w for the mean cost of some rows, w and η being those of `found`: one step.

    Beside it: how far nudges of every size are from it.
    """
    facts, gradient = found.facts, gradient_of(found)
    rate, at, path, index = facts["learning_rate"], facts["parameter"], facts["path"], tuple(facts["index"])
    x, targets = np.asarray(x)[rows], np.asarray(targets)[rows]
    h = H * max(1.0, abs(at))
    found_slopes = slopes(net, cost, x, params, targets, path, index)
    step, around = rate * float(found_slopes.of_examples.mean()), sizes(at)
    by = np.concatenate([around, [h, -h, -step, step]])
    costs = costs_along(net, cost, x, params, targets, path, index, by).mean(axis=1)
    ahead, behind, after, flipped = costs[len(around) :]

    values: dict[Formula, float] = {gradient.by: at}
    terms = [Derivative(Symbol("C", (int(row),)), gradient.by) for row in rows]
    values |= {term: float(slope) for term, slope in zip(terms, found_slopes.of_examples, strict=True)}
    mean = Derivative(BATCH, gradient.by)
    kept = shorten(Sum(tuple(terms)), WRITTEN, values)
    words: Prose = (
        "The cost of a batch is the mean of its examples' costs, so its derivative is the mean of theirs. ",
        *(terms[0].of, f" is the cost of example {rows[0]}."),
    )
    mean_of = worked(mean, (kept if len(terms) > 1 else terms[0]) / len(terms), values=values)
    values[mean] = evaluate(mean_of.sides[-1])
    largest = sorted(zip(rows, terms, strict=True), key=lambda pair: -abs(values[pair[1]]))[:most]
    each = (Equation((term, Number(values[term])), f"example {row}") for row, term in largest)
    known = {
        "value": values[mean], "jax_grad": found_slopes.of_mean, "h": h,
        "finite_difference": float(ahead - behind) / (2 * h),
        "before": float(costs[0]), "after": float(after), "updated": at - rate * values[mean],
        "predicted_change": -rate * values[mean] ** 2, "actual_change": float(after - costs[0]),
        "flipped_change": float(flipped - costs[0]),
    }  # fmt: skip
    title: Prose = (Equation((mean, Number(values[mean]))), f" for {len(rows)} examples")
    written = Step(f"The mean over the {len(rows)} examples of the batch", words, (*each, mean_of))
    told = replace(found, title=title, steps=(written,), values=values, facts={**facts, **known})
    return told, nudges(around, costs[: len(around)], found_slopes.of_mean)
