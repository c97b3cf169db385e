"""The rows of a report as the program runs them: the steps of a scan one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from jaxprop.xray.groups import common, depth, evenly
from jaxprop.xray.rows import Measure, Row, measured_of

MOST_STEPS = 200  # of a longer scan so many are shown, evenly


@dataclass(frozen=True, eq=False)
class Point:
    """Hold what one equation computed in one step.

    keys: where it is, from the outside in: module by module, with the steps of a scan between, or else the function and
        the line.
    """

    row: Row
    keys: tuple[str, ...]
    value: Measure | None
    error: Measure | None


def unrolled(rows: Sequence[Row]) -> list[Point]:
    """List all steps of all equations, in the order in which they run; devices are taken together."""
    equations = [row for row in rows if not row.is_argument]
    root = common([row.scope for row in equations if row.scope])
    return list(_steps(equations, 0, (), root))


def _steps(rows: Sequence[Row], deep: int, steps: tuple[tuple[str, int], ...], around: str) -> Iterator[Point]:
    """Unroll the scans that are `deep` axes deep; `steps` are those of the scans around, each in its module."""
    for loop, run in groupby(rows, lambda row: row.site.loops[deep : deep + 1]):
        together = list(run)
        if not loop:
            yield from (_point(row, steps, around) for row in together)
            continue
        ((kind, length, _),) = loop
        inside = common([row.scope for row in together])
        numbers = [-1] if kind != "scan" else evenly(range(length), min(length, MOST_STEPS))
        for i in numbers:
            yield from _steps(together, deep + 1, (*steps, (inside, i)), around)


def _point(row: Row, steps: tuple[tuple[str, int], ...], root: str) -> Point:
    index = tuple(slice(None) if i < 0 else i for _, i in steps)
    value, error = (None if each is None else measured_of(each.numbers[index]) for each in (row.value, row.error))
    return Point(row, _keys(row, steps, root), value, error)


def _keys(row: Row, steps: tuple[tuple[str, int], ...], root: str) -> tuple[str, ...]:
    if row.scope:
        parts = row.scope.split("/")
    else:
        parts = [row.line.function.split("<locals>.")[-1], f"line {row.line.number}"] if row.line else ["·"]
    first = depth(root) if row.scope else 0
    keys: list[str] = parts[first:]
    for inside, i in reversed(steps):
        if i >= 0:
            keys.insert(max(depth(inside) - first, 0), f"step {i}")
    return tuple(keys)
