"""The lesson of chapter 4, the cost: row 14."""

import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp
from jaxprop.derivations.calculus import derivative
from jaxprop.derivations.derivation import Equation, worked
from jaxprop.derivations.formula import Derivative, Formula, Symbol
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.chapter_1 import UNIT
from jaxprop_explorer.lessons.drawing import Dot, Line, chart
from jaxprop_explorer.lessons.parts import Anchor, Choice, Lesson, Setup, Shown, Slider, Try, Widget, number

COSTS = {"half": jp.HalfSquaredError(), "whole": jp.MeanSquaredError()}
NAMES = {
    "ours": (("what the network answers", "y"), ("what it should answer", "target")),
    "texts": (("what the network answers", "ŷ"), ("what it should answer", "y")),
    "article": (
        ("what the network answers", "y, and a"),
        ("what it should answer", "ŷ, and in C(x, θ₁, θ₂, y) also y"),
    ),
}


def _half(cost: str, target: float) -> Shown:
    one = nets.unit(target, COSTS[cost])
    a, (C, grads) = float(one.y[0, 0]), one.grads()
    slope, of_w = float(one.cost.delta(jnp.asarray(one.y), one.targets)[0, 0]), float(grads[0].W[0, 0])
    other = nets.unit(target, COSTS["half" if cost == "whole" else "whole"])
    C2, grads2 = other.grads()
    grid = np.linspace(-0.5, 1.5, 81)
    lines = tuple(
        Line(
            grid,
            np.asarray(c(jnp.asarray(grid)[:, None], jnp.full((81, 1), target, float))),
            label,
            i + 1,
            dashed=i > 0,
        )
        for i, (label, c) in enumerate((("with ½", COSTS["half"]), ("without ½", COSTS["whole"])))
    )
    words = (
        f"The unit answers {number(a)}, wanted is {number(target)}: C = {number(C)}, ∂C/∂a = {number(slope)}, "
        f"∂C/∂w₁ = {number(of_w)}."
    )
    found = {"C": C, "∂C/∂a": slope, "gradient": of_w}
    if C:
        found |= {"C ratio": C2 / C, "gradient ratio": float(grads2[0].W[0, 0]) / of_w}
        words += (
            f" {'Without' if cost == 'half' else 'With'} the ½ both C and the gradient are multiplied by "
            f"{number(found['C ratio'])}."
        )
    drawn = chart(lines, (Dot(a, C, number(C, 3), 1),), x_label="a", y_label="C", y=(0.0, 1.2), said=words)
    return Shown(words, found, drawn)


def _names(library: str) -> Shown:
    y, target = jnp.array([[0.12]], float), jnp.array([[2.0]], float)
    found = {
        "HalfSquaredError": jp.HalfSquaredError()(y, target)[0],
        "l2_loss": optax.l2_loss(y, target)[0, 0],
        "MeanSquaredError": jp.MeanSquaredError()(y, target)[0],
        "squared_error": optax.squared_error(y, target)[0, 0],
    }[library]
    words = f"For the answer 0.12 and the target 2, {library} says {number(float(found))}. "
    words += "It is one sample, so there is no mean" + (
        ", and it has the half." if library in ("HalfSquaredError", "l2_loss") else "; it has no half."
    )
    return Shown(words, {"C": float(found)})


def _swap(notation: str) -> Shown:
    """What y and ŷ mean, and what comes of reading a formula in another notation."""
    one = nets.unit()
    right = float(one.cost.delta(jnp.asarray(one.y), one.targets)[0, 0])
    swapped = float(one.cost.delta(one.targets, jnp.asarray(one.y))[0, 0])
    (answer, y), (wanted, label) = NAMES[notation]
    words = (
        f"{answer.capitalize()} is written {y}; {wanted} is written {label}. Who mixes them up gets "
        f"{number(swapped)} for "
        f"∂C/∂a instead of {number(right)}: the sign is wrong, and the network climbs."
    )
    rows = (("", "written"), (answer, y), (wanted, label))
    return Shown(words, {"right": right, "swapped": swapped}, rows=rows)


def _formulas() -> tuple[Equation, ...]:
    C, a, target = Symbol("C"), Symbol("a"), Symbol("target")
    values: dict[Formula, float] = {a: float(nets.unit().y[0, 0]), target: 1.0}
    half = (a - target) ** 2 / 2
    return worked(C, half, values=values), worked(Derivative(C, a), derivative(half, a), values=values)


ROW_14 = Lesson(
    number=14,
    chapter=4,
    title="The cost: half the square of the miss",
    quote="For now we will use Mean Squared Error (MSE): MSE(a, ŷ) = ½(a − ŷ)². … a cost function C which, given an "
    "input, returns the “distance” the predicted answer was from the correct answer.",
    paragraphs=(
        "Take the difference, square it, and halve it. The ½ is there for the slope: it cancels the 2 of the square, "
        "so "
        "∂C/∂a is the plain difference.",
        "It is not the mean squared error. There is no mean, it is one sample; and it has a ½ that others leave out. "
        "That is a factor of 2 in C and in every gradient, so a learning rate from one text and a cost from another "
        "may "
        "mean steps twice as long. Here it is called half squared error.",
        "The letters are a trap. Most texts write y for the label and ŷ for the prediction, the article the other way "
        "round, and later once more the other way. Here y is what the network answers, and the other is the target. A "
        "cost takes these two, an answer and a target; the input is not among them.",
    ),
    widgets=(
        Widget(
            "half",
            "With the ½ and without",
            (
                Choice("cost", "Cost", {"half": "½(a − target)²", "whole": "(a − target)²"}, "half"),
                Slider("target", "target", -0.5, 1.5, 0.05, 1),
            ),
            _half,
        ),
        Widget(
            "names",
            "What libraries call it",
            (
                Choice(
                    "library",
                    "Function",
                    {
                        "HalfSquaredError": "jaxprop HalfSquaredError",
                        "l2_loss": "optax.l2_loss",
                        "MeanSquaredError": "jaxprop MeanSquaredError",
                        "squared_error": "optax.squared_error",
                    },
                    "HalfSquaredError",
                ),
            ),
            _names,
        ),
        Widget(
            "swap",
            "y and ŷ",
            (
                Choice(
                    "notation",
                    "Notation",
                    {"ours": "of this page", "texts": "of most texts", "article": "of the article"},
                    "ours",
                ),
            ),
            _swap,
        ),
    ),
    tries=(
        Try("Leave the ½ out", "half", {"cost": "whole", "target": 1}),
        Try("Change the target alone, and see C change", "half", {"cost": "half", "target": 0}),
        Try("Ask optax.squared_error", "names", {"library": "squared_error"}),
        Try("Switch to the article's notation", "swap", {"notation": "article"}),
    ),
    anchors=(
        Anchor("C of the unit", 0.021191, lambda: nets.unit().grads()[0]),
        Anchor("∂C/∂a", -0.20587, lambda: _half("half", 1.0).numbers["∂C/∂a"]),
        Anchor("C without the ½, divided by C", 2, lambda: _half("half", 1.0).numbers["C ratio"]),
        Anchor(
            "the gradient without the ½, divided by the gradient",
            2,
            lambda: _half("half", 1.0).numbers["gradient ratio"],
        ),
        Anchor("optax.l2_loss for 0.12 and 2", 1.7672, lambda: _names("l2_loss").numbers["C"]),
        Anchor("optax.squared_error for 0.12 and 2", 3.5344, lambda: _names("squared_error").numbers["C"]),
    ),
    setup=Setup(UNIT.settings, {}, "network", {"path": "0.W", "index": [0, 0]}, UNIT.words),
    formulas=_formulas,
)

LESSONS = (ROW_14,)
