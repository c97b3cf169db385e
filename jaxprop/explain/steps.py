"""The steps of a derivation, from the question to the product: which equations stand where, and the words around them."""

from collections.abc import Iterator

import numpy as np

from jaxprop.costs import Cost

from .derivation import Equation, Prose, Step
from .formula import Derivative, Formula, Number, Product, Sum, Symbol
from .paths import count, largest
from .printers import to_text
from .question import Question
from .reading import C, Level, Reading
from .writing import ROOM, Writer, is_bare, joined


class Steps:
    """Writes the steps for one weight or bias of a `Linear`."""

    def __init__(self, question: Question, reading: Reading, writer: Writer, cost: Cost):
        self.question, self.reading, self.writer, self.cost = question, reading, writer, cost
        self.unit = question.index[-1]
        self.z = reading.levels[0].nodes[0]
        self.number = self.z.layer or 0
        self.is_weight = len(question.index) == 2
        self.parameter = Symbol("W" if self.is_weight else "b", question.index, self.number)
        self.gradient = Derivative(C, self.parameter)
        values = writer.values
        values[self.parameter] = float((reading.W if self.is_weight else reading.b)[question.index])  # pyright: ignore
        self.local = Derivative(writer.node(self.z, self.unit), self.parameter)
        values[self.local] = float(reading.inputs.values[question.index[0]]) if self.is_weight else 1.0
        level = reading.levels[0]
        if level.way == "softmax":  # its sum over all outputs has no single ∂C/∂a
            self.factors = (writer.error(self.z, self.unit), self.local)
        else:
            last = writer.error(level.nodes[-1], self.unit)
            self.factors = (last, *writer.slopes(level, self.unit), self.local)

    def question_step(self) -> Step:
        """What is asked, and the chain rule for it."""
        q, r, w = self.question, self.reading, self.writer
        place = f"unit {self.unit} of layer {self.number}" + (f" of {r.last}" if r.last > 1 else "")
        index = ", ".join(map(str, q.index))
        what = joined("weight from ", r.inputs.symbol(q.index[0]), " to ") if self.is_weight else ("bias of ",)
        a, z = (self.reading.levels[0].nodes[i].symbol(self.unit) for i in (-1, 0))
        onward = joined(" and that only through ", a) if len(self.factors) > 2 else ()
        sentence = joined(
            *(self.parameter, f", in the code {q.path}[{index}], is the ", what, place, ". ", C, " is the cost of row "),
            *(f"{q.row} alone, a {type(self.cost).__name__}. A change of ", self.parameter, " reaches ", C),
            *(" only through ", z, onward, ", so the derivative is a product with one factor for each link."),
        )
        w.values[self.gradient] = float(np.prod([w.values[factor] for factor in self.factors]))
        return Step("The question", sentence, (Equation((self.gradient, Product(self.factors))),))

    def forward_step(self, before: float) -> Step:
        """The sum, the activation and the cost, with their numbers."""
        r, w = self.reading, self.writer
        sentence: Prose = ("What went through the network, from the input to the cost.",)
        if r.prepared_by:
            names = " and ".join(type(layer).__name__ for layer in r.prepared_by)
            sentence = joined(r.inputs.symbol("i"), " is input i after ", names, ".")
        elif r.inputs.name == "a":
            sentence = joined(r.inputs.symbol("i"), f" is what layer {self.number - 1} hands on.")
        return Step("Forward", sentence, (*self._unit_forward(), *self._cost_forward(before)))

    def _unit_forward(self) -> Iterator[Equation]:
        r, w, level = self.reading, self.writer, self.reading.levels[0]
        sizes = -np.abs(r.W[:, self.unit] * r.inputs.values)
        if self.is_weight:
            sizes[self.question.index[0]] = -np.inf  # the weight in question comes first
        order = [int(i) for i in np.argsort(sizes, kind="stable")]
        terms = [w.weight(self.number, i, self.unit, r.W) * w.node(r.inputs, i) for i in order]
        bias = Symbol("b", (self.unit,), self.number)
        if r.b is not None:
            w.values[bias] = float(r.b[self.unit])
        yield from w.sum(w.node(self.z, self.unit), terms, *([] if r.b is None else [bias]))
        for i, stage in enumerate(level.stages):
            out, found = w.node(level.nodes[i + 1], self.unit), w.local(stage, level, self.unit)
            if found is None:
                yield from w.worked(out, w.node(level.nodes[i], self.unit))
            elif found.value is None:
                yield Equation((out, Number(w.values[out])))
            else:
                yield from w.define(found.helpers)
                yield from w.worked(out, found.value, exact=found.exact)

    def _cost_forward(self, before: float) -> Iterator[Equation]:
        w, cost = self.writer, self.writer.cost
        w.values[C] = before
        if cost is None or self.reading.levels[-1].way != "cost":
            yield Equation((C, Number(before)))
            return
        for symbol, terms in cost.sums:
            yield from w.sum(symbol, terms)
        yield from w.define(cost.helpers)
        exact = before > cost.smallest
        yield from w.sum(C, cost.terms, whole=cost.whole, exact=exact)

    def above_steps(self) -> Iterator[Step]:
        """The errors of the levels above, from the cost down: of the units that matter most to the next step."""
        w, levels = self.writer, self.reading.levels
        plan = [[self.unit]]
        for level in range(len(levels) - 1):
            plan.append([unit for unit, _ in w.contributions(level, plan[-1][0])[: w.most]])
        for level in reversed(range(1, len(levels))):
            first, *others = plan[level]
            equations = [*w.full(level, first), *(e for unit in others for e in w.brief(level, unit))]
            yield Step(self._title(level), self._about(level, first, len(others)), tuple(equations))

    def _title(self, level: int) -> str:
        here = self.reading.levels[level]
        what = "The errors of" if here.nodes[0].name == "z" else "After the softmax of"
        output = ", the output" if here.way == "cost" else ""
        return f"{what} layer {self._number(level)}{output}"

    def _number(self, level: int) -> int:
        """The Linear that a level belongs to."""
        return self.number + sum(each.way == "linear" for each in self.reading.levels[:level])

    def _about(self, level: int, unit: int, others: int) -> Prose:
        here = self.reading.levels[level]
        node = here.nodes[0]
        meaning: Prose = ()
        if node.name == "z":
            meaning = (Equation((node.error("k"), Derivative(C, node.symbol("k")))), " is called the error of unit k. ")
        chosen = ""
        if others:
            chosen = f" Unit {unit} comes first because most comes from it below; the others go the same way."
            if here.size > others + 1:
                chosen = f" Of {here.size} units these matter most below; unit {unit}, the first, in full."
        return joined(meaning, self.source(level), chosen)

    def source(self, level: int) -> Prose:
        """Say where the error of a level's last node comes from."""
        here = self.reading.levels[level]
        last = here.nodes[-1]
        if here.way == "unknown":
            name = type(here.layer).__name__
            return (last.error("k"), f" is what {name}, a layer of your own, hands back; its formula is not known here.")
        if here.way == "cost":
            return joined(self._answer(here), self._cost_words())
        there = self.reading.levels[level + 1]
        what = f"{there.size} units of layer {self._number(level + 1)}" if here.way == "linear" else "outputs of softmax"
        return joined(last.symbol("k"), f" goes into all {what}, so ", last.error("k"), " is a sum over them.")

    def _answer(self, here: Level) -> Prose:
        y = Symbol("y")
        bare = joined(" There is no activation: ", Equation((here.nodes[-1].symbol("k"), here.nodes[0].symbol("k"))), ".")
        if self.writer.cost is None:
            return joined(y, " is what the network answers.", bare if is_bare(here) else ())
        article = ("; the article writes ", Symbol("a"), " and ", Symbol("ŷ"), " for the two. ")
        return joined(y, " is what the network answers, ", self.writer.cost.target, article, bare[0][1:], *bare[1:], " ") \
            if is_bare(here) else joined(y, " is what the network answers, ", self.writer.cost.target, article)
