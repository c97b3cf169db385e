"""Exercises without end: a small network from a seed, one number to find, and the typical wrong answers to it.

Every number is evaluated from a formula, and a derivative is one that the library's calculus has found; so a wrong
answer is computed as the person who gives it computes it. A network whose wrong answers could be taken for the right
one, or for each other, is not asked about: another one is drawn.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import jaxprop as jp
from jaxprop.derivations import Derivation
from jaxprop.derivations.calculus import derivative
from jaxprop.derivations.formula import Call, Formula, Symbol, evaluate
from jaxprop.errors import JaxpropError, pick
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.answers import Mistake, Verdict, judge, read, told_apart
from jaxprop_explorer.lessons.drawing import network
from jaxprop_explorer.lessons.parts import number

LARGEST_SEED = 2**31 - 1
SIGN = "sign"
Z, A, T = Symbol("z"), Symbol("a"), Symbol("t")
HALF, WHOLE = (A - T) ** 2 / 2, (A - T) ** 2
BENDS = {"sigmoid": jp.Sigmoid(), "tanh": jp.Tanh()}
LETTER = {"sigmoid": "σ", "tanh": "tanh"}


@dataclass(frozen=True)
class Factor:
    """One factor of the product: its name, its number, how to find it, and what goes wrong with it."""

    name: str
    value: float
    ask: str
    mistakes: tuple[Mistake, ...] = ()


@dataclass(frozen=True)
class Exercise:
    """A question with one number for an answer; `given` are names with their numbers, `example` is the network."""

    kind: str
    seed: int
    question: str
    given: tuple[tuple[str, str], ...]
    truth: float
    factors: tuple[Factor, ...]
    mistakes: tuple[Mistake, ...]
    example: nets.Example
    place: tuple[str, tuple[int, ...]]
    joined: str = "Multiply the factors."

    @property
    def derivation(self) -> Derivation:
        """The whole way, written out."""
        return nets.explained(self.example, *self.place)


class Unit:
    """One unit, or a linear one, with numbers that are drawn; and all that can be asked about it."""

    def __init__(self, random: np.random.Generator, inputs: int = 3) -> None:
        self.bend = str(random.choice(list(BENDS)))
        self.x = [float(v) for v in random.choice([-3, -2, 2, 3, 4, 5], inputs, replace=False)]
        self.w = [float(v) for v in random.choice([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75], inputs, replace=False)]
        self.b = float(random.choice([-0.4, -0.3, -0.2, 0.2, 0.3, 0.4]))
        self.target = float(random.choice([-1.0, 0.0, 1.0] if self.bend == "tanh" else [0.0, 1.0]))
        self.z = sum(w * x for w, x in zip(self.w, self.x, strict=True)) + self.b
        self.a = value(self.bend, self.z)
        self.slope = slope(self.bend, self.z)
        self.miss = evaluate(derivative(HALF, A), {A: self.a, T: self.target})

    def example(self) -> nets.Example:
        """The same as a network of the library."""
        net = jp.Chain(jp.Linear(1), BENDS[self.bend])
        params = (nets.linear([[w] for w in self.w], [self.b]), ())
        return nets.Example(net, params, nets.rows(self.x), nets.rows([self.target]))

    def given(self) -> tuple[tuple[str, str], ...]:
        """What the person may use."""
        pairs = [(f"x{s}", x) for s, x in zip("₁₂₃", self.x, strict=False)]
        pairs += [(f"w{s}", w) for s, w in zip("₁₂₃", self.w, strict=False)]
        shown = [(name, number(v)) for name, v in (*pairs, ("b", self.b), ("target", self.target))]
        return (*shown, ("z", number(self.z)), (f"a = {LETTER[self.bend]}(z)", number(self.a, 4)))


def value(bend: str, z: float) -> float:
    """The value of an activation at z."""
    return evaluate(Call(bend, Z), {Z: z})


def slope(bend: str, z: float) -> float:
    """The slope of an activation at z, by the library's calculus."""
    return evaluate(_slope_formula(bend), {Z: z})


@lru_cache(8)
def _slope_formula(bend: str) -> Formula:
    return derivative(Call(bend, Z), Z)


def _of_miss(unit: Unit, rest: float) -> list[Mistake]:
    """What goes wrong with ∂C/∂a, the other factors being right and their product `rest`."""
    at = {A: unit.a, T: unit.target}
    step = "∂C/∂a"
    return [
        Mistake(
            SIGN,
            step,
            -unit.miss * rest,
            "The sign of the error is swapped: ∂C/∂a is answer minus target, not target minus answer.",
        ),
        Mistake(
            "half",
            step,
            evaluate(derivative(WHOLE, A), at) * rest,
            "The ½ was forgotten: the cost is ½(a − target)², and its ½ cancels the 2 of the square.",
        ),
        Mistake(
            "not differentiated",
            step,
            evaluate(HALF, at) * rest,
            "This uses C itself in the place of ∂C/∂a. The derivative of ½(a − target)² is a − target.",
        ),
    ]


def _of_slope(unit: Unit, rest: float) -> list[Mistake]:
    """What goes wrong with ∂a/∂z."""
    step, f = "∂a/∂z", LETTER[unit.bend]
    return [
        Mistake(
            "value for slope",
            step,
            unit.a * rest,
            f"This takes {f}(z) in the place of {f}′(z): the slope is wanted, not the value.",
        ),
        Mistake(
            "slope at a",
            step,
            slope(unit.bend, unit.a) * rest,
            f"The slope {f}′ was taken at a = {number(unit.a, 3)}. It has to be taken at z = {number(unit.z)}.",
        ),
        Mistake(
            "slope forgotten", step, rest, f"The factor ∂a/∂z = {f}′(z) is missing: z reaches the cost only through a."
        ),
    ]


def _rounded(factors: list[float]) -> Mistake:
    """All factors rounded to one digit before they are multiplied."""
    told = "This is rounded too early: keep three or four digits until the end."
    return Mistake("rounding", "rounding", math.prod(float(f"{f:.1g}") for f in factors), told)


def _unit_factors(unit: Unit) -> tuple[Factor, Factor]:
    f = LETTER[unit.bend]
    rule = "a·(1 − a)" if unit.bend == "sigmoid" else "1 − a²"
    return (
        Factor(
            "∂C/∂a",
            unit.miss,
            "How does C = ½(a − target)² change with a? It is a − target.",
            tuple(_of_miss(unit, 1.0)),
        ),
        Factor(
            "∂a/∂z",
            unit.slope,
            f"What is the slope {f}′(z)? It can be written with a: {rule}.",
            tuple(_of_slope(unit, 1.0)[:2]),
        ),
    )


def _output_weight(random: np.random.Generator) -> dict[str, Any]:
    unit = Unit(random)
    i = int(random.integers(3))
    x, w, n = unit.x[i], unit.w[i], "₁₂₃"[i]
    delta = unit.miss * unit.slope
    j = (i + 1) % 3
    step = "∂z/∂w"
    mistakes = [
        *_of_miss(unit, unit.slope * x),
        *_of_slope(unit, unit.miss * x),
        Mistake(
            "input forgotten",
            step,
            delta,
            f"This is δ. The last factor is missing: ∂z/∂w{n} is the input x{n} = {number(x)}.",
        ),
        Mistake(
            "weight for input", step, delta * w, f"This uses the weight w{n} where the input belongs: ∂z/∂w{n} = x{n}."
        ),
        Mistake(
            "neighbour",
            step,
            delta * unit.x[j],
            f"This is the answer for w{'₁₂₃'[j]}: it has the input x{'₁₂₃'[j]} in it.",
        ),
        _rounded([unit.miss, unit.slope, x]),
    ]
    factors = (
        *_unit_factors(unit),
        Factor(
            "∂z/∂w",
            x,
            f"z = Σ w·x + b. How does it change with w{n}? Only one term has it.",
            (
                Mistake(
                    "weight for input", step, w, "That is the weight. In w·x it is the input that w is multiplied by."
                ),
            ),
        ),
    )
    return {
        "question": f"Find ∂C/∂w{n} of this {unit.bend} unit, with C = ½(a − target)².",
        "given": unit.given(),
        "truth": delta * x,
        "factors": factors,
        "mistakes": mistakes,
        "example": unit.example(),
        "place": ("0.W", (i, 0)),
    }


def _output_bias(random: np.random.Generator) -> dict[str, Any]:
    unit = Unit(random)
    delta, step = unit.miss * unit.slope, "∂z/∂b"
    mistakes = [
        *_of_miss(unit, unit.slope),
        *_of_slope(unit, unit.miss),
        Mistake(
            "bias for 1", step, delta * unit.b, "This multiplies by b. The bias is added to the sum, so ∂z/∂b = 1."
        ),
        Mistake(
            "input in a bias",
            step,
            delta * unit.x[0],
            "This multiplies by an input. No input stands at the bias: ∂z/∂b = 1.",
        ),
        Mistake(
            "zero",
            step,
            0.0,
            "The bias is a number that is learned, no constant: nudge it and z moves just as far. ∂z/∂b = 1.",
        ),
        _rounded([unit.miss, unit.slope]),
    ]
    factors = (
        *_unit_factors(unit),
        Factor(
            "∂z/∂b",
            1.0,
            "z = Σ w·x + b. How far does z move when b moves by 1?",
            (
                Mistake("bias for 1", step, unit.b, "That is b itself. It is added, so z moves as far as b does."),
                Mistake("zero", step, 0.0, "b is no constant here: nudge it and z moves just as far."),
            ),
        ),
    )
    return {
        "question": f"Find ∂C/∂b of this {unit.bend} unit, with C = ½(a − target)².",
        "given": unit.given(),
        "truth": delta,
        "factors": factors,
        "mistakes": mistakes,
        "example": unit.example(),
        "place": ("0.b", (0,)),
    }


def _activation_slope(random: np.random.Generator) -> dict[str, Any]:
    unit = Unit(random, inputs=2)
    f, step = LETTER[unit.bend], "∂a/∂z"
    a, other = unit.a, "tanh" if unit.bend == "sigmoid" else "sigmoid"
    rule = {"sigmoid": A * (1 - A), "tanh": 1 - A**2}  # the slopes written in the value, checked against the calculus
    mistakes = [
        Mistake("value for slope", step, a, f"This is {f}(z), the value. The slope is wanted."),
        Mistake(
            "slope at a",
            step,
            slope(unit.bend, a),
            f"The slope was taken at a. It has to be taken at z = {number(unit.z)}.",
        ),
        Mistake(
            "other activation",
            step,
            evaluate(rule[other], {A: a}),
            f"This is the rule for {LETTER[other]}, not for {f}.",
        ),
        Mistake(
            "z for a",
            step,
            evaluate(rule[unit.bend], {A: unit.z}),
            "The rule is right, but z was put in where the value a belongs.",
        ),
        Mistake("rest only", step, 1 - a, "This is 1 − a, only a part of the rule."),
        Mistake(SIGN, step, -unit.slope, f"{f} rises everywhere, so its slope is not negative."),
        _rounded([a, evaluate(rule[unit.bend], {A: a}) / a]),
    ]
    factors = (
        Factor("a", a, f"First the value: a = {f}(z), which is given."),
        Factor(
            "∂a/∂z",
            unit.slope,
            "Now the slope, written with a: " + ("a·(1 − a)." if unit.bend == "sigmoid" else "1 − a²."),
        ),
    )
    return {
        "question": f"Find the factor ∂a/∂z of this {unit.bend} unit: the slope {f}′(z).",
        "given": unit.given(),
        "truth": unit.slope,
        "factors": factors,
        "mistakes": mistakes,
        "example": unit.example(),
        "place": ("0.b", (0,)),
        "joined": "The last number is the answer.",
    }


class TwoPaths:
    """Two hidden sigmoid units, two linear outputs: a hidden unit reaches the cost along two paths."""

    def __init__(self, random: np.random.Generator) -> None:
        self.x = [float(v) for v in random.choice([-2, 2, 3, 4], 2, replace=False)]
        self.W1 = random.choice([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75], (2, 2), replace=False)
        self.b1 = random.choice([-0.3, -0.1, 0.1, 0.3], 2, replace=False)
        self.W2 = random.choice([-2.0, -1.5, -1.0, -0.5, 0.5, 1.5, 2.0], (2, 2), replace=False)
        self.targets = [float(v) for v in random.choice([-1.0, 0.0, 1.0, 2.0], 2, replace=False)]
        self.i, self.j = (int(v) for v in random.integers(2, size=2))
        self.z = np.array(self.x) @ self.W1 + self.b1
        self.a = np.array([value("sigmoid", float(z)) for z in self.z])
        self.slopes = [slope("sigmoid", float(z)) for z in self.z]
        self.y = self.a @ self.W2
        self.errors = [
            evaluate(derivative(HALF, A), {A: float(y), T: t}) for y, t in zip(self.y, self.targets, strict=True)
        ]
        self.terms = [float(e * w) for e, w in zip(self.errors, self.W2[self.j], strict=True)]
        self.back, self.slope = sum(self.terms), self.slopes[self.j]

    def example(self) -> nets.Example:
        """The same as a network of the library."""
        net = jp.Chain(jp.Linear(2), jp.Sigmoid(), jp.Linear(2, bias=False))
        params = (nets.linear(self.W1.tolist(), self.b1.tolist()), (), nets.linear(self.W2.tolist()))
        return nets.Example(net, params, nets.rows(self.x), nets.rows(self.targets))

    def given(self) -> tuple[tuple[str, str], ...]:
        """What the person may use."""
        j, n = self.j, "₁₂"[self.j]
        shown = [("x₁", self.x[0]), ("x₂", self.x[1]), (f"z of hidden unit {j + 1}", self.z[j])]
        shown += [(f"w from hidden {j + 1} to output {k + 1}", self.W2[j, k]) for k in (0, 1)]
        shown += [(f"target {k + 1}", self.targets[k]) for k in (0, 1)]
        answers = [(f"y{'₁₂'[k]}", number(float(self.y[k]), 4)) for k in (0, 1)]
        return (
            *((name, number(float(v))) for name, v in shown),
            (f"a{n} = σ(z{n})", number(float(self.a[j]), 4)),
            *answers,
        )

    def mistakes(self, rest: float, slope_too: bool) -> list[Mistake]:
        """What goes wrong on the way to the hidden unit; `rest` is the product of all that follows ∂C/∂a."""
        step, one, other = "the sum over paths", self.terms, 1 - self.j
        wrong_way = sum(e * w for e, w in zip(self.errors, self.W2[:, self.j], strict=True))
        found = [
            Mistake(
                "path 2 dropped",
                step,
                one[0] * rest,
                "The path through output 2 is missing: the hidden unit goes into both outputs.",
            ),
            Mistake(
                "path 1 dropped",
                step,
                one[1] * rest,
                "The path through output 1 is missing: the hidden unit goes into both outputs.",
            ),
            Mistake(
                "weights forgotten",
                step,
                sum(self.errors) * rest,
                "The errors of both outputs are added without the weights on the way: each is weighed with the "
                "weight that leads there.",
            ),
            Mistake(
                "other weights",
                step,
                wrong_way * rest,
                f"These are the weights into output {self.j + 1}. The ones that leave hidden unit {self.j + 1} are "
                "wanted.",
            ),
            Mistake(SIGN, "∂C/∂a", -self.back * rest, "The sign of the error is swapped: it is answer minus target."),
            Mistake(
                "half", "∂C/∂a", 2 * self.back * rest, "The ½ was forgotten: the cost is half the sum of the squares."
            ),
            Mistake(
                "neighbour",
                step,
                sum(e * w for e, w in zip(self.errors, self.W2[other], strict=True))
                * self.slopes[other]
                * rest
                / self.slope,
                f"This is the answer for hidden unit {other + 1}, the neighbour.",
            ),
        ]
        if slope_too:
            bend = rest / self.slope * self.back
            a, z = float(self.a[self.j]), float(self.z[self.j])
            found += [
                Mistake("value for slope", "∂a/∂z", a * bend, "This takes σ(z) in the place of σ′(z)."),
                Mistake(
                    "slope at a",
                    "∂a/∂z",
                    slope("sigmoid", a) * bend,
                    f"The slope σ′ was taken at a. It has to be taken at z = {number(z)}.",
                ),
                Mistake("slope forgotten", "∂a/∂z", bend, "The factor σ′(z) of the hidden unit is missing."),
            ]
        return found

    def factors(self) -> tuple[Factor, ...]:
        """The way back, step by step."""
        j = self.j
        through = [
            Factor(
                f"through output {k + 1}",
                self.terms[k],
                f"The error of output {k + 1} is y − target; times the weight from hidden unit {j + 1} to it.",
                (
                    Mistake(
                        "weight forgotten",
                        "the sum over paths",
                        self.errors[k],
                        "That is the error of the output; it still has to be multiplied by the weight.",
                    ),
                    Mistake(SIGN, "∂C/∂a", -self.terms[k], "The sign is swapped: it is answer minus target."),
                ),
            )
            for k in (0, 1)
        ]
        slopes = (Mistake("value for slope", "∂a/∂z", float(self.a[j]), "That is σ(z), the value."),)
        return (
            *through,
            Factor("∂C/∂a", self.back, "What comes back along both paths is added."),
            Factor("∂a/∂z", self.slope, "The slope σ′(z) of the hidden unit: a·(1 − a).", slopes),
        )


def _hidden_error(random: np.random.Generator) -> dict[str, Any]:
    net = TwoPaths(random)
    mistakes = [*net.mistakes(net.slope, True), _rounded([net.back, net.slope])]
    return {
        "question": f"Find δ = ∂C/∂z of hidden unit {net.j + 1}. The outputs are linear, C = ½Σ(y − target)².",
        "given": net.given(),
        "truth": net.back * net.slope,
        "factors": net.factors(),
        "mistakes": mistakes,
        "example": net.example(),
        "place": ("0.b", (net.j,)),
        "joined": "Multiply ∂C/∂a by ∂a/∂z.",
    }


def _hidden_weight(random: np.random.Generator) -> dict[str, Any]:
    net = TwoPaths(random)
    x, w, step = net.x[net.i], float(net.W1[net.i, net.j]), "∂z/∂w"
    delta = net.back * net.slope
    mistakes = [
        *net.mistakes(net.slope * x, True),
        Mistake(
            "input forgotten",
            step,
            delta,
            f"This is δ. The last factor is missing, the input x{'₁₂'[net.i]} = {number(x)}.",
        ),
        Mistake(
            "weight for input", step, delta * w, f"This uses the weight itself, {number(w)}, where the input belongs."
        ),
        Mistake(
            "other input",
            step,
            delta * net.x[1 - net.i],
            f"This has the input x{'₁₂'[1 - net.i]}; the weight begins at x{'₁₂'[net.i]}.",
        ),
        _rounded([net.back, net.slope, x]),
    ]
    factors = (
        *net.factors(),
        Factor(
            "∂z/∂w",
            x,
            "The input where the weight begins.",
            (Mistake("weight for input", step, w, "That is the weight."),),
        ),
    )
    question = (
        f"Find ∂C/∂w for the weight ({number(w)}) from x{'₁₂'[net.i]} to hidden unit {net.j + 1}. The outputs are "
        "linear, C = ½Σ(y − target)²."
    )
    return {
        "question": question,
        "given": net.given(),
        "truth": delta * x,
        "factors": factors,
        "mistakes": mistakes,
        "example": net.example(),
        "place": ("0.W", (net.i, net.j)),
        "joined": "Multiply ∂C/∂a, ∂a/∂z and ∂z/∂w.",
    }


def _update(random: np.random.Generator) -> dict[str, Any]:
    unit = Unit(random)
    rate, i = float(random.choice([0.1, 0.2, 0.5, 2.0])), int(random.integers(3))
    w, n = unit.w[i], "₁₂₃"[i]
    g = unit.miss * unit.slope * unit.x[i]
    step = "the update"
    if abs(rate * g) < 0.15 * abs(w):  # a step that can be seen
        return {"truth": 0.0, "mistakes": ()}
    mistakes = [
        Mistake("unchanged", step, w, "This is the weight as it was. A step changes it by −η·∂C/∂w."),
        Mistake(
            "added",
            step,
            w + rate * g,
            "The gradient was added, as the article says. That climbs: C rises. It has to be subtracted.",
        ),
        Mistake(
            "rate forgotten",
            step,
            w - g,
            f"The learning rate η = {number(rate)} is missing: a step is η times the gradient.",
        ),
        Mistake(
            "change only",
            step,
            -rate * g,
            "This is the change −η·∂C/∂w. The new weight is the old one plus this change.",
        ),
        Mistake("gradient only", step, g, "This is the gradient. The new weight is w − η·∂C/∂w."),
        Mistake("divided", step, w - g / rate, "The gradient was divided by η. It has to be multiplied."),
        Mistake("rate only", step, w - rate, "This subtracts η alone, without the gradient."),
    ]
    factors = (
        Factor("∂C/∂w", g, f"It is given: {number(g, 4)}."),
        Factor(
            "η · ∂C/∂w",
            rate * g,
            "Multiply by the learning rate.",
            (
                Mistake("rate forgotten", step, g, "That is the gradient alone."),
                Mistake("divided", step, g / rate, "Multiply, do not divide."),
            ),
        ),
    )
    given = ((f"w{n}", number(w)), (f"∂C/∂w{n}", number(g, 4)), ("η", number(rate)))
    return {
        "question": f"Take one step of gradient descent: what is the new w{n}?",
        "given": given,
        "truth": w - rate * g,
        "factors": factors,
        "mistakes": mistakes,
        "example": unit.example(),
        "place": ("0.W", (i, 0)),
        "joined": "Subtract it from w.",
    }


def _promise(random: np.random.Generator) -> dict[str, Any]:
    w = [float(v) for v in random.choice([-1.5, -1.0, -0.5, 0.4, 0.5, 0.6, 1.5], 2, replace=False)]
    x, target = float(random.choice([2.0, 3.0, -2.0])), float(random.choice([1.0, 2.0, -1.0]))
    i = int(random.integers(2))
    y = w[0] * w[1] * x
    miss = evaluate(derivative(HALF, A), {A: y, T: target})
    own, other = w[i], w[1 - i]
    truth, n, m = miss * other * x, "₁₂"[i], "₁₂"[1 - i]
    step = f"∂y/∂w{n}"
    mistakes = [
        Mistake(SIGN, "∂C/∂y", -truth, "The sign of the error is swapped: it is answer minus target."),
        Mistake("half", "∂C/∂y", 2 * truth, "The ½ was forgotten: the cost is ½(y − target)²."),
        Mistake("input forgotten", step, miss * other, f"The input is missing: y = w₁·w₂·x, so ∂y/∂w{n} = w{m}·x."),
        Mistake(
            "other weight forgotten", step, miss * x, f"The weight w{m} is missing: what w{n} does passes through it."
        ),
        Mistake(
            "own weight",
            step,
            miss * own * x,
            f"This has w{n} itself as a factor. The other one is wanted: this is the answer for w{m}.",
        ),
        Mistake(
            "both weights",
            step,
            miss * y,
            f"This multiplies by all of y. By w{n} itself the derivative of w₁·w₂·x is w{m}·x.",
        ),
        Mistake(
            "not differentiated",
            "∂C/∂y",
            evaluate(HALF, {A: y, T: target}) * other * x,
            "This uses C itself in the place of ∂C/∂y.",
        ),
        _rounded([miss, other, x]),
    ]
    factors = (
        Factor("y", y, "First forward: y = w₁·w₂·x."),
        Factor(
            "∂C/∂y",
            miss,
            "The difference y − target.",
            (Mistake(SIGN, "∂C/∂y", -miss, "Answer minus target, not the other way round."),),
        ),
        Factor(
            step,
            other * x,
            f"y = w₁·w₂·x: by w{n} its derivative is w{m}·x.",
            (Mistake("own weight", step, own * x, f"That has w{n} itself in it."),),
        ),
    )
    given = (("w₁", number(w[0])), ("w₂", number(w[1])), ("x", number(x)), ("target", number(target)))
    example = nets.chain(w, x, target)
    return {
        "question": f"Two linear units in a row, y = w₁·w₂·x, C = ½(y − target)². Find ∂C/∂w{n}.",
        "given": given,
        "truth": truth,
        "factors": factors,
        "mistakes": mistakes,
        "example": example,
        "place": (f"{i}.W", (0, 0)),
        "joined": f"Multiply ∂C/∂y by {step}.",
    }


KINDS: Mapping[str, tuple[str, Callable[[np.random.Generator], dict[str, Any]]]] = {
    "activation_slope": ("The slope of an activation", _activation_slope),
    "output_weight": ("A weight of the last layer", _output_weight),
    "output_bias": ("A bias", _output_bias),
    "two_weights": ("Two weights in a row", _promise),
    "hidden_error": ("The error of a hidden unit", _hidden_error),
    "hidden_weight": ("A hidden weight with two paths", _hidden_weight),
    "update": ("The update", _update),
}


@lru_cache(64)
def exercise(kind: str, seed: int) -> Exercise:
    """Return the exercise of a kind that belongs to a seed: the same seed, the same numbers."""
    pick(kind, KINDS, "exercise")
    if not 0 <= seed <= LARGEST_SEED:
        raise JaxpropError(f"the number of an exercise is from 0 to {LARGEST_SEED}, found {seed}")
    for attempt in range(1000):
        random = np.random.default_rng([seed, attempt, list(KINDS).index(kind)])
        drawn = KINDS[kind][1](random)
        drawn["mistakes"] = tuple(drawn["mistakes"])
        if 0.01 < abs(drawn["truth"]) < 50 and told_apart(drawn["truth"], drawn["mistakes"]):
            return Exercise(kind=kind, seed=seed, **drawn)
    raise JaxpropError(f"no exercise {kind} could be made from {seed}; take another number")


def picture(asked: Exercise) -> str:
    """Return the network of an exercise, drawn with its weights; what is asked about is marked."""
    weights = [np.asarray(p.W) for p in asked.example.params if p]
    inputs = [number(float(v), 3) for v in np.asarray(asked.example.x)[0]]
    columns = [inputs, *(["a"] if W.shape[1] == 1 else [f"{k + 1}" for k in range(W.shape[1])] for W in weights)]
    path, at = asked.place
    layer = [i for i, p in enumerate(asked.example.params) if p].index(int(path.split(".")[0]))
    marked = ((layer, *at),) if path.endswith("W") else ()
    said = f"A network of {', '.join(str(len(column)) for column in columns)} units. {asked.question}"
    return network(columns, weights, said, marked=marked)


def check(asked: Exercise, answer: str) -> Verdict:
    """Say whether an answer is right, and if not, which step went wrong, if that can be told."""
    return judge(read(answer), asked.truth, asked.mistakes)


def check_factors(asked: Exercise, answers: list[str]) -> tuple[Verdict, int]:
    """Check factors one by one; return what is to say, and how many are right from the first on."""
    for i, (factor, answer) in enumerate(zip(asked.factors, answers, strict=False)):
        verdict = judge(read(answer), factor.value, factor.mistakes)
        if not verdict.right:
            told = verdict.told if verdict.mistake else f"{factor.name} is another number. {factor.ask}"
            return Verdict(False, f"The step that went wrong is {factor.name}. {told}", verdict.mistake, factor.name), i
    done = min(len(answers), len(asked.factors))
    if done < len(asked.factors):
        return Verdict(False, asked.factors[done].ask, "", asked.factors[done].name), done
    told = f"All of these are right, so it was the last step that went wrong. {asked.joined}"
    return Verdict(False, told, "the last step", "the last step"), done
