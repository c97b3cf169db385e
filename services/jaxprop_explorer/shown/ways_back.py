"""How an error comes back by a rule of `jp.rules`, for one unit with its numbers, beside what the chain rule says.

Formulas are trees of the library, and their numbers are the tape's: a test compares the two.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path, join
from jaxprop.backward.manual import Record
from jaxprop.derivations.derivation import Equation, shorten, worked
from jaxprop.derivations.formula import Call, Derivative, Formula, Number, Product, Sum, Symbol, evaluate
from jaxprop.layers import Layer, Linear, Quantize, ReLU, Step
from jaxprop.network import leaves

Tape = dict[str, Record]
Values = dict[Formula, float]
MOST = 4  # terms of a sum that are written out
C = Symbol("C")


class About(NamedTuple):
    """What a rule is called, what it does in a sentence or two, and the kind of its formula."""

    title: str
    does: str
    way: "Callable[[Unit], Formula]"
    at: tuple[type[Layer], ...] = ()  # the activations at which it does something, none if that is at matrices


class Unit(NamedTuple):
    """One hidden unit on the way back: errors of the next layer by a rule, W and B between, and the network's error."""

    j: int
    layer: int
    errors: np.ndarray
    W: np.ndarray
    B: np.ndarray | None
    error: np.ndarray
    back: float
    z: float
    values: Values
    helpers: list[Equation]

    def named(self, name: str, index: tuple[int, ...], layer: int | None, value: float) -> Symbol:
        """Return a symbol, with its number."""
        symbol = Symbol(name, index, layer)
        self.values[symbol] = float(value)
        return symbol

    def through(self, matrix: Callable[[int], Formula]) -> Formula:
        """Return Σ_k δ[k] · matrix(k) over the units of the next layer."""
        terms = [self.named("δ", (k,), self.layer + 1, error) * matrix(k) for k, error in enumerate(self.errors)]
        return _sum(terms, self.values)

    def weight(self, k: int) -> Symbol:
        """Return W[j, k]."""
        return self.named("W", (self.j, k), self.layer + 1, self.W[self.j, k])

    def feedback(self, k: int) -> Symbol:
        """Return B[j, k]."""
        assert self.B is not None
        return self.named("B", (self.j, k), self.layer + 1, self.B[self.j, k])


def _sum(terms: Sequence[Formula], values: Values) -> Formula:
    return shorten(Sum(tuple(terms)), MOST, values) if len(terms) > 1 else terms[0]


def _signs(unit: Unit) -> Formula:
    """δ through s · sign(W), s as large as a weight is drawn."""
    s = Symbol("s")
    size = worked(s, Call("sqrt", Number(2) / (Number(unit.W.shape[0]) + Number(unit.W.shape[1]))), values={})
    unit.helpers.append(size)
    unit.values[s] = evaluate(size.sides[-1])
    return unit.through(lambda k: s * Call("sign", unit.weight(k)))


def _direct(unit: Unit) -> Formula:
    """The network's own error through a matrix of the layer's own."""
    assert unit.B is not None
    terms: list[Formula] = [
        unit.named("e", (k,), None, e) * unit.named("B", (k, unit.j), unit.layer + 1, unit.B[k, unit.j])
        for k, e in enumerate(unit.error)
    ]
    return _sum(terms, unit.values)


def _came(unit: Unit) -> Symbol:
    return unit.named("ε", (unit.j,), unit.layer, unit.back)


ABOUT: dict[str, About] = {
    "backpropagation": About(
        "Backpropagation",
        "Errors come back through the weights W themselves, as the chain rule says. This is the true gradient, at 0°.",
        lambda unit: unit.through(unit.weight),
    ),
    "feedback_alignment": About(
        "Feedback alignment",
        "Errors come back through a random matrix B in the place of W. B is drawn once and never learned: as W learns, "
        "it turns towards B, and the angle falls.",
        lambda unit: unit.through(unit.feedback),
    ),
    "direct_feedback_alignment": About(
        "Direct feedback alignment",
        "The network's own error e goes straight to every hidden layer, through a random matrix B of that layer. Later "
        "layers are not on the way back at all.",
        _direct,
    ),
    "sign_symmetry": About(
        "Sign symmetry",
        "Errors come back through the signs of W, all of one size s. One bit a weight is enough for most of what "
        "backpropagation does.",
        _signs,
    ),
    "kolen_pollack": About(
        "Kolen and Pollack",
        "Errors come back through a matrix B that starts at random, and then moves as W moves. Both forget what they "
        "began with, so that B becomes W, and the angle falls to 0°.",
        lambda unit: unit.through(unit.feedback),
    ),
    "guided_backprop": About(
        "Guided backpropagation",
        "At a ReLU an error goes back only if the unit is on and the error is positive. It makes sharp pictures, and "
        "is the gradient of nothing.",
        lambda unit: Call("step", unit.named("z", (unit.j,), unit.layer, unit.z)) * Call("relu", _came(unit)),
        at=(ReLU,),
    ),
    "deconvnet": About(
        "Deconvnet",
        "At a ReLU every positive error goes back, whether the unit is on or off. It makes pictures of what the "
        "network looks for, and is the gradient of nothing.",
        lambda unit: Call("relu", _came(unit)),
        at=(ReLU,),
    ),
    "straight_through": About(
        "Straight through",
        "A step is flat, so no error goes back through it by the chain rule. Here it goes back as if the step were "
        "not there. The true gradient before a step is 0, so there is no angle to it.",
        lambda unit: _came(unit) * 1,
        at=(Step, Quantize),
    ),
}


class WayBack(NamedTuple):
    """What comes back to one hidden unit: by the rule, and by the chain rule from the same errors."""

    helpers: tuple[Equation, ...]
    by_rule: Equation
    true: Equation
    found: float
    came: Formula
    derivative: Formula


def way_back(net: Layer, params: PyTree, feedback: PyTree, name: str, tape: Tape, true: Tape) -> WayBack | None:
    """Return how one example's error comes back to the unit that it says most of; None for a net of one layer.

    tape, true: the example's records by the rule and by the chain rule, without the axis of examples.
    """
    everything = list(leaves(net))
    linear = [i for i, leaf in enumerate(everything) if type(leaf.layer) is Linear]
    about = ABOUT.get(name)
    if len(linear) < 2 or about is None:
        return None
    place, number = linear[-1], len(linear) - 1
    path, before = everything[place].path, everything[place - 1]
    if about.at and not isinstance(before.layer, about.at):
        return None
    at = before.path if about.at else path
    found, truth = (np.ravel(np.asarray(each[at].dx)) for each in (tape, true))
    j = int(np.argmax(np.abs(found) + np.abs(truth)))
    B = by_path(feedback).get(join(path, "W"))
    unit = Unit(
        j, number, np.ravel(tape[path].dy), np.asarray(by_path(params)[join(path, "W")]),
        None if B is None else np.asarray(B), np.ravel(tape[everything[-1].path].dy),
        float(np.ravel(tape[path].dx)[j]), float(np.ravel(tape[before.path].x)[j]) if about.at else 0.0, {}, [],
    )  # fmt: skip
    by_rule = worked(Symbol("δ" if about.at else "ε", (j,), number), about.way(unit), values=unit.values)
    a, z = Symbol("a", (j,), number), Symbol("z", (j,), number)
    if about.at:
        record = true[before.path]
        factors: Values = {
            Derivative(C, a): float(np.ravel(record.dy)[j]),
            Derivative(a, z): float(np.ravel(record.derivative)[j]),
        }
        chain = worked(Derivative(C, z), Product(tuple(factors)), values=factors)
        return WayBack(
            tuple(unit.helpers), by_rule, chain, float(found[j]), Symbol("ε", (j,), number), Derivative(C, a)
        )
    plain = unit._replace(errors=np.ravel(true[path].dy), values={}, helpers=[])
    chain = worked(Derivative(C, a), plain.through(plain.weight), values=plain.values)
    return WayBack(tuple(unit.helpers), by_rule, chain, float(found[j]), Symbol("ε", (j,), number), Derivative(C, a))
