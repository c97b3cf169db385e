"""The lesson of chapter 6, hidden layers: row 19."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from jaxprop.derivations import Derivation
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.drawing import Line, chart, network, timeline
from jaxprop_explorer.lessons.parts import (
    Anchor,
    Choice,
    Lesson,
    Setup,
    Shown,
    Slider,
    Try,
    Widget,
    bracketed,
    number,
    numbers,
)

TWO_PATHS = Setup(
    settings={"data": "paths", "learning_rate": 0.1},
    words="The inputs 1, 3 and 2, two sigmoid units, and two linear outputs that should answer 1 and 0.",
)
HISTORY = (
    (1958, "Rosenblatt: the perceptron, with a rule of its own"),
    (1970, "Linnainmaa: reverse mode, for any computation"),
    (1974, "Werbos: a thesis that points to networks"),
    (1982, "Werbos: applied to neural networks"),
    (1986, "Rumelhart, Hinton, Williams: it becomes popular"),
    (2012, "“deep learning” is on everyone's lips"),
)


def derivation() -> Derivation:
    """The derivation for the weight from the second input to the first hidden unit."""
    return nets.explained(nets.two_paths(), "0.W", (1, 0))


def _paths(through: str, hidden: str) -> Shown:
    shown, j = nets.two_paths(), int(hidden) - 1
    tape = shown.tape
    errors, W = np.asarray(tape["2"].dy)[0], np.asarray(shown.params[2].W)
    terms = errors * W[j]
    chosen = [0, 1] if through == "both" else [int(through) - 1]
    slope, x2 = float(tape["1"].derivative[0, j]), float(shown.x[0, 1])
    back = float(sum(terms[k] for k in chosen))
    found, right = back * slope * x2, float(shown.jax_grads()[0].W[1, j])
    written = " + ".join(f"{bracketed(errors[k])}·{bracketed(W[j, k])}" for k in chosen)
    verdict = "the same" if abs(found - right) < 1e-9 else "not the same: a path is missing"
    words = (
        f"∂C/∂a of hidden unit {hidden} is {written} = {number(back)}. Times σ′ = {number(slope)} and the input "
        f"{number(x2)} "
        f"that is {number(found)}; jax.grad says {number(right)}: {verdict}."
    )
    columns = [["1", "3", "2"], ["a₁", "a₂"], ["y₁", "y₂"]]
    marked = ((0, 1, j), *((1, j, k) for k in chosen))
    drawn = network(
        columns, [np.asarray(shown.params[0].W), W], f"The paths back from the cost. {words}", marked=marked
    )
    return Shown(words, {"∂C/∂a": back, "gradient": found, "by jax.grad": right, "paths": len(chosen)}, drawn)


def _layers(layer: str) -> Shown:
    """What each layer takes in, and its δ: the index l of a⁽ˡ⁻¹⁾."""
    shown = nets.two_paths()
    tape, grads = shown.tape, shown.jax_grads()
    number_, path = int(layer), {"1": "0", "2": "2"}[layer]
    a, delta = np.asarray(tape[path].x)[0], np.asarray(tape[path].dy)[0]
    apart = float(np.max(np.abs(np.outer(a, delta) - np.asarray(grads[int(path)].W))))
    into = "the inputs, a⁽⁰⁾" if number_ == 1 else "a⁽¹⁾, what layer 1 hands on"
    words = (
        f"Layer {number_} of L = 2 takes in {into}: ({numbers(a)}). Its errors are δ = ({numbers(delta)}). Every "
        "∂C/∂w is one "
        f"of the first times one of the second; jax.grad differs by {number(apart, 1)} at most."
    )
    return Shown(words, {"inputs": a.size, "difference": apart, "first δ": float(delta[0])})


@lru_cache(8)
def _sizes(activation: str, layers: int) -> tuple[float, ...]:
    """The size of δ in each hidden layer of 20 units, at random weights."""
    bend = {"sigmoid": jp.Sigmoid(), "relu": jp.ReLU(), "tanh": jp.Tanh()}[activation]
    net = jp.Chain(*[layer for _ in range(layers) for layer in (jp.Linear(20), bend)], jp.Linear(1))
    x = jax.random.normal(jax.random.key(1), (16, 20))
    params = net.init(jax.random.key(0), x)
    tape = nets.Example(net, params, x, jnp.ones((16, 1), x.dtype)).tape
    return tuple(float(np.sqrt(np.mean(np.square(tape[str(2 * i + 1)].dx)))) for i in range(layers))


def _vanish(activation: str, layers: float) -> Shown:
    sizes = _sizes(activation, int(layers))
    share = sizes[0] / sizes[-1]
    words = (
        f"With {int(layers)} hidden layers of 20 {activation} units, δ in the first is {number(share, 2)} times as "
        "large as in "
        "the last. Every layer multiplies it by weights and by a slope"
        + (", which is ¼ at most." if activation == "sigmoid" else ".")
    )
    line = Line(range(1, len(sizes) + 1), sizes, "size of δ")
    drawn = chart((line,), x_label="layer", y_label="size of δ", y=(0.0, max(sizes) * 1.2), said=words)
    return Shown(words, {"share": share, "layers": layers}, drawn)


def _history() -> Shown:
    words = "1970 is the method, 1982 its use for networks, and since 1986 it has been popular."
    said = "; ".join(f"{year}: {event}" for year, event in HISTORY)
    return Shown(words, {"reverse mode": 1970, "popular since": 1986}, timeline(HISTORY, said), said=said)


ROW_19 = Lesson(
    number=19,
    chapter=6,
    title="Hidden layers: the sum over paths",
    quote="These values are calculated for every single weight and bias in the model.",
    paragraphs=(
        "But how? The article derives the last layer only, and a hidden unit has no target. Its activation goes into "
        "every unit of the next layer, so a nudge of it reaches the cost along every one of these paths. What comes "
        "back "
        "along them is added: ∂C/∂a = Σ δ·w over its outgoing lines. Times σ′(z) that is its error δ, and times the "
        "input "
        "it is ∂C/∂w.",
        "All paths through a unit go on in the same ways, and what comes back along them is one number, the δ of that "
        "unit. So one begins at the cost and goes back layer by layer, each δ made of those above it. That is why it "
        "is "
        "called backpropagation. Layers are counted from 1 to L, and a⁽ˡ⁻¹⁾ is what layer l takes in.",
        "Who found it? The article says 1970, and popular with deep learning. 1970 is Seppo Linnainmaa's reverse mode, "
        "for any computation, in a master's thesis in Helsinki. Paul Werbos, whose thesis of 1974 points that way, "
        "applied "
        "it to neural networks in 1982. It has been popular since Rumelhart, Hinton and Williams showed in 1986 "
        "(Nature "
        "323) that hidden units come to stand for features, long before anybody spoke of deep learning. For what came "
        "before, see J. Schmidhuber, “Who invented backpropagation?” (2014).",
    ),
    widgets=(
        Widget(
            "paths",
            "Every path back from the cost",
            (
                Choice(
                    "through", "Paths", {"both": "both outputs", "1": "output 1 only", "2": "output 2 only"}, "both"
                ),
                Choice("hidden", "Hidden unit", {"1": "1", "2": "2"}, "1"),
            ),
            _paths,
        ),
        Widget(
            "layers", "What a layer takes in", (Choice("layer", "Layer", {"1": "1", "2": "2, the last"}, "2"),), _layers
        ),
        Widget(
            "vanish",
            "δ on its way through many layers",
            (
                Choice("activation", "Activation", {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}, "sigmoid"),
                Slider("layers", "hidden layers", 1, 6, 1, 5),
            ),
            _vanish,
        ),
        Widget("history", "Who found it", (), _history),
    ),
    tries=(
        Try("Drop a path: only output 1", "paths", {"through": "1", "hidden": "1"}),
        Try("Take both", "paths", {"through": "both", "hidden": "1"}),
        Try("What does layer L take in?", "layers", {"layer": "2"}),
        Try("Five layers of sigmoids", "vanish", {"activation": "sigmoid", "layers": 5}),
    ),
    anchors=(
        Anchor("∂C/∂a of hidden unit 1, over both paths", -0.34693, lambda: _paths("both", "1").numbers["∂C/∂a"]),
        Anchor("∂C/∂w from input 2 to hidden unit 1", -0.17016, lambda: derivation().facts["value"]),
        Anchor("the same by jax.grad", -0.17016, lambda: derivation().facts["jax_grad"]),
        Anchor("the same with output 2 left out (wrong)", 0.065584, lambda: _paths("1", "1").numbers["gradient"]),
    ),
    setup=Setup(TWO_PATHS.settings, {}, "network", {"path": "0.W", "index": [1, 0]}, TWO_PATHS.words),
    formulas=lambda: (derivation(),),
)

LESSONS = (ROW_19,)
