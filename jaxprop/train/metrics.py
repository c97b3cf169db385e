"""How good a network is on rows: its cost, and accuracy for classes or R² for numbers."""

import functools
from typing import Any

import jax
import numpy as np

from jaxprop.costs import Cost, SigmoidCrossEntropy
from jaxprop.network.call import Network, call

ROWS_AT_ONCE = 4096


@functools.partial(jax.jit, static_argnames="net")
def _outputs(net: Network, x: Any, params: Any) -> Any:
    return call(net, x, params, None)


@functools.partial(jax.jit, static_argnames="cost")
def _costs(cost: Cost, y: Any, targets: Any) -> Any:
    return cost(y, targets)


def predict(net: Network, params: Any, x: Any) -> np.ndarray:
    """Return f(x, θ) for any number of rows as a numpy array `[N, ...]`, at most 4096 rows at a time.

    >>> predict(lambda x, w: w * x, 2.0, np.ones((3, 1))).ravel().tolist()
    [2.0, 2.0, 2.0]
    """
    rows = jax.tree.leaves(x)[0].shape[0]
    parts = [jax.tree.map(lambda a, i=i: a[i : i + ROWS_AT_ONCE], x) for i in range(0, max(rows, 1), ROWS_AT_ONCE)]
    return np.concatenate([np.asarray(_outputs(net, part, params)) for part in parts])


def evaluate(net: Network, cost: Cost, params: Any, data: tuple[Any, Any]) -> dict[str, float]:
    """Return {'cost', and 'accuracy' or 'r2'} on rows `(x, targets)`.

    accuracy: the share of rows whose largest output is the label's (integer labels, or one-hot rows), positions that
    the cost ignores left out; for 0/1 targets of `SigmoidCrossEntropy`, of outputs on the right side of σ = ½;
    R² = 1 − Σ(ŷ − y)² / Σ(ŷ − mean ŷ)², for numbers: 1 is perfect, 0 is as good as the mean (y is `cost.expected`).

    >>> from jaxprop.costs import HalfSquaredError
    >>> x = np.array([[1.0], [2.0]], np.float32)
    >>> evaluate(lambda x, w: w * x, HalfSquaredError(), 2.0, (x, 2 * x))
    {'cost': 0.0, 'r2': 1.0}
    """
    x, targets = data
    y, targets = predict(net, params, x), np.asarray(targets)
    parts = range(0, len(y), ROWS_AT_ONCE)
    costs = [_costs(cost, y[i : i + ROWS_AT_ONCE], targets[i : i + ROWS_AT_ONCE]) for i in parts]
    value = float(np.mean(np.concatenate([np.asarray(c, np.float64) for c in costs])))
    labels = labels_of(targets)
    if labels is not None and labels.shape == y.shape[:-1]:  # not counts, which are integers as well
        counted = labels != getattr(cost, "ignore", None)
        right = np.argmax(y, axis=-1) == labels
        return {"cost": value} | ({"accuracy": float(np.mean(right[counted]))} if np.any(counted) else {})
    if isinstance(cost, SigmoidCrossEntropy) and np.all((targets == 0) | (targets == 1)):  # y are logits
        return {"cost": value, "accuracy": float(np.mean((y > 0) == (targets == 1)))}
    residual = np.sum((np.asarray(targets, np.float64) - np.asarray(cost.expected(y))) ** 2)
    spread = np.sum((np.asarray(targets, np.float64) - np.mean(targets, axis=0)) ** 2)
    return {"cost": value} | ({"r2": float(1 - residual / spread)} if spread > 0 else {})  # constant targets have none


def labels_of(targets: Any) -> np.ndarray | None:
    """Return integer labels as they are, one-hot rows `[..., C]` as labels, and None for anything else.

    >>> labels_of(np.eye(3, dtype=np.float32)).tolist(), labels_of(np.array([[0.5], [2.0]]))
    ([0, 1, 2], None)
    """
    targets = np.asarray(targets)
    if np.issubdtype(targets.dtype, np.integer):
        return targets
    if targets.ndim < 2 or targets.shape[-1] < 2:
        return None
    one_hot = np.all((targets == 0) | (targets == 1)) and np.all(targets.sum(axis=-1) == 1)
    return np.argmax(targets, axis=-1) if one_hot else None
