"""The lesson of chapter 8, what backpropagation is not: row 22, beyond the article."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp
from jaxprop.data import Data
from jaxprop.layers import Layer
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.drawing import pixels
from jaxprop_explorer.lessons.parts import Anchor, Choice, Lesson, Setup, Shown, Slider, Try, Widget, number

SIDE = 8


@lru_cache(1)
def reader() -> tuple[Layer, Any, Data]:
    """A small network that reads digits, trained in a second, and the digits."""
    digits = jp.data.digits()
    net = jp.Chain(jp.Standardize.of(digits.x, per_feature=False), jp.Linear(32), jp.Sigmoid(), jp.Linear(10))
    with jax.enable_x64(False):
        x, labels = jnp.asarray(digits.x), jnp.asarray(digits.targets)
        start = net.init(jax.random.key(0), x[:1])
        params, _ = nets.trained(net, jp.SoftmaxCrossEntropy(), optax.adam(0.03), x, labels, start, 120)
    return net, params, digits


def _held_out() -> tuple[np.ndarray, np.ndarray]:
    held = reader()[2].validation
    assert held is not None
    return np.asarray(held[0]), np.asarray(held[1])


def accuracy() -> float:
    """The share of digits that it has not seen and reads right."""
    net, params, _ = reader()
    x, labels = _held_out()
    with jax.enable_x64(False):
        found = np.argmax(np.asarray(net(jnp.asarray(x), params)), axis=1)
    return float(np.mean(found == labels))


def _digit(which: float, label: str) -> Shown:
    net, params, _ = reader()
    x, labels = _held_out()
    at = int(which) - 1
    wanted = int(labels[at]) if label == "own" else int(label)
    with jax.enable_x64(False):
        one = jnp.asarray(x[at : at + 1])
        tape = jp.manual.trace(net, jp.SoftmaxCrossEntropy())(one, params, jnp.array([wanted]))
        chances = np.asarray(jax.nn.softmax(net(one, params)))[0]
        back = np.asarray(tape["0"].dx)[0]
    told = int(chances.argmax())
    words = (
        f"The network reads a {told}, with a chance of {number(float(chances[told]), 3)}; it is a {int(labels[at])}. "
        "For the "
        f"label {wanted} it gives {number(float(chances[wanted]), 3)}, and −∂C/∂x shows which pixels should be "
        "darker (blue) or "
        "lighter (orange) to give it more."
    )
    drawn = pixels(
        (("what it sees", x[at].reshape(SIDE, SIDE)), ("−∂C/∂x", -back.reshape(SIDE, SIDE))),
        f"A digit of 8 times 8 pixels. {words}",
    )
    return Shown(words, {"reads": told, "chance": float(chances[told]), "of the label": float(chances[wanted])}, drawn)


def _noise(kind: str) -> Shown:
    net, params, _ = reader()
    rng = np.random.default_rng(0)
    x = {
        "noise": rng.uniform(0, 16, (500, SIDE * SIDE)),
        "empty": np.zeros((1, SIDE * SIDE)),
        "digits": _held_out()[0],
    }[kind].astype(np.float32)
    with jax.enable_x64(False):
        chances = np.asarray(jax.nn.softmax(net(jnp.asarray(x), params))).max(axis=1)
    sure = float(np.mean(chances > 0.5))
    what = {
        "noise": "500 pictures of pure noise",
        "empty": "an empty picture",
        "digits": f"{len(x)} digits it has not seen",
    }[kind]
    words = (
        f"Asked about {what}, it is more sure of one digit than of all others together in {number(100 * sure, 3)} % "
        "of them."
    )
    if kind != "digits":
        words += " It was never shown anything that is no digit, and its cost has no word for that."
    return Shown(words, {"sure": sure})


ROW_22 = Lesson(
    number=22,
    chapter=8,
    title="Digits: activations forward, errors backward",
    quote="(The article does not come to this. It names “facial recognition” among the things that deep learning "
    "does.)",
    paragraphs=(
        "The same two things in every layer read a handwritten digit: sums and bends. Ten outputs, and the largest "
        "is the "
        "answer. Backward, the error flows to the weights, and one can let it flow on to the pixels: that shows "
        "which of "
        "them would change the answer.",
        "The gradient is exact, but of this cost on these examples. Whether making it small is what you want, it "
        "cannot say. "
        "Shown noise, the network is sure of a digit: it was never asked to say “none”. "
        "(The network of the digit panel was.)",
    ),
    widgets=(
        Widget(
            "digit",
            "A digit, and the error at its pixels",
            (
                Slider("which", "picture", 1, 60, 1, 1),
                Choice("label", "Label", {"own": "what it is", **{str(d): str(d) for d in range(10)}}, "own"),
            ),
            _digit,
        ),
        Widget(
            "noise",
            "What it says of other things",
            (Choice("kind", "Pictures", {"digits": "digits", "noise": "noise", "empty": "an empty one"}, "digits"),),
            _noise,
        ),
    ),
    tries=(
        Try("Ask what would make it an 8", "digit", {"which": 1, "label": "8"}),
        Try("Show it pure noise", "noise", {"kind": "noise"}),
        Try("Show it nothing", "noise", {"kind": "empty"}),
    ),
    anchors=(Anchor("of ten digits that it has not seen, read right (rounded down)", 9, lambda: int(10 * accuracy())),),
    setup=Setup({}, {}, "digit", None, "Draw a digit yourself, and follow it through every layer and back."),
)

LESSONS = (ROW_22,)
