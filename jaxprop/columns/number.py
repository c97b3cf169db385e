"""A column of numbers: one feature, and one more that says where it was missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from jaxprop.checks import LARGEST
from jaxprop.columns.cells import Place, decimal_mark, empty_cell, in_row, is_missing, number, plain_numbers
from jaxprop.errors import DataError


@dataclass(frozen=True)
class Number:
    """Read a column of numbers: feature = value − offset, missing cells filled.

    Args:
        name: the column.
        decimal: its decimal mark, "." or ",".
        offset: what is subtracted in float64, before rounding to float32: timestamps and ids would become equal else.
        fill: the value of a missing cell, the median of the training rows; None refuses missing cells.
        indicator: whether a second feature says 1 where the cell was missing, as some training rows' were.

    >>> Number("age", fill=30.0, indicator=True).encode(["22", "", "1,041"])
    array([[2.200e+01, 0.000e+00],
           [3.000e+01, 1.000e+00],
           [1.041e+03, 0.000e+00]])
    """

    name: str
    decimal: Literal[".", ","] = "."
    offset: float = 0.0
    fill: float | None = None
    indicator: bool = False
    kind: Literal["number"] = "number"
    __pydantic_config__ = {"extra": "forbid"}

    @classmethod
    def of(cls, name: str, cells: Sequence[Any]) -> Self | None:
        """Return the description of a training column, or None if a cell that is not missing is no number."""
        if (array := plain_numbers(cells)) is not None and len(array):
            fill = float(np.median(array))
            return cls(name, ".", fill if _collapses(array) else 0.0, fill)
        known = [cell for cell in cells if not is_missing(cell)]
        mark = decimal_mark(known)
        values = [number(cell, mark) for cell in known]
        if not values or None in values:
            return None
        array = np.array(values, np.float64)
        finite = array[np.isfinite(array)]
        fill = float(np.median(finite)) if finite.size else 0.0
        offset = fill if _collapses(finite) else 0.0
        return cls(name, mark, offset, fill, len(known) < len(cells))  # pyright: ignore[reportArgumentType]

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        return (self.name, f"{self.name} missing") if self.indicator else (self.name,)

    @property
    def scaled(self) -> tuple[bool, ...]:
        """Which of the features are worth standardising."""
        return (True, False) if self.indicator else (True,)

    def encode(self, cells: Sequence[Any], place: Place = in_row) -> np.ndarray:
        """Return the features `[N, F]` in float64; DataError names the first cell that is no number."""
        values = plain_numbers(cells) if self.decimal == "." and not self.indicator else None
        if values is not None and np.all(abs(values - self.offset) <= LARGEST):
            return (values - self.offset)[:, None]
        missing = np.array([is_missing(cell) for cell in cells])
        values = np.array([self._value(cell, i, place) for i, cell in enumerate(cells)], np.float64) - self.offset
        return np.stack([values, missing], 1) if self.indicator else values[:, None]

    def _value(self, cell: object, row: int, place: Place) -> float:
        if is_missing(cell):
            if self.fill is None:
                raise empty_cell(place(row), self.name)
            return self.fill
        value = number(cell, self.decimal)
        if value is None:
            other = number(cell, "," if self.decimal == "." else ".")
            mark = "a point" if self.decimal == "." else "a comma"
            todo = f"this column writes decimals with {mark}" if other is not None else "correct it or leave it empty"
            raise DataError(f"{place(row)}, column {self.name!r}: found {cell!r}, expected a number; {todo}")
        if not abs(value - self.offset) <= LARGEST:
            raise DataError(
                f"{place(row)}, column {self.name!r}: found {cell!r}, expected a finite float32; "
                "correct it or remove the row"
            )
        return value


def _collapses(values: np.ndarray) -> bool:
    """Whether values that differ would be equal in float32 for being far from 0, not merely for being many."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused by `encode`
        if not values.size or abs(values).max() <= 16 * np.ptp(values):
            return False
        return len(np.unique(values)) > len(np.unique(values.astype(np.float32)))
