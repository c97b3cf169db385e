"""What a training run looked like from inside: one panel for everything that its monitor recorded."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxprop import style
from jaxprop.arrays.paths import by_path
from jaxprop.errors import JaxpropError
from jaxprop.stats import FlowReport, Histogram, NoiseScale, Units, UpdateToWeight
from jaxprop.stats.blocks import labelled
from jaxprop.train import FitResult
from jaxprop.train.monitored import Monitored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS, _PANEL = 3, (4.1, 2.9)  # inches
_LINES = 6  # that are named
_CELLS = 60  # of a histogram that is drawn, along its values
_THUMB = 1e-3  # the rule of thumb for update ÷ weight
_DRAWN = ".root_mean_square"  # of an array's summary, the number that is drawn


class Panel(NamedTuple):
    """A title, what stands at the y axis, what draws on the axes, and whether a row of panels begins with it."""

    title: str
    y: str
    draw: "Callable[[Axes], None]"
    new_row: bool = False


def inside(result: FitResult, *, figure: "Figure | None" = None) -> np.ndarray:
    """Everything that `fit(..., monitor=)` recorded, over the steps of training: an array of axes, one a panel.

    First come the cost and the norm of the gradient. Then one or more panels a quantity: lines of update ÷ weight and
    of dead and saturated units, heat maps of the errors and activations of a `Flow` layer by layer, and of histograms
    (of the first, the middle and the last weight or layer). Of what else was recorded, the numbers are drawn as lines.
    Paths are written without "inner.".

    Raises JaxpropError for a run without a monitor, or whose monitor has no record.

    >>> import numpy as np, optax
    >>> import jaxprop as jp
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> watched = {"flow": jp.stats.Flow(), "dead": jp.stats.DeadUnits()}
    >>> net = jp.Chain(jp.Linear(8), jp.ReLU(), jp.Linear(1))
    >>> options = dict(epochs=8, progress=False, monitor=watched, every=2)
    >>> axes = inside(jp.fit(net, jp.HalfSquaredError(), optax.sgd(0.1), (x, x * x), **options))
    >>> [ax.get_title(loc="left").split(":")[0] for ax in axes]
    ['Cost', 'Gradient', 'flow', 'flow', 'dead']
    """
    seen = result.monitor
    if seen is None or not len(seen):
        why = "found a run without a monitor" if seen is None else "the monitor of this run has no record"
        raise JaxpropError(f'inside: {why}; train with fit(..., monitor={{"flow": jp.stats.Flow()}}, every=20)')
    panels = [Panel(f"Cost: {_range(seen.costs)}", "cost", lambda ax: _costs(ax, result, seen))]
    lines = {"‖∂C/∂θ‖": seen.gradient_norms}
    panels.append(_of_lines(seen, f"Gradient: {_range(seen.gradient_norms)}", "norm over all of θ", lines))
    for name in seen:
        panels += _panels(seen, name)
    axes = style.panels_or_new(figure, [panel.new_row for panel in panels], _COLUMNS, _PANEL)
    for ax, panel in zip(axes, panels, strict=True):
        style.dress(ax, "", "steps behind θ", panel.y)
        ax.set_title(panel.title, loc="left", fontsize=style.TEXT, color=style.INK)
        panel.draw(ax)
        ax.set_xlim(seen.steps[0], max(_edges(seen.steps)[-1], 0 if result.state is None else result.state.steps))
    return axes


def _panels(seen: Monitored, name: str) -> Iterator[Panel]:
    """The panels of one quantity, by what its results are."""
    found, kind = seen[name], seen.quantities[name]
    parts = list(jax.tree.leaves(found, is_leaf=_is_known))
    if isinstance(found, FlowReport):
        yield _of_flow(seen, f"{name}: RMS of the error ∂Cₙ/∂y", found, "error")
        yield _of_flow(seen, f"{name}: RMS of the activation y", found, "activation")
    elif parts and isinstance(parts[0], Histogram):
        shown = _weights({path: h for path, h in by_path(found, is_leaf=_is_known).items() if isinstance(h, Histogram)})
        decades = getattr(kind, "magnitudes", False)
        for i, (label, histogram) in enumerate(_three(dict(_blocks(shown)))):
            draw = _heat(seen, histogram, decades)
            yield Panel(f"{name}: {_short(label)}", "size" if decades else "value", draw, new_row=i == 0)
    elif parts and isinstance(parts[0], Units):
        shares = {path: units.fraction for path, units in by_path(found, is_leaf=_is_known).items()}
        yield _of_lines(seen, f"{name}: {kind!r}", "share of the layer's units", dict(_blocks(shares)), log=False)
    elif isinstance(kind, UpdateToWeight):
        ratios = dict(_blocks(_weights(by_path(found))))
        yield _of_lines(seen, f"{name}: update ÷ weight", "RMS ÷ RMS", ratios, at=_THUMB)
    else:
        yield from _of_numbers(seen, name)


def _of_numbers(seen: Monitored, name: str) -> Iterator[Panel]:
    """One panel of lines for what a quantity says in numbers; of each array's summary, its RMS."""
    rows = seen.rows()
    columns = [column for column in rows[0] if column == name or column.startswith(f"{name}.")]
    summaries = {column.removesuffix(_DRAWN) for column in columns if column.endswith(_DRAWN)}
    columns = [c for c in columns if c.endswith(_DRAWN) or c.rpartition(".")[0] not in summaries]
    if isinstance(seen.quantities[name], NoiseScale):  # what it is the ratio of has other units
        columns = [column for column in columns if column.startswith(f"{name}.scale")]
    labels = [column.removeprefix(name).removesuffix("root_mean_square").strip(".") or "RMS" for column in columns]
    lines = {label: np.array([row[column] for row in rows]) for label, column in zip(labels, columns, strict=True)}
    if lines:
        yield _of_lines(seen, f"{name}: {seen.quantities[name]!r}", "", lines)


def _is_known(node: Any) -> bool:
    return isinstance(node, Histogram | Units)


def _weights(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of parameters the weights, if there are any by their name; of layers all."""
    chosen = {path: value for path, value in found.items() if path.rpartition(".")[2].startswith("W")}
    return chosen or dict(found)


def _blocks(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arrays of every block of a `Repeat` by themselves: their first axis is that of the records."""
    for path, value in found.items():
        first = jax.tree.leaves(value)[0]
        for block in np.ndindex(first.shape[1:-1] if isinstance(value, Histogram) else first.shape[1:]):
            yield labelled(path, block), jax.tree.map(lambda a, block=block: a[(slice(None), *block)], value)


def _short(label: str) -> str:
    """A label without the word that every combinator with one child adds to it: there is little room."""
    return label.replace("inner.", "")


def _three(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The first, the middle and the last."""
    every = list(found.items())
    return [every[i] for i in sorted({0, (len(every) - 1) // 2, len(every) - 1})]


def _range(values: np.ndarray) -> str:
    return f"{style.number(values[0], 3)} → {style.number(values[-1], 3)}"


def _edges(steps: np.ndarray) -> np.ndarray:
    """Where the columns of a heat map begin and end: each record stands until the next."""
    return np.append(steps, steps[-1] + (steps[-1] - steps[-2] if len(steps) > 1 else 1))


def _costs(ax: "Axes", result: FitResult, seen: Monitored) -> None:
    ax.plot(seen.steps, seen.costs, color=style.SKY, linewidth=1, label="of a batch, recorded")
    state = result.state
    if state is not None and result.stopped in ("finished", "early", "callback") and result.history:
        a_epoch = state.steps / state.epochs
        for key, color in (("cost", style.BLUE), ("validation_cost", style.VERMILLION)):
            rows = [row for row in result.history if row.get(key) is not None]
            if rows:
                at, values = [row["epoch"] * a_epoch for row in rows], [row[key] for row in rows]
                look = {"color": color, "linewidth": 1.8, "marker": "o", "markersize": 3}
                ax.plot(at, values, label=f"{key.replace('_', ' ')} of an epoch", **look)
    _logarithmic(ax, seen.costs)
    style.legend(ax)


def _logarithmic(ax: "Axes", values: Any) -> None:
    """A logarithmic axis for positive numbers that span more than a factor of thirty."""
    values = np.asarray(values)
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() / values.min() > 30:
        ax.set_yscale("log")


def _of_lines(
    seen: Monitored, title: str, y: str, lines: Mapping[str, np.ndarray], log: bool = True, at: float | None = None
) -> Panel:
    def draw(ax: "Axes") -> None:
        import matplotlib

        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(len(lines), 1)))
        named = {list(lines)[i] for i in np.unique(np.linspace(0, len(lines) - 1, min(len(lines), _LINES)).astype(int))}
        for (label, line), color in zip(lines.items(), colors, strict=True):
            line = np.where(np.isfinite(line) & ((line > 0) | (not log)), line, np.nan)
            ax.plot(seen.steps, line, color=color, linewidth=1.2, label=_short(label) if label in named else None)
        if at is not None:
            ax.axhline(at, color=style.GREY, linestyle="--", linewidth=1, label=f"{at:g}, a rule of thumb")
        if log:
            drawn = [line[np.isfinite(line) & (line > 0)] for line in lines.values()]
            _logarithmic(ax, np.concatenate([np.ravel(line) for line in drawn] + [np.zeros(0)]))
        elif lines:
            ax.set_ylim(-0.02, max(0.1, 1.05 * max(float(np.nanmax(line)) for line in lines.values())))
        if len(lines) > 1 or at is not None:
            legend = style.legend(ax, fontsize=6.5, ncols=1 + (len(named) > 4))
            legend.set_in_layout(False)  # a wide one would take the panel's room

    return Panel(title, y, draw)


def _of_flow(seen: Monitored, title: str, flow: FlowReport, what: str) -> Panel:
    sizes = {label: getattr(flow.layers[label], what) for label, _ in flow.names}
    sizes = {label: np.asarray(size, np.float64) for label, size in sizes.items() if size is not None}

    def draw(ax: "Axes") -> None:
        values = np.stack(list(sizes.values()))
        tens = np.log10(values, where=(values > 0) & np.isfinite(values), out=np.full(values.shape, np.nan))
        mesh = ax.pcolormesh(_edges(seen.steps), np.arange(len(sizes) + 1), tens, cmap="cividis", rasterized=True)
        rows = np.unique(np.linspace(0, len(sizes) - 1, min(len(sizes), 12)).astype(int))
        ax.set_yticks(rows + 0.5, [_short(list(sizes)[i]) for i in rows], fontsize=6.5)
        ax.invert_yaxis()  # the first layer stands above
        ax.grid(False)
        _bar(ax, mesh, "log₁₀")

    return Panel(title, "layer, first to last", draw)


def _heat(seen: Monitored, histogram: Histogram, decades: bool) -> "Callable[[Axes], None]":
    """Counts over time as a heat map: every record's own edges, brought onto common ones."""
    counts, edges = np.asarray(histogram.counts, np.float64), np.asarray(histogram.edges, np.float64)

    def draw(ax: "Axes") -> None:
        from matplotlib.colors import LinearSegmentedColormap

        low, high = np.nanmin(edges), np.nanmax(edges)
        common = np.geomspace(low, high, _CELLS + 1) if decades else np.linspace(low, high, _CELLS + 1)
        below = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, axis=1)], axis=1)
        cells = np.stack([np.diff(np.interp(common, e, b)) for e, b in zip(edges, below, strict=True)], axis=1)
        share = cells / np.maximum(cells.sum(axis=0), 1)
        colors = LinearSegmentedColormap.from_list("counts", ["white", style.SKY, style.BLUE, style.INK])
        top = float(np.quantile(share.max(axis=0), 0.9)) or 1.0
        mesh = ax.pcolormesh(_edges(seen.steps), common, share, cmap=colors, vmin=0, vmax=top, rasterized=True)
        if decades:
            ax.set_yscale("log")
            some = common[:-1][share.max(axis=1) > 0]
            ax.set_ylim(some.min(), max(some.max() * (high / low) ** (1 / _CELLS), some.min() * 10))
        ax.grid(False)
        _bar(ax, mesh, "share of the entries")

    return draw


def _bar(ax: "Axes", mesh: Any, label: str) -> None:
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)  # pyright: ignore[reportAttributeAccessIssue]
    bar.set_label(label, fontsize=style.SMALL)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
