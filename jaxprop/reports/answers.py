"""How good a network's answers are on some rows: figures, classes taken for others, and the rows it is worst at."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, PyTree

from jaxprop.costs import Cost
from jaxprop.network.call import Network
from jaxprop.train.confusion import confusion
from jaxprop.train.metrics import decided, measured, predict
from jaxprop.train.rows import Rows

WORST = 12


@dataclass(frozen=True)
class Answers:
    """What a network answers: y `[N, ...]`, the cost of each row `[N]`, figures of all of them, and which are worst.

    truth, chosen: the class of each target and of each answer, None where there are no classes, one for each row.
    counts: how often a class is taken for another, `[C, C]`.
    """

    y: Any
    costs: Float[np.ndarray, " N"]
    figures: dict[str, float]
    worst: Int[np.ndarray, " K"]
    truth: Int[np.ndarray, " N"] | None = None
    chosen: Int[np.ndarray, " N"] | None = None
    counts: Int[np.ndarray, "C C"] | None = None


def answers(net: Network, cost: Cost, rows: Rows, params: PyTree) -> Answers:
    """Ask a network about rows.

    >>> from jaxprop import HalfSquaredError
    >>> x = np.array([[1.0], [2.0]], np.float32)
    >>> answers(lambda x, w: w * x, HalfSquaredError(), Rows(x, 3 * x), 2.0).worst.tolist()
    [1, 0]
    """
    figures, costs = measured(net, cost, rows, params)
    y = predict(net, rows.x, params, mask=rows.mask)
    judged = np.where(np.isnan(costs), np.inf, costs)  # a cost that is no number is the worst
    order = np.argsort(-judged, kind="stable")
    found = decided(cost, y, rows.targets)
    if found is None or found[0].ndim > 2 or found[0][0].size != 1:  # numbers, or many questions a row
        return Answers(y, costs, figures, order[:WORST])
    truth, chosen, counted = (part.reshape(len(y)) for part in found)
    classes = 2 if y[0].size == 1 else y.shape[-1]
    counts = confusion(truth[counted], chosen[counted], classes)
    return Answers(y, costs, figures, order[counted[order]][:WORST], truth, chosen, counts)
