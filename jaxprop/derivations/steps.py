"""The steps of a derivation, from the question to the product: which equations stand where."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxprop.derivations.cost_formulas import RULES
from jaxprop.derivations.derivation import Equation, Prose, Step, to_text
from jaxprop.derivations.equations import joined
from jaxprop.derivations.formula import Derivative, Formula, Number, Product, Symbol
from jaxprop.derivations.question import Question, is_ours
from jaxprop.derivations.reading import C, Reading, largest
from jaxprop.derivations.writing import Writer, is_bare

ROOM = 100


class Path(NamedTuple):
    """A path: its unit in every level, its links from the cost to the parameter, and their product."""

    units: tuple[int, ...]
    factors: tuple[Formula, ...]
    numbers: list[float]
    product: float


class Steps:
    """Writes the steps for one weight or bias of a `Linear`; `factors` are the chain rule's, the cost's first."""

    def __init__(self, question: Question, reading: Reading, writer: Writer):
        self.question, self.reading, self.writer = question, reading, writer
        self.is_input, level, values = question.is_input, reading.levels[0], writer.values
        self.is_weight = not self.is_input and len(question.index) == 2
        self.unit, z = question.index[-1], level.nodes[0]
        if self.is_input:
            self.unit = int(np.ravel_multi_index(question.index, question.shape))
        self.parameter = Symbol("W" if self.is_weight else "b", question.index, z.layer)
        if self.is_input:
            self.parameter = writer.node(z, self.unit)
        self.gradient = Derivative(C, self.parameter)
        self.local = Derivative(writer.node(z, self.unit), self.parameter)
        self.came_in = (writer.node(reading.inputs, question.index[0]),) if self.is_weight else ()
        values[self.local] = math.prod(values[each] for each in self.came_in)
        last = writer.error(level.nodes[-1], self.unit)
        self.factors = (last, *writer.slopes(level, self.unit), *(() if self.is_input else (self.local,)))
        values[self.gradient] = float(np.prod([values[factor] for factor in self.factors]))

    def write(self, before: float) -> Iterator[Step]:
        """Yield every step up to the product; `before` is C of the row."""
        chain = (Equation((self.gradient, Product(self.factors))),) if self.factors != (self.gradient,) else ()
        yield Step("The question", self._asked(), chain)
        yield self._forward(before)
        yield from self._above()
        yield from self._own()

    def whole_way(self) -> tuple[dict[str, Any], tuple[Step, ...]]:
        """Return the largest paths and what the others add up to, and a step where sums have sums inside."""
        levels, values, w = self.reading.levels, self.writer.values, self.writer
        ways = [level.slopes[:, None] * level.edges for level in levels if level.edges is not None]
        total = levels[-1].slopes * levels[-1].nodes[-1].errors
        found = []
        for units in largest(ways, total, self.unit, w.most):
            links = [w.link(i, *units[i : i + 2])[0] for i in range(len(ways))]
            factors = (w.error(levels[-1].nodes[0], units[-1]), *reversed(links), *self.came_in)
            numbers = [values[factor] for factor in factors]
            found.append(Path(units, factors, numbers, float(np.prod(numbers))))
        shown = [{"units": list(path.units), "product": path.product, "factors": path.numbers} for path in found]
        left = math.prod(way.shape[1] for way in ways) - len(found)
        rest = values[self.gradient] - sum(path.product for path in found) if left else 0.0
        steps = ()
        if len(ways) > 1:  # else the sum in the steps before is one over all paths already
            for way in reversed(ways):
                total = way @ total
            whole = float(total[self.unit]) * math.prod(values[each] for each in self.came_in)
            steps = (self._whole_step(found, left, rest, whole),)
        return {"paths": shown, "rest": {"count": left, "sum": rest}}, steps

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
        if self.is_input:
            yield Equation((w.node(z, self.unit), Number(w.values[self.parameter])))
            yield from self._stages_forward()
            return
        sizes = -np.abs(r.W[:, self.unit] * r.inputs.values)
        if self.is_weight:
            sizes[self.question.index[0]] = -np.inf  # the weight in question comes first
        order = [int(i) for i in np.argsort(sizes, kind="stable")]
        terms = [w.weight(z.layer or 0, i, self.unit, r.W) * w.node(r.inputs, i) for i in order]
        bias = Symbol("b", (self.unit,), z.layer)
        if r.b is not None:
            w.values[bias] = float(r.b[self.unit])
        yield from w.sum(w.node(z, self.unit), terms, *([] if r.b is None else [bias]))
        yield from self._stages_forward()
        if level.way == "softmax":
            yield from w.softmax(level, r.levels[1], self.unit)

    def _stages_forward(self) -> Iterator[Equation]:
        w, level = self.writer, self.reading.levels[0]
        for i in range(len(level.stages)):
            out, found = w.node(level.nodes[i + 1], self.unit), w.activation(level, i, self.unit)
            if found is None:
                yield Equation((out, w.node(level.nodes[i], self.unit), Number(w.values[out])))
            elif found.value is None:
                yield Equation((out, Number(w.values[out])))
            else:
                yield from w.define(found.helpers)
                yield from w.worked(out, found.value, exact=found.exact)

    def _cost_forward(self, before: float) -> Iterator[Equation]:
        w, cost = self.writer, self.writer.cost
        w.values[C] = before
        if cost is None:
            yield Equation((C, Number(before)))
            return
        for symbol, terms in cost.sums:
            yield from w.sum(symbol, terms)
        yield from w.define(cost.helpers)
        yield from w.sum(C, cost.terms, whole=cost.whole, exact=abs(before) >= cost.smallest)

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
            title = f"{what} layer {self._layer_number(level)}{', the output' * (here.way == 'cost')}"
            slopes = [w.activation(here, i, first) for i in reversed(range(len(here.stages)))]
            words = (part for found in slopes if found for part in (" ", found.words))
            yield Step(title, joined(self._about_errors(level, first, len(others)), *words), equations)

    def _own(self) -> Iterator[Step]:
        """The factors one by one, and their product."""
        w, level = self.writer, self.reading.levels[0]
        z, last = level.nodes[0], level.nodes[-1]
        title = "How the cost changes with the answer" if level.way == "cost" else "Every path back from the cost"
        if level.way == "unknown":
            name = type(level.layer).__name__ if is_ours(level.layer) else "a layer of your own"
            title = f"What comes back from {name}"
        words = self._fan_words() if level.edges is not None else self._origin(0)
        yield Step(title, words, tuple(w.last_error(0, self.unit)))
        for i in reversed(range(len(level.stages))):
            outer, inner = level.nodes[i + 1].symbol(self.unit), level.nodes[i].symbol(self.unit)
            found = w.activation(level, i, self.unit)
            words = found.words if found else joined("There is no activation: ", outer, " is ", inner, " itself.")
            subject = "answer" if outer.name == "y" else "activation" if outer.name == "a" else "next number"
            object_ = "sum" if inner.name == "z" else "number before it"
            title = f"How the {subject} changes with the {object_}"
            if inner.name == "x":
                title = "How what the layer gets changes with the input"
            yield Step(title, words, tuple(w.slope_equations(0, i, self.unit)))
        if self.is_input:
            if level.stages:
                words = ("What came back, times how the input is prepared.",)
                yield Step("The product", words, tuple(w.worked(self.gradient, Product(self.factors))))
            return
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

    def _layer_number(self, level: int) -> int:
        """The number of the Linear that a level belongs to; only Linears are counted."""
        first = self.reading.levels[0].nodes[0].layer or 0
        return first + sum(each.way == "linear" for each in self.reading.levels[:level])

    def _asked(self) -> Prose:
        """Say which parameter it is, and along which links it reaches C."""
        q, r, level = self.question, self.reading, self.reading.levels[0]
        z, a = level.nodes[0].symbol(self.unit), level.nodes[-1].symbol(self.unit)
        cost = f" is the cost of row {q.row} alone, by {type(q.cost).__name__}."
        if self.is_input:
            through = joined(", and that through ", a) if level.stages else ()
            return joined(
                *(
                    q.picked,
                    self.parameter,
                    f" is input {self.unit} of row {q.row}. ",
                    C,
                    cost,
                    " A change of it reaches ",
                ),
                *(C, f" through every one of the {r.levels[1].size} sums of layer 1", through),
                ". An input is given, not learned: the derivative says how much the cost depends on it.",
            )
        place = f"unit {self.unit} of layer {z.layer}" + (f" of {r.last}" if r.last > 1 else "")
        index = ", ".join(map(str, q.index))
        what = joined("weight from ", r.inputs.symbol(q.index[0]), " to ") if self.is_weight else ("bias of ",)
        name = "the answer " if level.nodes[-1].name == "y" else "the activation "
        onward = joined(", and ", z, " only through ", name, a) if level.stages else ()
        return joined(
            *(q.picked, self.parameter, f", in the code {q.path}[{index}], is the ", what, place, ". ", C, cost),
            *(" A change of ", self.parameter),
            *(" reaches ", C, " only through the sum ", z, onward),
            ". So the derivative is a product, with one factor for each link of this chain.",
        )

    def _origin(self, level: int) -> Prose:
        """Say where the error of a level's last node comes from: the cost, the next level, or an unwritten layer."""
        here, cost = self.reading.levels[level], self.writer.cost
        last = here.nodes[-1]
        if here.way == "unknown":
            name = type(here.layer).__name__
            unknown = f" is what {name}, a layer of your own, hands back; its formula is not known here."
            ours = f" is what {name} hands back; no formula is written for it yet."
            return (last.error("k"), ours if is_ours(here.layer) else unknown)
        if here.way != "cost":
            size = self.reading.levels[level + 1].size
            units = f"{size} unit{'s' * (size > 1)} of layer {self._layer_number(level + 1)}"
            which = units if here.way == "linear" else f"{size} outputs of softmax"
            into = f" goes into every one of the {which}, so "
            return joined(last.symbol("k"), into, last.error("k"), " is a sum over them.")
        y, same = Symbol("y"), ()
        if is_bare(here):
            bare = Equation((last.symbol("k"), here.nodes[0].symbol("k")))
            same = (" There is no activation after the sum: ", bare, ".")
        if cost is None:
            known = ", ".join(kind.__name__ for kind in RULES)
            ours = f"the cost is {self.question.cost!r}, and no formula is written for it yet"
            what = ours if is_ours(self.question.cost) else "no formula is known here for this cost"
            return joined(y, f" is what the network answers; {what} (there are for {known}).", same)
        article = ("; in the article ", '"The Mathematics of Learning" they are ', Symbol("a"), " and ", Symbol("ŷ"))
        return joined(y, " is what the network answers, ", cost.target, article, ".", same, " ", cost.words)

    def _about_errors(self, level: int, unit: int, others: int) -> Prose:
        """Say what the errors of a level are, and which of its units are written out."""
        here, chosen, meaning = self.reading.levels[level], "", ()
        if others and here.size > others + 1:
            which = f"the {others + 1} of {here.size} units that matter most to the next step"
            chosen = f" Shown are {which}, unit {unit} in full."
        elif others:
            chosen = f" Unit {unit} is written out in full; the others go the same way."
        if (node := here.nodes[0]).name == "z":
            meaning = (Equation((node.error("k"), Derivative(C, node.symbol("k")))), " is called the error of unit k. ")
        return joined(meaning, self._origin(level), chosen)

    def _fan_words(self) -> Prose:
        """Say why the contributions of all paths are added."""
        here, there = self.reading.levels[:2]
        last, size, number = here.nodes[-1].symbol(self.unit), there.size, self._layer_number(1)
        what = "outputs of softmax, for they share a total of 1."
        if here.way == "linear":
            what = f"sums of layer {number}, each time with a weight of its own."
        into = f" goes into every one of the {size} {what}"
        if size == 1:
            into = f" goes into the one sum of layer {number}, with one weight." if here.way == "linear" else into
            return joined(last, into, " So there is one path back from the cost.")
        edge = "weight on the way there" if here.way == "linear" else "slope of that output"
        more = f" paths, and what comes back along them is added: for each, the error at its end times the {edge}."
        return joined(last, into, " A nudge of it reaches ", C, f" along {size}", more)

    def _whole_step(self, found: list[Path], left: int, rest: float, total: float) -> Step:
        paths = f"{len(found) + left:,} paths"
        sentence = (
            f"With every sum multiplied out, the derivative is a sum over {paths}, one for every choice of a unit in "
            "each layer above. A path is a product of links; this is the first link of the largest path, and the path:"
        )
        link, formula = self.writer.link(0, *found[0].units[:2])
        equations = list(self.writer.worked(link, formula))
        largest_path = Product(found[0].factors)
        if len(to_text(largest_path)) + len("the largest: ") <= ROOM:
            equations.append(Equation((largest_path,), "the largest"))
        equations += map(_path, found)
        if left:
            equations.append(Equation((Number(rest),), f"the other {left:,} together"))
        equations.append(Equation((self.gradient, Number(total)), f"all {paths} together"))
        return Step("The whole way back", (sentence,), tuple(equations))


def _path(path: Path) -> Equation:
    """One path in numbers: their product, where it fits on a line, and its value."""
    label = f"through units {', '.join(map(str, path.units))}"
    numbers = Product(tuple(map(Number, path.numbers)))
    fits = len(label) + len(to_text(numbers)) <= ROOM - 4
    return Equation((numbers, Number(path.product)) if fits else (Number(path.product),), label)
