"""The last steps for a parameter: the terms of its derivative, the largest first, and their sum."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxprop.derivations.derivation import Step
from jaxprop.derivations.equations import Equations
from jaxprop.derivations.formula import Derivative, Formula, Product, Sum, Symbol
from jaxprop.derivations.places import Entry, View
from jaxprop.derivations.question import is_ours
from jaxprop.derivations.tracing import Trail
from jaxprop.derivations.use_words import words_of_use
from jaxprop.derivations.uses import Meetings, Spot, is_answer, meetings

THETA = "θ"  # what parameters that are one array without a name are called


class Told(NamedTuple):
    """One term of the derivative: where it arises, its factors with their numbers, and its number."""

    label: str
    place: tuple[int, ...]
    factors: tuple[tuple[Formula, float], ...]
    product: float

    @property
    def term(self) -> Formula:
        """The product of the factors."""
        factors = tuple(factor for factor, _ in self.factors)
        return factors[0] if len(factors) == 1 else Product(factors)


class Terms(NamedTuple):
    """The largest terms, how many more there are and their sum, and the sum of all."""

    told: list[Told]
    count: int
    rest: float
    total: float


class LastStep:
    """Writes the last steps, and traces the error of the largest term: `end` is where it reaches the answer.

    `terms` are those of all uses of the parameter, `delta` is the error of the largest.
    """

    def __init__(self, parameter: Symbol, gradient: Formula, spots: list[Spot], view: View, write: Equations):
        self.parameter, self.gradient, self.spots = parameter, gradient, spots
        self.view, self.write, self.values, self.most = view, write, write.values, write.most
        self.trail = Trail(view, write.most)
        self.end: Entry | None = None
        self.delta: float | None = None

    def steps(self) -> list[Step]:
        """Return the steps: one a use, and one that adds them up if there are several."""
        met = [found for spot in self.spots if (found := meetings(spot, self.view)) is not None]
        if len(met) < len(self.spots):
            return [self._by_outputs(self.spots[0])]
        self.terms = self._terms(met, self.spots)
        self.values[self.gradient] = self.terms.total
        self._trace(met)
        if len(met) == 1:
            return [self._step(self.spots[0], met[0], self.gradient, self.terms)]
        parts = [Symbol("G", (k,)) for k in range(len(met))]
        steps = []
        for part, spot, each in zip(parts, self.spots, met, strict=True):
            terms = self._terms([each], [spot])
            self.values[part] = terms.total
            steps.append(self._step(spot, each, part, terms))
        turned = ", in some of them transposed" * (len({spot.index for spot in self.spots}) > 1)
        words = (
            f"The weight is tied: one array is used in {len(parts)} places{turned}. A nudge of it is felt in all of "
            "them, so what comes of each use is added."
        )
        return [*steps, Step("All uses together", (words,), tuple(self.write.worked(self.gradient, Sum(tuple(parts)))))]

    def _trace(self, met: list[Meetings]) -> None:
        """Trace the error of the largest term of all."""
        largest = [(abs(float(each.terms.ravel()[i])), k, int(i)) for k, each in enumerate(met) for i in each.first(1)]
        if largest:
            _, k, i = max(largest, key=lambda found: found[0])
            error = met[k].tell(i).error
            self.delta = error.error
            self.end = self.trail.from_use(self.spots[k], error, is_answer(self.spots[k]))

    def _terms(self, met: Sequence[Meetings], spots: Sequence[Spot]) -> Terms:
        """The largest terms of all uses, each with its numbers."""
        numbers = [each.terms.ravel() for each in met]
        found = [(k, int(i)) for k, each in enumerate(met) for i in each.first(self.most + 2)]
        found.sort(key=lambda place: -abs(numbers[place[0]][place[1]]))
        count = sum(each.count for each in met)
        kept = found[: count if count <= self.most + 1 else self.most]
        told = []
        for k, i in kept:
            meeting = met[k].tell(i)
            self.values.update(meeting.factors)
            where = met[k].where.format(_written(meeting.place))
            label = ", ".join(part for part in (f"as {_path(spots[k])}" if len(spots) > 1 else "", where) if part)
            told.append(Told(label, meeting.place, meeting.factors, float(numbers[k][i])))
        total = math.fsum(float(n) for each in numbers for n in each)
        hidden = [-term.product for term in told] if count > len(kept) else []
        rest = math.fsum([*(float(n) for each in numbers for n in each), *hidden]) if hidden else 0.0
        return Terms(told, count - len(kept), rest, total)

    def _step(self, spot: Spot, met: Meetings, lhs: Formula, terms: Terms) -> Step:
        """One use: its terms and their sum."""
        title = f"Where {self.parameter.name} meets the error"
        title += f", as {_path(spot)}" if len(self.spots) > 1 else ""
        each = [(term.label, term.term) for term in terms.told]
        equations = tuple(self.write.total(lhs, each, terms.count, terms.rest))
        words = words_of_use(spot, met, self.view)
        if len(self.spots) > 1:
            words = (*words, " What comes of this use is called ", lhs, ".")
        return Step(title, words, equations)

    def _by_outputs(self, spot: Spot) -> Step:
        """The last step where nothing is known of the use: how far every number of the answer moves."""
        node = spot.node
        slopes, errors = self.trail.from_parameter(spot)
        products = (slopes * errors).ravel()
        order = np.argsort(-np.abs(products), kind="stable")[: np.count_nonzero(products)]
        kept = order if len(order) <= self.most + 1 else order[: self.most]
        own, told = Symbol(spot.leaf or THETA, (*node.steps, *spot.index), node.path or None), []
        for i in kept:
            at = tuple(int(k) for k in np.unravel_index(i, slopes.shape))
            behind = self.view.answer(node, at)
            factors = ((behind.delta, behind.error), (Derivative(behind.symbol, own), float(slopes[at])))
            self.values.update(factors)
            told.append(Told("", behind.shown, factors, float(products[i])))
            if self.end is None:
                self.delta = behind.error
                self.end = self.trail.onward(node, behind)
        rest = math.fsum(map(float, products[order[len(kept) :]]))
        self.terms = Terms(told, len(order) - len(kept), rest, math.fsum(map(float, products)))
        self.values[self.gradient] = self.terms.total
        name = type(node.layer).__name__
        words = f"{name} is a layer" if is_ours(node.layer) else f"{name} is a layer of your own"
        words += (
            ": how much every number of its answer moves with the parameter is what a push of the parameter shows "
            "(jax.jvp). Each of them moves the cost by its own error."
        )
        each = [("", term.term) for term in told]
        equations = tuple(self.write.total(self.gradient, each, self.terms.count, rest))
        return Step("How the answer moves with it", (words,), equations)


def _path(spot: Spot) -> str:
    return f"{spot.node.path}.{spot.leaf}".lstrip(".")


def _written(place: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, place))
    return f"({shown})" if len(place) > 1 else shown
