"""Lessons of chapter 3, the feedforward pass: rows 1 and 10 to 13."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from jaxprop.derivations.derivation import Equation, worked
from jaxprop.derivations.formula import Call, Formula, Symbol
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.chapter_1 import UNIT
from jaxprop_explorer.lessons.drawing import Dot, Line, chart, network
from jaxprop_explorer.lessons.parts import Anchor, Choice, Lesson, Setup, Shown, Slider, Try, Widget, number, numbers

CHAIN = Setup(
    settings={"data": "chain", "learning_rate": 0.1},
    words="Two weights in a row, f = w₁·w₂·x with w = (0.4, 0.3), shown x = 1 with the target 2.",
)
BENDS = {"sigmoid": jp.Sigmoid(), "tanh": jp.Tanh(), "relu": jp.ReLU()}


def _edges(first: float, hidden: float, last: float) -> Shown:
    sizes = [int(first), int(hidden), int(last)]
    net = jp.Chain(jp.Linear(sizes[1]), jp.Sigmoid(), jp.Linear(sizes[2]), jp.Sigmoid())
    params = net.init(jax.random.key(0), jnp.ones((1, sizes[0]), float))
    edges = sum(a * b for a, b in itertools.pairwise(sizes))
    weights, biases = (sum(getattr(p, n).size for p in params if p) for n in ("W", "b"))
    sums = " + ".join(f"{a}·{b}" for a, b in itertools.pairwise(sizes))
    words = (
        f"{sums} = {edges} lines, and {weights} weights; besides, {biases} biases, one for each unit but the inputs."
    )
    columns = [[""] * size for size in sizes]
    drawn = network(
        columns, [np.asarray(p.W) for p in params if p], f"A network of three layers. {words}", labels=False
    )
    return Shown(words, {"edges": edges, "weights": weights, "biases": biases}, drawn)


def _activation(kind: str, z: float) -> Shown:
    bend, grid = BENDS[kind], np.linspace(-8, 8, 161)
    values, kept = bend.forward(jnp.asarray(grid))
    slopes = np.asarray(bend.derivative(kept))
    value, kept_z = bend.forward(jnp.array(z, float))
    slope = float(bend.derivative(kept_z))
    words = f"At z = {number(z)} the value is {number(float(value))} and the slope {number(slope)}."
    if kind == "sigmoid":
        words += " The values lie between 0 and 1 and reach neither; the slope is never more than ¼."
    lines = (Line(grid, np.asarray(values), "value"), Line(grid, slopes, "slope", 2, dashed=True))
    dots = (Dot(z, float(value), number(float(value), 3), 1), Dot(z, slope, number(slope, 3), 2))
    upper = (-1.2, 1.2) if kind == "tanh" else (-0.1, 1.2)
    drawn = chart(lines, dots, x_label="z", y_label="value and slope", y=upper, said=f"{kind} and its slope. {words}")
    return Shown(words, {"value": float(value), "slope": slope, "largest slope": float(slopes.max())}, drawn)


def _very_wrong(z: float) -> Shown:
    """A sigmoid unit that should answer 0: how strongly two costs ask it to change, over z."""
    grid = np.append(np.linspace(-6, 6, 121), z)
    x, zeros = jnp.asarray(grid[:, None]), jnp.asarray(np.zeros((grid.size, 1)))
    unit = nets.Example(jp.Chain(jp.Sigmoid()), ((),), x, zeros).tape["0"]
    other_unit = nets.Example(jp.Chain(jp.Identity()), ((),), x, zeros, jp.SigmoidCrossEntropy()).tape["0"]
    *squared, one = np.asarray(unit.dx)[:, 0].tolist()
    *entropy, other = np.asarray(other_unit.dx)[:, 0].tolist()
    a = float(unit.y[-1, 0])
    words = (
        f"At z = {number(z)} the unit answers {number(a)} where 0 is wanted. The squared error asks for a change of "
        f"{number(one)}, the cross-entropy for {number(other)}, {number(other / one, 3)} times as much."
    )
    lines = (
        Line(grid[:-1], squared, "δ by half squared error"),
        Line(grid[:-1], entropy, "δ by cross-entropy", 2, dashed=True),
    )
    dots = (Dot(z, one, number(one, 3), 1), Dot(z, other, number(other, 3), 2))
    drawn = chart(lines, dots, x_label="z", y_label="δ = ∂C/∂z", y=(-0.05, 1.4), said=words)
    return Shown(words, {"squared error": one, "cross-entropy": other, "a": a}, drawn)


def _normalise(kind: str) -> Shown:
    values = np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0])
    x = jnp.asarray(values)[:, None]
    found = {
        "relu": lambda: jp.ReLU()(x),
        "sigmoid": lambda: jp.Sigmoid()(x),
        "standardize": lambda: jp.Standardize.of(values[:, None])(x, ()),
    }[kind]()
    out = np.asarray(found)[:, 0]
    words = {
        "relu": "ReLU bends and keeps nothing small: 1000 stays 1000. So an activation is not there to keep numbers "
        "small.",
        "sigmoid": "σ looks at each number by itself. It bends; that its values lie between 0 and 1 is a side effect.",
        "standardize": f"Normalising looks at all numbers together and gives them mean 0 and spread 1. That is another "
        f"thing: the mean is now {number(float(np.mean(out)), 3)}, the spread {number(float(np.std(out)), 3)}.",
    }[kind]
    rows = (("z", *map(number, values)), ("out", *(number(float(v), 3) for v in out)))
    return Shown(words, {"largest": float(out.max()), "mean": float(out.mean()), "spread": float(out.std())}, rows=rows)


def _sigmoid_formulas() -> tuple[Equation, ...]:
    z = Symbol("z")
    values: dict[Formula, float] = {z: float(nets.unit().tape["1"].x[0, 0])}
    σ = Call("sigmoid", z)
    return (worked(Symbol("a"), σ, 1 / (1 + Call("exp", -z)), values=values),)


FUNCTIONS = {
    "one": ("jp.Linear(1, bias=False)", jp.Linear(1, bias=False)),
    "two": ("jp.Chain(one, one)", jp.Chain(jp.Linear(1, bias=False), jp.Linear(1, bias=False))),
    "sixteen": ("jp.Chain(jp.Linear(16), jp.Tanh(), jp.Linear(1))", jp.Chain(jp.Linear(16), jp.Tanh(), jp.Linear(1))),
}


def _theta(net: str, scale: float) -> Shown:
    code, f = FUNCTIONS[net]
    x = nets.rows([1], [2])
    params = f.init(jax.random.key(0), x)
    count = sum(p.size for p in jax.tree.leaves(params))
    first, again = f(x, params), f(x, params)
    scaled = f(x, jax.tree.map(lambda p: scale * p, params))
    gradient = jax.grad(lambda theta: jnp.sum(f(x, theta)))(params)
    slopes = sum(g.size for g in jax.tree.leaves(gradient))
    words = (
        f"θ holds {count} number{'s' * (count > 1)}. f(1, θ) = {number(float(first[0, 0]))}, and asked again the same. "
        f"With {number(scale)}·θ it is {number(float(scaled[0, 0]))}: another function. A gradient has {slopes} "
        f"number{'s' * (slopes > 1)} too, one for each of θ: it is a direction for the parameters, not for the answer."
    )
    rows = (
        ("in formulas", "in code"),
        ("f", f"net = {code}"),
        ("f(x, θ)", "net(x, params)"),
        ("∂C/∂θ", "jp.manual.value_and_grad(net, cost)(x, params, targets)[1]"),
    )
    found = {"parameters": count, "slopes": slopes, "same": float(bool(jnp.all(first == again)))}
    return Shown(words, {**found, "f(1, θ)": float(first[0, 0]), "scaled": float(scaled[0, 0])}, rows=rows)


def _chain(w1: float, w2: float, x: float) -> Shown:
    shown = nets.chain((w1, w2), x)
    y, (C, _) = float(shown.y[0, 0]), shown.grads()
    words = f"y = w₁·w₂·x = {number(y)}; for the target 2 the cost is C = {number(C)}."
    if x == 1:
        swapped = float(nets.chain((w2, w1), x).y[0, 0])
        words += f" Only the product matters: with the weights swapped y = {number(swapped)}."
    columns = [[number(x, 3)], ["w₁x"], ["y"]]
    drawn = network(columns, [np.array([[w1]]), np.array([[w2]])], f"An input, a unit and an output in a row. {words}")
    return Shown(words, {"y": y, "C": C}, drawn)


def _chain_formulas() -> tuple[Equation, ...]:
    w1, w2, x, y, target = (Symbol(n) for n in ("w₁", "w₂", "x", "y", "target"))
    values: dict[Formula, float] = {w1: 0.4, w2: 0.3, x: 1.0, target: 2.0}
    answer = worked(y, w1 * w2 * x, values=values)
    values[y] = float(nets.chain().y[0, 0])
    return answer, worked(Symbol("C"), (y - target) ** 2 / 2, values=values)


def _output(kind: str) -> Shown:
    """∂C/∂v of row 13's output: as it is, and with a σ′ that is not there."""
    shown = nets.plain_output()
    tape, (_, grads) = shown.tape, shown.grads()
    a, y, miss = np.asarray(tape["1"].y)[0], float(tape["2"].y[0, 0]), float(tape["2"].dy[0, 0])
    right = [float(g) for g in grads[2].W[:, 0]]
    by_jax = [float(g) for g in shown.jax_grads()[2].W[:, 0]]
    bend = jp.Identity() if kind == "plain" else jp.Sigmoid()
    slope = float(bend.derivative(bend.forward(jnp.array(y, float))[1]))
    found = [miss * slope * float(v) for v in a]
    words = (
        f"With ∂a/∂z = {number(slope)} the formula gives ∂C/∂v = ({numbers(found)}); jax.grad says ({numbers(by_jax)})."
    )
    words += " They are the same." if np.allclose(found, right) else " The σ′ is one that this output does not have."
    v = np.asarray(shown.params[2].W)
    columns = [["1", "3", "2"], [number(float(each), 3) for each in a], [number(y, 3)]]
    weights = [np.asarray(shown.params[0].W), v]
    drawn = network(columns, weights, f"The output is {number(y)}, a weighted sum of the activations {numbers(a)}.")
    return Shown(words, {"slope": slope, "first": found[0], "by jax.grad": by_jax[0], "y": y}, drawn)


def _output_formulas() -> tuple[Equation, ...]:
    shown = nets.plain_output()
    values, total = {}, None
    for m, sub in enumerate("₁₂"):
        v, a = Symbol(f"v{sub}"), Symbol(f"a{sub}")
        values |= {v: float(shown.params[2].W[m, 0]), a: float(shown.tape["1"].y[0, m])}
        total = v * a if total is None else total + v * a
    assert total is not None
    return (worked(Symbol("y"), total, values=values),)


ROW_1 = Lesson(
    number=1,
    chapter=3,
    title="A network of three layers",
    quote="In this network, each layer of neurons is connected to every neuron in the previous layer.",
    paragraphs=(
        "Circles are units, lines are weights. Every unit is joined to every unit of the layer before, so a layer of n "
        "units after one of m has m·n lines, and the whole network Σ nₗ·nₗ₊₁ of them, where "
        "nₗ is the number of units in layer l.",
        "Colour is the sign of a weight (and a dashed line is a negative one), width is its size. What no line shows: "
        "each unit but the inputs also has a bias.",
    ),
    widgets=(
        Widget(
            "edges",
            "Count the lines",
            (
                Slider("first", "inputs", 1, 6, 1, 3),
                Slider("hidden", "hidden units", 1, 6, 1, 4),
                Slider("last", "outputs", 1, 6, 1, 2),
            ),
            _edges,
        ),
    ),
    tries=(
        Try("The article's size, 3-4-2", "edges", {"first": 3, "hidden": 4, "last": 2}),
        Try("Make it wide", "edges", {"first": 6, "hidden": 6, "last": 6}),
    ),
    anchors=(
        Anchor("lines of 3-4-2", 20, lambda: _edges(3, 4, 2).numbers["edges"]),
        Anchor("weights of 3-4-2", 20, lambda: _edges(3, 4, 2).numbers["weights"]),
        Anchor("biases of 3-4-2", 6, lambda: _edges(3, 4, 2).numbers["biases"]),
    ),
    setup=Setup(
        {"data": "xor", "layers": [4], "activation": "sigmoid"},
        {},
        "network",
        None,
        "A network with one hidden layer of four units.",
    ),
)

ROW_10 = Lesson(
    number=10,
    chapter=3,
    title="Activation functions bend; the sigmoid",
    quote="To prevent this result from rapidly getting larger with successive multiplications, we apply a "
    "normalization "
    "function to the result, which “squashes” the result into a number on a fixed range.",
    paragraphs=(
        "What σ is there for is the bend, and its name is activation function. Normalising is another thing: it looks "
        "at many numbers together and gives them a mean and a spread. And keeping numbers small is not the point, for "
        "ReLU bends as well and keeps nothing small.",
        "σ takes any number into the open interval from 0 to 1: it comes as near to the ends as you like and never "
        "gets "
        "there. σ(0) is ½. Its slope is ¼ there, never more, and vanishes on both sides.",
        "The article does not say what follows: with the squared error a unit that is very wrong learns slowly, for "
        "its "
        "error is multiplied by a slope that is almost 0. The cross-entropy has no such factor.",
    ),
    widgets=(
        Widget(
            "sigmoid",
            "Value and slope",
            (
                Choice("kind", "Activation", {"sigmoid": "sigmoid σ", "tanh": "tanh", "relu": "ReLU"}, "sigmoid"),
                Slider("z", "z", -8, 8, 0.05, 1.35),
            ),
            _activation,
        ),
        Widget(
            "very_wrong",
            "Very wrong, and slow",
            (Slider("z", "z of a unit that should answer 0", -6, 6, 0.1, 4),),
            _very_wrong,
        ),
        Widget(
            "normalise",
            "An activation does not normalise",
            (Choice("kind", "Function", {"relu": "ReLU", "sigmoid": "σ", "standardize": "normalising"}, "relu"),),
            _normalise,
        ),
    ),
    tries=(
        Try("Put z at 0: the steepest place", "sigmoid", {"kind": "sigmoid", "z": 0}),
        Try("Go far out, and see the slope vanish", "sigmoid", {"kind": "sigmoid", "z": 8}),
        Try("Be very wrong: z = 4 where 0 is wanted", "very_wrong", {"z": 4}),
        Try("Give ReLU the number 1000", "normalise", {"kind": "relu"}),
        Try("Normalise instead", "normalise", {"kind": "standardize"}),
    ),
    anchors=(
        Anchor("σ(0)", 0.5, lambda: _activation("sigmoid", 0.0).numbers["value"]),
        Anchor("σ′(0)", 0.25, lambda: _activation("sigmoid", 0.0).numbers["slope"]),
        Anchor("largest slope of σ", 0.25, lambda: _activation("sigmoid", 0.0).numbers["largest slope"]),
        Anchor("δ at z = 4 with the squared error", 0.017, lambda: _very_wrong(4.0).numbers["squared error"], digits=2),
        Anchor("δ at z = 4 with the cross-entropy", 0.982, lambda: _very_wrong(4.0).numbers["cross-entropy"], digits=3),
    ),
    setup=Setup(UNIT.settings, {}, "network", {"path": "0.W", "index": [0, 0]}, UNIT.words),
    formulas=_sigmoid_formulas,
)

ROW_11 = Lesson(
    number=11,
    chapter=3,
    title="A network is a function f(x, θ)",
    quote="A neural network with a single input and many parameters can be denoted as f(x, θ), where θ is all of the "
    "parameters in the network.",
    paragraphs=(
        "That is right, and the library is written so: net(x, params). The description holds no number; all of them "
        "are in θ, a tree of arrays. Same x, same θ, same answer.",
        "Later the article looks for “a direction to push the prediction”. The gradient is a direction too, but in the "
        "space of θ: it has one number for every parameter. The answer follows on whatever way the parameters take it.",
    ),
    widgets=(
        Widget(
            "theta",
            "The same f with another θ",
            (
                Choice("net", "Network", {k: v[0] for k, v in FUNCTIONS.items()}, "two"),
                Slider("scale", "θ times", -2, 2, 0.25, 2),
            ),
            _theta,
        ),
    ),
    tries=(
        Try("Double θ", "theta", {"net": "two", "scale": 2}),
        Try("A network of 49 numbers", "theta", {"net": "sixteen", "scale": 2}),
    ),
    anchors=(
        Anchor("numbers in θ of Linear(16), Tanh, Linear(1)", 49, lambda: _theta("sixteen", 1.0).numbers["parameters"]),
        Anchor("numbers in its gradient", 49, lambda: _theta("sixteen", 1.0).numbers["slopes"]),
        Anchor("asked twice, the same answer (1 is yes)", 1, lambda: _theta("two", 1.0).numbers["same"]),
    ),
    setup=Setup(
        {"data": "square", "layers": [16], "activation": "tanh"},
        {},
        "network",
        None,
        "Points of f(x) = x², and a network of 49 numbers.",
    ),
)

ROW_12 = Lesson(
    number=12,
    chapter=3,
    title="Two weights in a row",
    quote="The feedforward function looks like this: f(x, w₁, w₂) = w₁ · w₂ · x",
    paragraphs=(
        "The smallest network with two layers: what the first unit hands on, w₁·x, is what the second takes in. There "
        "is no bias and no bend.",
        "It is linear in x but not in its weights: double both and the answer is four times as large. Only the "
        "product matters, so many pairs of weights compute the same function.",
    ),
    widgets=(
        Widget(
            "chain",
            "Move the weights",
            (
                Slider("w1", "w₁", -3, 3, 0.1, 0.4),
                Slider("w2", "w₂", -3, 3, 0.1, 0.3),
                Slider("x", "x", -3, 3, 0.5, 1),
            ),
            _chain,
        ),
    ),
    tries=(
        Try("The article's start, w = (0.4, 0.3)", "chain", {"w1": 0.4, "w2": 0.3, "x": 1}),
        Try("Double both weights", "chain", {"w1": 0.8, "w2": 0.6, "x": 1}),
        Try("Other weights with the same product", "chain", {"w1": 0.6, "w2": 0.2, "x": 1}),
    ),
    anchors=(
        Anchor("y for w = (0.4, 0.3), x = 1", 0.12, lambda: nets.chain().y[0, 0]),
        Anchor("C for the target 2", 1.7672, lambda: nets.chain().grads()[0]),
        Anchor("y for w = (0.6, 0.2)", 0.12, lambda: nets.chain((0.6, 0.2)).y[0, 0]),
    ),
    setup=Setup(CHAIN.settings, {}, "network", {"path": "0.W", "index": [0, 0]}, CHAIN.words),
    formulas=_chain_formulas,
)

ROW_13 = Lesson(
    number=13,
    chapter=3,
    title="The output: a plain weighted sum",
    quote="Finally, the output of the full network is Σₘ xₘ · aₘ, which is the sum of all of the outputs of the m "
    "neurons "
    "multiplied by the weights x.",
    paragraphs=(
        "This output is linear and has no bias. (Its weights are called v here, for x is the input already.)",
        "Later the article derives the gradient as if the output had a σ around it. For this output the answer a "
        "is z, so ∂a/∂z = 1 and ∂C/∂vₘ = (a − target)·aₘ, without σ′. Both kinds of output are in use, linear ones for "
        "quantities and σ or softmax for classes; one must know which one it is.",
        "Layers are counted: layer 1 is the first with weights, layer L the last, and a⁽ˡ⁾ is what layer l hands on. "
        "So what the last layer takes in is a⁽ᴸ⁻¹⁾, here the two activations. The article writes a_{L−1} and does not "
        "say what L is.",
    ),
    widgets=(
        Widget(
            "output",
            "With σ′ and without",
            (
                Choice(
                    "kind",
                    "∂a/∂z",
                    {"plain": "1, as the output is linear", "sigmoid": "σ′(z), as the article derives"},
                    "plain",
                ),
            ),
            _output,
        ),
    ),
    tries=(
        Try("Put a σ′ in where there is no σ", "output", {"kind": "sigmoid"}),
        Try("Leave it out", "output", {"kind": "plain"}),
    ),
    anchors=(
        Anchor("∂a/∂z of a linear output", 1, lambda: _output("plain").numbers["slope"]),
        Anchor("activations that the last layer (L = 2) takes in", 2, lambda: nets.plain_output().tape["2"].x.size),
    ),
    setup=Setup(
        {"data": "neuron", "layers": [2], "output_activation": "identity", "learning_rate": 0.1},
        {"0.W": [[0.5, -0.5], [-0.25, 0.25], [0.75, 0.1]], "0.b": [0.1, -0.2], "2.W": [[0.6], [-0.4]]},
        "network",
        None,
        "The inputs 1, 3 and 2, two sigmoid units, and a linear output.",
    ),
    formulas=_output_formulas,
)

LESSONS = (ROW_1, ROW_10, ROW_11, ROW_12, ROW_13)
