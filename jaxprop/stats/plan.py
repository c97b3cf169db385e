"""What `collect` is going to do: for every use the way to its norms and squares, and what that takes.

The plan is read from `collect` itself, which is traced with shapes alone: nothing is computed, and no rule is written
twice. A row is a step that `in_chunks` (`uses/chunked.py`) takes with one use:

    way          product, gram, shifted gram, segments or direct (the per-example gradient); the docstring of
                 `norm_way` of each kind of use has their formulas
    examples     how many are taken at a time
    operations   multiply-adds of all N examples, beyond those of the gradient
    bytes        held at a time of what is built of single examples
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxprop.backward.rules.edits import RuleLike
from jaxprop.costs import Cost
from jaxprop.layers.layer import Layer
from jaxprop.stats.collect import collect
from jaxprop.stats.foreign import Argnums, Function
from jaxprop.stats.quantity import Quantity
from jaxprop.tables import Table, Tabular
from jaxprop.uses.chunked import Step, watched


class PlanRow(NamedTuple):
    """Hold what is done with one use: its path, for what, the kind of use and its shapes, the way, and what that takes.

    >>> PlanRow._fields
    ('path', 'purpose', 'use', 'way', 'examples', 'of', 'operations', 'bytes')
    """

    path: str
    purpose: str
    use: str
    way: str
    examples: int
    of: int
    operations: int
    bytes: int


@dataclass(frozen=True)
class Plan(Tabular):
    """Hold a row for every use that something is built of, and in words how uses are visited a second time.

    `str(plan)` is a table.

    >>> rows = (PlanRow("0.W", "norms", "Outer a [8, 4, 3], delta [8, 4, 2]", "direct", 8, 8, 192, 192),)
    >>> print(Plan(rows, ()))
    path  for    use                                 way     examples  operations  bytes
    0.W   norms  Outer a [8, 4, 3], delta [8, 4, 2]  direct    8 of 8         192    192
    """

    rows: tuple[PlanRow, ...]
    visits: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The most that is held at a time of what is built of single examples."""
        return max((row.bytes for row in self.rows), default=0)

    def as_table(self) -> Table:
        """Return a row for every use, the second visits below."""
        lines = [("path", "for", "use", "way", "examples", "operations", "bytes")]
        for row in self.rows:
            examples = f"{row.examples} of {row.of}"
            lines.append((*row[:4], examples, f"{row.operations:,}", f"{row.bytes:,}"))
        return Table(lines, range(4, 7), self.visits)


@overload
def plan(
    net: Layer,
    cost: Cost,
    quantities: Sequence[Quantity],
    *,
    rule: RuleLike | None = None,
    memory: int | None = None,
) -> Callable[..., Plan]: ...


@overload
def plan(
    net: Function,
    cost: Cost,
    quantities: Sequence[Quantity],
    *,
    memory: int | None = None,
    argnums: Argnums = 0,
    in_axes: Any,
) -> Callable[..., Plan]: ...


@overload
def plan(
    net: Function,
    cost: Sequence[Quantity],
    *,
    memory: int | None = None,
    argnums: Argnums = 0,
    in_axes: Any,
) -> Callable[..., Plan]: ...


def plan(net: Any, cost: Any, quantities: Any = None, **settings: Any) -> Callable[..., Plan]:
    """Return `run`, which says what `collect` with the same arguments does, and computes nothing.

    Args:
        net, cost, quantities, rule, memory, argnums, in_axes: as for `collect`. memory is in bytes.

    Returns:
        `run(x, params, targets, ...)`, with what the function of `collect` takes, or shapes in their place
        (`jax.ShapeDtypeStruct`); it returns a `Plan`.

    Raises:
        JaxpropError: what `collect` raises: also that one example alone needs more than `memory`, and where.

    >>> import jaxprop as jp
    >>> net, x = jp.Linear(64), jax.ShapeDtypeStruct((8, 32, 64), jnp.float32)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), x)
    >>> asked = [jp.stats.ExampleNorms()]
    >>> print(plan(net, jp.HalfSquaredError(), asked)(x, params, x))
    path  for                    use                                     way     examples  operations   bytes
    W     the norms of examples  Outer a [8, 32, 64], delta [8, 32, 64]  direct    8 of 8           0  131,072
    b     the norms of examples  Shift delta [8, 32, 64]                 direct    8 of 8           0    2,048
    """
    collected = collect(net, cost, quantities, **settings)

    def run(*inputs: PyTree, **named: PyTree) -> Plan:
        with watched() as watch:
            jax.eval_shape(collected, *inputs, **named)
        rows = dict.fromkeys(map(_row, watch.steps))  # a scan is traced more than once
        return Plan(tuple(rows), tuple(watch.visits))

    return run


def _row(step: Step) -> PlanRow:
    held = step.held * jnp.dtype(step.use.wide).itemsize
    operations = step.examples * step.way.operations
    return PlanRow(
        step.path, step.purpose, _described(step.use), step.way.name, step.rows, step.examples, operations, held
    )


def _described(use: Any) -> str:
    """The kind of a use, and its arrays."""
    arrays = jax.tree_util.tree_leaves_with_path(use)
    shapes = [f"{jax.tree_util.keystr(path).lstrip('.')} {list(array.shape)}" for path, array in arrays]
    return f"{type(use).__name__} {', '.join(shapes)}"
