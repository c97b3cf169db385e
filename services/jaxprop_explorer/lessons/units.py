"""Units with numbers that are drawn, what is asked about them, and what goes wrong on the way, for the exercises."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

import jaxprop as jp
from jaxprop.derivations.calculus import derivative
from jaxprop.derivations.formula import Call, Formula, Symbol, evaluate
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.answers import Mistake
from jaxprop_explorer.lessons.parts import number

SIGN = "sign"
Z, A, T = Symbol("z"), Symbol("a"), Symbol("t")
HALF, WHOLE = (A - T) ** 2 / 2, (A - T) ** 2
_MISS = derivative(HALF, A)
STEEP = {"sigmoid": 2.5, "tanh": 1.8}  # how far z is from 0 at most
SMALLEST = 0.15  # a difference that is smaller has too few digits left
BENDS = {"sigmoid": jp.Sigmoid(), "tanh": jp.Tanh()}
LETTER = {"sigmoid": "σ", "tanh": "tanh"}
RULES = {"sigmoid": A * (1 - A), "tanh": 1 - A**2}  # slopes written in the value, as people calculate them


@dataclass(frozen=True)
class Factor:
    """One factor of the product: its name, its number, how to find it, and what goes wrong with it."""

    name: str
    value: float
    ask: str
    mistakes: tuple[Mistake, ...] = ()


class Unit:
    """One unit with numbers that are drawn until the four digits that are given are enough to calculate with."""

    def __init__(self, random: np.random.Generator, inputs: int = 3) -> None:
        self._draw(random, inputs)
        while abs(self.z) > STEEP[self.bend] or abs(self.miss) < SMALLEST:
            self._draw(random, inputs)

    def _draw(self, random: np.random.Generator, inputs: int) -> None:
        self.bend = str(random.choice(list(BENDS)))
        self.x = [float(v) for v in random.choice([-3, -2, 2, 3, 4, 5], inputs, replace=False)]
        self.w = [float(v) for v in random.choice([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75], inputs, replace=False)]
        self.b = float(random.choice([-0.4, -0.3, -0.2, 0.2, 0.3, 0.4]))
        self.target = float(random.choice([-1.0, 0.0, 1.0] if self.bend == "tanh" else [0.0, 1.0]))
        self.z = sum(w * x for w, x in zip(self.w, self.x, strict=True)) + self.b
        self.a = value(self.bend, self.z)
        self.slope = slope(self.bend, self.z)
        self.miss = miss(self.a, self.target)

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
    values: dict[Formula, float] = {Z: z}
    return evaluate(Call(bend, Z), values)


def slope(bend: str, z: float) -> float:
    """The slope of an activation at z, by the library's calculus."""
    values: dict[Formula, float] = {Z: z}
    return evaluate(_slope_formula(bend), values)


def miss(answer: float, target: float) -> float:
    """∂C/∂a of the half squared error, by the library's calculus."""
    return evaluate(_MISS, {A: answer, T: target})


@lru_cache(8)
def _slope_formula(bend: str) -> Formula:
    return derivative(Call(bend, Z), Z)


def of_miss(unit: Unit, rest: float) -> list[Mistake]:
    """What goes wrong with ∂C/∂a, the other factors being right and their product `rest`."""
    at: dict[Formula, float] = {A: unit.a, T: unit.target}
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


def of_slope(unit: Unit, rest: float) -> list[Mistake]:
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


def rounded(factors: list[float]) -> Mistake:
    """All factors rounded to one digit before they are multiplied."""
    told = "This is rounded too early: keep three or four digits until the end."
    return Mistake("rounding", "rounding", math.prod(float(f"{f:.1g}") for f in factors), told)


def unit_factors(unit: Unit) -> tuple[Factor, Factor]:
    """The two factors that all parameters of a unit share, ∂C/∂a and ∂a/∂z."""
    f = LETTER[unit.bend]
    rule = "a·(1 − a)" if unit.bend == "sigmoid" else "1 − a²"
    return (
        Factor(
            "∂C/∂a",
            unit.miss,
            "How does C = ½(a − target)² change with a? It is a − target.",
            tuple(of_miss(unit, 1.0)),
        ),
        Factor(
            "∂a/∂z",
            unit.slope,
            f"What is the slope {f}′(z)? It can be written with a: {rule}.",
            tuple(of_slope(unit, 1.0)[:2]),
        ),
    )


class TwoPaths:
    """Two hidden sigmoid units, two linear outputs: a hidden unit reaches the cost along two paths.

    Numbers are drawn until the four digits that are given are enough to calculate with.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self._draw(random)
        while min(map(abs, (*self.errors, self.back))) < SMALLEST or abs(self.z[self.j]) > STEEP["sigmoid"]:
            self._draw(random)

    def _draw(self, random: np.random.Generator) -> None:
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
        self.errors = [miss(float(y), target) for y, target in zip(self.y, self.targets, strict=True)]
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
