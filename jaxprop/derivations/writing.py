"""Equations of a reading: sums over units, slopes and errors, each with the numbers that the tape has for them."""

from collections.abc import Iterator

import numpy as np

from jaxprop.derivations.activation_formulas import ActivationFormula, activation_formula
from jaxprop.derivations.cost_formulas import LARGEST_EXPONENT, CostFormula
from jaxprop.derivations.derivation import Equation, labelled_sum, shorten, term_equations
from jaxprop.derivations.equations import Equations
from jaxprop.derivations.formula import Call, Derivative, Formula, Labelled, Number, Product, Sum, Symbol, evaluate
from jaxprop.derivations.reading import Level, Node, Reading


class Writer(Equations):
    """Writes the equations of a reading."""

    def __init__(self, reading: Reading, cost: CostFormula | None, values: dict[Formula, float], most: int):
        super().__init__(values, most)
        self.reading, self.cost = reading, cost

    def node(self, node: Node, unit: int) -> Symbol:
        """Return z[unit], with its number."""
        self.values[node.symbol(unit)] = float(node.values[unit])
        return node.symbol(unit)

    def error(self, node: Node, unit: int) -> Formula:
        """Return δ[unit] or ∂C/∂y[unit], with its number."""
        self.values[node.error(unit)] = float(node.errors[unit])
        return node.error(unit)

    def slope(self, level: Level, stage: int, unit: int) -> Derivative:
        """Return ∂a/∂z of one unit, with its number."""
        inner, outer = (self.node(level.nodes[i], unit) for i in (stage, stage + 1))
        found = Derivative(outer, inner)
        self.values[found] = float(level.stages[stage].slopes[unit])
        return found

    def slopes(self, level: Level, unit: int) -> list[Derivative]:
        """Return the slopes of one unit, from the cost's side to the input's."""
        return [self.slope(level, stage, unit) for stage in reversed(range(len(level.stages)))]

    def weight(self, number: int, i: int, j: int, W: np.ndarray) -> Symbol:
        """Return W[i, j] of a layer, with its number."""
        symbol = Symbol("W", (i, j), number)
        self.values[symbol] = float(W[i, j])
        return symbol

    def activation(self, level: Level, stage: int, unit: int) -> ActivationFormula | None:
        """Return the formulas of one stage at one unit, None where there is no activation."""
        layer = level.stages[stage].layer
        if layer is None:
            return None
        inner, outer = (self.node(level.nodes[i], unit) for i in (stage, stage + 1))
        found = activation_formula(layer, inner, outer, float(level.nodes[stage].values[unit]))
        self.values.update(found.given)
        return found

    def edge(self, level: int, j: int, k: int) -> Formula:
        """Return how much unit k of the next level moves with the last node of unit j: a weight, or softmax's slope."""
        here, there = self.reading.levels[level : level + 2]
        if here.way == "linear":
            assert here.edges is not None and there.nodes[0].layer is not None
            return self.weight(there.nodes[0].layer, j, k, here.edges)
        a, b = self.node(there.nodes[0], j), self.node(there.nodes[0], k)
        return a * (1 - a) if j == k else -(b * a)

    def contributions(self, level: int, j: int) -> list[tuple[int, Labelled]]:
        """Return ∂C/∂(last node of unit j) as terms, one for every unit of the next level, the largest first."""
        here, there = self.reading.levels[level : level + 2]
        assert here.edges is not None
        sizes = -np.abs(here.edges[j] * there.nodes[0].errors)
        what = "unit" if here.way == "linear" else "output"
        return [
            (
                int(k),
                Labelled(f"through {what} {k}", self.error(there.nodes[0], int(k)) * self.edge(level, j, int(k))),
            )
            for k in np.argsort(sizes, kind="stable")
        ]

    def softmax(self, level: Level, after: Level, unit: int) -> Iterator[Equation]:
        """Yield what softmax makes of one unit, where exp of every unit is a float64."""
        if np.max(np.abs(level.nodes[-1].values)) < LARGEST_EXPONENT:
            S, order = Symbol("S", (), level.nodes[0].layer), np.argsort(-level.nodes[-1].values, kind="stable")
            yield from self.sum(S, [Call("exp", self.node(level.nodes[-1], int(k))) for k in order])
            yield from self.worked(self.node(after.nodes[0], unit), Call("exp", level.nodes[-1].symbol(unit)) / S)

    def fan(self, level: int, j: int) -> Iterator[Equation]:
        """Yield the contributions of every path onward from unit j, the largest first, and their sum."""
        found = self.contributions(level, j)
        total = labelled_sum({term.label: term.formula for _, term in found})
        kept = shorten(total, self.most)
        if len(found) > 1:
            yield from term_equations(kept, self.values)
            shown = sum(isinstance(term, Labelled) for term in kept.terms)
            if shown < len(found):
                rest = Number(evaluate(Sum(total.terms[shown:]), self.values))
                yield Equation((rest,), f"through the other {len(found) - shown} together")
        yield from self.sum(self.error(self.reading.levels[level].nodes[-1], j), [term.formula for _, term in found])

    def last_error(self, level: int, unit: int, node: int = -1) -> Iterator[Equation]:
        """Yield where ∂C/∂(last node of the unit) comes from: the cost, the next level, or the user's own layer."""
        here, cost = self.reading.levels[level], self.cost
        lhs = self.error(here.nodes[node], unit)
        if here.way in ("linear", "softmax"):
            yield from self.fan(level, unit)
        elif here.way == "cost" and cost is not None:
            yield from self.define(cost.unit(unit))
            yield from self.worked(lhs, cost.derivative(unit), exact=cost.is_exact(unit, self.values))
        else:
            yield Equation((lhs, Number(self.values[lhs])))

    def slope_equations(self, level: int, stage: int, unit: int) -> Iterator[Equation]:
        """Yield ∂a/∂z of one stage, by its formula where that is known."""
        here = self.reading.levels[level]
        lhs = self.slope(here, stage, unit)
        found = self.activation(here, stage, unit)
        slope = Number(self.values[lhs])
        if found is not None:
            yield from self.define(found.helpers)
            slope = found.slope or slope
        yield from self.worked(lhs, slope, exact=found is None or found.exact_slope)

    def product(self, level: int, unit: int) -> Iterator[Equation]:
        """Yield the error of the level's first node: the error of its last node times every slope between."""
        here = self.reading.levels[level]
        if here.stages:
            factors = (self.error(here.nodes[-1], unit), *self.slopes(here, unit))
            yield from self.worked(self.error(here.nodes[0], unit), Product(factors))

    def brief(self, level: int, unit: int) -> Iterator[Equation]:
        """Yield the error of a unit's first node in one line, where another unit is written out in full."""
        here = self.reading.levels[level]
        first, last = (self.error(here.nodes[i], unit) for i in (0, -1))
        slopes = [] if is_bare(here) else self.slopes(here, unit)
        source = self.cost.derivative(unit) if here.way == "cost" and self.cost is not None else last
        if first == last == source:
            yield Equation((first, Number(self.values[first])))
        else:
            exact = source == last or self.cost is None or self.cost.is_exact(unit, self.values)
            yield from self.worked(first, Product((source, *slopes)) if slopes else source, exact=exact)

    def full(self, level: int, unit: int) -> Iterator[Equation]:
        """Yield the error of a unit's first node with everything that it is made of."""
        here = self.reading.levels[level]
        if is_bare(here) and here.way == "cost" and self.cost is not None:
            yield from self.last_error(level, unit, node=0)
            return
        yield from self.last_error(level, unit)
        for stage in reversed(range(len(here.stages))):
            yield from self.slope_equations(level, stage, unit)
        yield from self.product(level, unit)

    def link(self, level: int, j: int, k: int) -> tuple[Derivative, Formula]:
        """Return ∂(unit k of the next level)/∂(unit j of this one) along its one edge, and the formula of that."""
        here, there = self.reading.levels[level : level + 2]
        assert here.edges is not None
        lhs = Derivative(self.node(there.nodes[0], k), self.node(here.nodes[0], j))
        self.values[lhs] = float(here.edges[j, k] * here.slopes[j])
        slopes = self.slopes(here, j)
        return lhs, Product((self.edge(level, j, k), *slopes)) if slopes else self.edge(level, j, k)


def is_bare(level: Level) -> bool:
    """Whether no activation follows the sum, so that its error is that of the output."""
    return [stage.layer for stage in level.stages] == [None]
