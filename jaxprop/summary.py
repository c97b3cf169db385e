"""What a network is made of: shapes, parameters, operations and the bytes it keeps for the backward pass."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import jax

from jaxprop.backward._common import require_layer
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Combinator, Walk


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
    inputs: tuple[int, ...]

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
    seen, start, rows = set(map(id, closed.jaxpr.invars[1:])), 0, []  # parameters are there anyway
    for path, layer, x_spec, y_spec, count, kept in notes.rows:
        variables = closed.jaxpr.outvars[start : start + kept]
        start += kept
        fresh = {id(v): v for v in variables if id(v) not in seen and hasattr(v, "aval")}
        seen |= set(fresh)
        kept_bytes = sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in fresh.values())
        forward, backward = layer.operations(x_spec, y_spec)
        rows.append(
            SummaryRow(path, repr(layer), y_spec.shape, y_spec.dtype.name, count, forward, backward, kept_bytes)
        )
    return Summary(tuple(rows), tuple(x.shape))


def _caches(notes: "_Notes", net: Layer, x: Any, params: Any) -> list[Any]:
    notes.rows.clear()
    _, caches = notes.push(net, x, params, None, ""), notes.caches
    return caches


class _Notes(Walk):
    """The plain walk forward, noting every leaf's shapes and cache; traced once, never inside a scan."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Layer, Any, Any, int, int]] = []
        self.caches: list[Any] = []

    def push(self, layer: Layer, x: Any, params: Any, env: Env | None, path: str) -> tuple[Any, Any]:
        y, cache = super().push(layer, x, params, env, path)
        if not isinstance(layer, Combinator):
            count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
            kept = jax.tree.leaves(cache)
            spec = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (x, y)]
            self.rows.append((path, layer, spec[0], spec[1], count, len(kept)))
            self.caches += kept
        return y, cache
