"""From what a hand drew to what the network sees: strokes are lists of points, and a picture is 28 × 28 numbers.

A pad of any size is the unit square, x to the right and y down. A stroke `[P, 2]` is a smooth curve through its points
(Catmull and Rom's), so that a quick hand, which leaves few points, draws no corners. A pixel is as dark as the pen
covers it. MNIST's pictures were made so: the digit scaled to a box of 20 pixels, its centre of mass in the middle of
28; `picture(strokes, centred=True)` does the same to the points, before it draws them.
"""

from collections.abc import Sequence

import numpy as np

from jaxprop.errors import JaxpropError

SIDE = 28  # pixels of a picture, as MNIST's
BOX = 20.0  # pixels of the longer side of a centred digit
PEN = 2.6  # pixels the pen is wide, about what MNIST's digits have
SOFT = 1.3  # pixels over which the border of a line fades
MOST_POINTS = 4000  # of one drawing

Strokes = Sequence[Sequence[Sequence[float]]]


def read(strokes: Strokes) -> list[np.ndarray]:
    """The strokes as arrays `[P, 2]` without empty ones. Raises JaxpropError for what is no list of points.

    >>> [stroke.shape for stroke in read([[[0.1, 0.2], [0.3, 0.4]], []])]
    [(2, 2)]
    """
    try:
        found = [np.asarray(stroke, np.float64).reshape(len(stroke), 2) for stroke in strokes if len(stroke)]
    except (TypeError, ValueError):
        raise JaxpropError("strokes: each must be a list of points [x, y], two numbers a point") from None
    if any(not np.isfinite(stroke).all() for stroke in found):
        raise JaxpropError("strokes: a point has a coordinate that is not a finite number")
    count = sum(len(stroke) for stroke in found)
    if count > MOST_POINTS:
        raise JaxpropError(
            f"strokes: found {count} points, expected at most {MOST_POINTS}; clear the pad and draw less"
        )
    return found


def smooth(stroke: np.ndarray, pieces: int = 6) -> np.ndarray:
    """A Catmull-Rom curve through the points `[P, 2]`, `pieces` straight pieces between each two of them.

    >>> smooth(np.array([[0.0, 0.0], [1.0, 0.0]]), pieces=2)
    array([[0. , 0. ],
           [0.5, 0. ],
           [1. , 0. ]])
    """
    points = stroke[np.concatenate([[True], np.any(np.diff(stroke, axis=0) != 0, axis=1)])]  # a hand that rests
    if len(points) < 2:
        return points
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    a, b, c, d = ends[:-3, None], ends[1:-2, None], ends[2:-1, None], ends[3:, None]
    t = (np.arange(pieces) / pieces)[None, :, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


def ink(curves: Sequence[np.ndarray], pen: float = PEN) -> np.ndarray:
    """Draw curves, in pixels, with a round pen: `[28, 28]`, 0 where there is nothing and 1 in the middle of a line.

    >>> drawn = ink([np.array([[5.0, 14.0], [20.0, 14.0]])])
    >>> float(drawn[13, 10]), float(drawn[3, 10])
    (1.0, 0.0)
    """
    x, y = (np.tile(np.arange(SIDE) + 0.5, SIDE)[:, None], np.repeat(np.arange(SIDE) + 0.5, SIDE)[:, None])
    nearest = np.full(SIDE * SIDE, np.inf)
    for curve in curves:
        start, end = (curve[:-1], curve[1:]) if len(curve) > 1 else (curve, curve)
        (x0, y0), (dx, dy) = start.T, (end - start).T
        share = np.clip(((x - x0) * dx + (y - y0) * dy) / np.maximum(dx**2 + dy**2, 1e-12), 0, 1)
        gap = (x - x0 - share * dx) ** 2 + (y - y0 - share * dy) ** 2
        nearest = np.minimum(nearest, np.sqrt(gap.min(axis=1)))
    return np.clip(0.5 + (pen / 2 - nearest) / SOFT, 0, 1).reshape(SIDE, SIDE).astype(np.float32)


def picture(strokes: Strokes, *, centred: bool = True, pen: float = PEN) -> np.ndarray:
    """What the network sees of the strokes, `[28, 28]` float32: the pad as it is, or centred as MNIST's digits are.

    An empty pad is all 0. Raises JaxpropError as `read` does.

    >>> small = [[[0.1, 0.1], [0.1, 0.2]]]                    # a short stroke in the corner
    >>> rows = np.flatnonzero(picture(small).max(axis=1))     # fills the box and lies in the middle
    >>> int(rows[0]) + int(rows[-1]), int(np.flatnonzero(picture(small, centred=False).max(axis=1))[-1])
    (27, 7)
    """
    curves = [SIDE * smooth(stroke) for stroke in read(strokes)]
    if not curves:
        return np.zeros((SIDE, SIDE), np.float32)
    if centred:
        points = np.concatenate(curves)
        low, high = points.min(axis=0), points.max(axis=0)
        scale = (BOX - pen) / max(float(np.max(high - low)), PEN)  # a dot stays a dot
        curves = [(curve - (low + high) / 2) * scale + SIDE / 2 for curve in curves]
        shift = SIDE / 2 - mass(ink(curves, pen))
        curves = [curve + shift for curve in curves]
    return ink(curves, pen)


def mass(image: np.ndarray) -> np.ndarray:
    """The centre of mass (x, y) in pixels of an image `[28, 28]` that is not all 0.

    >>> mass(np.ones((28, 28))).tolist()
    [14.0, 14.0]
    """
    at = np.arange(SIDE) + 0.5
    return np.array([np.sum(image.sum(axis=0) * at), np.sum(image.sum(axis=1) * at)]) / image.sum()
