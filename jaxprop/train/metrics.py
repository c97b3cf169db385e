"""How good a network is on rows: its cost, and accuracy for classes or R² for numbers."""

import functools
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree, Shaped

from jaxprop.arrays.given import as_arrays
from jaxprop.arrays.paths import place
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers import BatchNorm
from jaxprop.layers.layer import Layer
from jaxprop.network import leaves
from jaxprop.network.call import Network, call, require, require_order
from jaxprop.train.devices import Devices, devices_of
from jaxprop.train.rows import Rows, read_mask, read_weights
from jaxprop.train.sources import Checked, Source, Stream, as_inputs, as_source, is_stream, read_data

ROWS_AT_ONCE = 4096


class Measure(Protocol):
    """What `evaluate` returns: a function of x, θ and targets."""

    def __call__(
        self,
        x: PyTree,
        params: PyTree,
        targets: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        mask: PyTree = None,
    ) -> dict[str, float]:
        """Measure on rows."""
        ...


def predict(
    net: Network, x: PyTree[Shaped[ArrayLike, "N ..."]], params: PyTree, *, mask: PyTree = None
) -> Shaped[np.ndarray, "N ..."]:
    """Return f(x, θ) for any number of rows as a numpy array `[N, ...]`, computing at most 4096 rows at a time.

    Args:
        net: a Layer, or any callable f(x, params).
        x: rows `[N, ...]`, or a tree of arrays with one first axis; or rows that are not in memory, such as
            `jp.data.stored` gives.
        params: θ.
        mask: what padding is masked by, with first axis N, as the layers take it.

    Raises:
        DataError: x holds no numbers, or the mask has another number of rows.
        JaxpropError: the net has a BatchNorm, whose answers for a row would depend on the other rows.
        ShapeError: x has no rows, or x and params stand in each other's place.

    >>> predict(lambda x, w: w * x, [[1.0], [3.0]], 2.0).ravel().tolist()
    [2.0, 6.0]
    """
    order = "predict(net, x, params)"
    if (source := as_inputs(x, mask)) is not None:
        return np.concatenate([_outputs_of(net, rows, params) for rows in _parts_of(_looked_at(net, source, order))])
    x = _checked(net, x, params, order)
    return np.concatenate([_outputs_of(net, rows, params) for rows in _parts_in_memory(Rows(x, None, None, mask))])


def evaluate(net: Network, cost: Cost, *old: object) -> Measure:
    """Return `run(x, params, targets, *, weights=None, mask=None)`, which measures {'cost', and 'accuracy' or 'r2'}.

    Rows that are not in memory, as `fit` takes them, bring their targets: `run(rows, params)`.

    cost: Σ w_n C_n / Σ w_n, with w_n = 1 if there are no weights; the others are weighted alike.
    accuracy: the share of rows whose largest output is the label's (integer labels, or one-hot rows), positions that
    the cost ignores left out; for 0/1 targets of `SigmoidCrossEntropy`, of outputs on the right side of σ = ½;
    R² = 1 − Σ w (ŷ − y)² / Σ w (ŷ − mean ŷ)², for numbers: 1 is perfect, 0 is as good as the mean (y is
    `cost.expected`).

    Args:
        net: a Layer, or any callable f(x, params).
        cost: what is averaged over the rows.

    Raises:
        DataError: (by `run`) rows cannot be used.
        JaxpropError: (by `run`) the net has a BatchNorm, whose answers for a row would depend on the other rows.
        ShapeError: (by `run`) x has no rows, or x and params stand in each other's place.

    >>> from jaxprop.costs import HalfSquaredError
    >>> x = np.array([[1.0], [2.0]], np.float32)
    >>> evaluate(lambda x, w: w * x, HalfSquaredError())(x, 2.0, 2 * x)
    {'cost': 0.0, 'r2': 1.0}
    """
    order = "evaluate(net, cost)(x, params, targets)"
    if old:
        raise ShapeError(f"evaluate takes net and cost, and returns a function of rows: write {order}")

    require(net, cost, "evaluate")

    def run(
        x: PyTree,
        params: PyTree,
        targets: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        mask: PyTree = None,
    ) -> dict[str, float]:
        if targets is None:
            source = read_data(x, "x", weights, mask) if as_source(x) is not None or is_stream(x) else None
            if source is None or isinstance(source, Rows):
                raise ShapeError(f"evaluate: there are no targets: write {order}")
            return measured(net, cost, _looked_at(net, source, order), params)[0]
        if isinstance(x, Source | Stream):
            raise JaxpropError(
                "evaluate: rows that are not in memory bring their targets: write evaluate(...)(rows, params)"
            )
        x, expected = _checked(net, x, params, order), np.asarray(as_arrays(targets, "targets"))
        weights = None if weights is None else read_weights(weights, _rows(x))
        return measured(net, cost, Rows(x, expected, weights, mask), params)[0]

    return run


def measured(
    net: Network, cost: Cost, rows: Rows | Source | Stream, params: PyTree
) -> tuple[dict[str, float], Float[np.ndarray, " N"]]:
    """Return what `evaluate` measures, and the cost of every row; no more than some thousand rows are held at once."""
    costs, weights, tally = [], [], Tally(cost)
    parts = _parts_in_memory(rows) if isinstance(rows, Rows) else _parts_of(rows)
    for part in parts:
        y = _outputs_of(net, part, params)
        found = _costs(cost, *jax.device_put((y, part.targets)))
        costs.append(np.asarray(jax.device_get(found), np.float64))
        weights += [] if part.weights is None else [part.weights]
        tally.add(y, part.targets, part.weights)
    found = np.concatenate(costs)
    with np.errstate(all="ignore"):  # what is not finite shows in the figures
        return {"cost": _mean(found, np.concatenate(weights) if weights else None)} | tally.score(), found


def _parts_in_memory(rows: Rows) -> Iterator[Rows]:
    """At most `ROWS_AT_ONCE` rows at a time."""
    count = _rows(rows.x)
    given = rows._replace(mask=read_mask(rows.mask, count))
    return (jax.tree.map(lambda a, some=some: a[some], given) for some in _parts(count))


def _parts_of(source: Source | Stream) -> Iterator[Rows]:
    """The same of rows that are not in memory; of a stream its batches."""
    if isinstance(source, Stream):
        return source.begun().epoch(0)
    parts = _parts(source.rows)
    return (source.read(np.arange(some.start, min(some.stop, source.rows))) for some in parts)


def _looked_at(net: Network, source: Source | Stream, what: str) -> Source | Stream:
    """Rows that are looked at as they are read, for a network that answers for each row alone."""
    _check_network(net, what)
    if isinstance(source, Stream):
        return source
    return Checked(source, lambda rows: net.check_values(rows.x) if isinstance(net, Layer) else None)


def _outputs_of(net: Network, rows: Rows, params: PyTree) -> np.ndarray:
    """f(x, θ) of some rows."""
    devices = devices_of(params, net)
    x, mask = (jax.device_put if devices is None else devices.rows)((rows.x, rows.mask))
    return np.asarray(jax.device_get(_outputs(net, x, params, mask, devices)))


def _checked(net: Network, x: PyTree, params: PyTree, what: str) -> PyTree:
    """x as arrays; refused are what no layer can answer, and a BatchNorm, whose statistics would be those of x."""
    require(net, None, what)
    require_order(net, x, params, what)
    x = as_arrays(x, "x")
    if isinstance(net, Layer):
        net.check_values(x)
    _check_network(net, what)
    return x


def _check_network(net: Network, what: str) -> None:
    """Refuse a BatchNorm, whose statistics would be those of the rows."""
    require(net, None, what)
    mixing = [leaf for leaf in leaves(net) if isinstance(leaf.layer, BatchNorm)] if isinstance(net, Layer) else []
    if mixing:
        raise JaxpropError(
            f"{what}: found {place(mixing[0].layer, mixing[0].path)}, which would make the answer for a row depend on "
            "the other rows; first write net, params = jp.freeze_statistics(net, x, params), with the training rows"
        )


class Tally:
    """Accuracy or R², added up over parts of the rows."""

    def __init__(self, cost: Cost) -> None:
        self.cost = cost
        self.classes = True  # as long as every part is of classes
        self.right = self.counted = 0.0
        self.weight = 0.0
        self.mean: Any = 0.0  # of the targets, for each output
        self.spread: Any = 0.0  # Σ w (ŷ − mean ŷ)²
        self.residual = 0.0  # Σ w (ŷ − y)²

    def add(self, y: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> None:
        """Take some rows into account."""
        found = decided(self.cost, y, targets)
        with np.errstate(all="ignore"):
            if found is None:
                self.classes = False
            elif self.classes:
                truth, chosen, counted = found
                weight = counted * _along(1.0 if weights is None else weights, truth)
                self.right += float(np.sum((truth == chosen) * weight))
                self.counted += float(np.sum(weight))
            if found is None or not np.issubdtype(np.asarray(targets).dtype, np.integer):
                self._add_numbers(y, np.asarray(targets, np.float64), weights)

    def _add_numbers(self, y: np.ndarray, numbers: np.ndarray, weights: np.ndarray | None) -> None:
        """Means and spreads of two parts make those of both (Chan, Golub and LeVeque 1979)."""
        w = np.ones(len(numbers)) if weights is None else np.asarray(weights, np.float64)
        total = float(np.sum(w))
        if not total:
            return
        mean = np.average(numbers, axis=0, weights=w)
        both = self.weight + total
        between = (mean - self.mean) ** 2 * (self.weight * total / both)
        self.spread = self.spread + np.sum(_along(w, numbers) * (numbers - mean) ** 2, axis=0) + between
        self.mean = self.mean + (mean - self.mean) * (total / both)
        self.residual += float(np.sum(_along(w, numbers) * (numbers - np.asarray(self.cost.expected(y))) ** 2))
        self.weight = both

    def score(self) -> dict[str, float]:
        """Return accuracy or R², or nothing where neither says anything."""
        if self.classes:
            return {"accuracy": self.right / self.counted} if self.counted else {}
        spread = float(np.sum(self.spread))
        return {"r2": 1 - self.residual / spread} if spread > 0 else {}  # constant targets have none


def decided(
    cost: Cost, y: np.ndarray, targets: np.ndarray
) -> tuple[Int[np.ndarray, "N ..."], Int[np.ndarray, "N ..."], Bool[np.ndarray, "N ..."]] | None:
    """Return the class of each target, the class that y decides for, and which of them count; None for numbers.

    >>> from jaxprop.costs import SoftmaxCrossEntropy
    >>> truth, chosen, counted = decided(SoftmaxCrossEntropy(), np.eye(3), np.array([0, 1, 1]))
    >>> truth.tolist(), chosen.tolist(), counted.tolist()
    ([0, 1, 1], [0, 1, 2], [True, True, True])
    """
    labels = labels_of(targets)
    if labels is not None and labels.shape == y.shape[:-1]:  # not counts, which are integers as well
        return labels, np.argmax(y, axis=-1), np.asarray(labels != getattr(cost, "ignore", None))
    if cost.outputs == "logits" and np.all((targets == 0) | (targets == 1)):
        return (targets == 1).astype(int), (y > 0).astype(int), np.ones(y.shape, bool)
    return None


def _mean(values: Float[np.ndarray, "N ..."], weights: np.ndarray | None) -> float:
    return float(np.mean(values) if weights is None else np.average(values, weights=_along(weights, values)))


def _along(weights: float | np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weights `[N]`, the same for all that a row has."""
    return np.broadcast_to(np.reshape(weights, (-1,) + (1,) * (values.ndim - 1)), values.shape)


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


@functools.partial(jax.jit, static_argnames=("net", "devices"))
def _outputs(net: Network, x: PyTree, params: PyTree, mask: PyTree, devices: Devices | None) -> Shaped[Array, "N ..."]:
    return call(net, x, params if devices is None else devices.gathered(params), mask=mask)


@functools.partial(jax.jit, static_argnames="cost")
def _costs(cost: Cost, y: Shaped[Array, "N ..."], targets: Shaped[Array, "N ..."]) -> Float[Array, " N"]:
    return cost(y, targets)
