"""One example as a page draws it: a point, an image or a list of numbers, its target, its answer and its cost."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.costs import Cost
from jaxprop.layers import Layer
from jaxprop_explorer.experiments.problems import Problem
from jaxprop_explorer.shown.written import Printer

MOST_POINTS = 300
MOST_NUMBERS = 24
SMALLEST_IMAGE = 7  # pixels a side


def example_json(rows: Problem, net: Layer, cost: Cost, params: PyTree, row: int) -> dict[str, Any]:
    """Return what is drawn of a row."""
    x, targets = np.asarray(rows.x)[row : row + 1], np.asarray(rows.targets)[row : row + 1]
    y = net(jnp.asarray(x), params)
    printer = Printer(digits=4)
    value = float(cost(y, jnp.asarray(targets))[0])
    return {
        "row": row, "target": _target(rows, targets[0], printer), "output": _output(rows, np.asarray(y)[0], printer),
        "cost": printer.number(value), **_drawn(rows, x[0], row, printer),
    }  # fmt: skip


def _drawn(rows: Problem, x: np.ndarray, row: int, printer: Printer) -> dict[str, Any]:
    side = image_side(x)
    if side:
        low, high = float(np.min(x)), float(np.max(x))
        shades = (np.ravel(x) - low) / ((high - low) or 1.0)
        return {"kind": "image", "side": side, "shades": [round(float(v), 3) for v in shades]}
    numbers = [
        {"name": name, "value": printer.number(float(v))}
        for name, v in zip(rows.names, np.ravel(x)[:MOST_NUMBERS], strict=False)
    ]
    if x.size != 2:
        return {"kind": "numbers", "numbers": numbers, "more": max(0, x.size - MOST_NUMBERS)}
    every = np.asarray(rows.x).reshape(len(rows.x), -1)
    some = np.unique(np.linspace(0, len(every) - 1, min(len(every), MOST_POINTS)).astype(int))
    low, high = every.min(axis=0), every.max(axis=0)
    room = 0.06 * np.where(high > low, high - low, 1.0)
    place = (every - low + room) / (high - low + 2 * room)  # 0 to 1 in both directions
    groups = _groups(rows)
    points = [
        [round(float(u), 4), round(float(v), 4), int(g)] for (u, v), g in zip(place[some], groups[some], strict=True)
    ]
    return {
        "kind": "point", "numbers": numbers, "points": points,
        "at": [float(v) for v in place[row]], "group": int(groups[row]),
    }  # fmt: skip


def image_side(x: np.ndarray) -> int:
    """Return how many pixels a side an example has that is a square image, 0 for any other.

    >>> image_side(np.zeros(64)), image_side(np.zeros((8, 8, 1))), image_side(np.zeros(4))
    (8, 8, 0)
    """
    side = math.isqrt(x.size)
    return side if side * side == x.size and side >= SMALLEST_IMAGE else 0


def _groups(rows: Problem) -> np.ndarray:
    """0 or 1 of every row, for two ways to mark it: its class, or whether its target is above the middle."""
    targets = np.asarray(rows.targets)
    if targets.ndim == 1:
        return targets % 2
    if targets.shape[1] > 1:
        return np.argmax(targets, axis=1) % 2
    return (targets[:, 0] > (targets[:, 0].min() + targets[:, 0].max()) / 2).astype(int)


def _target(rows: Problem, target: np.ndarray, printer: Printer) -> str:
    if target.ndim == 0:
        return rows.classes[int(target)] if rows.classes else str(int(target))
    return ", ".join(printer.number(float(v)) for v in np.ravel(target))


def _output(rows: Problem, y: np.ndarray, printer: Printer) -> str:
    numbers = [printer.number(float(v)) for v in np.ravel(y)]
    if len(rows.classes) == len(numbers) > 1:
        best = int(np.argmax(y))
        return f"{rows.classes[best]}, at {numbers[best]} the largest of {len(numbers)} numbers"
    return ", ".join(numbers)
