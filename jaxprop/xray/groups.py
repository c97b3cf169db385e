"""The rows of a report by source line and by module.

What stands for a line, or for a module, is what it gives on: the result of the last of its equations. A line that runs
many times, in a loop or in a function that is called twice, gives on many results: they are taken together.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from jaxprop.xray import modules
from jaxprop.xray.places import Line
from jaxprop.xray.rows import Measure, Row


@dataclass(frozen=True, eq=False)
class Group:
    """Hold equations that belong together.

    line: their line, where they share one.
    scope: the module around all of them.
    runs: the equations that were measured, each time that the program came here.
    arguments: the arguments of f that belong here, a module's parameters.
    """

    line: Line | None
    scope: str
    runs: tuple[tuple[Row, ...], ...]
    arguments: tuple[Row, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """List all equations that were measured."""
        return tuple(row for run in self.runs for row in run)

    @cached_property
    def value(self) -> Measure | None:
        """Give what was measured of the results."""
        return _together(result(run).value for run in self.runs)

    @cached_property
    def error(self) -> Measure | None:
        """Give what was measured of the errors of the results."""
        return _together(result(run).error for run in self.runs)

    @cached_property
    def gradient(self) -> Measure | None:
        """Give what was measured of the gradients of the arguments."""
        return _together(row.error for row in self.arguments)


def result(run: Sequence[Row]) -> Row:
    """Pick the equation that stands for a run: the last one, or the last one that an error came back to."""
    return next((row for row in reversed(run) if row.error is not None), run[-1])


def by_line(rows: Iterable[Row]) -> list[Group]:
    """Group equations by their line, and by the module that the line was run for, in the order of their first run."""
    found: dict[tuple[Line | None, str], list[tuple[Row, ...]]] = {}
    for line, run in groupby((row for row in rows if not row.is_argument), lambda row: row.line):
        together = tuple(run)
        found.setdefault((line, common([row.scope for row in together])), []).append(together)
    return [Group(line, scope, tuple(runs)) for (line, scope), runs in found.items()]


def by_module(rows: Sequence[Row]) -> list[Group]:
    """Group equations by module, "" (all of them) first; an equation is in its module and in all modules around it."""
    equations = [row for row in rows if not row.is_argument]
    arguments = [row for row in rows if row.is_argument]
    return [
        Group(None, scope, tuple(_runs(equations, scope)), tuple(row for row in arguments if within(row.scope, scope)))
        for scope in scopes(row.scope for row in (*equations, *arguments))
    ]


def scopes(given: Iterable[str]) -> list[str]:
    """List modules and all modules around them, "" first, each before those within."""
    found: dict[str, None] = {"": None}
    for scope in given:
        parts = scope.split("/")
        found |= dict.fromkeys("/".join(parts[: i + 1]) for i in range(len(parts)))
    return sorted(found, key=_first_seen(found))


def within(scope: str, module: str) -> bool:
    """Say whether a scope is a module or lies in it."""
    return not module or scope == module or scope.startswith(f"{module}/")


def _first_seen(order: Iterable[str]) -> Callable[[str], tuple[int, ...]]:
    """The key that puts modules in the order in which they are first run, those within behind the one around."""
    number = {scope: i for i, scope in enumerate(order)}

    def key(scope: str) -> tuple[int, ...]:
        parts = scope.split("/") if scope else []
        return tuple(number["/".join(parts[: i + 1])] for i in range(len(parts)))

    return key


def _runs(rows: Iterable[Row], scope: str) -> Iterable[tuple[Row, ...]]:
    for inside, run in groupby(rows, lambda row: within(row.scope, scope)):
        if inside:
            yield tuple(run)


def depth(scope: str) -> int:
    """Count a module and those around it."""
    return scope.count("/") + 1 if scope else 0


def evenly(numbers: Sequence[int], count: int) -> list[int]:
    """Take so many of them, the first and the last among them."""
    if count < 2:
        return list(numbers[:count])
    return [numbers[round(i * (len(numbers) - 1) / (count - 1))] for i in range(count)]


def common(scopes: Sequence[str]) -> str:
    """Name the module around all of these."""
    return "/".join(modules.common(tuple(scope.split("/")) for scope in scopes))


def _together(measured: Iterable[Measure | None]) -> Measure | None:
    numbers = [each.numbers.reshape(-1, each.numbers.shape[-1]) for each in measured if each is not None]
    return Measure(np.concatenate(numbers)) if numbers else None
