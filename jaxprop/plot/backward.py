"""The backward pass as a picture: δ on the units, ∂C/∂w on the edges, and the paths from one weight to the cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxprop import style
from jaxprop.arrays.paths import by_path
from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer
from jaxprop.plot._flow import Flow, Path, Weight, flow, paths, slopes, weight
from jaxprop.plot._layout import Place, edges, extent, places
from jaxprop.plot.diagram import NEGATIVE, POSITIVE, draw_edges, draw_heading, unit_names
from jaxprop.plot.saving import Film

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Labels = Sequence[Sequence[str] | None] | None
_BOX = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
_LINES = 4  # paths that are written out


@dataclass(frozen=True)
class Lit:
    """The paths of one weight: its name, the factors φ′ by column, the paths shown, and how many more there are."""

    name: str
    of: Weight
    slopes: list[np.ndarray]
    paths: list[Path]
    more: int


@dataclass(frozen=True)
class Stage:
    """How far a drawing has come: columns below `forward` show a, those from `back` on show δ; `after` the new W."""

    forward: int
    back: int
    after: list[np.ndarray] | None = None


@dataclass(frozen=True)
class Drawing:
    """What all frames share: the numbers, where the units stand, and their names."""

    found: Flow
    made: list[Place]
    names: list[list[str]]

    @property
    def roomy(self) -> bool:
        """Whether numbers are written."""
        return all(place.room == "lines" for place in self.made)


def backward(
    net: Layer,
    cost: Cost,
    x: ArrayLike,
    params: PyTree,
    targets: ArrayLike,
    *,
    parameter: str | None = None,
    index: Sequence[int] | None = None,
    labels: Labels = None,
    most: int = 6,
    ax: "Axes | None" = None,
) -> "Axes":
    """The backward pass of one example: δ = ∂C/∂z on the units and ∂C/∂w on the edges, read from `manual.trace`.

    Blue is positive, orange negative; width and shade are size. Where every column has at most three units the numbers
    are written. x is `[1, ...]`, targets as the cost wants them. With `parameter` ("0.W") and `index` ((1, 2); that of
    the largest gradient by default) the paths from that weight to the cost are lit, with the factors of the chain rule:
    the products of the paths add up to ∂C/∂w. Columns of more than `most` units show those of the largest |δ|, inputs
    those of the largest |x|. `labels` are names as `network` takes them. The edges are the LineCollection with gid
    "edges", the paths that with gid "paths".

    Raises JaxpropError or ShapeError for layers that are no columns of units, and for what does not fit them.

    >>> import jax, jaxprop as jp, jax.numpy as jnp
    >>> net, x = jp.Chain(jp.Linear(2), jp.Sigmoid(), jp.Linear(2), jp.Sigmoid()), jnp.array([[0.05, 0.1]])
    >>> ax = backward(net, jp.HalfSquaredError(), x, net.init(jax.random.key(0), x), jnp.array([[0.01, 0.99]]))
    >>> ax.get_title(loc="left").startswith("Backward through 2-2-2: C = ")
    True
    """
    found = flow(net, cost, x, params, targets)
    chosen = None if parameter is None else weight(found, parameter, index)
    drawing = _drawing(found, labels, most, chosen)
    lit = None if chosen is None else _lit(net, params, drawing, chosen)
    ax = _axes(ax, drawing)
    _draw(ax, drawing, Stage(len(found.columns), 0), lit)
    units = "-".join(str(column.units) for column in found.columns)
    title = f"Backward through {units}: C = {style.number(found.cost)}"
    style.bare(ax, title, _caption(drawing) if lit is None else _sum_of_paths(found, lit))
    return ax


def learning_step(
    net: Layer,
    cost: Cost,
    x: ArrayLike,
    params: PyTree,
    targets: ArrayLike,
    *,
    learning_rate: float = 0.5,
    labels: Labels = None,
    most: int = 6,
) -> Film:
    """One step of gradient descent on one example as a film: forward, backward, update. `save` writes it as a GIF.

    Activations appear layer by layer, then δ and ∂C/∂w from the last layer to the first, then weights and biases change
    by −η times their gradient, and the cost is told before and after. Arguments and errors are those of `backward`.

    >>> import jax, jaxprop as jp, jax.numpy as jnp
    >>> net, x = jp.Chain(jp.Linear(2), jp.Sigmoid()), jnp.array([[0.05, 0.1]])
    >>> film = learning_step(net, jp.HalfSquaredError(), x, net.init(jax.random.key(0), x), jnp.array([[0.0, 1.0]]))
    >>> len(film.frames)
    4
    """
    if not np.isfinite(learning_rate):
        raise JaxpropError(f"learning_rate: expected a finite number, found {learning_rate}")
    found = flow(net, cost, x, params, targets)
    drawing, last = _drawing(found, labels, most), len(found.columns)
    gradient = jax.jit(manual.value_and_grad(net, cost))
    moved = jax.tree.map(lambda p, g: p - learning_rate * g, params, gradient(x, params, targets)[1])
    after = [np.asarray(by_path(moved)[column.path], np.float64) for column in found.columns[1:]]
    C, new = style.number(found.cost), style.number(gradient(x, moved, targets)[0])
    eta = style.number(learning_rate)
    stages = [(Stage(1, last), "Forward: the example x enters the network.")]
    stages += [
        (Stage(k + 1, last), f"Forward: layer {k} adds up what reaches it, z = Σ w a + b, and passes it on as a.")
        for k in range(1, last)
    ]
    stages[-1] = (stages[-1][0], f"Forward: the last layer answers, and the cost compares it with the target: C = {C}.")
    stages += [
        (
            Stage(last, k),
            f"Backward: the error δ = ∂C/∂z reaches layer {k}; a weight into it has ∂C/∂w = δ a, a of the unit before.",
        )
        for k in range(last - 1, 0, -1)
    ]
    update = f"Update: weights and biases change by −η times their gradient, η = {eta}, and C goes from {C} to {new}."
    stages += [(Stage(last, last, after), update)]
    ax = _axes(None, drawing)

    def frame(stage: Stage, sentence: str) -> None:
        ax.clear()
        _draw(ax, drawing, stage, None)
        style.bare(ax, sentence.partition(":")[0], sentence)
        ax.xaxis.label.set(fontsize=style.TEXT, color=style.INK)

    figure = ax.get_figure(root=True)
    assert figure is not None
    return Film(figure, tuple(partial(frame, *stage) for stage in stages))


def _drawing(found: Flow, labels: Labels, most: int, of: Weight | None = None) -> Drawing:
    a = found.columns[0].a
    assert a is not None
    telling = [np.abs(a), *(np.abs(delta) for delta in found.deltas[1:])]
    if of is not None:
        telling[of.k][of.j] = np.inf
        if of.i is not None:
            telling[of.k - 1][of.i] = np.inf
    made = places(found.columns, most, None, telling)
    return Drawing(found, made, unit_names(made, labels))


def _lit(net: Layer, params: PyTree, drawing: Drawing, of: Weight) -> Lit:
    found, slope = drawing.found, slopes(net, params, drawing.found)
    later = found.columns[of.k + 1 :]
    routes = paths(found, of, slope, [place.shown for place in drawing.made])
    layer = found.columns[of.k].path.rpartition(".")[0]
    name = f"{layer}.b[{of.j}]" if of.i is None else f"{layer}.W[{of.i}, {of.j}]"
    every = int(np.prod([column.units for column in later], dtype=np.int64))
    return Lit(name.removeprefix("."), of, slope, routes, every - len(routes))


def _axes(ax: "Axes | None", drawing: Drawing) -> "Axes":
    low, high = _extent(drawing.made)
    return style.axes_or_new(ax, (min(max(8.0, 1.5 * len(drawing.made)), 11.0), min(max(4.6 * (high - low), 3.2), 6.2)))


def _extent(made: list[Place]) -> tuple[float, float]:
    low, high = extent(made, True)
    return min([low, *(float(place.gap[1]) - 0.2 for place in made if place.gap is not None)]), high


def _draw(ax: "Axes", drawing: Drawing, stage: Stage, lit: Lit | None) -> None:
    found, made = drawing.found, drawing.made
    low, high = _extent(made)
    _draw_weights(ax, drawing, stage, lit)
    if lit is not None:
        _draw_paths(ax, drawing, lit)
    for k, (place, names) in enumerate(zip(made, drawing.names, strict=True)):
        _draw_units(ax, drawing, k, place, names, stage, lit)
        draw_heading(ax, place, high - 0.18)
    margins = [max(0.3, 0.15 + 0.028 * max(map(len, own))) if "$" not in own[0] else 0.3 for own in drawing.names]
    ax.set(xlim=(-margins[0], made[-1].centers[0, 0] + margins[-1]), ylim=(low, high), aspect="equal")
    _legend(ax, found, stage)


def _draw_weights(ax: "Axes", drawing: Drawing, stage: Stage, lit: Lit | None) -> None:
    """Edges: ∂C/∂w where the error has come, a pale w where it has not, the new w after the update."""
    found, made = drawing.found, drawing.made
    W = [column.W for column in found.columns[1:] if column.W is not None] if stage.after is None else stage.after
    came = [stage.after is None and k >= stage.back for k in range(1, len(made))]
    edge = -np.inf if any(came) else made[stage.forward - 1].centers[0, 0]  # weights left of it are drawn fully
    for gid, values, wanted in (("edges", found.gradients, True), ("weights", W, False)):
        keep = [np.full(v.shape, came[k] == wanted) for k, v in enumerate(values)]
        held = [made[0], *(replace(p, column=replace(p.column, W=v)) for p, v in zip(made[1:], values, strict=True))]
        segments, sizes = edges(held, keep)
        reached = np.ones(len(sizes), bool) if wanted else segments[:, 0, 0] < edge
        if len(sizes) and reached.any():
            draw_edges(
                ax, segments[reached], sizes[reached], drawing.roomy and lit is None, gid, 1.0 if lit is None else 0.35
            )
        if not reached.all():
            draw_edges(ax, segments[~reached], sizes[~reached], False, "waiting", 0.15)


def _draw_paths(ax: "Axes", drawing: Drawing, lit: Lit) -> None:
    """The edges of the paths in ink, with the factor ∂z/∂w = a on the first and w on the others."""
    from matplotlib.collections import LineCollection

    at = [dict(zip(place.shown.tolist(), place.centers, strict=True)) for place in drawing.made]
    k, i, j = lit.of
    steps: dict[tuple[int, int, int], float] = {} if i is None else {(k, i, j): lit.paths[0].factors[0]}
    for path in lit.paths:
        for n in range(1, len(path.units)):
            steps[k + n, path.units[n - 1], path.units[n]] = path.factors[2 * n]
    segments = [np.array([at[k - 1][a], at[k][b]]) for k, a, b in steps]
    ax.add_collection(LineCollection(segments, colors=style.INK, linewidths=2.2, zorder=1.5, gid="paths"))
    for (column, _, _), segment, factor in zip(steps, segments, steps.values(), strict=True):
        if drawing.roomy:
            text = f"{'a' if column == k else 'w'} = {style.number(factor)}"
            point = segment[0] + (0.5 if column == k else 0.4) * (segment[1] - segment[0])
            style.write(ax, point, text, color=style.INK, fontsize=style.SMALL, bbox=_BOX, zorder=2, gid="factor")


def _draw_units(
    ax: "Axes", drawing: Drawing, k: int, place: Place, names: list[str], stage: Stage, lit: Lit | None
) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Circle

    delta = drawing.found.deltas[k]
    came, on_path = k >= max(stage.back, 1) and stage.after is None, _on_path(k, lit)
    share = np.abs(delta) / max(np.abs(delta).max(), 1e-300) if came else np.zeros(len(delta))
    for unit, center, name in zip(place.shown.tolist(), place.centers, names, strict=True):
        face = 1 - 0.6 * share[unit] * (1 - np.array(to_rgb(POSITIVE if delta[unit] >= 0 else NEGATIVE)))
        width = 2.4 if unit in on_path else 1.0
        circle = {"facecolor": tuple(face), "edgecolor": style.INK, "linewidth": width, "zorder": 3}
        ax.add_patch(Circle(tuple(center), place.radius, **circle))
        lines = _lines(drawing.found, k, unit, stage, came, lit if unit in on_path else None)
        outside = not name.startswith("$") or place.room != "lines"
        if place.room == "lines":
            at = center[1] - place.radius - 0.02
            look = {"fontsize": style.SMALL, "color": style.INK, "linespacing": 1.15, "bbox": _BOX, "zorder": 2.5}
            ax.text(center[0], at, "\n".join(lines), ha="center", va="top", gid=f"unit {k} {unit}", **look)
        elif k < stage.forward:
            value = _value(drawing.found, k, unit, came)
            text = style.number(value, 2)
            style.write(ax, center, text, fontsize=6.5 if len(text) < 7 else 5, zorder=4, gid=f"unit {k} {unit}")
        if not outside:
            style.write(ax, center, name, fontsize=style.TEXT, color=style.INK, zorder=4)
        elif k in (0, len(drawing.made) - 1):
            side = -1 if k == 0 else 1
            look = {"fontsize": style.SMALL, "color": style.INK, "ha": "right" if k == 0 else "left", "va": "center"}
            ax.text(center[0] + side * (place.radius + 0.03), center[1], name, **look)
    if place.gap is not None:
        text = f"⋮ {place.column.units - len(place.shown):,} more"
        style.write(ax, place.gap, text, fontsize=style.SMALL, color=style.GREY, zorder=4)


def _value(found: Flow, k: int, unit: int, came: bool) -> float:
    a = found.columns[k].a
    assert a is not None
    return float(found.deltas[k][unit] if came else a[unit])


def _on_path(k: int, lit: Lit | None) -> set[int]:
    if lit is None or k < lit.of.k - 1:
        return set()
    if k == lit.of.k - 1:
        return set() if lit.of.i is None else {lit.of.i}
    return {path.units[k - lit.of.k] for path in lit.paths}


def _lines(found: Flow, k: int, unit: int, stage: Stage, came: bool, lit: Lit | None) -> list[str]:
    """What stands below a unit: a and δ; or δ and the factors φ′ and ∂C/∂a, where a path goes through it."""
    factors = lit is not None and k >= lit.of.k  # then there is no room for a
    lines = [f"a = {style.number(_value(found, k, unit, False))}"] if k < stage.forward and not factors else []
    lines += [f"δ = {style.number(found.deltas[k][unit])}"] if came else []
    if lit is not None and k >= lit.of.k:
        lines.append(f"φ′ = {style.number(lit.slopes[k - 1][unit])}")
        if k == len(found.columns) - 1:
            lines.append(f"∂C/∂a = {style.number(found.outputs[unit])}")
    return lines


def _caption(drawing: Drawing) -> str:
    gap = any(place.gap is not None for place in drawing.made)
    text = (
        "Units: δ = ∂C/∂z, shaded within their column; a bias has ∂C/∂b = δ. Edges: ∂C/∂w = a δ, a of the unit before."
    )
    return text + (
        "\nOf wide columns the units of the largest |δ| are shown (inputs: of the largest |x|)." if gap else ""
    )


def _sum_of_paths(found: Flow, lit: Lit) -> str:
    """∂C/∂w as the sum of its paths, every path as the product of its factors."""
    kinds = ["∂z/∂w", "φ′", *["w", "φ′"] * ((len(lit.paths[0].factors) - 3) // 2), "∂C/∂a"]
    total = lit.of.gradient(found)
    written, rest = lit.paths[:_LINES], total - sum(path.product for path in lit.paths[:_LINES])
    more = len(lit.paths) + lit.more - len(written)
    lines = [f"∂C/∂{lit.name} = Σ over paths of {' · '.join(kinds)}"]
    for path in written:
        lines.append(f"{' · '.join(style.number(f) for f in path.factors)} = {style.number(path.product)}")
    lines += [f"{more:,} paths more: {style.number(rest)}"] if more else []
    return "\n".join([*lines, f"sum: ∂C/∂{lit.name} = {style.number(total)}"])


def _legend(ax: "Axes", found: Flow, stage: Stage) -> None:
    from matplotlib.lines import Line2D

    came = stage.after is None and stage.back < len(found.columns)
    first = max(stage.back, 1) - 1
    sizes = found.gradients[first:] if came else stage.after or [c.W for c in found.columns if c.W is not None]
    what, largest = "∂C/∂w" if came else "w", style.number(max(np.abs(s).max() for s in sizes), 3)
    lines = [
        Line2D([], [], color=POSITIVE, linewidth=3, label=f"{what} > 0"),
        Line2D([], [], color=NEGATIVE, linewidth=3, label=f"{what} < 0"),
        Line2D([], [], color=style.GREY, linewidth=3, label=f"width: |{what}|, at most {largest}"),
    ]
    style.legend(ax, handles=lines, loc="lower center", ncols=3, frameon=False, borderaxespad=0)
