"""Small drawings as SVG: charts and networks. Colours are classes: one drawing is right in dark and in light."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import ArrayLike

from jaxprop.derivations.glyphs import SUPERSCRIPTS
from jaxprop_explorer.lessons.parts import number

WIDTH, HEIGHT = 440.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 14.0, 42.0


@dataclass(frozen=True)
class Line:
    """A curve; `kind` 1 to 6 is its colour, `dashed` tells it apart without one."""

    x: ArrayLike
    y: ArrayLike
    label: str
    kind: int = 1
    dashed: bool = False

    @property
    def points(self) -> list[tuple[float, float]]:
        """The places that it goes through, without those that are not finite."""
        pairs = zip(np.ravel(self.x).tolist(), np.ravel(self.y).tolist(), strict=True)
        return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


@dataclass(frozen=True)
class Dot:
    """A marked point, with a label beside it."""

    x: float
    y: float
    label: str = ""
    kind: int = 2


def chart(
    lines: Sequence[Line],
    dots: Sequence[Dot] = (),
    *,
    x_label: str,
    y_label: str,
    said: str,
    x: tuple[float, float] | None = None,
    y: tuple[float, float] | None = None,
    log: bool = False,
) -> str:
    """Return curves in a frame with ticks; with `log` both axes are logarithmic; `said` tells what is seen."""
    image = _image(WIDTH, HEIGHT, said)
    marked = [*(p for line in lines for p in line.points), *((dot.x, dot.y) for dot in dots)]
    xs, ys = ([p[k] for p in marked] for k in (0, 1))
    (x_at, x_ticks), (y_at, y_ticks) = _axis(x or _room(xs, log, 0), log), _axis(y or _room(ys, log, 0.06), log)

    def place(px: float, py: float) -> tuple[float, float]:
        across, up = min(max(x_at(px), 0.0), 1.0), min(max(y_at(py), 0.0), 1.0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    for tick in x_ticks:
        px = place(tick, ys[0])[0]
        _line(image, (px, TOP), (px, HEIGHT - BOTTOM), "grid")
        _text(image, (px, HEIGHT - BOTTOM + 16), _tick(tick, log), "tick middle")
    for tick in y_ticks:
        py = place(xs[0], tick)[1]
        _line(image, (LEFT, py), (WIDTH - RIGHT, py), "grid")
        _text(image, (LEFT - 6, py + 4), _tick(tick, log), "tick end")
    _text(image, ((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6), x_label, "name middle")
    turned = _text(image, (14, (TOP + HEIGHT - BOTTOM) / 2), y_label, "name middle")
    turned.set("transform", f"rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2:g})")
    for line in lines:
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(*point) for point in line.points))
        ET.SubElement(image, "polyline", {"points": path, "class": f"curve k{line.kind}{' dashed' * line.dashed}"})
    for dot in dots:
        px, py = place(dot.x, dot.y)
        ET.SubElement(image, "circle", {"cx": f"{px:.1f}", "cy": f"{py:.1f}", "r": "5", "class": f"dot k{dot.kind}"})
        right = px < WIDTH * 0.7
        _text(image, (px + (9 if right else -9), py - 8), dot.label, "value" + " end" * (not right))
    _legend(image, lines)
    return ET.tostring(image, encoding="unicode")


def network(
    columns: Sequence[Sequence[str]],
    weights: Sequence[np.ndarray],
    said: str,
    *,
    labels: bool = True,
    marked: Sequence[tuple[int, ...]] = (),
) -> str:
    """Return a network: columns of labelled units, and between them lines for weights `[I, O]`.

    A line's colour and dashes are the sign of its weight, its width the size; 0 is left out. `marked` lines, each a
    layer, where it begins and where it ends, are drawn over the others.
    """
    high = max(len(column) for column in columns)
    height = max(170.0, 62.0 * high)
    image = _image(WIDTH, height, said)
    gap = (WIDTH - 100) / (len(columns) - 1)
    place = [
        [(50 + gap * c, height * (k + 0.5) / len(column)) for k in range(len(column))]
        for c, column in enumerate(columns)
    ]
    largest = max((float(np.max(np.abs(W))) for W in weights if W.size), default=1.0) or 1.0
    for layer, W in enumerate(weights):
        for i, j in np.ndindex(*W.shape):
            w = float(W[i, j])
            if w == 0:
                continue
            sign = "plus" if w > 0 else "minus"
            edge = _line(image, place[layer][i], place[layer + 1][j], f"edge {sign}")
            edge.set("stroke-width", f"{1 + 4 * abs(w) / largest:.2f}")
            if (layer, i, j) in marked:
                edge.set("class", f"edge {sign} marked")
            if labels:
                (ax, ay), (bx, by) = place[layer][i], place[layer + 1][j]
                share = 0.28  # near where the line begins, labels of crossing lines stand apart
                _text(image, (ax + share * (bx - ax), ay + share * (by - ay) - 4), number(w, 3), "value middle halo")
    for column, places in zip(columns, place, strict=True):
        for label, (px, py) in zip(column, places, strict=True):
            ET.SubElement(image, "circle", {"cx": f"{px:.1f}", "cy": f"{py:.1f}", "r": "22", "class": "unit"})
            _text(image, (px, py + 5), label, "inside middle")
    return ET.tostring(image, encoding="unicode")


def pixels(pictures: Sequence[tuple[str, np.ndarray]], said: str) -> str:
    """Return pictures side by side, each with a title: blue where positive, orange and marked where negative."""
    image, cell = _image(WIDTH, 214, said), 22
    for k, (title, values) in enumerate(pictures):
        left, largest = 10 + 220 * k, float(np.max(np.abs(values))) or 1.0
        _text(image, (left, 16), title, "name")
        for row, column in np.ndindex(*values.shape):
            v, at = float(values[row, column]), {"x": f"{left + cell * column}", "y": f"{26 + cell * row}"}
            size = {"width": f"{cell}", "height": f"{cell}", "fill-opacity": f"{abs(v) / largest:.2f}"}
            ET.SubElement(image, "rect", {**at, **size, "class": "pixel " + ("plus" if v >= 0 else "minus")})
            if v < -0.3 * largest:
                _text(image, (left + cell * (column + 0.5), 26 + cell * (row + 0.7)), "−", "tick middle")
    return ET.tostring(image, encoding="unicode")


def timeline(events: Sequence[tuple[int, str]], said: str) -> str:
    """Return years on a line from top to bottom, each with a few words."""
    image = _image(WIDTH, 34.0 * len(events) + 20, said)
    _line(image, (70, 14), (70, 34.0 * len(events) + 6), "axis")
    for i, (year, words) in enumerate(events):
        y = 30 + 34.0 * i
        ET.SubElement(image, "circle", {"cx": "70", "cy": f"{y:g}", "r": "5", "class": "dot k1"})
        _text(image, (56, y + 5), str(year), "value end")
        _text(image, (84, y + 5), words, "tick")
    return ET.tostring(image, encoding="unicode")


def _image(width: float, height: float, said: str) -> ET.Element:
    frame = {"viewBox": f"0 0 {width:g} {height:g}", "class": "drawing", "role": "img", "aria-label": said}
    return ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **frame})


def _line(image: ET.Element, a: tuple[float, float], b: tuple[float, float], kind: str) -> ET.Element:
    ends = {"x1": a[0], "y1": a[1], "x2": b[0], "y2": b[1]}
    return ET.SubElement(image, "line", {**{k: f"{v:.1f}" for k, v in ends.items()}, "class": kind})


def _text(image: ET.Element, at: tuple[float, float], words: str, kind: str) -> ET.Element:
    found = ET.SubElement(image, "text", {"x": f"{at[0]:.1f}", "y": f"{at[1]:.1f}", "class": kind})
    found.text = words
    return found


def _legend(image: ET.Element, lines: Sequence[Line]) -> None:
    named = [line for line in lines if line.label]
    for i, line in enumerate(named):
        y = TOP + 14 + 18 * i
        _line(image, (LEFT + 10, y - 4), (LEFT + 34, y - 4), f"curve k{line.kind}{' dashed' * line.dashed}")
        _text(image, (LEFT + 40, y), line.label, "tick halo")


def _room(values: Sequence[float], log: bool, margin: float) -> tuple[float, float]:
    """Return the range of the values with some room, never empty."""
    low, high = min(values), max(values)
    if log:
        return low / 1.5, high * 1.5
    width = (high - low) or max(abs(high), 1.0)
    return low - margin * width, high + margin * width


def _axis(ends: tuple[float, float], log: bool) -> tuple[Callable[[float], float], list[float]]:
    """Return a function from a value to its place between 0 and 1, and the ticks."""
    low, high = (math.log10(max(e, 1e-300)) for e in ends) if log else ends
    if log:
        first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
        every = max(1, math.ceil((last - first) / 6))
        ticks = [10.0**e for e in range(first, last + 1, every)]
        return lambda v: (math.log10(max(v, 1e-300)) - low) / (high - low), ticks
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999)
    ticks = [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return lambda v: (v - low) / (high - low), ticks


def _tick(value: float, log: bool) -> str:
    exponent = round(math.log10(value)) if log else 0
    return f"10{str(exponent).translate(SUPERSCRIPTS)}" if abs(exponent) > 2 else number(value, 3)
