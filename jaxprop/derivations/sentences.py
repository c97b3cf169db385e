"""The words around the equations: what is asked, and where every error comes from."""

from jaxprop.costs import Cost

from .cost_formulas import RULES, CostFormula
from .derivation import Equation, Prose
from .formula import Derivative, Symbol
from .question import Question
from .reading import C, Reading
from .writing import is_bare, joined


def layer_number(reading: Reading, level: int) -> int:
    """Return the number of the Linear that a level belongs to; only Linears are counted."""
    first = reading.levels[0].nodes[0].layer or 0
    return first + sum(each.way == "linear" for each in reading.levels[:level])


def asked(question: Question, reading: Reading, parameter: Symbol, cost: Cost) -> Prose:
    """Say which parameter it is, and along which links it reaches C."""
    unit, level = question.index[-1], reading.levels[0]
    z, a = level.nodes[0].symbol(unit), level.nodes[-1].symbol(unit)
    place = f"unit {unit} of layer {z.layer}" + (f" of {reading.last}" if reading.last > 1 else "")
    index = ", ".join(map(str, question.index))
    is_weight = len(question.index) == 2
    what = joined("weight from ", reading.inputs.symbol(question.index[0]), " to ") if is_weight else ("bias of ",)
    name = "the answer " if level.nodes[-1].name == "y" else "the activation "
    onward = joined(", and ", z, " only through ", name, a) if level.stages else ()
    return joined(
        *(parameter, f", in the code {question.path}[{index}], is the ", what, place, ". ", C, " is the cost of row "),
        *(f"{question.row} alone, by {type(cost).__name__}. A change of ", parameter, " reaches ", C, " only through "),
        *("the sum ", z, onward, ". So the derivative is a product, with one factor for each link of this chain."),
    )


def origin(reading: Reading, cost: CostFormula | None, level: int) -> Prose:
    """Say where the error of a level's last node comes from: the cost, the next level, or the user's own layer."""
    here = reading.levels[level]
    last = here.nodes[-1]
    if here.way == "unknown":
        name = type(here.layer).__name__
        return (last.error("k"), f" is what {name}, a layer of your own, hands back; its formula is not known here.")
    if here.way != "cost":
        size = reading.levels[level + 1].size
        units = f"{size} unit{'s' * (size > 1)} of layer {layer_number(reading, level + 1)}"
        where = f"every one of the {units}" if here.way == "linear" else f"every one of the {size} outputs of softmax"
        return joined(last.symbol("k"), f" goes into {where}, so ", last.error("k"), " is a sum over them.")
    y = Symbol("y")
    same: Prose = ()
    if is_bare(here):
        same = (" There is no activation after the sum: ", Equation((last.symbol("k"), here.nodes[0].symbol("k"))), ".")
    if cost is None:
        known = ", ".join(kind.__name__ for kind in RULES)
        unknown = f" is what the network answers; no formula is known here for this cost (there are for {known})."
        return joined(y, unknown, same)
    article = ("; in the article ", '"The Mathematics of Learning" they are ', Symbol("a"), " and ", Symbol("ŷ"), ".")
    return joined(y, " is what the network answers, ", cost.target, article, same, " ", cost.words)


def about_errors(reading: Reading, cost: CostFormula | None, level: int, unit: int, others: int) -> Prose:
    """Say what the errors of a level are, and which of its units are written out."""
    here = reading.levels[level]
    node = here.nodes[0]
    chosen = ""
    if others:
        chosen = f" Unit {unit} is written out in full; the others go the same way."
        if here.size > others + 1:
            which = f"the {others + 1} of {here.size} units that matter most to the next step"
            chosen = f" Shown are {which}, unit {unit} in full."
    meaning: Prose = ()
    if node.name == "z":
        meaning = (Equation((node.error("k"), Derivative(C, node.symbol("k")))), " is called the error of unit k. ")
    return joined(meaning, origin(reading, cost, level), chosen)


def fan_words(reading: Reading, unit: int) -> Prose:
    """Say why the contributions of all paths are added."""
    here, there = reading.levels[:2]
    last, size = here.nodes[-1], there.size
    if here.way == "linear":
        number = layer_number(reading, 1)
        into = f" goes into every one of the {size} sums of layer {number}, each time with a weight of its own."
        into = f" goes into the one sum of layer {number}, with one weight." if size == 1 else into
    else:
        into = f" goes into every one of the {size} outputs of softmax, for they share a total of 1."
    if size == 1:
        return joined(last.symbol(unit), into, " So there is one path back from the cost.")
    edge = "weight on the way there" if here.way == "linear" else "slope of that output"
    more = f" paths, and what comes back along them is added: for each, the error at its end times the {edge}."
    return joined(last.symbol(unit), into, " A nudge of it reaches ", C, f" along {size}", more)
