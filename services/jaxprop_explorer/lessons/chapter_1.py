"""Lessons of chapter 1, the perceptron: rows 2, 3 and 4."""

import base64
import io
from functools import lru_cache

import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from jaxprop import plot
from jaxprop.derivations.derivation import Equation, worked
from jaxprop.derivations.formula import Call, Formula, Product, Sum, Symbol
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.drawing import network
from jaxprop_explorer.lessons.parts import Anchor, Choice, Lesson, Setup, Shown, Try, Widget, number, numbers

UNIT = Setup(
    settings={"data": "neuron", "learning_rate": 0.1},
    words="One unit with the inputs 1, 3 and 2, the weights 0.5, −0.25 and 0.75, the bias 0.1 and a sigmoid; "
    "it should answer 1.",
)
LETTERS = (
    ("letter", "in the article it is", "and also", "here"),
    ("a", "the input node", "the activation σ(z)", "the activation only"),
    ("x", "the input of f(x, θ)", "the weights of the last layer", "the input only"),
    ("n₁", "a node of the drawing", "the number that this node hands on", "written x₁ when the number is meant"),
    ("δ", "the sign of a derivative", "(elsewhere) the error of a unit", "the error ∂C/∂z only; derivatives have ∂"),
    ("y", "the prediction", "the label, in C(x, θ₁, θ₂, y)", "what the network answers; the label is the target"),
)


def _of_unit() -> tuple[Sum, dict[Formula, float]]:
    """Row 3's sum as a formula, and the number of every symbol in it."""
    one = nets.unit()
    pairs = [(Symbol("w", (i,)), Symbol("x", (i,))) for i in (1, 2, 3)]
    W, b = one.params[0]
    values: dict[Formula, float] = {Symbol("b"): float(b[0])}
    for (w, x), weight, given in zip(pairs, W[:, 0], one.x[0], strict=True):
        values |= {w: float(weight), x: float(given)}
    return Sum((*map(Product, pairs), Symbol("b"))), values


def forward_formulas() -> tuple[Equation, ...]:
    """z and a of row 2's unit, with their numbers."""
    total, values = _of_unit()
    z = Symbol("z")
    summed = worked(z, total, values=values)
    values[z] = float(nets.unit().tape["1"].x[0, 0])
    return summed, worked(Symbol("a"), Call("sigmoid", z), values=values)


def _prune(edges: str) -> Shown:
    shown = nets.pruned(kept=edges == "all")
    tape, (first, second, _) = shown.tape, shown.params
    n, z, a = tape["0"].y[0], float(tape["2"].x[0, 0]), float(tape["2"].y[0, 0])
    kept = int(np.sum(np.asarray(first.W) != 0))
    words = (
        f"{kept} of 9 weights between a and n are not 0, so n = ({numbers(n)}), z = {number(z)} and a = {number(a)}."
    )
    columns = [["1", "3", "2"], [f"n{i}" for i in "₁₂₃"], ["m₁"]]
    drawn = network(
        columns, [np.asarray(first.W), np.asarray(second.W)], f"The inputs 1, 3, 2, three units n, and m₁. {words}"
    )
    return Shown(words, {"edges": kept, "z": z, "a": a}, drawn, said=words)


def _letters(notation: str) -> Shown:
    if notation == "article":
        twice = sum(bool(row[2]) for row in LETTERS[1:])
        words = f"In the article {twice} letters stand for two things each, so a formula cannot be read on its own."
        return Shown(words, {"letters that mean two things": twice}, rows=tuple(row[:3] for row in LETTERS))
    rows = tuple((row[0], row[3]) for row in LETTERS)
    return Shown("On this page one letter means one thing.", {"letters that mean two things": 0}, rows=rows)


def weighted(form: str) -> Shown:
    """Row 3's sum as it is, and in the two forms that the article gives it."""
    one = nets.unit()
    W, b = one.params[0]
    terms = np.asarray(one.x[0] * W[:, 0])
    right = float(one.tape["0"].y[0, 0])
    bias = float(b[0])
    if form == "right":
        words = f"The bias is added once, outside the Σ: z = {number(right)}. The layer itself says the same."
        return Shown(words, {"z": right, "biases": float(b.size)}, rows=_terms(terms, [*[0.0] * 3, bias]))
    inside = float(np.sum(terms + bias))
    if form == "inside":
        words = (
            f"With b inside the Σ it would be added three times, and z would be {number(inside)}, not {number(right)}."
        )
        return Shown(words, {"z": inside, "right": right}, rows=_terms(terms, [bias] * 3))
    each = terms + bias
    words = (
        f"Without a Σ there are three numbers, {numbers(each)}: one for each input and none for the unit, "
        f"whose sum is {number(right)}."
    )
    return Shown(words, {"numbers": len(each), "first": float(each[0]), "right": right}, rows=_terms(terms, [bias] * 3))


def _terms(terms: np.ndarray, biases: list[float]) -> tuple[tuple[str, ...], ...]:
    rows = [(f"input {i + 1}", number(float(term)), number(biases[i])) for i, term in enumerate(terms)]
    if len(biases) > len(terms):
        rows.append(("once", "", number(biases[-1])))
    return (("", "weight · input", "bias"), *rows)


@lru_cache(1)
def _neuron_pictures() -> list[str]:
    """The pictures of a neuron and of a perceptron, each as an address that holds it."""
    from matplotlib.figure import Figure

    figures = [Figure((4.6, 3.3), layout="constrained") for _ in range(2)]
    plot.neuron_and_perceptron(axes=[figure.subplots() for figure in figures])
    found = []
    for figure in figures:
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
        found.append("data:image/svg+xml;base64," + base64.b64encode(written.getvalue()).decode())
    return found


def _likened() -> Shown:
    words = (
        "Dendrites are likened to inputs, synapses to weights, the cell body to sum and activation, the axon to the "
        "output. Not alike: a nerve cell answers in time, with spikes; here a formula gives a number, without time."
    )
    try:
        neuron, perceptron = _neuron_pictures()
    except ImportError:
        return Shown(f"{words} (The picture needs matplotlib.)", {"likened parts": 4})
    return Shown(words, {"likened parts": 4}, neuron, perceptron, f"A neuron, and a perceptron beside it. {words}")


def _units(unit: str) -> Shown:
    x, targets = nets.rows([1, 3, 2]), nets.rows([1])
    w = jnp.array([[0.5], [-0.25], [-0.75]], float)
    functions = {
        "step": lambda x, w: (x @ w > 0).astype(w.dtype),
        "linear": lambda x, w: x @ w,
        "sigmoid": lambda x, w: jp.Sigmoid()(x @ w),
    }
    cost, gradient = jp.auto.value_and_grad(functions[unit], jp.HalfSquaredError())(x, w, targets)
    slopes = [float(g) for g in gradient[:, 0]]
    answer = float(functions[unit](x, w)[0, 0])
    verdict = (
        "A slope of 0 says nothing about where to go, so this unit cannot learn by gradient descent."
        if unit == "step"
        else "The slopes say how to do better."
    )
    words = (
        f"It answers {number(answer)} where 1 is wanted, C = {number(float(cost))}, ∂C/∂w = ({numbers(slopes)}). "
        f"{verdict}"
    )
    return Shown(words, {"answer": answer, "C": float(cost), "largest slope": max(map(abs, slopes))})


ROW_2 = Lesson(
    number=2,
    chapter=1,
    title="A pruned network, with labels",
    quote="To see how this structure allows for learning, let's prune some of the connections and add some labels.",
    paragraphs=(
        "Data comes in at the left and follows the lines. Three units n each pass one input on, and one unit, m₁, "
        "takes all three. To prune a connection is to set its weight to 0: the pruned network is the full one with a "
        "mask on its weights.",
        "m₁ does two things. It adds up what comes in, each input times its weight, and the bias: that is z. Then it "
        "bends z by its activation function, here the sigmoid: that is a, its activation.",
        "The article's letters are hard to keep apart: a is an input and an activation, x an input and a weight. "
        "Here one letter means one thing; the legend below says which.",
    ),
    widgets=(
        Widget(
            "prune",
            "Prune the connections",
            (
                Choice(
                    "edges",
                    "Connections from a to n",
                    {"all": "all nine", "pruned": "three, the others are 0"},
                    "pruned",
                ),
            ),
            _prune,
        ),
        Widget(
            "letters",
            "What the letters mean",
            (Choice("notation", "Notation", {"ours": "of this page", "article": "of the article"}, "ours"),),
            _letters,
        ),
    ),
    tries=(
        Try("Keep all nine connections, and see z change", "prune", {"edges": "all"}),
        Try("Prune six of them", "prune", {"edges": "pruned"}),
        Try("Show the article's letters", "letters", {"notation": "article"}),
    ),
    anchors=(
        Anchor("z of m₁", 1.35, lambda: nets.unit().tape["1"].x[0, 0]),
        Anchor("a = σ(z)", 0.79413, lambda: nets.unit().y[0, 0]),
    ),
    setup=Setup(UNIT.settings, {}, "network", {"path": "0.W", "index": [0, 0]}, UNIT.words),
    formulas=forward_formulas,
)

ROW_3 = Lesson(
    number=3,
    chapter=1,
    title="What goes into m₁: one sum and one bias",
    quote="The output of m₁ can be calculated with the formula Σᵢ wᵢ · nᵢ + bᵢ. … z_m(a_i) = a_{ni} · w_i + b_m",
    paragraphs=(
        "A unit multiplies each input by its weight, adds all of it up, and adds its bias. The weight says how much an "
        "input counts and whether for or against; the bias says how ready the unit is when all inputs are 0.",
        "The article gives the bias the index i, which puts it inside the Σ: it would be added once for every input. "
        "Its later form has no Σ at all. There is one bias for each unit, and it is added once.",
    ),
    widgets=(
        Widget(
            "sum",
            "Where the bias stands",
            (
                Choice(
                    "form",
                    "Formula",
                    {
                        "right": "Σ wᵢxᵢ + b",
                        "inside": "Σ (wᵢxᵢ + b), the article's first form",
                        "without": "wᵢxᵢ + b, the article's second form",
                    },
                    "right",
                ),
            ),
            weighted,
        ),
    ),
    tries=(
        Try("Put the bias inside the Σ", "sum", {"form": "inside"}),
        Try("Leave the Σ out", "sum", {"form": "without"}),
        Try("Back to what the unit does", "sum", {"form": "right"}),
    ),
    anchors=(
        Anchor("z = Σ wᵢxᵢ + b", 1.35, lambda: nets.unit().tape["0"].y[0, 0]),
        Anchor("biases of the unit", 1, lambda: nets.unit().params[0].b.size),
        Anchor("z with b inside the Σ", 1.55, lambda: weighted("inside").numbers["z"]),
    ),
    setup=Setup(UNIT.settings, {}, "network", {"path": "0.b", "index": [0]}, UNIT.words),
    formulas=lambda: forward_formulas()[:1],
)

ROW_4 = Lesson(
    number=4,
    chapter=1,
    title="A neuron and a perceptron",
    quote="The building blocks of neural networks are perceptrons. Perceptrons are loosely based on biological "
    "neurons.",
    paragraphs=(
        "The names come from biology, and the picture says which part is likened to which, and what is not alike. "
        "Treat the brain as where the idea came from, not as evidence that a formula is right.",
        "The word perceptron belongs to a unit of 1958, Frank Rosenblatt's, which answers 1 if its sum is above zero "
        "and else 0. That is a step. The article's perceptron w·x is a linear unit. The difference matters: a step is "
        "flat on both sides, its slope is 0, and gradient descent has nothing to go by.",
    ),
    widgets=(
        Widget("likened", "Side by side", (), _likened),
        Widget(
            "units",
            "Can it learn from its slope?",
            (
                Choice(
                    "unit",
                    "Unit",
                    {
                        "step": "a step (Rosenblatt's perceptron)",
                        "linear": "a linear unit (the article's)",
                        "sigmoid": "a sigmoid unit",
                    },
                    "step",
                ),
            ),
            _units,
        ),
    ),
    tries=(
        Try("Ask the step for its slope", "units", {"unit": "step"}),
        Try("Ask the linear unit", "units", {"unit": "linear"}),
        Try("Ask the sigmoid unit", "units", {"unit": "sigmoid"}),
    ),
    anchors=(
        Anchor("largest |∂C/∂w| of a step", 0, lambda: _units("step").numbers["largest slope"]),
        Anchor("answer of the step for the sum −1.75", 0, lambda: _units("step").numbers["answer"]),
    ),
    setup=Setup(UNIT.settings, {}, "network", None, UNIT.words),
)

LESSONS = (ROW_2, ROW_3, ROW_4)
