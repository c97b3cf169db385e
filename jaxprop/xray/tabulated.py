"""A report as tables: by source line, by equation, by argument and by module."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from jaxprop.errors import pick
from jaxprop.tables import Table, Tabular, shown, terminal_room
from jaxprop.xray import groups
from jaxprop.xray.groups import Group
from jaxprop.xray.rows import Measure, Row

T = TypeVar("T", Row, Group)
Columns = list[tuple[str, Callable[[T], str], bool]]  # a column: its head, its cell, whether it holds numbers


@dataclass(frozen=True)
class Printed(Tabular):
    """A table that fits the terminal, and shows itself in a notebook."""

    table: Table

    def as_table(self) -> Table:
        """Return the table."""
        return self.table

    def __str__(self) -> str:
        return self.table.text(room=terminal_room())

    __repr__ = __str__


def tabulated(rows: Sequence[Row], by: str, limit: int | None, notes: Iterable[str] = ()) -> Printed:
    """Make the table of a report's rows, at most `limit` of its lines; `by` is a line, an equation or an argument."""
    kind = pick(by, ("line", "equation", "argument"), "kind of table, by=")
    if kind == "line":
        lines = groups.by_line(rows)
        count: Columns[Group] = [("measured", lambda group: str(len(group.rows)), True)]
        return _table(lines, [*_places(lines), *count, *_measured(rows)], limit, "lines", notes)
    chosen = [row for row in rows if row.is_argument == (kind == "argument")]
    head: Columns[Row] = [(kind, lambda row: row.name, False), ("shape", lambda row: row.shape, False)]
    if kind == "equation":
        head += _places(chosen)
    return _table(
        chosen, [*head, *_measured(rows, "gradient" if kind == "argument" else "error")], limit, by + "s", notes
    )


def modules(rows: Sequence[Row], limit: int | None, notes: Iterable[str] = ()) -> Printed:
    """Make the table of modules, each indented below the one around it."""
    has_gradients = any(row.is_argument and row.error is not None for row in rows)
    columns: Columns[Group] = [("module", _indented, False), ("measured", lambda group: str(len(group.rows)), True)]
    columns += _measured(rows)
    if has_gradients:
        columns.insert(-1, ("gradient", lambda group: _number(group.gradient, "rms"), True))
    found = groups.by_module(rows)
    shown = _shallow(found, limit)
    within = [f"{len(shown)} of {len(found)} modules, without those within them; limit=None shows all, .at(...) one"]
    return _table(shown, columns, None, "modules", (*(within if len(shown) < len(found) else ()), *notes))


def _shallow(found: list[Group], limit: int | None) -> list[Group]:
    """The modules down to the depth at which there are no more than `limit`, the outermost in any case."""
    depths = [groups.depth(group.scope) for group in found]
    if limit is None:
        return found
    fitting = (depth for depth in range(1, max(depths) + 1) if sum(each <= depth for each in depths) <= limit)
    deepest = max(fitting, default=1)
    return [group for group, depth in zip(found, depths, strict=True) if depth <= deepest]


def _indented(group: Group) -> str:
    *around, name = group.scope.split("/")
    return f"{'  ' * (len(around) + 1)}{name}" if group.scope else "all"


def _places(found: "Sequence[T]") -> "Columns[T]":
    """The columns that say where: modules only if there are any."""
    line = [("line", lambda each: _line(each), False)]
    has_modules = any(each.scope for each in found)
    return [*line, ("module", lambda each: each.scope, False)] if has_modules else line


def _line(each: Row | Group) -> str:
    """A line; of one equation without the function, for the sake of room."""
    if each.line is None:
        return "·"
    return str(each.line) if isinstance(each, Group) else each.line.short


def _measured(rows: Sequence[Row], error: str = "error") -> "Columns[T]":
    """The columns of numbers, as far as they were measured, and at last what is not finite, where anything is."""
    columns = []
    for which, name in (("value", "value"), ("error", error)):
        found = [measure for row in rows if (measure := getattr(row, which)) is not None]
        if found:
            columns += [(f"{name} RMS", _cell(which, "rms"), True), ("largest", _cell(which, "largest"), True)]
        if found and not found[0].light:
            columns.append(("zero", _cell(which, "zero"), True))
    columns.append(("not finite", _trouble, False))
    return columns


def _cell(which: str, name: str) -> Callable[[T], str]:
    return lambda each: _number(getattr(each, which), name)


def _number(measure: Measure | None, name: str) -> str:
    if measure is None:
        return "–"
    value = getattr(measure, name)
    if math.isnan(value) and not measure.light:  # no number is finite, and the last column says so
        return "–"
    return _share(value) if name == "zero" else shown(value, 3)


def _share(share: float) -> str:
    """A share in per cent, which says 0 and 100 only where they are."""
    return f"{share:.0%}" if share in (0, 1) or 0.005 <= share < 0.995 else "<1%" if share < 0.5 else ">99%"


def _trouble(each: Row | Group) -> str:
    """What is not finite: of an equation its shares, of several equations in how many of them."""
    if isinstance(each, Row):
        both = (("value", each.value), ("gradient" if each.is_argument else "error", each.error))
        return ", ".join(f"{which} {_shares(measure)}" for which, measure in both if measure and measure.trouble)
    said = []
    rows = (*each.rows, *each.arguments)
    for name in ("NaN", "inf"):
        counts = [(which, sum(row.holds(name, which) for row in rows)) for which in ("value", "error")]
        words = [f"{count} {which}{'s' * (count > 1)}" for which, count in counts if count]
        said += [f"{name} in {' and '.join(words)}"] if words else []
    return ", ".join(said)


def _shares(measure: Measure) -> str:
    if measure.light:
        return measure.trouble
    return ", ".join(f"{n} {_share(s)}" for n, s in (("NaN", measure.nan or 0.0), ("inf", measure.inf or 0.0)) if s)


def _table(found: "Sequence[T]", columns: "Columns[T]", limit: int | None, what: str, notes: Iterable[str]) -> Printed:
    bad = [bool(_trouble(each)) for each in found]
    if not any(bad):
        columns = columns[:-1]
    kept = _chosen(bad, limit)
    lines = [tuple(head for head, _, _ in columns)]
    lines += [tuple(cell(found[i]) for _, cell, _ in columns) for i in kept]
    left_out = [_left_out(len(kept), bad, what)] if len(kept) < len(found) else []
    right = [i for i, (_, _, is_number) in enumerate(columns) if is_number]
    marked = [place for place, i in enumerate(kept) if bad[i]]
    paths = ("module", "argument", *(["line"] if what == "equations" else []))  # the end of these says most
    tails = [i for i, (head, _, _) in enumerate(columns) if head in paths]
    return Printed(Table(lines, right, (*left_out, *notes), marked, tails))


def _left_out(kept: int, bad: Sequence[bool], what: str) -> str:
    those = "are not finite, or stand for" if any(bad) else "stand for"
    return f"{kept} of {len(bad)} {what}, which {those} all depths; limit=None shows all, .at(...) one place"


def _chosen(bad: Sequence[bool], limit: int | None) -> list[int]:
    """The lines that are shown: first of all those that are not finite, the others evenly through depth."""
    if limit is None or len(bad) <= limit:
        return list(range(len(bad)))
    first = [i for i, is_bad in enumerate(bad) if is_bad]
    rest = [i for i, is_bad in enumerate(bad) if not is_bad]
    some = min(len(first), max(limit - min(len(rest), 2), 1))  # the ends of the rest stay in sight
    first = groups.evenly(first, some)
    return sorted([*first, *groups.evenly(rest, limit - len(first))])
