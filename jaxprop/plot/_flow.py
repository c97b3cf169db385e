"""One example's backward pass, read from the tape in columns of units; and the paths from a weight to the cost."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxprop.arrays.index import check_index
from jaxprop.backward import manual
from jaxprop.backward.manual import Record
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import Layer, Linear
from jaxprop.network.leaves import leaves
from jaxprop.plot._columns import Column, read


@dataclass(frozen=True)
class Flow:
    """The columns, and after each of them δ = ∂C/∂z and ∂C/∂W; the first column has δ = ∂C/∂x and no W."""

    columns: list[Column]
    deltas: list[np.ndarray]
    gradients: list[np.ndarray]
    outputs: np.ndarray  # ∂C/∂a of the last column
    cost: float
    tape: Mapping[str, Record]


def flow(net: Layer, cost: Cost, x: ArrayLike, params: PyTree, targets: ArrayLike) -> Flow:
    """Read the tape of one example x `[1, ...]`."""
    columns = read(net, params, x)
    tape = jax.jit(manual.trace(net, cost))(x, params, targets)
    linear = [tape[_layer(column)] for column in columns[1:]]
    deltas = [_flat(record.dy) for record in linear]
    gradients = [np.outer(_flat(record.x), delta) for record, delta in zip(linear, deltas, strict=True)]
    first = columns[1].W
    assert first is not None
    last = tape[[leaf.path for leaf in leaves(net)][-1]]
    value = float(np.asarray(cost(last.y, targets))[0])
    return Flow(columns, [first @ deltas[0], *deltas], gradients, _flat(last.dy), value, tape)


def _layer(column: Column) -> str:
    return column.path.rpartition(".")[0]


def _flat(values: Array) -> np.ndarray:
    return np.asarray(values, dtype=np.float64).ravel()


def slopes(net: Layer, params: PyTree, found: Flow) -> list[np.ndarray]:
    """∂a/∂z of every unit of every column after the first: the product over what follows its Linear."""
    made: list[np.ndarray] = []
    for path, layer, p, _ in leaves(net, params):
        if isinstance(layer, Linear):
            made.append(np.ones(found.columns[len(made) + 1].units))
        elif made:
            made[-1] = made[-1] * _slope(path, layer, p, found.tape[path], len(made[-1]))
    return made


def _slope(path: str, layer: Layer, params: PyTree, record: Record, units: int) -> np.ndarray:
    if record.derivative is not None and record.derivative.size == units:
        return _flat(record.derivative)
    whole = np.asarray(jax.jacobian(lambda z: layer(z, params))(record.x), np.float64).reshape(units, units)
    if np.any(whole[~np.eye(units, dtype=bool)]):
        raise JaxpropError(
            f"backward: {path} is {layer!r}, where every unit depends on all: paths of single factors do not exist; "
            "leave parameter away"
        )
    return np.diag(whole)


class Weight(NamedTuple):
    """One entry of W (unit i of the column before) or of b (i None) that reaches unit j of column k."""

    k: int
    i: int | None
    j: int

    def gradient(self, found: Flow) -> float:
        """∂C/∂w: a δ, or δ of a bias."""
        delta = found.deltas[self.k]
        return float(delta[self.j] if self.i is None else found.gradients[self.k - 1][self.i, self.j])


def weight(found: Flow, parameter: str, index: Sequence[int] | None) -> Weight:
    """The entry of a parameter by path and index; without an index that of the largest gradient."""
    places = {column.path: k for k, column in enumerate(found.columns) if k}
    biases = {f"{_layer(column)}.b": k for k, column in enumerate(found.columns) if column.b is not None}
    path = pick(parameter, {**places, **biases}, "parameter")
    k = {**places, **biases}[path]
    gradient = found.gradients[k - 1] if path in places else found.deltas[k]
    if index is None:
        index = [int(i) for i in np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)]
    chosen = check_index(tuple(index), path, gradient.shape)
    return Weight(k, chosen[0] if path in places else None, chosen[-1])


class Path(NamedTuple):
    """Units from the weight's own to an output, and the factors ∂z/∂w, φ′, w, φ′, …, ∂C/∂a along them."""

    units: tuple[int, ...]
    factors: tuple[float, ...]

    @property
    def product(self) -> float:
        """What this path adds to ∂C/∂w."""
        return math.prod(self.factors)


def paths(found: Flow, of: Weight, slope: Sequence[np.ndarray], shown: Sequence[np.ndarray]) -> list[Path]:
    """Every path from the weight to the cost through the units that are shown, the largest first."""
    a = found.columns[of.k - 1].a
    start = 1.0 if of.i is None or a is None else float(a[of.i])
    made = []
    for units in itertools.product([of.j], *(own.tolist() for own in shown[of.k + 1 :])):
        factors = [start, float(slope[of.k - 1][of.j])]
        for k, (before, after) in enumerate(itertools.pairwise(units), start=of.k + 1):
            W = found.columns[k].W
            assert W is not None
            factors += [float(W[before, after]), float(slope[k - 1][after])]
        made.append(Path(units, (*factors, float(found.outputs[units[-1]]))))
    return sorted(made, key=lambda path: -abs(path.product))
