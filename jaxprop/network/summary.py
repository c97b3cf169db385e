"""What a network is made of: shapes, parameters, operations and the bytes it keeps for the backward pass."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import jax

from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Combinator, Remat, Repeat, Shared, Walk, by_path, join
from jaxprop.network.call import require_layer


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
class Summary:
    """`summary(net, x)`: `.rows`, their totals, and a table as text."""

    rows: tuple[SummaryRow, ...]
    inputs: tuple[Any, ...]  # the shape of x; where x is a tuple of arrays, of their shapes

    def total(self, column: str) -> int:
        """The sum of a column: 'parameters', 'forward', 'backward' or 'kept_bytes'."""
        return sum(getattr(row, column) for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        totals = {name: self.total(name) for name in ("parameters", "forward", "backward", "kept_bytes")}
        return {"inputs": list(self.inputs), "layers": [asdict(row) for row in self.rows], "total": totals}

    def __str__(self) -> str:
        head = ("path", "layer", "output", "parameters", "forward", "backward", "kept")
        lines: list[tuple[str, ...]] = [head]
        for r in self.rows:
            shape = f"{r.dtype}[{', '.join(map(str, r.output))}]"
            numbers = (f"{r.parameters:,}", f"{r.forward:,}", f"{r.backward:,}", f"{r.kept_bytes:,} B")
            lines.append((r.path or "·", r.layer, shape, *numbers))
        totals = (self.total("parameters"), self.total("forward"), self.total("backward"))
        lines.append(("", "total", "", *(f"{n:,}" for n in totals), f"{self.total('kept_bytes'):,} B"))
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [
            "  ".join(
                cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        note = f"operations and bytes for inputs {list(self.inputs)}: one multiply-add is 2, one function value is 1"
        return "\n".join([*(line.rstrip() for line in text), note])


def summary(net: Layer, x: Any) -> Summary:
    """Return shapes, parameters, operations and bytes kept for inputs like `x` (array or ShapeDtypeStruct `[N, ...]`).

    Operations are counted from each layer's formulas, nothing is computed. `kept` is what the forward pass holds for
    the backward pass; an array that two layers keep is counted once, where it is first kept. Raises ShapeError for x
    that does not fit.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, Linear, Sigmoid
    >>> found = summary(Chain(Linear(30), Sigmoid(), Linear(10)), jax.ShapeDtypeStruct((10, 784), jnp.float32))
    >>> found.total("parameters"), found.total("forward")
    (23860, 477100)
    """
    require_layer(net, "summary")
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    notes = _Notes()
    closed = jax.make_jaxpr(lambda x, p: _caches(notes, net, x, p))(x, params)
    inputs = jax.tree.leaves(x)
    seen, start, rows = set(map(id, closed.jaxpr.invars[len(inputs) :])), 0, []  # parameters are there anyway
    for path, layer, x_spec, y_spec, count, kept, times in notes.rows:
        variables = closed.jaxpr.outvars[start : start + kept]
        start += kept
        fresh = {id(v): v for v in variables if id(v) not in seen and hasattr(v, "aval")}
        seen |= set(fresh)
        kept_bytes = sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in fresh.values())
        numbers = (count, *layer.operations(x_spec, y_spec), kept_bytes)
        rows.append(
            SummaryRow(path, repr(layer), y_spec.shape, y_spec.dtype.name, *(times * number for number in numbers))
        )
    return Summary(tuple(rows), jax.tree.map(lambda a: tuple(a.shape), x))


def _caches(notes: "_Notes", net: Layer, x: Any, params: Any) -> list[Any]:
    notes.rows.clear()
    _, caches = notes.push(net, x, params, None, ""), notes.caches
    return caches


class _Notes(Walk):
    """The plain walk forward, noting every leaf's shapes and cache; traced once, never inside a scan."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.caches: list[Any] = []
        self.times = 1

    def push(self, layer: Layer, x: Any, params: Any, env: Env | None, path: str) -> tuple[Any, Any]:
        if isinstance(layer, Repeat):
            return self._once(layer, x, params, env, path)
        first, caches = len(self.rows), len(self.caches)
        y, cache = super().push(layer, x, params, env, path)
        if isinstance(layer, Remat):  # of all that is inside, nothing is kept but x
            del self.caches[caches:]
            self.rows[first:] = [(*row[:5], 0, row[6]) for row in self.rows[first:]]
            self._keep(first, jax.tree.leaves(x))
        if isinstance(layer, Shared):
            self._count_once(layer, params, path)
        if not isinstance(layer, Combinator):
            count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
            spec = [jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree) for tree in (x, y)]
            self.rows.append((path, layer, spec[0], spec[1], count, 0, self.times))
            self._keep(first, jax.tree.leaves(cache))
        return y, cache

    def _keep(self, row: int, kept: list[Any]) -> None:
        """Note at a row what is kept for the backward pass."""
        self.rows[row] = (*self.rows[row][:5], len(kept), self.rows[row][6])
        self.caches += kept

    def _once(self, layer: Repeat, x: Any, params: Any, env: Env | None, path: str) -> tuple[Any, Any]:
        """One block of a Repeat, counted L times: outside of the scan, whose tracers must not leak."""
        self.times *= layer.times
        first = jax.tree.map(lambda p: p[0], params[0])
        y, cache = self.push(layer.inner, x, first, env, join(path, "inner"))
        self.times //= layer.times
        return y, cache

    def _count_once(self, layer: Shared, params: Any, path: str) -> None:
        """A tied array is counted where its owner stands."""
        sizes = {name: math.prod(leaf.shape) for name, leaf in by_path(params[0]).items()}
        for owner, user, _ in layer.ties:
            place = join(join(path, "inner"), user).rpartition(".")[0]
            self.rows = [(*r[:4], r[4] - sizes[owner], *r[5:]) if r[0] == place else r for r in self.rows]
