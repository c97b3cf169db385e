"""Where the units of a network diagram stand; one unit of length is the height of the tallest column."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from jaxprop.checks import check_whole
from jaxprop.errors import JaxpropError
from jaxprop.plot._columns import Column

SPREAD, RADIUS, IMAGE = 0.3, 0.068, 0.62  # largest distance of units, largest radius, height of an input image


@dataclass(frozen=True)
class Place:
    """A column in the picture: which units are shown, where, how large, and the (rows, columns) of an input image."""

    column: Column
    shown: np.ndarray
    centers: np.ndarray
    radius: float
    gap: np.ndarray | None = None
    grid: tuple[int, int] | None = None
    room: str = "shade"  # what a unit has room to say: "lines" of text, one "value", or only its "shade"


def places(
    columns: Sequence[Column],
    most: int,
    grid: tuple[int, int] | None,
    telling: Sequence[np.ndarray] | None = None,
) -> list[Place]:
    """Every column in its place, left to right; the first as an image if it has a grid.

    Of a column of more than `most` units, the first and the last are shown, or those of which `telling` is largest.
    """
    check_whole(most, "network: most", least=2)
    step = max(1.65 / (len(columns) - 1), 0.45)
    ranks = [None] * len(columns) if telling is None else telling
    made = [_place(column, k * step, most, rank) for k, (column, rank) in enumerate(zip(columns, ranks, strict=True))]
    if grid is not None:
        made[0] = _image(columns[0], grid)
    tallest = max(len(place.shown) for place in made)
    rooms = ["lines" if tallest <= 3 else "value" if len(place.shown) <= 6 else "shade" for place in made]
    return [replace(place, room=room) for place, room in zip(made, rooms, strict=True)]


def _place(column: Column, at: float, most: int, telling: np.ndarray | None) -> Place:
    units = np.arange(column.units)
    whole = column.units <= most
    hole = (most + 1) // 2 if telling is None else most  # the slot of ⋮
    shown = units if whole else np.concatenate([units[:hole], units[column.units - (most - hole) :]])
    if not whole and telling is not None:
        shown = np.sort(np.argsort(-telling, kind="stable")[:most])
    slots = np.arange(len(shown) + (not whole))
    heights = 0.5 + ((len(slots) - 1) / 2 - slots) * min(SPREAD, 1 / len(slots))
    gap = None if whole else np.array([at, heights[hole]])
    heights = heights if whole else np.delete(heights, hole)
    centers = np.stack([np.full(len(shown), at), heights], axis=1)
    return Place(column, shown, centers, min(RADIUS, 0.38 / len(slots)), gap)


def _image(column: Column, grid: tuple[int, int]) -> Place:
    rows, cols = grid
    pixel = IMAGE / max(grid)
    r, c = np.divmod(np.arange(column.units), cols)
    centers = np.stack([(c + 0.5) * pixel - cols * pixel / 2, 0.5 + (rows / 2 - r - 0.5) * pixel], axis=1)
    return Place(column, np.arange(column.units), centers, cols * pixel / 2, grid=grid)


def extent(made: Sequence[Place], values: bool) -> tuple[float, float]:
    """Lowest and highest point of the picture: the units with what is written below and above them, and the legend."""
    low = min(place.centers[:, 1].min() - place.radius - 0.2 * (values and place.room == "lines") for place in made)
    high = max(place.centers[:, 1].max() + max(place.radius, 0.03) for place in made)
    return float(low) - 0.15, float(high) + 0.24


def image_grid(
    image: bool | tuple[int, int] | None, inputs: Column, x: ArrayLike | None, most: int
) -> tuple[int, int] | None:
    """(rows, columns) of the picture that the inputs are drawn as, or None to draw them as units."""
    if image is False or (image is None and inputs.units <= most):
        return None
    if image not in (None, True):
        grid = tuple(int(n) for n in image)
        if len(grid) != 2 or math.prod(grid) != inputs.units:
            raise JaxpropError(f"network: image={image!r} has not {inputs.units} pixels, one per input")
        return grid
    shape = () if x is None else tuple(n for n in np.shape(x)[1:] if n > 1)
    side = math.isqrt(inputs.units)
    if len(shape) == 2 and math.prod(shape) == inputs.units:
        return shape
    if side * side == inputs.units:
        return side, side
    if image:
        raise JaxpropError(f"network: {inputs.units} inputs are no square; give image=(rows, columns)")
    return None


def edges(made: Sequence[Place], keep: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Segments `[E, 2, 2]` and weights `[E]` of the edges between shown units that are kept."""
    segments, weights = [np.zeros((0, 2, 2))], [np.zeros(0)]
    for left, right, mask in zip(made[:-1], made[1:], keep, strict=True):
        assert right.column.W is not None
        chosen = np.ix_(left.shown, right.shown)
        i, o = np.nonzero(mask[chosen])
        segments.append(np.stack([left.centers[i], right.centers[o]], axis=1))
        weights.append(right.column.W[chosen][i, o])
    return np.concatenate(segments), np.concatenate(weights)
