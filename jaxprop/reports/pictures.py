"""Pictures inside of a page: what matplotlib draws, and rows that are images, as data in the page itself."""

import base64
import io
import math
from html import escape
from typing import Any

import numpy as np

from jaxprop import style

SMALLEST = 6  # pixels along a side, of what is taken for an image


def drawn(picture: Any, alt: str) -> str:
    """Return the figure of some axes as an element of a page, and close it."""
    from matplotlib import pyplot as plt, rc_context

    figure = np.asarray(picture, dtype=object).flat[0].figure
    written = io.BytesIO()
    with rc_context({"svg.hashsalt": "jaxprop"}):  # drawn anew it has the same bytes
        figure.draw_without_rendering()  # the layout settles in the second drawing
        figure.savefig(written, format="svg", metadata={"Date": None})
    plt.close(figure)
    return _image("svg+xml", written.getvalue(), alt, "drawing")


def answers_drawn(targets: np.ndarray, predicted: np.ndarray, name: str) -> str:
    """Return answers against targets, each row a point, with the line where both are the same."""
    ax = style.axes_or_new(None, (5.2, 4.6))
    truth, said = targets.ravel(), predicted.ravel()
    keep = np.unique(np.linspace(0, truth.size - 1, min(truth.size, 2000)).astype(int))
    ends = [float(min(truth.min(), said.min())), float(max(truth.max(), said.max()))]
    ax.plot(ends, ends, color=style.GREY, linewidth=1, zorder=1)
    ax.scatter(truth[keep], said[keep], s=14, color=style.BLUE, alpha=0.6, edgecolors="none")
    style.dress(ax, "Answers against targets", f"{name}, as it is", f"{name}, as the network says")
    return drawn(ax, f"Each row is a point: {name} as it is, along x, and as the network says, along y.")


def as_image(row: Any, columns: Any = None) -> np.ndarray | None:
    """Return a row as an image `[H, W]` or `[H, W, 3]`, if it looks like one; rows with named columns do not.

    >>> as_image(np.zeros(64)).shape, as_image(np.zeros((28, 28, 1))).shape, as_image(np.zeros(30))
    ((8, 8), (28, 28), None)
    """
    named = columns is not None and not all(str(name).startswith("pixel") for name in columns)
    if named or not isinstance(row, np.ndarray) or not np.issubdtype(row.dtype, np.floating):
        return None
    if row.ndim == 1 and math.isqrt(row.size) ** 2 == row.size:
        row = row.reshape(math.isqrt(row.size), -1)
    if row.ndim == 3 and row.shape[-1] == 1:
        row = row[..., 0]
    picture = row.ndim == 2 or (row.ndim == 3 and row.shape[-1] == 3)
    return row if picture and min(row.shape[:2]) >= SMALLEST else None


def shown(image: np.ndarray, alt: str) -> str:
    """Return an image as an element of a page, its least number black, its largest white."""
    from matplotlib.image import imsave

    low, high = float(np.min(image)), float(np.max(image))
    written = io.BytesIO()
    imsave(written, (image - low) / max(high - low, 1e-30), cmap="gray", format="png", vmin=0, vmax=1)
    return _image("png", written.getvalue(), alt, "pixels")


def _image(kind: str, data: bytes, alt: str, look: str) -> str:
    text = base64.b64encode(data).decode()
    return f'<img class="{look}" alt="{escape(alt)}" src="data:image/{kind};base64,{text}">'
