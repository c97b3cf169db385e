"""Lessons of chapter 2, why linear is not enough: rows 5 to 9."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp
from jaxprop.derivations.derivation import Equation
from jaxprop.derivations.formula import Symbol
from jaxprop.layers import Layer, LinearParams
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.drawing import Dot, Line, chart
from jaxprop_explorer.lessons.parts import Anchor, Choice, Lesson, Setup, Shown, Slider, Try, Widget, number, numbers

TARGETS = {"x": "f(x) = x", "2x": "f(x) = 2x", "x+1": "f(x) = x + 1", "square": "f(x) = x²", "abs": "f(x) = |x|"}
TRUTHS = {"x": lambda x: x, "2x": lambda x: 2 * x, "x+1": lambda x: x + 1, "square": jnp.square, "abs": jnp.abs}
BENDS = {"linear": jp.Identity(), "tanh": jp.Tanh(), "sigmoid": jp.Sigmoid(), "relu": jp.ReLU()}
LINE = {"data": "line", "learning_rate": 0.5}
FLAT = {"data": "square", "layers": [3, 3], "activation": "identity", "learning_rate": 0.2}


def _curve(net: Layer, params: Any, wide: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(-wide, wide, 81)
    return x, np.asarray(net(jnp.asarray(x)[:, None], params))[:, 0]


def _against(target: str, net: Layer, params: Any, wide: float, words: str, dots: tuple[Dot, ...] = ()) -> str:
    x, y = _curve(net, params, wide)
    lines = (Line(x, np.asarray(TRUTHS[target](jnp.asarray(x))), "wanted", 2, dashed=True), Line(x, y, "the network"))
    return chart(lines, dots, x_label="x", y_label="answer", said=f"The wanted function and the network. {words}")


def _by_hand(target: str, w: float, b: float) -> Shown:
    net, params = jp.Linear(1), nets.linear([[w]], [b])
    error = nets.mean_square(net, params, TRUTHS[target])
    words = (
        f"{number(w)}·x + {number(b)} misses {TARGETS[target]} by a mean squared error of {number(error)} on [−1, 1]."
    )
    return Shown(words, {"mean squared error": error}, _against(target, net, params, 1.0, words))


@lru_cache(8)
def _learned_line() -> tuple[Layer, Any]:
    """Row 5's network of eight tanh units, trained on f(x) = x between −1 and 1."""
    x = jnp.linspace(-1, 1, 41, dtype=float)[:, None]
    net = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(1))
    start = net.init(jax.random.key(0), x)
    return net, nets.trained(net, jp.HalfSquaredError(), optax.adam(0.02), x, x, start, 800)[0]


def _outside(wide: float) -> Shown:
    net, params = _learned_line()
    near, far = (float(net(nets.rows([at]), params)[0, 0]) for at in (0.5, 3.0))
    words = (
        f"Shown 41 points between −1 and 1, the network answers {number(near)} at 0.5 and {number(far)} at 3, where it "
        "has seen nothing."
    )
    return Shown(words, {"at 0.5": near, "at 3": far}, _against("x", net, params, wide, words))


def one_weight(slope: float, x: float, rate: float, steps: int = 30) -> list[float]:
    """Return w before and after each step on the one sample (x, slope · x), from 0."""
    net, example = jp.Linear(1, bias=False), nets.rows([x])
    at = nets.Example(net, nets.linear([[0.0]]), example, slope * example)
    found = [0.0]
    for _ in range(steps):
        at = at.stepped(rate)
        found.append(nets.weights_of(at)[0])
        if abs(found[-1]) > 1e6:
            break
    return found


def _one_weight(slope: float, x: float, rate: float) -> Shown:
    path = one_weight(slope, x, rate, 12)
    factor = (path[1] - slope) / (path[0] - slope)
    how = (
        "nothing is learned"
        if factor == 1
        else "it swings for ever"
        if factor == -1
        else "it jumps across and away: it diverges"
        if factor < -1
        else "it jumps across and comes nearer"
        if factor < 0
        else "it comes nearer with every step"
    )
    words = (
        f"A step multiplies the distance of w to {number(slope)} by {number(factor)}, which is 1 − η·x²: {how}. "
        f"After {len(path) - 1} steps w = {number(path[-1])}."
    )
    lines = (
        Line(range(len(path)), path, "w"),
        Line((0, len(path) - 1), (slope, slope), "wanted", 2, dashed=True),
    )
    drawn = chart(lines, x_label="step", y_label="w", said=f"w after each step. {words}")
    return Shown(words, {"factor": factor, "w": path[-1]}, drawn)


FITS = {"x": lambda x: x, "x²": jnp.square, "1": jnp.ones_like, "w x + b": None}


def _other_fits(sample: float) -> Shown:
    """The cost, on one sample of f(x) = x, of functions that differ everywhere else, and the gradient for w·x."""
    cost, at = jp.HalfSquaredError(), nets.rows([sample])
    wrong = {name: float(cost(f(at), at)[0]) for name, f in FITS.items() if f is not None}
    slope = nets.Example(jp.Linear(1, bias=False), nets.linear([[0.4]]), at, at).grads()[1].W[0, 0]
    fit = [name for name, value in wrong.items() if value < 1e-12]
    words = (
        f"With the one sample x = {number(sample)} and target {number(sample)}, these cost nothing: {', '.join(fit)}. "
        f"For the unit w·x with w = 0.4 the gradient is {number(float(slope))}"
        + (": x = 0 teaches it nothing." if sample == 0 else ".")
    )
    grid = np.linspace(-1.5, 1.5, 61)
    lines = [
        Line(grid, np.asarray(f(jnp.asarray(grid))), f"f(x) = {name}", i + 1, dashed=i > 0)
        for i, (name, f) in enumerate(FITS.items())
        if f is not None
    ]
    drawn = chart(lines, (Dot(sample, sample, "the sample", 4),), x_label="x", y_label="f(x)", said=words)
    return Shown(
        words, {"fits": len(fit), "gradient": float(slope), **{f"C of {k}": v for k, v in wrong.items()}}, drawn
    )


@lru_cache(16)
def best_linear(kind: str, target: str) -> tuple[Layer, Any, float]:
    """Return a network without bends, trained on the whole interval, and the mean squared error that is left."""
    x, weights = nets.over_the_interval(8)
    net = {
        "wx": jp.Linear(1, bias=False),
        "wx+b": jp.Linear(1),
        "deep": jp.Chain(jp.Linear(3), jp.Linear(3), jp.Linear(1)),
    }[kind]
    start = net.init(jax.random.key(0), x)
    truth = TRUTHS[target]
    params, _ = nets.trained(net, jp.MeanSquaredError(), optax.sgd(0.2), x, truth(x), start, 400, weights)
    return net, params, nets.mean_square(net, params, truth)


KINDS = {"wx": "one unit w·x", "wx+b": "one unit w·x + b", "deep": "three linear layers, 3-3-1"}


def _floor(kind: str, target: str) -> Shown:
    net, params, error = best_linear(kind, target)
    words = f"Trained on {TARGETS[target]}, {KINDS[kind]} is left with a mean squared error of {number(error)}."
    numbers_ = {"mean squared error": error}
    if isinstance(params, LinearParams):
        found = nets.weights_of(nets.Example(net, params, nets.rows([0]), nets.rows([0])))
        numbers_ |= dict(zip("wb", found, strict=False))
        words += (
            " Its best numbers: "
            f"{', '.join(f'{k} = {number(round(v, 6))}' for k, v in zip('wb', found, strict=False))}."
        )
    return Shown(words, numbers_, _against(target, net, params, 1.0, words))


LAYERS = ([[1.0, -1.0, 0.5], [2.0, 0.5, -1.0]], [0.5, 0.0, -0.5]), ([[0.5, 1.0], [-1.0, 2.0], [1.5, -0.5]], [1.0, 0.0])


def collapsed(layers: list[LinearParams]) -> LinearParams:
    """Return the one layer that linear layers in a row amount to."""
    W, b = layers[0]
    for after in layers[1:]:
        W, b = W @ after.W, b @ after.W + after.b
    return LinearParams(W, b)


def _collapse(between: str, x1: float, x2: float) -> Shown:
    first, second = (nets.linear(*layer) for layer in LAYERS)
    one, x = collapsed([first, second]), nets.rows([x1, x2])
    deep = jp.Chain(jp.Linear(3), BENDS[between], jp.Linear(2))
    y, flat = np.asarray(deep(x, (first, (), second)))[0], np.asarray(jp.Linear(2)(x, one))[0]
    apart = float(np.max(np.abs(y - flat)))
    same = "the same" if apart < 1e-6 else "not the same: with a bend in between there is no such layer"
    words = f"Two layers answer ({numbers(y)}); one layer with the matrix W₁W₂ answers ({numbers(flat)}): {same}."
    rows = (
        ("", "matrix, a row for each input", "bias"),
        *(
            (name, "; ".join(numbers(map(float, row), 3) for row in layer.W), numbers(map(float, layer.b), 3))
            for name, layer in (("W₁", first), ("W₂", second), ("W₁W₂", one))
        ),
    )
    return Shown(words, {"difference": apart, "entries of W₁W₂": one.W.size}, rows=rows)


def _collapse_formulas() -> tuple[Equation, ...]:
    w1, w2, b1, b2, x, y = (Symbol(name) for name in ("w₁", "w₂", "b₁", "b₂", "x", "y"))
    return (Equation((y, w2 * (w1 * x + b1) + b2, (w2 * w1) * x + (w2 * b1 + b2))),)


@lru_cache(8)
def _bent(units: int, activation: str, target: str) -> tuple[Layer, Any, float, float]:
    """Return a trained network with one hidden layer, and its mean squared error before and after."""
    x, weights = nets.over_the_interval()
    net = jp.Chain(jp.Linear(units, bias_init="standard_normal"), BENDS[activation], jp.Linear(1))
    hidden, _, output = net.init(jax.random.key(0), x)
    start = (hidden, (), LinearParams(W=jnp.zeros_like(output.W), b=jnp.full_like(output.b, 1 / 3)))
    truth = TRUTHS[target]
    params, _ = nets.trained(net, jp.MeanSquaredError(), optax.adam(0.03), x, truth(x), start, 400, weights)
    return net, params, nets.mean_square(net, start, truth), nets.mean_square(net, params, truth)


def _bend(units: float, activation: str) -> Shown:
    net, params, before, after = _bent(int(units), activation, "square")
    words = (
        f"{int(units)} hidden {activation} unit{'s' * (units > 1)}, trained for 400 steps: the mean squared error "
        "goes from "
        f"{number(before)} to {number(after, 3)}."
    )
    return Shown(words, {"before": before, "after": after}, _against("square", net, params, 1.0, words))


@lru_cache(1)
def best_rising() -> float:
    """Return how near to x² on [−1, 1] a function comes that never falls: constant first, then x² itself."""
    x = np.linspace(-1, 1, 40001)
    means = np.cumsum(x**2) / np.arange(1, x.size + 1)
    flat = int(np.argmax((x > 0) & (x**2 >= means)))  # up to here the mean of what is wanted is the best constant
    return float(np.sum((x[: flat + 1] ** 2 - means[flat]) ** 2) / x.size)


def _how_many(activation: str) -> Shown:
    """How near 1, 4, 16 and 64 random hidden units come to |x|, the output's weights being the best there are."""
    x, weights = nets.over_the_interval(200)
    wanted, root = np.abs(np.asarray(x)), np.sqrt(np.asarray(weights))[:, None]
    layer, left = jp.Linear(64, bias_init="standard_normal"), {}
    z = 3 * layer(x, layer.init(jax.random.key(0), x))
    a = np.asarray(z**2 if activation == "square" else BENDS[activation](z))
    for units in (1, 4, 16, 64):
        columns = np.hstack([a[:, :units], np.ones_like(wanted)])
        best = np.linalg.lstsq(root * columns, root * wanted)[0]
        left[units] = float(np.sum((root * (columns @ best - wanted)) ** 2))
    why = {
        "linear": "Without a bend more units change nothing.",
        "square": "u² is a polynomial: however many units, the sum is a parabola, and the error stops falling.",
    }.get(activation, "No polynomial: with more units the error falls as far as you like.")
    words = f"Best fit to |x| by 1, 4, 16 and 64 hidden units: {numbers(left.values(), 3)}. {why}"
    line = Line(list(left), list(left.values()), "mean squared error")
    drawn = chart((line,), x_label="hidden units", y_label="error", said=words, log=True)
    return Shown(words, {f"{k} units": v for k, v in left.items()}, drawn)


ROW_5 = Lesson(
    number=5,
    chapter=2,
    title="The graph of a function, and a network that copies it",
    quote="Imagine you have a function f(x) = x. Its graph looks like this.",
    paragraphs=(
        "A network approximates a function that it is only shown in examples. Move the sliders and be the one who "
        "learns: the dashed line is wanted, the other one is what the unit w·x + b answers.",
        "What it has not been shown it does not know. A network with a bend in it, trained between −1 and 1, answers "
        "well there and wrongly at 3.",
    ),
    widgets=(
        Widget(
            "by_hand",
            "Fit it by hand",
            (
                Choice("target", "Wanted", TARGETS, "x"),
                Slider("w", "w", -3, 3, 0.05, 0.4),
                Slider("b", "b", -2, 2, 0.05, 0.0),
            ),
            _by_hand,
        ),
        Widget(
            "outside",
            "What a trained network does elsewhere",
            (Slider("wide", "Show x up to", 1, 4, 0.5, 1),),
            _outside,
        ),
    ),
    tries=(
        Try("Fit f(x) = x: w = 1, b = 0", "by_hand", {"target": "x", "w": 1, "b": 0}),
        Try("Try the same with x²", "by_hand", {"target": "square", "w": 0, "b": 0.35}),
        Try("Look outside of what it has seen", "outside", {"wide": 4}),
    ),
    anchors=(
        Anchor(
            "mean squared error of 1·x + 0 on f(x) = x",
            0,
            lambda: _by_hand("x", 1.0, 0.0).numbers["mean squared error"],
        ),
        Anchor("the trained network at 0.5, to one digit", 0.5, lambda: _outside(1.0).numbers["at 0.5"], digits=1),
    ),
    setup=Setup(LINE, {}, "network", None, "Points of f(x) = x, and one linear unit."),
)

ROW_6 = Lesson(
    number=6,
    chapter=2,
    title="One weight learns a line",
    quote="If we pick x = 1, then y = 1 and the correct value for w is 1. If we had a function f(x) = 2x then w = 2.",
    paragraphs=(
        "The least that can learn is one weight, f(x, w) = w·x. For y = x it finds 1, for y = 2x it finds 2. One can "
        "follow it exactly: a step of gradient descent multiplies the distance of w to its goal by 1 − η·x², whatever "
        "the slope. So at η·x² = 1 it is there in one step, at 2 it swings for ever, and beyond it diverges.",
        "The article trains on x = 1 alone. One sample is not enough: every function with f(1) = 1 fits it, x and x² "
        "and the constant 1. And x = 0 teaches nothing, for there w·x is 0 whatever w is, so the gradient is 0.",
    ),
    widgets=(
        Widget(
            "learn",
            "Watch w",
            (
                Slider("slope", "wanted slope", -3, 3, 0.5, 2),
                Slider("x", "the sample x", -3, 3, 0.25, 1),
                Slider("rate", "learning rate η", 0.05, 2.5, 0.05, 0.5),
            ),
            _one_weight,
        ),
        Widget(
            "fits", "What else fits one sample?", (Slider("sample", "the sample x", -1.5, 1.5, 0.25, 1),), _other_fits
        ),
    ),
    tries=(
        Try("Learn y = 2x", "learn", {"slope": 2, "x": 1, "rate": 0.5}),
        Try("Learn from x = 0", "learn", {"slope": 2, "x": 0, "rate": 0.5}),
        Try("Take η so large that it diverges", "learn", {"slope": 2, "x": 1, "rate": 2.5}),
        Try("Which functions fit x = 1?", "fits", {"sample": 1}),
        Try("And a sample that separates them", "fits", {"sample": -0.5}),
    ),
    anchors=(
        Anchor("w after 30 steps on y = x", 1.0, lambda: one_weight(1, 1, 0.5)[-1], digits=4),
        Anchor("w after 30 steps on y = 2x", 2.0, lambda: one_weight(2, 1, 0.5)[-1], digits=4),
        Anchor("factor of a step at x = 1, η = 0.5", 0.5, lambda: _one_weight(2, 1.0, 0.5).numbers["factor"]),
        Anchor("gradient at x = 0", 0, lambda: _other_fits(0.0).numbers["gradient"]),
    ),
    setup=Setup(
        {"data": "double", "learning_rate": 0.5},
        {"0.W": [[0.0]]},
        "network",
        {"path": "0.W", "index": [0, 0]},
        "Points of f(x) = 2x, and one linear unit whose weight is 0.",
    ),
)

ROW_7 = Lesson(
    number=7,
    chapter=2,
    title="Linear units cannot fit x²",
    quote="Adding more perceptrons to the network will allow us to approximate arbitrarily complicated linear systems, "
    "but we can't approximate something as simple as f(x) = x² with just this system.",
    paragraphs=(
        "That is right, and it can be said exactly. On x between −1 and 1 the best w·x has w = 0 and leaves a mean "
        "squared error of 1/5. With a bias the best is the constant 1/3, and 4/45 is left. More linear layers leave "
        "the same 4/45.",
        "“Arbitrarily complicated linear systems” claims too much. A unit w·x answers 0 at x = 0, so it cannot even "
        "fit x + 1, where it leaves an error of 1. Such a function, linear plus a constant, is called affine; the "
        "bias is there for it.",
    ),
    widgets=(
        Widget(
            "floor",
            "The best that is possible",
            (
                Choice("kind", "Network", KINDS, "wx"),
                Choice("target", "Wanted", TARGETS, "square"),
            ),
            _floor,
        ),
    ),
    tries=(
        Try("w·x on x²: 1/5", "floor", {"kind": "wx", "target": "square"}),
        Try("Add a bias: 4/45", "floor", {"kind": "wx+b", "target": "square"}),
        Try("Add layers: still 4/45", "floor", {"kind": "deep", "target": "square"}),
        Try("w·x on x + 1: it cannot shift", "floor", {"kind": "wx", "target": "x+1"}),
    ),
    anchors=(
        Anchor("mean squared error of the best w·x on x², 1/5", 0.2, lambda: best_linear("wx", "square")[2]),
        Anchor("of the best w·x + b, 4/45", 4 / 45, lambda: best_linear("wx+b", "square")[2], digits=4),
        Anchor("of three linear layers, 4/45", 4 / 45, lambda: best_linear("deep", "square")[2], digits=4),
        Anchor("of the best w·x on x + 1", 1.0, lambda: best_linear("wx", "x+1")[2], digits=4),
    ),
    setup=Setup(FLAT, {}, "network", None, "Points of f(x) = x², and layers without a bend."),
)

ROW_8 = Lesson(
    number=8,
    chapter=2,
    title="Hidden layers alone collapse",
    quote="Adding hidden layers is great, but without the second step the output is still only a composition of linear "
    "functions.",
    paragraphs=(
        "Two linear layers in a row are one: multiply out, and a matrix and a bias are left. For layers of many units "
        "the matrix is the product W₁W₂ (W₂W₁ where vectors are written as columns).",
        "Put a sigmoid between the layers and no single layer does the same. That is what the bend is for.",
    ),
    widgets=(
        Widget(
            "collapse",
            "Two layers, and the one that they amount to",
            (
                Choice(
                    "between",
                    "Between the layers",
                    {"linear": "nothing", "sigmoid": "a sigmoid", "relu": "ReLU"},
                    "linear",
                ),
                Slider("x1", "x₁", -3, 3, 0.1, 1),
                Slider("x2", "x₂", -3, 3, 0.1, -0.5),
            ),
            _collapse,
        ),
    ),
    tries=(
        Try("Collapse them", "collapse", {"between": "linear"}),
        Try("Put a sigmoid in between", "collapse", {"between": "sigmoid"}),
    ),
    anchors=(
        Anchor("largest difference without a bend", 0, lambda: _collapse("linear", 1.0, -0.5).numbers["difference"]),
        Anchor(
            "entries of W₁W₂ for two inputs and two outputs",
            4,
            lambda: _collapse("linear", 1.0, -0.5).numbers["entries of W₁W₂"],
        ),
    ),
    setup=Setup(FLAT, {}, "network", None, "Points of f(x) = x², and layers without a bend."),
    formulas=_collapse_formulas,
)

ROW_9 = Lesson(
    number=9,
    chapter=2,
    title="A hidden layer with a bend can fit x²",
    quote="To be able to handle higher-order functions, we need to add two things: hidden layers, and nonlinear "
    "activation functions.",
    paragraphs=(
        "Sixteen tanh units and a linear output start exactly at the floor of the last lessons, 4/45, and training "
        "takes them below a thousandth.",
        "How much of the two ingredients is needed? One hidden layer is enough, for any continuous function on a "
        "bounded interval, if the activation is no polynomial (Cybenko 1989; Leshno, Lin, Pinkus and Schocken 1993). "
        "One unit with an activation is not: it only rises or only falls, and on x² it cannot come below 9/160.",
        "“Higher-order functions” is an unlucky word for these: in a library of functions it means a function that "
        "takes or returns functions, as jax.grad does. What is meant is nonlinear.",
    ),
    widgets=(
        Widget(
            "bend",
            "Train it on x²",
            (
                Slider("units", "hidden units", 1, 16, 1, 16),
                Choice("activation", "Activation", {k: k for k in BENDS}, "tanh"),
            ),
            _bend,
        ),
        Widget(
            "how_many",
            "How many units, and which activation?",
            (
                Choice(
                    "activation",
                    "Activation",
                    {
                        "tanh": "tanh",
                        "sigmoid": "sigmoid",
                        "relu": "ReLU",
                        "linear": "none",
                        "square": "u² (a polynomial)",
                    },
                    "tanh",
                ),
            ),
            _how_many,
        ),
    ),
    tries=(
        Try("Sixteen tanh units", "bend", {"units": 16, "activation": "tanh"}),
        Try("The same without a bend", "bend", {"units": 16, "activation": "linear"}),
        Try("More and more tanh units on |x|", "how_many", {"activation": "tanh"}),
        Try("A polynomial for an activation", "how_many", {"activation": "square"}),
    ),
    anchors=(
        Anchor("mean squared error before training, 4/45", 4 / 45, lambda: _bent(16, "tanh", "square")[2], digits=5),
        Anchor("after training, in thousandths, rounded down", 0, lambda: int(1000 * _bent(16, "tanh", "square")[3])),
        Anchor("what the best function that only rises is left with, 9/160", 9 / 160, best_rising, digits=3),
        Anchor(
            "what any number of u² units leaves of |x|, 1/192",
            1 / 192,
            lambda: _how_many("square").numbers["64 units"],
            digits=3,
        ),
    ),
    setup=Setup(
        {"data": "square", "layers": [16], "activation": "tanh", "learning_rate": 0.03, "optimizer": "adam"},
        {},
        "network",
        None,
        "Points of f(x) = x², and one hidden layer of sixteen tanh units.",
    ),
)

LESSONS = (ROW_5, ROW_6, ROW_7, ROW_8, ROW_9)
