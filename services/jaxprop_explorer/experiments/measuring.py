"""How good a network is on its rows: which of them are measured, and the share of classes that are right."""

from typing import NamedTuple

import numpy as np

from jaxprop.costs import Cost
from jaxprop.train.metrics import decided
from jaxprop_explorer.experiments.problems import Problem

MEASURED = 500  # rows that C is measured on, at most


class Measured(NamedTuple):
    """How good the network is on rows: the mean cost, and the share of classes that are right, None for numbers."""

    cost: float
    accuracy: float | None


def rows_measured(rows: Problem) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """The first rows that are trained on, then the first that are held out; and how many are trained on."""
    x, targets = rows.x[:MEASURED], rows.targets[:MEASURED]
    if rows.held_out is None:
        return (x, targets), len(x)
    held = rows.held_out[0][:MEASURED], rows.held_out[1][:MEASURED]
    return (np.concatenate([x, held[0]]), np.concatenate([targets, held[1]])), len(x)


def accuracy(rows: Problem, cost: Cost, expected: np.ndarray, targets: np.ndarray) -> float | None:
    """The share of classes that are right."""
    if not rows.classes:
        return None
    if expected.shape[-1] == 1:
        return float(np.mean((expected > rows.middle) == (targets > rows.middle)))
    found = decided(cost, expected, targets)
    return None if found is None else float(np.mean(found[0] == found[1]))
