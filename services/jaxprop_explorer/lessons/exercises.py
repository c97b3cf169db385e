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

from jaxprop.derivations import Derivation
from jaxprop.derivations.formula import evaluate
from jaxprop.errors import JaxpropError, pick
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.answers import Mistake, Verdict, judge, read, told_apart
from jaxprop_explorer.lessons.drawing import network
from jaxprop_explorer.lessons.parts import number
from jaxprop_explorer.lessons.units import (
    HALF,
    LETTER,
    RULES,
    SIGN,
    A,
    Factor,
    T,
    TwoPaths,
    Unit,
    miss,
    of_miss,
    of_slope,
    rounded,
    slope,
    unit_factors,
)

LARGEST_SEED = 2**31 - 1


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


def _output_weight(random: np.random.Generator) -> dict[str, Any]:
    unit = Unit(random)
    i = int(random.integers(3))
    x, w, n = unit.x[i], unit.w[i], "₁₂₃"[i]
    delta = unit.miss * unit.slope
    j = (i + 1) % 3
    step = "∂z/∂w"
    mistakes = [
        *of_miss(unit, unit.slope * x),
        *of_slope(unit, unit.miss * x),
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
        rounded([unit.miss, unit.slope, x]),
    ]
    factors = (
        *unit_factors(unit),
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
        *of_miss(unit, unit.slope),
        *of_slope(unit, unit.miss),
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
        rounded([unit.miss, unit.slope]),
    ]
    factors = (
        *unit_factors(unit),
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
            evaluate(RULES[other], {A: a}),
            f"This is the rule for {LETTER[other]}, not for {f}.",
        ),
        Mistake(
            "z for a",
            step,
            evaluate(RULES[unit.bend], {A: unit.z}),
            "The rule is right, but z was put in where the value a belongs.",
        ),
        Mistake("rest only", step, 1 - a, "This is 1 − a, only a part of the rule."),
        Mistake(SIGN, step, -unit.slope, f"{f} rises everywhere, so its slope is not negative."),
        rounded([a, evaluate(RULES[unit.bend], {A: a}) / a]),
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


NAMES = ("∂C/∂a", "∂a/∂z", "∂z/∂w")


def _one_factor(random: np.random.Generator) -> dict[str, Any]:
    """The product with one factor left out."""
    unit = Unit(random)
    i, blank = int(random.integers(3)), int(random.integers(3))
    x, w, n, j = unit.x[i], unit.w[i], "₁₂₃"[i], (i + 1) % 3
    values, name, f = (unit.miss, unit.slope, x), NAMES[blank], LETTER[unit.bend]
    product = math.prod(values)
    other = "tanh" if unit.bend == "sigmoid" else "sigmoid"
    slips = {
        0: [
            *of_miss(unit, 1.0),
            Mistake("answer", name, unit.a, "This is the answer a itself. How far is it from the target?"),
            Mistake(
                "error of the unit", name, unit.miss * unit.slope, "This is δ = ∂C/∂z, which has ∂a/∂z in it already."
            ),
        ],
        1: [
            *of_slope(unit, 1.0)[:2],
            Mistake(
                "other activation", name, evaluate(RULES[other], {A: unit.a}), f"This is the rule for {LETTER[other]}."
            ),
            Mistake(
                "z for a", name, evaluate(RULES[unit.bend], {A: unit.z}), "Here z was put in where the value a belongs."
            ),
            Mistake(SIGN, name, -unit.slope, f"{f} rises everywhere, so its slope is not negative."),
        ],
        2: [
            Mistake(
                "weight for input", name, w, f"This is the weight w{n}. In w·x it is the input that w is multiplied by."
            ),
            Mistake("neighbour", name, unit.x[j], f"This is x{'₁₂₃'[j]}, the input of the neighbour."),
            Mistake("term", name, w * x, f"This is the whole term w{n}·x{n}. Its derivative by w{n} is x{n} alone."),
            Mistake("one", name, 1.0, "That is ∂z/∂b. At a weight stands its input."),
            Mistake(SIGN, name, -x, "The number is right, but its sign is not."),
        ],
    }[blank]
    slips.append(Mistake("product", name, product, "This is the product, ∂C/∂w. The factor is wanted."))
    shown = " · ".join("?" if k == blank else number(v, 4) for k, v in enumerate(values))
    question = f"∂C/∂w{n} = ∂C/∂a · ∂a/∂z · ∂z/∂w{n} = {shown} = {number(product, 4)}. Which number is {name}?"
    steps = (*unit_factors(unit), Factor(NAMES[2], x, f"How does z change with w{n}? Only one term of Σ w·x has it."))
    return {
        "question": question,
        "given": unit.given(),
        "truth": values[blank],
        "factors": (steps[blank],),
        "mistakes": slips,
        "example": unit.example(),
        "place": ("0.W", (i, 0)),
        "joined": "This is the answer.",
    }


def _hidden_error(random: np.random.Generator) -> dict[str, Any]:
    net = TwoPaths(random)
    mistakes = [*net.mistakes(net.slope, True), rounded([net.back, net.slope])]
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
        rounded([net.back, net.slope, x]),
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
    error = miss(y, target)
    own, other = w[i], w[1 - i]
    truth, n, m = error * other * x, "₁₂"[i], "₁₂"[1 - i]
    step = f"∂y/∂w{n}"
    mistakes = [
        Mistake(SIGN, "∂C/∂y", -truth, "The sign of the error is swapped: it is answer minus target."),
        Mistake("half", "∂C/∂y", 2 * truth, "The ½ was forgotten: the cost is ½(y − target)²."),
        Mistake("input forgotten", step, error * other, f"The input is missing: y = w₁·w₂·x, so ∂y/∂w{n} = w{m}·x."),
        Mistake(
            "other weight forgotten", step, error * x, f"The weight w{m} is missing: what w{n} does passes through it."
        ),
        Mistake(
            "own weight",
            step,
            error * own * x,
            f"This has w{n} itself as a factor. The other one is wanted: this is the answer for w{m}.",
        ),
        Mistake(
            "both weights",
            step,
            error * y,
            f"This multiplies by all of y. By w{n} itself the derivative of w₁·w₂·x is w{m}·x.",
        ),
        Mistake(
            "not differentiated",
            "∂C/∂y",
            evaluate(HALF, {A: y, T: target}) * other * x,
            "This uses C itself in the place of ∂C/∂y.",
        ),
        rounded([error, other, x]),
    ]
    factors = (
        Factor("y", y, "First forward: y = w₁·w₂·x."),
        Factor(
            "∂C/∂y",
            error,
            "The difference y − target.",
            (Mistake(SIGN, "∂C/∂y", -error, "Answer minus target, not the other way round."),),
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
    "one_factor": ("Fill in a factor", _one_factor),
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
        random = np.random.default_rng([seed, attempt, *kind.encode()])
        drawn = KINDS[kind][1](random)
        drawn["mistakes"] = tuple(drawn["mistakes"])
        if 0.01 < abs(drawn["truth"]) < 50 and told_apart(drawn["truth"], drawn["mistakes"]):
            return Exercise(kind=kind, seed=seed, **drawn)
    raise JaxpropError(f"no exercise {kind} could be made from {seed}; take another number")


def _named(letter: str, units: int) -> list[str]:
    return [letter] if units == 1 else [f"{letter}{'₁₂₃'[k]}" for k in range(units)]


def picture(asked: Exercise) -> str:
    """Return the network of an exercise, drawn with its weights; what is asked about is marked."""
    weights = [np.asarray(p.W) for p in asked.example.params if p]
    inputs = [number(float(v), 3) for v in np.asarray(asked.example.x)[0]]
    letters = ["a"] if len(weights) == 1 else ["a", "y"]  # what the units of a layer hand on, as the question calls it
    columns = [inputs, *(_named(letter, W.shape[1]) for letter, W in zip(letters, weights, strict=True))]
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
