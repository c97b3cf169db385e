"""The network diagram: units as circles, weights as lines, colour for their sign and width for their size."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from jaxprop import style
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer, Linear, Sigmoid
from jaxprop.layers.linear import LinearParams
from jaxprop.network import Chain
from jaxprop.plot._columns import kept, read
from jaxprop.plot._layout import Place, edges, extent, image_grid, places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POSITIVE, NEGATIVE = style.BLUE, style.VERMILLION


def network(
    net: Layer,
    params: PyTree,
    *,
    x: ArrayLike | None = None,
    ax: "Axes | None" = None,
    labels: Sequence[Sequence[str] | None] | bool | None = None,
    prune: float | Mapping[str, ArrayLike] | None = None,
    most: int = 16,
    image: bool | tuple[int, int] | None = None,
) -> "Axes":
    """A Chain of Linear layers and activations: weights as lines (blue > 0, orange < 0, width |w|), units as circles.

    With one example x `[1, ...]`, units show their values or, where there is no room, a shade. `labels`: names per
    column (inputs, then each Linear; None for the usual symbols), or False. `prune` draws only |w| ≥ a number, or
    what masks by path keep, {"0.W": bool `[I, O]`}; values stay those of `params`. Columns of more than `most` units
    show the first and last; more inputs than that are drawn as an image if square (`image` True, False or (rows,
    columns) to choose): x, else the mean |w| of each pixel. The drawn edges are the LineCollection with gid "edges".

    Raises JaxpropError or ShapeError for layers that are no columns of units and for what does not fit them.

    >>> import jax, jaxprop as jp
    >>> net, x = jp.Chain(jp.Linear(5), jp.Sigmoid(), jp.Linear(3)), jnp.ones((1, 4))
    >>> ax = network(net, net.init(jax.random.key(0), x))
    >>> ax.get_title(loc="left"), [len(c.get_segments()) for c in ax.collections if c.get_gid() == "edges"]
    ('Network 4-5-3: 35 weights', [35])
    """
    columns = read(net, params, x)
    keep = kept(columns, prune)
    made = places(columns, most, image_grid(image, columns[0], x, most))
    names = unit_names(made, labels)
    low, high = extent(made, x is not None)
    ax = style.axes_or_new(ax, (min(max(8.0, 1.5 * len(columns)), 11.0), min(max(4.2 * (high - low), 2.6), 5.2)))
    segments, weights = edges(made, keep)
    draw_edges(ax, segments, weights, write=all(place.room == "lines" for place in made))
    for place, own in zip(made, names, strict=True):
        if place.grid is None:
            _draw_units(ax, place, own, ends=(place is made[0]) - (place is made[-1]))
        else:
            _draw_image(ax, place, x, made[1])
        draw_heading(ax, place, high - 0.18)
    total = sum(mask.size for mask in keep)
    title = f"Network {'-'.join(str(c.units) for c in columns)}: {total:,} weights"
    style.bare(ax, title + (f", {len(weights):,} drawn" if len(weights) != total else ""), _caption(made, x, prune))
    _frame(ax, made, names, weights, (low, high))
    return ax


def unit_names(made: Sequence[Place], labels: Sequence[Sequence[str] | None] | bool | None) -> list[list[str]]:
    """The name of every shown unit: the given, else x_i, a^l_j and y_o; empty with labels=False."""
    if labels is False:
        return [[""] * len(place.shown) for place in made]
    given = [None] * len(made) if labels in (None, True) else list(labels)
    if len(given) != len(made):
        raise JaxpropError(
            f"network: labels need {len(made)} items, inputs first, None for the usual; found {len(given)}"
        )
    names = []
    for k, (place, own) in enumerate(zip(made, given, strict=True)):
        if own is not None and len(own) != place.column.units:
            raise JaxpropError(f"network: labels[{k}] has {len(own)} names for {place.column.units} units")
        symbol = "x" if k == 0 else "y" if k == len(made) - 1 else f"a^{{{k}}}"
        index = [f"_{{{i + 1}}}" if place.column.units > 1 else "" for i in place.shown]
        names.append([f"${symbol}{i}$" for i in index] if own is None else [str(own[i]) for i in place.shown])
    return names


def draw_edges(
    ax: "Axes", segments: np.ndarray, weights: np.ndarray, write: bool, gid: str = "edges", fade: float = 1.0
) -> None:
    """Lines from the weakest to the strongest; `write` puts the numbers on at most 12; `fade` 0 hides them."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    order = np.argsort(np.abs(weights), kind="stable")  # strong ones on top
    segments, weights = segments[order], weights[order]
    share = np.abs(weights) / max(np.abs(weights).max(initial=0), 1e-300)
    crowd = np.clip(60 / max(len(weights), 1), 0.25, 1)
    colors = np.array([to_rgba(POSITIVE if w >= 0 else NEGATIVE) for w in weights]).reshape(-1, 4)
    colors[:, 3] = np.clip((0.3 + 0.7 * share) * (1 if crowd > 0.6 else 0.15 + 0.85 * share), 0.04, 1) * fade
    widths = 0.4 + (3.4 * crowd + 0.4) * share
    ax.add_collection(LineCollection(list(segments), colors=colors, linewidths=widths, zorder=1, gid=gid))
    for (a, b), w in zip(segments, weights, strict=True) if write and len(weights) <= 12 else ():
        box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
        color = POSITIVE if w >= 0 else NEGATIVE
        at = a + 0.36 * (b - a)
        style.write(ax, at, style.number(w, 3), color=color, fontsize=style.SMALL, bbox=box, zorder=2)


def _draw_units(ax: "Axes", place: Place, names: Sequence[str], ends: int) -> None:
    """Circles, with what they have room for; `ends`: 1 first column, −1 last, whose names may stand outside."""
    from matplotlib.patches import Circle

    a = place.column.a
    shades = np.ones(len(place.shown)) if a is None else 1 - 0.72 * _share(a)[place.shown]
    for unit, center, shade, name in zip(place.shown, place.centers, shades, names, strict=True):
        face = (shade, shade, shade)
        ax.add_patch(Circle(tuple(center), place.radius, facecolor=face, edgecolor=style.INK, linewidth=1, zorder=3))
        _write_unit(ax, place, int(unit), center, name, ends, "white" if shade < 0.55 else style.INK)
    if place.gap is not None:
        style.write(ax, place.gap, "⋮", fontsize=style.TITLE, color=style.INK, zorder=4)


def _write_unit(ax: "Axes", place: Place, unit: int, center: np.ndarray, name: str, ends: int, color: str) -> None:
    a, room = place.column.a, place.room
    short = name.startswith("$") or len(name) <= 4
    inside = name if short and (room == "lines" or (room == "value" and a is None)) else ""
    if ends and not inside:
        at, align = center[0] - ends * (place.radius + 0.03), "right" if ends > 0 else "left"
        size = style.SMALL if room == "shade" else style.TEXT
        ax.text(at, center[1], name, ha=align, va="center", fontsize=size, color=style.INK)
    if a is not None and room == "value":
        text = f"{a[unit]:.2f}".replace("-", "−") if abs(a[unit]) < 1e4 else style.number(a[unit], 2)
        style.write(ax, center, text, fontsize=7 if len(text) < 7 else 5, color=color, zorder=4)
    elif inside:
        style.write(ax, center, inside, fontsize=style.TEXT, color=color, zorder=4)
    if a is not None and room == "lines":
        box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        at = center[1] - place.radius - 0.02
        look = {"fontsize": style.SMALL, "color": style.INK, "linespacing": 1.15, "bbox": box, "zorder": 2.5}
        ax.text(center[0], at, _lines(place, unit), ha="center", va="top", **look)


def _share(a: np.ndarray) -> np.ndarray:
    return (a - a.min()) / np.ptp(a) if np.ptp(a) > 0 else np.zeros_like(a)


def _lines(place: Place, unit: int) -> str:
    column = place.column
    assert column.a is not None
    if column.z is None:
        return style.number(column.a[unit])
    lines = [] if column.b is None else [f"b = {style.number(column.b[unit])}"]
    if column.z is column.a:  # no activation follows
        return "\n".join([*lines, f"a = z = {style.number(column.z[unit])}"])
    return "\n".join([*lines, f"z = {style.number(column.z[unit])}", f"a = {style.number(column.a[unit])}"])


def _draw_image(ax: "Axes", place: Place, x: ArrayLike | None, after: Place) -> None:
    assert place.grid is not None and after.column.W is not None
    seen = np.abs(after.column.W).mean(axis=1) if x is None else np.asarray(x, dtype=np.float64)
    pixels = seen.reshape(place.grid)
    half = np.abs(place.centers - (0, 0.5)).max(axis=0)
    half = half * (np.array(place.grid[::-1]) / np.maximum(np.array(place.grid[::-1]) - 1, 1))
    extent = (-half[0], half[0], 0.5 - half[1], 0.5 + half[1])
    ax.imshow(pixels, cmap="Greys", extent=extent, zorder=3, interpolation="nearest")
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((extent[0], extent[2]), *(2 * half), fill=False, edgecolor=style.INK, linewidth=1, zorder=4))


def draw_heading(ax: "Axes", place: Place, height: float) -> None:
    """What a column is, above it."""
    units = f"{place.column.units:,} unit{'s' if place.column.units > 1 else ''}"
    at = float(place.centers[:, 0].mean())
    text = place.column.name.replace(" · ", "\n", 1) if len(place.column.name) > 22 else place.column.name
    look = {"fontsize": style.SMALL, "color": style.GREY, "linespacing": 1.3}
    ax.text(at, height, f"{text}\n{units}", ha="center", va="bottom", **look)


def _caption(made: Sequence[Place], x: ArrayLike | None, prune: float | Mapping[str, ArrayLike] | None) -> str:
    gap = "⋮: units not shown. " if any(place.gap is not None for place in made) else ""
    image = (
        "" if made[0].grid is None else "Image: x." if x is not None else "Image: each pixel's mean |w|, dark is large."
    )
    shade = (
        "" if x is None else "Shade: a unit's activation, from the least (light) to the largest (dark) of its column."
    )
    whole = "" if prune is None or x is None else "Values are those of the whole network: hidden weights count."
    return "\n".join(line for line in (gap + image, shade, whole) if line)


def _frame(
    ax: "Axes", made: Sequence[Place], names: list[list[str]], weights: np.ndarray, heights: tuple[float, float]
) -> None:
    from matplotlib.lines import Line2D

    margins = []
    for place, own in ((made[0], names[0]), (made[-1], names[-1])):
        longest = 0 if place.grid else max(2 if name.startswith("$") else len(name) for name in own)
        margins.append(max(place.radius + 0.08 + 0.028 * longest, 0.3))
    left, right = made[0].centers[:, 0].mean() - margins[0], made[-1].centers[0, 0] + margins[1]
    ax.set(xlim=(left, right), ylim=heights, aspect="equal")
    largest = style.number(np.abs(weights).max(initial=0), 3)
    lines = [
        Line2D([], [], color=POSITIVE, linewidth=3, label="w > 0"),
        Line2D([], [], color=NEGATIVE, linewidth=3, label="w < 0"),
        Line2D([], [], color=style.GREY, linewidth=3, label=f"width: |w|, at most {largest}"),
    ]
    style.legend(ax, handles=lines, loc="lower center", ncols=3, frameon=False, borderaxespad=0)


def article_network(*, ax: "Axes | None" = None) -> "Axes":
    """The article's pruned, labelled network a → n₁, n₂, n₃ → m₁ → out, with its numbers: input [1, 3, 2], z = 1.35.

    n passes each input on, m₁ = σ(Σ wᵢ nᵢ + b) with w = [0.5, −0.25, 0.75] and b = 0.1, out = m₁. What is pruned are
    the weights from each input to the other two n: they are 0, so the values are the pruned network's own.

    >>> ax = article_network()
    >>> next(text.get_text() for text in ax.texts if "b = " in text.get_text())
    'b = 0.1\\nz = 1.35\\na = 0.79413'
    """
    net = Chain(Linear(3, bias=False), Linear(1), Sigmoid(), Linear(1, bias=False))
    params = (
        LinearParams(W=jnp.eye(3), b=None),
        LinearParams(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1])),
        (),
        LinearParams(W=jnp.ones((1, 1)), b=None),
    )
    labels = [["a₁", "a₂", "a₃"], ["n₁", "n₂", "n₃"], ["m₁"], ["out"]]
    ax = network(net, params, x=jnp.array([[1.0, 3.0, 2.0]]), ax=ax, labels=labels, prune={"0.W": np.eye(3) > 0})
    ax.set_xlabel(
        "m₁ = σ(z) with z = Σᵢ wᵢ nᵢ + b: the sum runs over the weights, the bias b is added once.\n"
        "Pruned: six of the nine weights from a to n, all 0. out = 1 · m₁.",
        fontsize=style.SMALL,
    )
    return ax
