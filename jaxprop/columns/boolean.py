"""A column of yes and no: one feature, 1 or 0."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from jaxprop.columns.cells import Place, in_row, is_missing
from jaxprop.errors import DataError

WORDS = {"true": 1.0, "yes": 1.0, "y": 1.0, "t": 1.0, "false": 0.0, "no": 0.0, "n": 0.0, "f": 0.0}


@dataclass(frozen=True)
class Boolean:
    """Read a column of True and False, or yes and no, as 1 and 0; a missing cell is ½.

    Args:
        name: the column.
        indicator: whether a second feature says 1 where the cell was missing, as some training rows' were.

    >>> Boolean("smokes").encode(["yes", "No", True]).tolist()
    [[1.0], [0.0], [1.0]]
    """

    name: str
    indicator: bool = False
    kind: Literal["boolean"] = "boolean"
    __pydantic_config__ = {"extra": "forbid"}

    @classmethod
    def of(cls, name: str, cells: Sequence[Any]) -> Self | None:
        """Return the description of a training column, or None if a cell that is not missing is neither yes nor no."""
        known = [_value(cell) for cell in cells if not is_missing(cell)]
        return cls(name, len(known) < len(cells)) if known and None not in known else None

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        return (self.name, f"{self.name} missing") if self.indicator else (self.name,)

    @property
    def scaled(self) -> tuple[bool, ...]:
        """Which of the features are worth standardising."""
        return (False,) * len(self.features)

    def encode(self, cells: Sequence[Any], place: Place = in_row) -> np.ndarray:
        """Return the features `[N, F]` in float64; DataError names the first cell that is neither yes nor no."""
        found = np.zeros((len(cells), len(self.features)))
        for row, cell in enumerate(cells):
            if is_missing(cell):
                found[row] = [0.5, 1.0][: len(self.features)]
                continue
            value = _value(cell)
            if value is None and str(cell).strip() in ("0", "1", "0.0", "1.0"):
                value = float(str(cell))
            if value is None:
                raise DataError(
                    f"{place(row)}, column {self.name!r}: found {cell!r}, expected True or False, or yes or no; "
                    "correct it or leave it empty"
                )
            found[row, 0] = value
        return found


def _value(cell: object) -> float | None:
    if isinstance(cell, bool | np.bool_):
        return float(cell)
    return WORDS.get(cell.strip().lower()) if isinstance(cell, str) else None
