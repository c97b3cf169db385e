"""The picture of a report: how large values and errors are through depth, on a logarithmic scale."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxprop import style
from jaxprop.errors import JaxpropError
from jaxprop.tables import cut
from jaxprop.xray.rows import Measure, Row
from jaxprop.xray.unrolled import Point, unrolled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

READABLE = 26  # bands that each have their name below
TROUBLES = {"NaN": "X", "inf": "P"}


@dataclass(frozen=True, eq=False)
class Band:
    """Hold the equations that share a place on the horizontal axis: a module, a step or a line.

    name: what stands below the axis. Equations between those of modules are named by what they compute.
    group: the module around them.
    """

    name: str
    group: str
    points: tuple[Point, ...]


def draw(rows: Sequence[Row], what: str, axes: "np.ndarray | Sequence[Axes] | None" = None) -> "np.ndarray":
    """Draw values above and errors below; return both axes."""
    points = unrolled(rows)
    if not points:
        raise JaxpropError("plot: no equation here was measured; .table('argument') shows the arguments")
    bands = _banded(points)
    if axes is None:
        panels = style.panels_or_new(None, [True, True], 1, (max(7.0, min(13.0, 3.0 + 0.42 * len(bands))), 2.7))
    else:
        panels = style.side_by_side(axes, (0, 0))
    above, below = panels
    _panel(above, bands, lambda point: point.value, style.BLUE, "value")
    _panel(below, bands, lambda point: point.error, style.VERMILLION, "error")
    style.dress(above, f"Values{what}: forward, from left to right", "", "RMS")
    style.dress(below, "Errors ∂C/∂value: backward, from right to left", "", "RMS")
    for ax in (above, below):
        ax.grid(False, axis="x")
        ax.set_xlim(0, len(bands))
        _shade(ax, bands)
        style.legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _name(above, below, bands)
    return panels


def _banded(points: Sequence[Point]) -> list[Band]:
    """The finest division into bands whose names can be read, or the coarsest that divides at all."""
    depths = range(1, max(len(point.keys) for point in points) + 1)
    divided = [_bands(points, depth) for depth in depths]
    readable = [bands for bands in divided if len(bands) <= READABLE]
    if readable and len(readable[-1]) > 2:
        return next(bands for bands in readable if _size(bands) == _size(readable[-1]))
    return next((bands for bands in divided if len(bands) > 2), divided[-1])


def _size(bands: Sequence[Band]) -> tuple[int, int]:
    """How many bands there are, and how many names: names that say no more are not asked for."""
    return len(bands), len({(band.group, band.name) for band in bands})


def _bands(points: Sequence[Point], depth: int) -> list[Band]:
    runs = [(keys, tuple(run)) for keys, run in groupby(points, lambda point: point.keys[:depth])]
    around = {keys[:i] for keys, _ in runs for i in range(len(keys))}
    has_modules = any(point.row.scope for point in points)
    bands = []
    for keys, run in runs:
        outside = has_modules and not run[-1].row.scope and not keys[-1].startswith("step ")
        between = keys in around or not keys
        name = run[-1].row.name if outside or between else keys[-1]
        bands.append(Band(name, "" if outside else "/".join(keys if between else keys[:-1]), run))
    return bands


def _panel(ax: "Axes", bands: Sequence[Band], of: Callable[[Point], Measure | None], color: str, what: str) -> None:
    """Draw all equations as dots, a line through the results of the bands, and marks where RMS says nothing."""
    x, found = _placed(bands, of)
    rms = np.array([np.nan if each is None else each.rms for each in found])
    seen = np.isfinite(rms) & (rms > 0)
    healthy = [each is not None and not each.trouble for each in found]
    results = [end for end in _ends(bands) if seen[end] and healthy[end]]
    ax.set_yscale("log")
    dot = {"color": color, "alpha": 0.35, "markersize": 2 if len(x) > 400 else 3.5, "markeredgewidth": 0}
    line = {"color": color, "linewidth": 2, "markersize": 5, "marker": "" if len(results) > 60 else "o"}
    ax.plot(x[seen], rms[seen], "-o", linewidth=0.7, zorder=3, label=f"{what} of an equation", **dot)
    ax.plot(x[results], rms[results], zorder=4, label="at the end of a band", **line)
    on_edge: Any = {"transform": ax.get_xaxis_transform(), "clip_on": False, "linestyle": "none", "zorder": 6}
    marks = [("all 0", "v", style.GREY, 0.03, rms == 0)]
    for place, (name, marker) in enumerate(TROUBLES.items()):
        bad = np.array([each is not None and name in each.trouble for each in found])
        marks.append((name, marker, style.INK, 0.95 - 0.08 * place, bad))
    for name, marker, ink, height, where in marks:
        if where.any():
            look = {"marker": marker, "color": ink, "markeredgecolor": "white", "markersize": 7, "label": name}
            ax.plot(x[where], np.full(where.sum(), height), **look, **on_edge)
    if not seen.any():
        ax.set_ylim(0.1, 10)
        ax.text(0.5, 0.5, _why_empty(found, what), transform=ax.transAxes, ha="center", color=style.GREY)


def _placed(bands: Sequence[Band], of: Callable[[Point], Measure | None]) -> tuple[np.ndarray, list[Measure | None]]:
    """Where each equation stands: bands are equally wide."""
    x = [i + (k + 1) / (len(band.points) + 1) for i, band in enumerate(bands) for k in range(len(band.points))]
    return np.array(x), [of(point) for band in bands for point in band.points]


def _ends(bands: Sequence[Band]) -> list[int]:
    """The place of each band's result among all equations."""
    ends, start = [], 0
    for band in bands:
        reached = [i for i, point in enumerate(band.points) if point.error is not None]
        ends.append(start + (reached[-1] if reached else len(band.points) - 1))
        start += len(band.points)
    return ends


def _why_empty(found: Sequence[Measure | None], what: str) -> str:
    if all(each is None for each in found):
        return f"no {what} was measured"
    return f"no {what} is finite and other than 0"


def _shade(ax: "Axes", bands: Sequence[Band]) -> None:
    """Shade every second group of bands, or every second band where all are of one."""
    groups = _groups(bands)
    parts = [(start, end) for _, start, end in groups] if len(groups) > 1 else [(i, i + 1) for i in range(len(bands))]
    for start, end in parts[1::2]:
        ax.axvspan(start, end, color=style.PALE, alpha=0.4, linewidth=0, zorder=0)


def _groups(bands: Sequence[Band]) -> list[tuple[str, int, int]]:
    """Bands of one module around them: its name, where it starts and ends."""
    groups, start = [], 0
    for name, run in groupby(bands, lambda band: band.group):
        length = len(list(run))
        groups.append((name, start, start + length))
        start += length
    return groups


def _name(above: "Axes", below: "Axes", bands: Sequence[Band]) -> None:
    """Write the bands' names below both panels, and those of the modules around them above."""
    places = range(0, len(bands), -(-len(bands) // READABLE))
    above.set_xticks([])
    names = [band.name for band in bands]
    groups = _groups(bands)
    for name, start, end in groups:
        if name and end == start + 1:  # alone in its module: one name for both
            names[start] = f"{name}/{names[start]}"
    shown = [cut(names[i], 24) for i in places]
    below.set_xticks([i + 0.5 for i in places], shown, rotation=40, ha="right", rotation_mode="anchor")
    for name, start, end in groups:
        letters = round((end - start) / len(bands) * 70)  # that have room
        if name and end > start + 1 and letters > 3:
            look = {"ha": "center", "va": "bottom", "fontsize": style.SMALL, "color": style.GREY}
            above.text((start + end) / 2, 1.01, cut(name, letters), transform=above.get_xaxis_transform(), **look)
    if above.texts:  # room for them
        above.set_title(above.get_title(loc="left"), loc="left", fontsize=style.TITLE, color=style.INK, pad=18)
