"""A biological neuron beside a perceptron: which part is likened to which, and what is not alike."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxprop import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# one colour per pair of parts
INPUT, WEIGHT, BODY, OUTPUT = style.BLUE, style.ORANGE, style.GREEN, style.PURPLE
DARK = "#9A6A00"  # orange, dark enough for text
_TIPS = np.array([[0.9, 5.1], [0.5, 3.9], [0.6, 2.6], [1.0, 1.4]])


def neuron_and_perceptron(*, axes: "np.ndarray | Sequence[Axes] | None" = None) -> np.ndarray:
    """A neuron and a perceptron side by side, parts that are likened in one colour: an array of two axes.

    Dendrites ↔ inputs, synapses ↔ weights, soma ↔ sum and activation, axon ↔ output. The captions say what is not
    alike.

    >>> left, right = neuron_and_perceptron()
    >>> sorted({"dendrites", "soma"} & {text.get_text() for text in left.texts})
    ['dendrites', 'soma']
    """
    axes = style.side_by_side(axes, (9.2, 4.0))
    _neuron(axes[0])
    _perceptron(axes[1])
    style.bare(
        axes[0],
        "A neuron",
        "Not alike: a neuron answers in time, with spikes of one height;\n"
        "synapses are chemical, of thousands of kinds and places;\n"
        "no backpropagation of an error is known in the brain.",
    )
    style.bare(
        axes[1],
        "A perceptron: a = φ(Σᵢ wᵢ xᵢ + b)",
        "Not alike: one number in, one number out, without time.\n"
        "Rosenblatt's perceptron (1958) had a step for φ, whose slope is 0;\n"
        "here φ is smooth or linear, so that there is a slope to learn from.",
    )
    for ax in axes:
        ax.set(xlim=(-0.9, 10.5), ylim=(0.2, 6.4), aspect="equal")
    return axes


def _say(ax: "Axes", text: str, at: tuple[float, float], color: str, to: tuple[float, float] | None = None) -> None:
    line = {"arrowstyle": "-", "color": color, "linewidth": 0.9, "shrinkA": 1, "shrinkB": 2}
    ax.annotate(
        text,
        to or at,
        xytext=at,
        color=color,
        fontsize=style.TEXT,
        fontweight="bold",
        zorder=9,
        arrowprops=line if to else None,
        ha="center",
        va="center",
    )


def _bend(ax: "Axes", points: ArrayLike, color: str, width: float, zorder: int = 3) -> None:
    """A smooth line through a start, a bend and an end (a quadratic Bézier curve)."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    path = Path(points, [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    ax.add_patch(PathPatch(path, fill=False, edgecolor=color, linewidth=width, capstyle="round", zorder=zorder))


def _arrow(ax: "Axes", start: Sequence[float] | np.ndarray, end: Sequence[float] | np.ndarray, color: str) -> None:
    look = {"arrowstyle": "-|>", "color": color, "linewidth": 2.2, "mutation_scale": 16, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (end[0], end[1]), (start[0], start[1]), arrowprops=look, zorder=2)


def _neuron(ax: "Axes") -> None:
    soma = np.array([3.6, 3.2])
    for tip, bend in zip(_TIPS, ((2.2, 4.9), (1.9, 3.6), (1.9, 3.1), (2.4, 1.7)), strict=True):
        _bend(ax, np.array([soma, bend, tip]), INPUT, 4.5)
        fork = tip + np.array([0.75, 0.1])
        _bend(ax, fork + np.array([[0, 0], [-0.3, -0.35], [-0.75, -0.5]]), INPUT, 2.5)
        ax.plot([tip[0] - 1.1, tip[0] - 0.22], [tip[1] + 0.12, tip[1] + 0.02], color=style.PALE, linewidth=4, zorder=2)
        ax.plot(*(tip - (0.1, 0)), "o", color=WEIGHT, markersize=9, markeredgecolor="white", zorder=5)
    angles = np.linspace(0, 2 * np.pi, 200)
    reach = 0.95 + 0.06 * np.cos(4 * angles + 0.7) + 0.04 * np.sin(7 * angles)
    ax.fill(soma[0] + reach * np.cos(angles), soma[1] + reach * np.sin(angles), color=BODY, zorder=4)
    ax.plot(*soma, "o", color="white", alpha=0.55, markersize=15, zorder=5)
    ax.plot([4.4, 8.2], [3.2, 3.2], color=OUTPUT, linewidth=5, solid_capstyle="round", zorder=3)
    for end in ((9.8, 4.6), (10.0, 3.5), (9.9, 2.5), (9.6, 1.7)):
        _bend(ax, [(8.2, 3.2), (9.0, 3.2), end], OUTPUT, 2.5)
        ax.plot(*end, "o", color=OUTPUT, markersize=6, zorder=4)
    _say(ax, "dendrites", (2.7, 5.7), INPUT, (2.15, 4.55))
    _say(ax, "synapses", (1.1, 0.6), DARK, (0.93, 1.3))
    _say(ax, "soma", (3.9, 1.5), BODY, (3.7, 2.3))
    _say(ax, "axon", (6.4, 3.75), OUTPUT)
    _say(ax, "terminals, to\nother neurons", (8.6, 5.4), OUTPUT, (9.7, 4.7))


def _perceptron(ax: "Axes") -> None:
    from matplotlib.patches import Circle

    body, radius = np.array([4.9, 3.2]), 1.15
    for i, height in enumerate((5.1, 3.2, 1.3)):
        start = np.array([0.8, height])
        way = (body - start) / np.linalg.norm(body - start)
        _arrow(ax, start, body - way * radius, INPUT)
        ax.add_patch(Circle(tuple(start), 0.48, facecolor="white", edgecolor=INPUT, linewidth=2.2, zorder=3))
        style.write(ax, start, f"$x_{i + 1}$", fontsize=style.TITLE, color=INPUT, zorder=4)
        at = start + 0.5 * (body - way * radius - start)
        ax.plot(*at, "o", color=WEIGHT, markersize=19, markeredgecolor="white", zorder=4)
        style.write(ax, at, f"$w_{i + 1}$", fontsize=style.TEXT, color=style.INK, zorder=5)
    ax.add_patch(Circle(tuple(body), radius, facecolor=BODY, edgecolor="none", zorder=3))
    ax.plot([body[0]] * 2, [body[1] - 0.75, body[1] + 0.75], color="white", linewidth=1.2, zorder=4)
    for text, shift in (("Σ", -0.5), ("φ", 0.5)):
        style.write(ax, (body[0] + shift, body[1]), text, fontsize=18, color="white", zorder=5)
    _arrow(ax, (body[0], 1.05), (body[0], body[1] - radius), style.GREY)
    ax.text(body[0] + 0.2, 1.1, "b, the bias", ha="left", va="center", fontsize=style.TEXT, color=style.GREY)
    _arrow(ax, (body[0] + radius, body[1]), (8.9, 3.2), OUTPUT)
    style.write(ax, (9.25, 3.2), "$a$", fontsize=style.TITLE + 3, color=OUTPUT)
    _say(ax, "inputs (dendrites)", (1.6, 6.0), INPUT)
    _say(ax, "weights (synapses)", (2.0, 0.5), DARK, (2.35, 1.75))
    _say(ax, "sum and activation\n(soma)", (5.1, 5.2), BODY)
    _say(ax, "output (axon)", (7.7, 3.75), OUTPUT)
