"""How good a network is on rows: its cost, and accuracy for classes or R² for numbers."""

import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree, Shaped

from jaxprop.costs import Cost
from jaxprop.errors import ShapeError
from jaxprop.layers.layer import Layer
from jaxprop.network.call import Network, call, require_order

ROWS_AT_ONCE = 4096


def predict(net: Network, x: PyTree[Shaped[ArrayLike, "N ..."]], params: PyTree) -> Shaped[np.ndarray, "N ..."]:
    """Return f(x, θ) for any number of rows as a numpy array `[N, ...]`, computing at most 4096 rows at a time.

    Args:
        net: a Layer, or any callable f(x, params).
        x: rows `[N, ...]`, or a tree of arrays with one first axis.
        params: θ.

    Raises:
        ShapeError: x has no rows, or x and params stand in each other's place.

    >>> predict(lambda x, w: w * x, np.ones((3, 1)), 2.0).ravel().tolist()
    [2.0, 2.0, 2.0]
    """
    require_order(net, x, params, "predict(net, x, params)")
    if isinstance(net, Layer):
        net.check_values(x)
    parts = (jax.tree.map(lambda a, some=some: a[some], x) for some in _parts(_rows(x)))
    return np.concatenate([np.asarray(_outputs(net, part, params)) for part in parts])


def evaluate(net: Network, cost: Cost) -> Callable[[PyTree, PyTree, ArrayLike], dict[str, float]]:
    """Return `run(x, params, targets)`, which measures {'cost', and 'accuracy' or 'r2'} on rows.

    accuracy: the share of rows whose largest output is the label's (integer labels, or one-hot rows), positions that
    the cost ignores left out; for 0/1 targets of `SigmoidCrossEntropy`, of outputs on the right side of σ = ½;
    R² = 1 − Σ(ŷ − y)² / Σ(ŷ − mean ŷ)², for numbers: 1 is perfect, 0 is as good as the mean (y is `cost.expected`).

    Args:
        net: a Layer, or any callable f(x, params).
        cost: what is averaged over the rows.

    Raises:
        ShapeError: (by `run`) x has no rows, or x and params stand in each other's place.

    >>> from jaxprop.costs import HalfSquaredError
    >>> x = np.array([[1.0], [2.0]], np.float32)
    >>> evaluate(lambda x, w: w * x, HalfSquaredError())(x, 2.0, 2 * x)
    {'cost': 0.0, 'r2': 1.0}
    """

    def run(x: PyTree, params: PyTree, targets: ArrayLike) -> dict[str, float]:
        require_order(net, x, params, "evaluate(net, cost)(x, params, targets)")
        y, expected = predict(net, x, params), np.asarray(targets)
        costs = [np.asarray(_costs(cost, y[some], expected[some]), np.float64) for some in _parts(len(y))]
        return {"cost": float(np.mean(np.concatenate(costs)))} | _score(cost, y, expected)

    return run


def _score(cost: Cost, y: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Accuracy or R², or nothing where neither says anything."""
    labels = labels_of(targets)
    if labels is not None and labels.shape == y.shape[:-1]:  # not counts, which are integers as well
        counted = labels != getattr(cost, "ignore", None)
        right = np.argmax(y, axis=-1) == labels
        return {"accuracy": float(np.mean(right[counted]))} if np.any(counted) else {}
    if cost.outputs == "logits" and np.all((targets == 0) | (targets == 1)):
        return {"accuracy": float(np.mean((y > 0) == (targets == 1)))}
    residual = np.sum((np.asarray(targets, np.float64) - np.asarray(cost.expected(y))) ** 2)
    spread = np.sum((np.asarray(targets, np.float64) - np.mean(targets, axis=0)) ** 2)
    return {"r2": float(1 - residual / spread)} if spread > 0 else {}  # constant targets have none


def labels_of(targets: ArrayLike) -> np.ndarray | None:
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


def _rows(x: PyTree) -> int:
    """N, the one first axis of every array of x."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(x)]
    if len({shape[:1] for shape in shapes}) != 1 or not shapes[0]:
        found = " and ".join(str(list(shape)) for shape in dict.fromkeys(shapes)) or "no array"
        raise ShapeError(f"x must hold rows [N, ...], found {found}; the order is f(x, θ): inputs first, then params")
    return shapes[0][0]


def _parts(rows: int) -> Iterator[slice]:
    """Slices of at most `ROWS_AT_ONCE` rows; one, empty, where there are none."""
    return (slice(i, i + ROWS_AT_ONCE) for i in range(0, max(rows, 1), ROWS_AT_ONCE))


@functools.partial(jax.jit, static_argnames="net")
def _outputs(net: Network, x: PyTree, params: PyTree) -> Shaped[Array, "N ..."]:
    return call(net, x, params)


@functools.partial(jax.jit, static_argnames="cost")
def _costs(cost: Cost, y: Shaped[Array, "N ..."], targets: Shaped[Array, "N ..."]) -> Float[Array, " N"]:
    return cost(y, targets)
