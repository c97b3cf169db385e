"""A derivation for any layer: the last step from where the parameter met its errors, and the largest error traced back.

What `steps.py` writes of chains of `Linear` and activations, with every path multiplied out, is written here of any
network, along one way: the sum over the places where the parameter was used, and of the largest term of it the error,
one step a layer, from the cost down.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from jaxprop.derivations.cost_formulas import CostFormula, cost_formula
from jaxprop.derivations.derivation import Equation, Prose, Step, to_text
from jaxprop.derivations.equations import Equations, joined
from jaxprop.derivations.first_factor import Helpers
from jaxprop.derivations.formula import Derivative, Formula, Number, Symbol, parts, substitute
from jaxprop.derivations.last_step import THETA, LastStep, Terms, Told
from jaxprop.derivations.passing import Record, root_of
from jaxprop.derivations.places import Entry, Name, View
from jaxprop.derivations.question import Given, Question, is_ours
from jaxprop.derivations.reading import C
from jaxprop.derivations.tracing import Trail
from jaxprop.derivations.use_words import steps_of
from jaxprop.derivations.uses import spots
from jaxprop.derivations.way_back import WayBack


class General:
    """Writes the steps for one number of θ, or of x, of any network; `steps` first, then `facts`."""

    def __init__(self, question: Question, given: Given, found: Record, before: float):
        self.question, self.before = question, before
        self.root = root_of(question.net, given.params, found)
        self.view = View(question.net.mixes_examples, given.at)
        self.values: dict[Formula, float] = {C: before}
        self.write = Equations(self.values, question.most)
        leaf = question.path.removeprefix(question.layer_path).lstrip(".")
        self.parameter = Symbol(leaf or THETA, question.index, question.layer_path or None)
        if question.is_input:
            self.parameter = Name("x").symbol(self.view.shown((given.at, *question.index)))
        self.gradient = Derivative(C, self.parameter)
        self.given, self.cost = given, None
        self.spots = [] if question.is_input else spots(self.root, found.uses, question.path, question.index)
        self.last = LastStep(self.parameter, self.gradient, self.spots, self.view, self.write)

    def steps(self) -> tuple[Step, ...]:
        """Return every step up to the derivative."""
        last = self._of_input() if self.question.is_input else self.last.steps()
        trail, end = self.last.trail, self.last.end
        n = end.at[0] if end and self.view.whole else self.view.at
        self.cost = self._formula(n)
        first = [self._asked(), self._forward(trail, end, n), *([self._cost(end)] if end else [])]
        stopped = [] if trail.stopped is None else [_stopped(trail)]
        back = WayBack(self.write)
        return (*first, *stopped, *(back.step(link) for link in reversed(trail.links)), *last)

    def facts(self) -> dict[str, Any]:
        """Return the terms whose sum is the derivative, the largest first, and the way of the largest to the cost."""
        value, terms = self.values[self.gradient], self.last.terms
        told = [
            {
                "label": each.label,
                "index": list(each.place),
                "product": each.product,
                "factors": [{"symbol": factor, "value": number} for factor, number in each.factors],
            }
            for each in terms.told
        ]
        paths = [
            {"units": list(each.place), "product": each.product, "factors": [number for _, number in each.factors]}
            for each in terms.told
        ]
        trail = [
            {
                "layer": link.node.path,
                "kind": type(link.node.layer).__name__,
                "index": list(link.front.shown),
                "symbol": link.front.symbol,
                "error": link.front.error,
            }
            for link in self.last.trail.links
        ]
        return {
            **{"delta": self.last.delta, "factors": self._factors(terms)},
            **{"paths": paths or [{"units": [], "product": value, "factors": [value]}]},
            **{"rest": {"count": terms.count, "sum": terms.rest}, "terms": told, "trail": trail},
        }

    def _factors(self, terms: Terms) -> list[dict[str, Any]]:
        """The factors whose product is the derivative: of its one term, or, where it is a sum, itself."""
        is_one = len(terms.told) == 1 and not terms.count and not self.question.is_input
        pairs = terms.told[0].factors if is_one else ()
        if not pairs:
            name = to_text(Derivative(C, Symbol(self.parameter.name)))
            return [{"name": name, "symbol": self.gradient, "value": self.values[self.gradient]}]
        names = ("∂C/∂z", f"∂z/∂{'w' if len(self.parameter.index) > 1 else self.parameter.name}")
        return [
            {"name": name, "symbol": factor, "value": number}
            for name, (factor, number) in zip(names, pairs, strict=False)
        ]

    def _of_input(self) -> list[Step]:
        """Trace the error of a number of x; its first link is the derivative, so there is no step more."""
        passed, trail = self.root.passed, self.last.trail
        front = self.view.entry(Name("x"), (self.view.at, *self.question.index), passed.x, passed.dx)
        self.values.update({self.gradient: front.error, self.parameter: front.value or 0.0})
        self.last.end = trail.through(self.root, front)
        told, count, rest = [], 0, 0.0
        for link in trail.links[:1]:
            count, rest = link.count, link.rest
            for term in link.terms:
                factors = ((term.behind.delta, term.behind.error), (link.slope(term), term.slope))
                told.append(Told("", term.behind.shown, factors, term.behind.error * term.slope))
        self.last.terms = Terms(told, count, rest, front.error)
        return []

    def _asked(self) -> Step:
        """Say which number it is, and what C is."""
        q = self.question
        cost = f" is the cost of row {q.row} alone, by {type(q.cost).__name__}."
        if self.view.whole:
            cost = (
                f" is the mean over all {len(self.root.passed.dy)} rows, by {type(q.cost).__name__}: a layer of this "
                "network mixes the rows of a batch, so no cost belongs to one alone. The first index of what passes "
                "through the network is the row."
            )
        if q.is_input:
            layer = q.before[0].layer if q.before else q.layer
            into = f"{type(layer).__name__}{'' if is_ours(layer) else ', a layer of your own'}"
            given = " An input is given, not learned: the derivative says how much the cost depends on it."
            says = f" is an input of row {q.row}; it goes into {into}. "
            return Step("The question", joined(q.picked, self.parameter, says, C, cost, given, _names()))
        kind = repr(q.layer)
        if not is_ours(q.layer):
            kind = f"{type(q.layer).__name__}, a layer of your own. Its formula is not known here"
        index = f"[{', '.join(map(str, q.index))}]" * bool(q.index)
        belongs = f", in the code {q.path or 'params'}{index}, belongs to {kind}{steps_of(self.spots[0].node)}. "
        return Step("The question", joined(q.picked, self.parameter, belongs, C, cost, _names()))

    def _forward(self, trail: Trail, end: Entry | None, n: int) -> Step:
        """What went through the network along the way that is traced, and the cost."""
        entries = [*(link.front for link in trail.links), *([end] if end else [])]
        numbers: dict[Formula, float] = {each.symbol: each.value for each in entries if each.value is not None}
        self.values.update(numbers)
        equations = [Equation((symbol, Number(value))) for symbol, value in numbers.items()]
        words = ("What went through the network, along the way that is traced below, and what it cost.",)
        return Step("Forward", words, (*equations, *self._cost_forward(n)))

    def _formula(self, n: int) -> CostFormula | None:
        """The formulas of the cost of one row; in a whole batch, every index in them begins with the row."""
        y, targets = np.asarray(self.root.passed.y)[n], np.asarray(self.given.targets)[n]
        if not self.view.whole:
            return cost_formula(self.question.cost, y, targets, self.values)
        numbers: dict[Formula, float] = {}
        found = cost_formula(self.question.cost, y, targets, numbers)
        return None if found is None else of_row(found, n, numbers, self.values)

    def _cost_forward(self, n: int) -> Iterator[Equation]:
        """C of the row, and where examples are mixed the mean of all."""
        if self.cost is not None:
            own = Symbol("C", (n,)) if self.view.whole else C
            for symbol, terms in self.cost.sums:
                yield from self.write.sum(symbol, terms)
            yield from self.write.define(self.cost.helpers)
            exact = self.view.whole or abs(self.before) >= self.cost.smallest
            yield from self.write.sum(own, self.cost.terms, whole=self.cost.whole, exact=exact)
        if self.cost is None or self.view.whole:
            yield Equation((C, Number(self.before)))

    def _cost(self, end: Entry) -> Step:
        """The first factor: how C changes with one number of the answer."""
        title, y, cost = "How the cost changes with the answer", Symbol("y"), self.cost
        self.values[end.delta] = end.error
        if cost is None:
            what = " is what the network answers; how the cost changes with it is what the cost itself gives: "
            return Step(title, (y, f"{what}{self.question.cost!r}."), (Equation((end.delta, Number(end.error))),))
        k, rows = end.at[1:], len(self.root.passed.y)
        slope = cost.derivative(k) / rows if self.view.whole else cost.derivative(k)
        mean = f" The mean over {rows} rows divides by {rows}." if self.view.whole else ""
        equations = [*self.write.define(cost.unit(k))]
        equations += self.write.worked(end.delta, slope, exact=cost.is_exact(k, self.values))
        words = joined(y, " is what the network answers, ", cost.target, ". ", cost.words, mean)
        return Step(title, words, tuple(equations))


SETTINGS = ("smoothing", "class_weight", "threshold", "delta", "margin")  # of a cost, which are the same for every row


def of_row(cost: CostFormula, n: int, numbers: dict[Formula, float], values: dict[Formula, float]) -> CostFormula:
    """Return the formulas of a row's cost with n as the first index of everything in them; numbers go into `values`.

    >>> from jaxprop import HalfSquaredError
    >>> numbers, values = {}, {}
    >>> found = of_row(cost_formula(HalfSquaredError(), np.ones(1), np.zeros(1), numbers), 3, numbers, values)
    >>> to_text(found.derivative(0)), list(map(to_text, values))
    ('y[3,0] - target[3,0]', ['y[3,0]', 'target[3,0]'])
    """

    def name(symbol: Symbol) -> Symbol:
        return symbol if symbol.name in SETTINGS else Symbol(symbol.name, (n, *symbol.index), symbol.layer)

    def own(formula: Formula) -> Formula:
        found = substitute(formula, {part: name(part) for part in parts(formula) if isinstance(part, Symbol)})
        values.update({name(each): value for each, value in numbers.items() if isinstance(each, Symbol)})
        return found

    def pairs(found: Helpers) -> Helpers:
        return tuple((name(symbol), own(formula)) for symbol, formula in found)

    return replace(
        cost,
        terms=tuple(map(own, cost.terms)),
        slope=lambda index: own(cost.slope(index)),
        sums=tuple((name(symbol), tuple(map(own, terms))) for symbol, terms in cost.sums),
        helpers=pairs(cost.helpers),
        before=lambda index: pairs(cost.before(index)),
    )


def _names() -> Prose:
    """What letters and their indices mean."""
    δ = Equation((Symbol("δ"), Derivative(C, Symbol("z"))))
    return (
        *(" Of a layer, ", Symbol("a"), " is what it answers, ", Symbol("z"), " a weighted sum that it answers, and "),
        *(δ, "; the path of the layer stands above."),
    )


def _stopped(trail: Trail) -> Step:
    assert trail.stopped is not None
    name, path = type(trail.stopped.layer).__name__, trail.stopped.path
    where = f", at {path}" if path else ""
    words = f"{name}{where}, is a combinator of your own: how errors come back to the layers inside of it is not known "
    return Step(f"What comes back from {name}", (words + "here, so they are taken as they are.",))
