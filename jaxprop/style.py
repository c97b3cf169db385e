"""What all pictures share: colours that colour-blind readers can tell apart, figures, labels, numbers.

Everything is set on the artists of one axes; matplotlib's global settings stay as they are. matplotlib is imported when
the first picture is drawn.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from jaxprop.errors import JaxpropError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# Okabe and Ito (2008): distinguishable with any common colour blindness, and in grey by lightness
BLUE, SKY, VERMILLION, ORANGE, GREEN, PURPLE = "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#A6457F"
INK, GREY, PALE = "#222222", "#5f5f5f", "#d9d9d9"
SMALL, TEXT, TITLE = 8.5, 10, 11.5  # points
_RC = {"figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "auto", "figure.dpi": 110.0}
_RC |= {"figure.constrained_layout.w_pad": 0.12, "figure.constrained_layout.h_pad": 0.1}


def pyplot() -> Any:
    """Import matplotlib when the first picture is drawn, or raise JaxpropError that says what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise JaxpropError(
            f"pictures need matplotlib, which cannot be imported ({error}): "
            'install it from the checkout with pip install ".[plot]"'
        ) from error
    return plt


def axes_or_new(ax: "Axes | None", size: tuple[float, float] = (7.0, 4.4)) -> "Axes":
    """Return `ax`, or the axes of a new figure of `size` inches."""
    plt = pyplot()
    if ax is not None:
        return ax
    with plt.rc_context(_RC):
        return plt.subplots(figsize=size, layout="constrained")[1]


def side_by_side(
    axes: "np.ndarray | Sequence[Axes] | None",
    size: tuple[float, float],
    projections: Sequence[str | None] = (None, None),
) -> np.ndarray:
    """Return `axes` as an array, one for each projection, or those of a new figure; raise JaxpropError if too few."""
    plt, count = pyplot(), len(projections)
    if axes is not None:
        found = np.asarray(axes, dtype=object).ravel()
        if len(found) != count:
            words = ("one", "two", "three", "four")[count - 1]
            raise JaxpropError(
                f"axes: expected {words}, found {len(found)}: pass the array of plt.subplots(1, {count})"
            )
        return found
    with plt.rc_context(_RC):
        figure = plt.figure(figsize=size, layout="constrained")
        return np.array([figure.add_subplot(1, count, i + 1, projection=p) for i, p in enumerate(projections)])


def panels_or_new(
    figure: "Figure | None", new_row: Sequence[bool], columns: int, size: tuple[float, float]
) -> np.ndarray:
    """Return the axes of panels on `figure`, or on a new one with `size` inches a panel.

    They stand row by row, and a panel whose `new_row` is true begins a row.
    """
    plt = pyplot()
    places: list[int] = []
    for begins in new_row:
        free = places[-1] + 1 if places else 0
        places.append(columns * math.ceil(free / columns) if begins else free)
    rows = places[-1] // columns + 1
    with plt.rc_context(_RC):
        on = figure or plt.figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
        return np.array([on.add_subplot(rows, columns, place + 1) for place in places])


def dress(ax: "Axes", title: str, x: str = "", y: str = "") -> None:
    """Title, axis labels, a light grid and no box: the look of every graph."""
    ax.set_facecolor("white")
    ax.set_title(title, loc="left", fontsize=TITLE, color=INK, fontweight="normal")
    ax.set_xlabel(x, fontsize=TEXT, color=INK)
    ax.set_ylabel(y, fontsize=TEXT, color=INK)
    ax.tick_params(labelsize=SMALL, colors=INK, which="both")
    ax.grid(True, which="major", color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def bare(ax: "Axes", title: str, caption: str = "") -> None:
    """Title above and caption below, no axes: the look of every drawing."""
    ax.set_facecolor("white")
    ax.set_title(title, loc="left", fontsize=TITLE, color=INK, fontweight="normal")
    ax.set_xlabel(caption, fontsize=SMALL, color=GREY, linespacing=1.4)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def write(ax: "Axes", at: Sequence[float] | np.ndarray, text: str, **look: Any) -> None:
    """Text that is centred at a point."""
    ax.text(float(at[0]), float(at[1]), text, ha="center", va="center", **look)


def legend(ax: "Axes", **settings: Any) -> "Legend":
    """The legend of every picture: small and light."""
    made = ax.legend(**({"fontsize": SMALL, "framealpha": 0.9, "edgecolor": PALE, "labelcolor": INK} | settings))
    made.set_zorder(20)
    return made


def number(value: ArrayLike, digits: int = 5) -> str:
    """A number as pictures write it: `digits` significant, with a real minus sign.

    >>> number(-0.033657123), number(1.35), number(2e-16)
    ('−0.033657', '1.35', '2e−16')
    """
    value = float(np.asarray(value))
    text = f"{value:.{digits}g}" if math.isfinite(value) else str(value)
    return text.replace("-", "−")


def finite_array(values: ArrayLike, what: str) -> np.ndarray:
    """Return `values` as a float64 array, or raise JaxpropError naming `what`."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise JaxpropError(f"{what}: expected numbers, found {type(values).__name__}") from None
    if not np.all(np.isfinite(array)):
        raise JaxpropError(f"{what}: expected finite numbers, found {number(array[~np.isfinite(array)].flat[0])}")
    return array


def interval(values: tuple[float, float], what: str) -> tuple[float, float]:
    """Return (low, high) with low < high, or raise JaxpropError naming `what`."""
    ends = finite_array(values, what)
    if ends.shape != (2,) or not ends[0] < ends[1]:
        raise JaxpropError(f"{what}: expected (low, high) with low < high, found {values!r}")
    return float(ends[0]), float(ends[1])
