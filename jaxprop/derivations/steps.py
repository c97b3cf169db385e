"""The steps of a derivation, from the question to the product: which equations stand where."""

import math
from collections.abc import Iterator

import numpy as np

from jaxprop.costs import Cost

from .derivation import Equation, Prose, Step
from .formula import Derivative, Number, Product, Symbol
from .question import Question
from .reading import C, Reading
from .sentences import about_errors, asked, fan_words, layer_number, origin
from .writing import Writer, joined


class Steps:
    """Writes the steps for one weight or bias of a `Linear`; `factors` are the chain rule's, the cost's first."""

    def __init__(self, question: Question, reading: Reading, writer: Writer, cost: Cost):
        self.question, self.reading, self.writer, self.cost = question, reading, writer, cost
        self.unit = question.index[-1]
        self.is_weight = len(question.index) == 2
        level, values = reading.levels[0], writer.values
        z = level.nodes[0]
        self.parameter = Symbol("W" if self.is_weight else "b", question.index, z.layer)
        self.gradient = Derivative(C, self.parameter)
        self.local = Derivative(writer.node(z, self.unit), self.parameter)
        self.came_in = (writer.node(reading.inputs, question.index[0]),) if self.is_weight else ()
        values[self.local] = math.prod(values[each] for each in self.came_in)
        last = writer.error(level.nodes[-1], self.unit)
        self.factors = (last, *writer.slopes(level, self.unit), self.local)
        values[self.gradient] = float(np.prod([values[factor] for factor in self.factors]))

    def write(self, before: float) -> Iterator[Step]:
        """Yield every step up to the product; `before` is C of the row."""
        sentence = asked(self.question, self.reading, self.parameter, self.cost)
        yield Step("The question", sentence, (Equation((self.gradient, Product(self.factors))),))
        yield self._forward(before)
        yield from self._above()
        yield from self._own()

    def _forward(self, before: float) -> Step:
        r = self.reading
        sentence: Prose = ("What went through the network, from the input to the cost.",)
        if r.prepared_by:
            names = " and ".join(type(layer).__name__ for layer in r.prepared_by)
            sentence = joined(r.inputs.symbol("i"), " is input i after ", names, ".")
        elif r.inputs.name == "a":
            sentence = joined(r.inputs.symbol("i"), f" is what unit i of layer {r.inputs.layer} hands on.")
        return Step("Forward", sentence, (*self._unit_forward(), *self._cost_forward(before)))

    def _unit_forward(self) -> Iterator[Equation]:
        r, w, level = self.reading, self.writer, self.reading.levels[0]
        z = level.nodes[0]
        sizes = -np.abs(r.W[:, self.unit] * r.inputs.values)
        if self.is_weight:
            sizes[self.question.index[0]] = -np.inf  # the weight in question comes first
        order = [int(i) for i in np.argsort(sizes, kind="stable")]
        terms = [w.weight(z.layer or 0, i, self.unit, r.W) * w.node(r.inputs, i) for i in order]
        bias = Symbol("b", (self.unit,), z.layer)
        if r.b is not None:
            w.values[bias] = float(r.b[self.unit])
        yield from w.sum(w.node(z, self.unit), terms, *([] if r.b is None else [bias]))
        for i in range(len(level.stages)):
            out, found = w.node(level.nodes[i + 1], self.unit), w.local(level, i, self.unit)
            if found is None:
                yield Equation((out, w.node(level.nodes[i], self.unit), Number(w.values[out])))
            elif found.value is None:
                yield Equation((out, Number(w.values[out])))
            else:
                yield from w.define(found.helpers)
                yield from w.worked(out, found.value, exact=found.exact)
        if level.way == "softmax":
            yield from w.softmax(level, r.levels[1], self.unit)

    def _cost_forward(self, before: float) -> Iterator[Equation]:
        w, cost = self.writer, self.writer.cost
        w.values[C] = before
        if cost is None or self.reading.levels[-1].way != "cost":
            yield Equation((C, Number(before)))
            return
        for symbol, terms in cost.sums:
            yield from w.sum(symbol, terms)
        yield from w.define(cost.helpers)
        yield from w.sum(C, cost.terms, whole=cost.whole, exact=before > cost.smallest)

    def _above(self) -> Iterator[Step]:
        """The errors of the levels above, from the cost down: of the units that matter most to the next step."""
        r, w = self.reading, self.writer
        plan = [[self.unit]]
        for level in range(len(r.levels) - 1):
            plan.append([unit for unit, _ in w.contributions(level, plan[-1][0])[: w.most]])
        for level in reversed(range(1, len(r.levels))):
            here, (first, *others) = r.levels[level], plan[level]
            equations = (*w.full(level, first), *(e for unit in others for e in w.brief(level, unit)))
            what = "The errors of" if here.nodes[0].name == "z" else "Behind the softmax of"
            title = f"{what} layer {layer_number(r, level)}{', the output' * (here.way == 'cost')}"
            slopes = [w.local(here, i, first) for i in reversed(range(len(here.stages)))]
            words = (part for found in slopes if found for part in (" ", found.words))
            yield Step(title, joined(about_errors(r, w.cost, level, first, len(others)), *words), equations)

    def _own(self) -> Iterator[Step]:
        """The factors one by one, and their product."""
        r, w, level = self.reading, self.writer, self.reading.levels[0]
        z, last = level.nodes[0], level.nodes[-1]
        title = {
            "cost": "How the cost changes with the answer",
            "unknown": "What comes back from a layer of your own",
        }.get(level.way, "Every path back from the cost")
        words = fan_words(r, self.unit) if level.edges is not None else origin(r, w.cost, 0)
        yield Step(title, words, tuple(w.last_error(0, self.unit)))
        for i in reversed(range(len(level.stages))):
            outer, inner = level.nodes[i + 1].symbol(self.unit), level.nodes[i].symbol(self.unit)
            found = w.local(level, i, self.unit)
            words = found.words if found else joined("There is no activation: ", outer, " is ", inner, " itself.")
            subject = "answer" if outer.name == "y" else "activation" if outer.name == "a" else "next number"
            object_ = "sum" if inner.name == "z" else "number before it"
            title = f"How the {subject} changes with the {object_}"
            yield Step(title, words, tuple(w.slope_equations(0, i, self.unit)))
        if level.stages:
            name = Equation((z.error(self.unit), Derivative(C, z.symbol(self.unit))))
            words = ("The product so far has a name: ", name, ", the error of the unit.")
            yield Step("The error of the unit", words, tuple(w.product(0, self.unit)))
        yield self._input_step()
        yield self._product_step(last.error(self.unit) == z.error(self.unit))

    def _input_step(self) -> Step:
        w, z = self.writer, self.reading.levels[0].nodes[0].symbol(self.unit)
        if not self.is_weight:
            words = joined("In the sum ", z, " the bias stands alone: a nudge of it moves the sum by just as much.")
            return Step("How the sum changes with the bias", words, tuple(w.worked(self.local, Number(1))))
        term = Product((self.parameter, *self.came_in))
        words = joined("Only one term of the sum ", z, " holds the weight, ", term, ".")
        return Step("How the sum changes with the weight", words, tuple(w.worked(self.local, *self.came_in)))

    def _product_step(self, short: bool) -> Step:
        """The factors multiplied, and the same with δ."""
        w, z = self.writer, self.reading.levels[0].nodes[0]
        words = "The derivative for a bias is the error of its unit."
        if self.is_weight:
            words = "The error of the unit where the weight ends, times what came in where it begins."
        delta = w.error(z, self.unit)
        equations = list(w.worked(self.gradient, Product(self.factors)))
        if not (short and self.is_weight):
            equations += w.worked(self.gradient, Product((delta, *self.came_in)) if self.came_in else delta)
        return Step("The product", (words,), tuple(equations))
