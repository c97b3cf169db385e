"""What a network is made of: shapes, parameters, operations and the bytes it keeps for the backward pass."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import jax
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.shapes import spec
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Combinator, Remat, Repeat, Shared, Walk, by_path, join
from jaxprop.network.call import require_layer
from jaxprop.network.walk import Pushed
from jaxprop.tables import Table, Tabular

COUNTED = ("parameters", "forward", "backward", "kept_bytes")


@dataclass(frozen=True)
class SummaryRow:
    """One layer: path, description, output shape, parameters, operations forward and back, bytes kept."""

    path: str
    layer: str
    output: tuple[int, ...]
    dtype: str
    parameters: int
    forward: int
    backward: int
    kept_bytes: int


@dataclass(frozen=True)
class Summary(Tabular):
    """`summary(net, x)`: `.rows`, their totals, and a table as text."""

    rows: tuple[SummaryRow, ...]
    inputs: (
        tuple[int, ...] | tuple[tuple[int, ...], ...]
    )  # the shape of x; where x is a tuple of arrays, of their shapes

    def total(self, column: str) -> int:
        """Return the sum of a column: 'parameters', 'forward', 'backward' or 'kept_bytes'."""
        return sum(getattr(row, column) for row in self.rows)

    def as_dict(self) -> dict[str, object]:
        """Return plain data, for JSON."""
        totals = {name: self.total(name) for name in COUNTED}
        return {"inputs": list(self.inputs), "layers": [asdict(row) for row in self.rows], "total": totals}

    def text(self, room: int | None = None) -> str:
        """Return the table, in `room` columns of a terminal if given."""
        return self.as_table().text(room=room)

    def as_table(self) -> Table:
        """Return a row for every layer and one for their totals."""
        lines = [("path", "layer", "output", "parameters", "forward", "backward", "kept")]
        for row in self.rows:
            shape = f"{row.dtype}[{', '.join(map(str, row.output))}]"
            lines.append((row.path or "·", row.layer, shape, *_cells(getattr(row, name) for name in COUNTED)))
        lines.append(("", "total", "", *_cells(map(self.total, COUNTED))))
        note = f"operations and bytes for inputs {list(self.inputs)}: one multiply-add is 2, one function value is 1"
        return Table(lines, range(3, 7), (note,))


def _cells(numbers: Iterable[int]) -> tuple[str, str, str, str]:
    parameters, forward, backward, kept = (f"{number:,}" for number in numbers)
    return parameters, forward, backward, f"{kept} B"


def summary(net: Layer, x: PyTree) -> Summary:
    """Return a table of shapes, parameters, operations and bytes kept, a row a layer; nothing is computed.

    Operations are counted from each layer's formulas. `kept` is what the forward pass holds for the backward pass; an
    array that two layers keep is counted once, where it is first kept.

    Args:
        net: the network.
        x: inputs `[N, ...]`, an array or a `jax.ShapeDtypeStruct`, or a tuple of them.

    Raises:
        ShapeError: x does not fit the network.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, Linear, Sigmoid
    >>> found = summary(Chain(Linear(30), Sigmoid(), Linear(10)), jax.ShapeDtypeStruct((10, 784), jnp.float32))
    >>> found.total("parameters"), found.total("forward")
    (23860, 477100)
    """
    require_layer(net, "summary")
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    walk = _Noting()

    def kept(x: PyTree, params: PyTree) -> list[list[Array]]:
        walk.rows.clear()
        walk.push(net, x, params, None, "")
        return [row.kept for row in walk.rows]

    program = jax.make_jaxpr(kept)(x, params).jaxpr
    seen = set(map(id, program.invars[len(jax.tree.leaves(x)) :]))  # parameters are there anyway
    variables, rows = iter(program.outvars), []
    for noted in walk.rows:
        fresh = {id(v): v.aval for v in itertools.islice(variables, len(noted.kept)) if id(v) not in seen}
        seen |= set(fresh)
        kept_bytes = sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in fresh.values())
        once = (noted.parameters, *noted.layer.operations(noted.x, noted.y), kept_bytes)
        numbers = (noted.times * number for number in once)
        rows.append(SummaryRow(noted.path, repr(noted.layer), noted.y.shape, noted.y.dtype.name, *numbers))
    return Summary(tuple(rows), jax.tree.map(lambda a: tuple(a.shape), x))


@dataclass
class _Noted:
    """A leaf as it was visited: the specs of x and y, how many parameters, how often, and what it keeps."""

    path: str
    layer: Layer
    x: PyTree[jax.ShapeDtypeStruct]
    y: jax.ShapeDtypeStruct
    parameters: int
    times: int
    kept: list[Array]


class _Noting(Walk):
    """The plain walk forward, noting every leaf; traced once, never inside a scan."""

    def __init__(self) -> None:
        self.rows: list[_Noted] = []
        self.times = 1

    def push(self, layer: Layer, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        if isinstance(layer, Repeat):
            return self._once(layer, x, params, env, path)
        first = len(self.rows)
        y, cache = super().push(layer, x, params, env, path)
        if isinstance(layer, Remat):  # of all that is inside, nothing is kept but x
            for row in self.rows[first:]:
                row.kept = []
            self.rows[first].kept = jax.tree.leaves(x)
        elif isinstance(layer, Shared):
            self._count_once(layer, params, path)
        elif not isinstance(layer, Combinator):
            x_spec, y_spec = spec((x, y))
            count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
            self.rows.append(_Noted(path, layer, x_spec, y_spec, count, self.times, jax.tree.leaves(cache)))
        return y, cache

    def _once(self, layer: Repeat, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """One block of a Repeat, counted L times: outside of the scan, whose tracers must not leak."""
        self.times *= layer.times
        first = jax.tree.map(lambda p: p[0], params[0])
        y, cache = self.push(layer.inner, x, first, env, join(path, "inner"))
        self.times //= layer.times
        return y, cache

    def _count_once(self, layer: Shared, params: PyTree, path: str) -> None:
        """A tied array is counted where its owner stands."""
        sizes = {name: math.prod(leaf.shape) for name, leaf in by_path(params[0]).items()}
        for owner, user, _ in layer.ties:
            tied = join(join(path, "inner"), user)
            next(row for row in self.rows if tied.startswith(f"{row.path}.")).parameters -= sizes[owner]
