"""A column of text: one feature for each value that training saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from jaxprop.columns.cells import Place, in_row, is_missing


@dataclass(frozen=True)
class Category:
    """Read a column of text as one-hot features: 1 where the cell is that value.

    A value that training never saw is 0 in all of them, and `unknown` names it.

    Args:
        name: the column.
        values: what training saw, sorted.
        indicator: whether a last feature says 1 where the cell was missing, as some training rows' were.

    >>> Category("sex", ("female", "male")).encode(["male", "female", "?"])
    array([[0., 1.],
           [1., 0.],
           [0., 0.]])
    """

    name: str
    values: tuple[str, ...]
    indicator: bool = False
    kind: Literal["category"] = "category"
    __pydantic_config__ = {"extra": "forbid"}

    @classmethod
    def of(cls, name: str, cells: Sequence[Any]) -> Self:
        """Return the description of a training column."""
        known = [_text(cell) for cell in cells if not is_missing(cell)]
        return cls(name, tuple(sorted(set(known))), len(known) < len(cells))

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        found = tuple(f"{self.name}={value}" for value in self.values)
        return (*found, f"{self.name} missing") if self.indicator else found

    @property
    def scaled(self) -> tuple[bool, ...]:
        """Which of the features are worth standardising."""
        return (False,) * len(self.features)

    def encode(self, cells: Sequence[Any], place: Place = in_row) -> np.ndarray:
        """Return the features `[N, F]` in float64."""
        at = {value: i for i, value in enumerate(self.values)}
        found = np.zeros((len(cells), len(self.features)))
        for row, cell in enumerate(cells):
            if is_missing(cell):
                found[row, len(self.values) :] = 1.0
            elif (value := _text(cell)) in at:
                found[row, at[value]] = 1.0
        return found

    def unknown(self, cells: Sequence[Any]) -> tuple[str, ...]:
        """Return the values that training never saw, each once, in order of appearance."""
        found = dict.fromkeys(_text(cell) for cell in cells if not is_missing(cell))
        return tuple(value for value in found if value not in self.values)


def _text(cell: object) -> str:
    return cell.strip() if isinstance(cell, str) else str(cell)
