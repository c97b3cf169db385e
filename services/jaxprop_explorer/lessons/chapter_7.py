"""Lessons of chapter 7, gradient descent: rows 15 and 20."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprop import plot
from jaxprop.derivations import Derivation
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.chapter_3 import CHAIN
from jaxprop_explorer.lessons.drawing import Dot, Line, chart
from jaxprop_explorer.lessons.parts import (
    Anchor,
    Choice,
    Lesson,
    Moves,
    Setup,
    Shown,
    Slider,
    Try,
    Widget,
    number,
    numbers,
)

STARTS = {"chapter": (0.4, 0.3), "steep": (3.0, 0.1), "saddle": (0.0, 0.0), "into": (1.0, -1.0), "other": (-0.5, -2.5)}
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "adam": optax.adam(0.1),
    "rmsprop": optax.rmsprop(0.1),
}


_slope = jax.jit(jax.grad(plot.article_cost))


def _descend(start: str, rate: float, momentum: str) -> Shown:
    at = STARTS[start]
    if momentum == "none":
        path, diverged = plot.descend(plot.article_cost, at, rate, 60)
    else:
        path, diverged = _with_momentum(at, rate)
    end, first = path[-1], np.asarray(at)
    sides = np.sign(path[:, 0] * path[:, 1] - 2)
    crossings = int(np.sum(sides[1:] != sides[:-1]))
    slope = np.asarray(_slope(jnp.asarray(first)))
    if diverged:
        words = f"From ({numbers(at)}) with η = {number(rate)} it diverges."
    else:
        moved = float(np.linalg.norm(end - first))
        words = f"From ({numbers(at)}) with η = {number(rate)}, 60 steps end at ({numbers(map(float, end), 4)}), where "
        words += (
            f"θ₁θ₂ = {number(float(end[0] * end[1]), 4)}. It stepped over the curve {crossings} "
            f"time{'s' * (crossings != 1)}."
        )
        if moved == 0:
            words = (
                f"At ({numbers(at)}) the gradient is ({numbers(map(float, slope))}): it does not move, though C = 2 "
                "there."
            )
    grid = np.linspace(0.5, 4, 36)
    lines = (
        Line(grid, 2 / grid, "minima, θ₁θ₂ = 2", 2, dashed=True),
        Line(-grid, -2 / grid, "", 2, dashed=True),
        Line(np.clip(path[:, 0], -9, 9), np.clip(path[:, 1], -9, 9), "the path"),
    )
    x_end, y_end = np.clip(end, -4, 4).tolist()
    dots = (Dot(at[0], at[1], "start", 1), Dot(x_end, y_end, "end", 4))
    drawn = chart(lines, dots, x_label="θ₁", y_label="θ₂", x=(-4.0, 4.0), y=(-4.0, 4.0), said=words)
    found = {"θ₁": float(end[0]), "θ₂": float(end[1]), "crossings": crossings, "diverged": float(diverged)}
    return Shown(words, {k: v for k, v in found.items() if np.isfinite(v)}, drawn)


def _with_momentum(at: tuple[float, float], rate: float) -> tuple[np.ndarray, bool]:
    """The path of gradient descent with momentum 0.9, another method."""
    theta, optimizer = jnp.array(at, float), optax.sgd(rate, momentum=0.9)
    state, path = optimizer.init(theta), [np.asarray(at)]
    for _ in range(60):
        with jax.numpy_dtype_promotion("standard"):
            update, state = optimizer.update(_slope(theta), state)
            theta = optax.apply_updates(theta, update)
        if not float(jnp.max(jnp.abs(theta))) < 1e6:  # pyright: ignore
            return np.array(path), True
        path.append(np.asarray(theta))
    return np.array(path), False


@jax.jit
def _around_the_saddle(points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """C at the points `[N, 2]`, and its first and second derivatives at (0, 0)."""
    origin = jnp.zeros(2, points.dtype)
    C = plot.article_cost
    return jax.vmap(C)(points), jax.grad(C)(origin), jax.hessian(C)(origin)


def _saddle(direction: str) -> Shown:
    """C along a line through (0, 0)."""
    t = np.linspace(-1.5, 1.5, 61)
    sign = 1.0 if direction == "same" else -1.0
    C, slope, bends = map(np.asarray, _around_the_saddle(jnp.asarray(np.stack([t, sign * t], axis=1))))
    way = "θ₁ = θ₂" if sign > 0 else "θ₁ = −θ₂"
    words = (
        f"At (0, 0) the gradient is ({numbers(map(float, slope))}), and the second derivatives are "
        f"[[{numbers(map(float, bends[0]))}], [{numbers(map(float, bends[1]))}]]. Along {way} the cost "
        f"{'falls to both sides: it is no minimum' if sign > 0 else 'rises to both sides'}."
    )
    drawn = chart((Line(t, C, f"C along {way}"),), (Dot(0, 2, "(0, 0)", 4),), x_label="θ₁", y_label="C", said=words)
    return Shown(
        words, {"slope": float(np.max(np.abs(slope))), "mixed": float(bends[0, 1]), "own": float(bends[0, 0])}, drawn
    )


def _many(samples: float) -> Shown:
    """The mean cost of the article's sample, x = 1 and target 2, and of others that want less, over θ₁θ₂."""
    rng = np.random.default_rng(4)
    x = np.concatenate([[1.0], rng.uniform(-1.5, 1.5, 15)])[: int(samples)]
    wanted = np.concatenate([[2.0], 1.2 * x[1:] + rng.normal(0, 0.4, 15)[: x.size - 1]])
    product = np.linspace(-1, 5, 61)
    each = np.stack([0.5 * (product * xi - ti) ** 2 for xi, ti in zip(x, wanted, strict=True)])
    mean = each.mean(axis=0)
    best = float(product[mean.argmin()])
    words = f"The mean over {len(x)} sample{'s' * (len(x) > 1)} is least at θ₁θ₂ = {number(best, 3)}. "
    words += "Each sample has a landscape of its own, and training goes down their mean."
    lines = [Line(product, row, "", 3, dashed=True) for row in each[:8]] + [Line(product, mean, "the mean")]
    drawn = chart(lines, x_label="θ₁θ₂", y_label="C", y=(0.0, 5.0), said=words)
    return Shown(words, {"best": best, "samples": len(x)}, drawn)


def walk(moves: tuple[str, ...], rate: float) -> list[tuple[str, list[float], float, float]]:
    """Return the steps of the chain from (0.4, 0.3): the sign, θ, C, and the change of C that −η‖g‖² predicts."""
    at = nets.chain()
    found = [("", nets.weights_of(at), at.grads()[0], 0.0)]
    for move in moves:
        signed = rate if move == "minus" else -rate
        slopes = nets.weights_of(at.with_(at.grads()[1]))
        at = at.stepped(signed)
        found.append((move, nets.weights_of(at), at.grads()[0], -signed * float(np.sum(np.square(slopes)))))
        if found[-1][2] > 1e6:
            break
    return found


def _sign(moves: tuple[str, ...], rate: float) -> Shown:
    path = walk(moves, rate)
    (_, w, C, _), (*_, before, _) = path[-1], path[-2] if len(path) > 1 else path[-1]
    if len(path) == 1:
        words = f"w = ({numbers(w)}) and C = {number(C)}. Take a step, with the minus or with the article's plus."
    else:
        rises = C > before
        why = (
            "the gradient points to where C rises, and the article adds it"
            if path[-1][0] == "plus" and rises
            else "the step is against the gradient, down the hill"
            if not rises
            else "the step is so long that it lands higher on the other side"
        )
        words = f"C went from {number(before)} to {number(C)}: it {'rises' if rises else 'falls'}, for {why}."
    signs = {"minus": "−η·∂C/∂w", "plus": "+η·∂C/∂w", "": "start"}
    rows: list[tuple[str, ...]] = [("step", "w₁, w₂", "C", "predicted change", "actual change")]
    for i, (move, at, cost, predicted) in list(enumerate(path))[-8:]:
        actual = (number(predicted, 4), number(cost - path[i - 1][2], 4)) if i else ("", "")
        rows.append((signs[move], numbers(at, 4), number(cost), *actual))
    line = Line(range(len(path)), [cost for *_, cost, _ in path], "C")
    drawn = chart((line,), x_label="step", y_label="C", said=f"C after each step. {words}") if len(path) > 1 else ""
    numbers_ = {"C": C, "before": before, "w₁": w[0], "w₂": w[1], "start": path[0][2]}
    if len(path) > 1:
        numbers_ |= {"predicted": path[-1][3], "actual": C - before}
    return Shown(words, numbers_, drawn, rows=tuple(rows))


def _optimizers(optimizer: str) -> Shown:
    chain = nets.chain()
    before = nets.weights_of(chain)
    _, grads = chain.grads()  # backpropagation ends here
    untouched = nets.weights_of(chain) == before
    slopes = nets.weights_of(chain.with_(grads))
    chosen = OPTIMIZERS[optimizer]
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = chosen.update(grads, chosen.init(chain.params), chain.params)
    moves = nets.weights_of(chain.with_(updates))
    words = (
        f"Backpropagation found ∂C/∂w = ({numbers(slopes)}) and changed nothing: w is still ({numbers(before)}). "
        f"{optimizer} "
        f"makes of it the update ({numbers(moves, 4)})."
    )
    return Shown(
        words, {"update 1": moves[0], "update 2": moves[1], "unchanged": float(untouched), "gradient 1": slopes[0]}
    )


def _update_derivation() -> Derivation:
    return nets.explained(nets.chain(), "0.W", (0, 0), nets.CHAIN_NAMES)


ROW_15 = Lesson(
    number=15,
    chapter=7,
    title="The cost as a landscape, and a ball",
    quote="If we imagine a ball and place it on the graph, it will roll to the nearest low point and stay there. "
    "This is how "
    "gradient descent works.",
    paragraphs=(
        "A good picture to start with: f = θ₁θ₂x at x = 1, with the target 2. Look at the real surface, and four "
        "things "
        "are unlike a ball. The low point is no point: every pair with θ₁θ₂ = 2 has the cost 0, two whole curves, and "
        "where you end need not be the nearest place.",
        "A ball has momentum; gradient descent has none, it goes by the slope under its feet. (With momentum it is "
        "another "
        "method.) It can stand on a saddle: at (0, 0) the gradient is exactly 0 though the cost is 2. And it can "
        "overshoot "
        "and diverge.",
        "And this is the landscape of one sample. Each sample has one of its own; training goes down the mean of many.",
    ),
    widgets=(
        Widget(
            "descend",
            "Let it go",
            (
                Choice(
                    "start",
                    "Start",
                    {k: f"({v[0]:g}, {v[1]:g})".replace("-", "−") for k, v in STARTS.items()},
                    "chapter",
                ),
                Slider("rate", "learning rate η", 0.01, 1, 0.01, 0.1),
                Choice(
                    "momentum", "Momentum", {"none": "none: gradient descent", "0.9": "0.9: another method"}, "none"
                ),
            ),
            _descend,
        ),
        Widget(
            "saddle",
            "The saddle",
            (Choice("direction", "Along", {"same": "θ₁ = θ₂", "opposite": "θ₁ = −θ₂"}, "same"),),
            _saddle,
        ),
        Widget("many", "One sample and many", (Slider("samples", "samples", 1, 16, 1, 1),), _many),
    ),
    tries=(
        Try("Place the ball on the saddle", "descend", {"start": "saddle", "rate": 0.1, "momentum": "none"}),
        Try("Run into the saddle from (1, −1)", "descend", {"start": "into", "rate": 0.1, "momentum": "none"}),
        Try("Overshoot: η = 0.24 from (3, 0.1)", "descend", {"start": "steep", "rate": 0.24, "momentum": "none"}),
        Try("Diverge: η = 0.4 from (3, 0.1)", "descend", {"start": "steep", "rate": 0.4, "momentum": "none"}),
        Try("The same start with momentum", "descend", {"start": "chapter", "rate": 0.1, "momentum": "0.9"}),
        Try("Sixteen samples instead of one", "many", {"samples": 16}),
    ),
    anchors=(
        Anchor(
            "θ₁θ₂ at the end from (0.4, 0.3)",
            2,
            lambda: math.prod([_descend("chapter", 0.1, "none").numbers[k] for k in ("θ₁", "θ₂")]),
            digits=4,
        ),
        Anchor("largest |gradient| at (0, 0)", 0, lambda: _saddle("same").numbers["slope"]),
        Anchor("second derivative by θ₁ and θ₂ at (0, 0)", -2, lambda: _saddle("same").numbers["mixed"]),
        Anchor("second derivative by θ₁ alone", 0, lambda: _saddle("same").numbers["own"]),
        Anchor(
            "η = 0.4 from (3, 0.1) diverges (1 is yes)", 1, lambda: _descend("steep", 0.4, "none").numbers["diverged"]
        ),
    ),
    setup=Setup(CHAIN.settings, {}, "surface", None, CHAIN.words),
)

ROW_20 = Lesson(
    number=20,
    chapter=7,
    title="The update: minus, and how far",
    quote="These values are calculated for every single weight and bias in the model, and the result is added to each "
    "parameter to provide a small ‘push’ down the ‘hill’ of the cost function.",
    paragraphs=(
        "The gradient says which way the cost rises. To add it is to climb; it has to be subtracted. And it says how "
        "steep "
        "the hill is, not how far to go: that is chosen, by the learning rate η, which the article never names. So the "
        "step is w ← w − η·∂C/∂w.",
        "One can say in advance how far down a step leads: C changes by about −η·‖∂C/∂w‖², where ‖·‖² is "
        "the sum of the squares, and the smaller η is, the closer that comes.",
        "And this is no longer backpropagation. Backpropagation computes the gradient and changes nothing; gradient "
        "descent, or Adam, or another optimizer uses it.",
    ),
    widgets=(
        Widget(
            "sign",
            "Follow a sign",
            (
                Moves("moves", "Step", {"minus": "w ← w − η·∂C/∂w", "plus": "w ← w + η·∂C/∂w, the article's sign"}),
                Slider("rate", "learning rate η", 0.001, 4, 0.001, 0.1),
            ),
            _sign,
        ),
        Widget(
            "optimizers",
            "One gradient, several updates",
            (Choice("optimizer", "Optimizer", {k: k for k in OPTIMIZERS}, "sgd"),),
            _optimizers,
        ),
    ),
    tries=(
        Try("Follow the article's sign, and watch C rise", "sign", {"moves": ["plus"], "rate": 0.1}),
        Try("Five more of them", "sign", {"moves": ["plus"] * 6, "rate": 0.1}),
        Try("Follow the minus, and watch C fall", "sign", {"moves": ["minus"], "rate": 0.1}),
        Try("A tiny η: the prediction is nearly exact", "sign", {"moves": ["minus"], "rate": 0.001}),
        Try("No η at all, which is η = 1", "sign", {"moves": ["minus"] * 6, "rate": 1}),
        Try("The same gradient, and Adam", "optimizers", {"optimizer": "adam"}),
    ),
    anchors=(
        Anchor("w₁ after one step with η = 0.1", 0.4564, lambda: _sign(("minus",), 0.1).numbers["w₁"]),
        Anchor("w₂ after it", 0.3752, lambda: _sign(("minus",), 0.1).numbers["w₂"]),
        Anchor("C after it", 1.6722, lambda: _sign(("minus",), 0.1).numbers["C"]),
        Anchor("C after a step with the article's sign", 1.8485, lambda: _sign(("plus",), 0.1).numbers["C"]),
        Anchor("predicted change of C, −η‖g‖²", -0.08836, lambda: _sign(("minus",), 0.1).numbers["predicted"]),
        Anchor(
            "actual over predicted change for η = 0.001",
            1.0,
            lambda: (n := _sign(("minus",), 0.001).numbers)["actual"] / n["predicted"],
            digits=3,
        ),
    ),
    setup=Setup(CHAIN.settings, {}, "network", {"path": "0.W", "index": [0, 0]}, CHAIN.words),
    formulas=lambda: (_update_derivation(),),
)

LESSONS = (ROW_15, ROW_20)
