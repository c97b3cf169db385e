"""How large errors and gradients are at every layer of a trained network, and which of its units learn nothing."""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.backward import auto
from jaxprop.costs import Cost
from jaxprop.layers.layer import Layer
from jaxprop.network.call import Network
from jaxprop.stats import DeadUnits, Flow, SaturatedUnits, Units, collect
from jaxprop.tables import Table, shown
from jaxprop.train.rows import Rows

ROWS = 256


@dataclass(frozen=True)
class Health:
    """Tables of a backward pass over some rows: the layers, and the units that are flat; and the norm of ∂C/∂θ."""

    rows: int
    norm: float
    layers: Table
    units: Table | None


def health(net: Network, cost: Cost, rows: Rows, params: PyTree) -> Health:
    """Look at one backward pass over at most 256 of the rows, evenly spread.

    >>> from jaxprop import Chain, HalfSquaredError, Linear, ReLU
    >>> net, x = Chain(Linear(2), ReLU()), np.ones((4, 3), np.float32)
    >>> found = health(net, HalfSquaredError(), Rows(x, x[:, :2]), net.init(jax.random.key(0), x))
    >>> found.rows, len(found.layers.rows), found.units.rows[0]
    (4, 3, ('layer', 'units', 'dead', 'saturated'))
    """
    chosen = np.unique(np.linspace(0, len(rows.targets) - 1, min(ROWS, len(rows.targets))).astype(int))
    few = jax.tree.map(lambda a: np.asarray(a)[chosen], rows)
    if not isinstance(net, Layer):
        _, grads = jax.jit(auto.value_and_grad(net, cost))(few.x, params, few.targets, mask=few.mask)
        return Health(len(chosen), _norm(grads), _of_parameters(params, grads), None)
    run = jax.jit(collect(net, cost, (Flow(), DeadUnits(), SaturatedUnits())))
    _, grads, (flow, dead, saturated) = run(few.x, params, few.targets, mask=few.mask)
    return Health(len(chosen), _norm(grads), flow.as_table(), _of_units(dead, saturated))


def _norm(grads: PyTree) -> float:
    return float(np.sqrt(sum(np.sum(np.square(np.asarray(g, np.float64))) for g in jax.tree.leaves(grads))))


def _of_parameters(params: PyTree, grads: PyTree) -> Table:
    """Of a plain function: what is known of it are its parameters."""
    sizes = {path: _rms(p) for path, p in by_path(params).items()}
    found = [(path or "θ", shown(sizes[path]), shown(_rms(g))) for path, g in by_path(grads).items()]
    return Table((("parameter", "RMS", "RMS of the gradient"), *found), right=(1, 2))


def _rms(values: PyTree) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, np.float64)))))


def _of_units(dead: PyTree, saturated: PyTree) -> Table | None:
    """How many units of each activation are dead, and saturated; None without an activation."""
    flat = by_path(saturated, is_leaf=lambda node: isinstance(node, Units))
    rows = []
    for path, units in by_path(dead, is_leaf=lambda node: isinstance(node, Units)).items():
        counts = [int(np.sum(each.mask)) for each in (units, flat[path])]
        rows.append((path or "0", *map(str, (np.size(units.mask), *counts))))
    return Table((("layer", "units", "dead", "saturated"), *rows), right=(1, 2, 3)) if rows else None
