"""The columns of a table together: rows by column name in, features x out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxprop.columns.boolean import Boolean
from jaxprop.columns.category import Category
from jaxprop.columns.cells import Place, in_row, is_missing, number
from jaxprop.columns.date import Date
from jaxprop.columns.frames import columns_of
from jaxprop.columns.number import Number
from jaxprop.errors import DataError

Column = Number | Category | Boolean | Date
MOST_VALUES = 100  # of a category; a column with more says little of a row


@dataclass(frozen=True)
class Table:
    """Describe the columns that x is made of: `encode(rows)` gives x `[N, F]`.

    >>> table = Table((Number("age", fill=30.0), Category("sex", ("female", "male"))))
    >>> table.features
    ('age', 'sex=female', 'sex=male')
    >>> table.encode([{"age": 22, "sex": "male"}, {"age": None, "sex": "female"}]).tolist()
    [[22.0, 0.0, 1.0], [30.0, 1.0, 0.0]]
    """

    columns: tuple[Column, ...]
    __pydantic_config__ = {"extra": "forbid"}

    @property
    def names(self) -> tuple[str, ...]:
        """The columns as the file or frame calls them."""
        return tuple(column.name for column in self.columns)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of x's features `[F]`."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def scaled(self) -> tuple[bool, ...]:
        """Which features are worth standardising: numbers and dates, not those that are 0 or 1."""
        return tuple(scaled for column in self.columns for scaled in column.scaled)

    def encode(self, rows: object, place: Place = in_row) -> np.ndarray:
        """Return x `[N, F]` in float32.

        Args:
            rows: a dict of columns, a list of dicts, or a frame of pandas, polars or Arrow; other columns are ignored.
            place: says where a row is, for errors.

        Raises:
            DataError: a column is not there, or a cell cannot be read; the text names row and column.
        """
        cells = columns_of(rows, self.names)
        return np.concatenate([column.encode(cells[column.name], place) for column in self.columns], 1).astype(
            np.float32
        )

    def unknown(self, rows: object) -> dict[str, tuple[str, ...]]:
        """Return, by column, the values that training never saw: they are 0 in every feature of their column.

        >>> Table((Category("port", ("C", "S")),)).unknown({"port": ["C", "Q"]})
        {'port': ('Q',)}
        """
        categories = [column for column in self.columns if isinstance(column, Category)]
        cells = columns_of(rows, [column.name for column in categories])
        found = {column.name: column.unknown(cells[column.name]) for column in categories}
        return {name: values for name, values in found.items() if values}

    def filled(self, rows: object) -> dict[str, int]:
        """Return, by column, how many cells are missing where training had none: no feature says that they are.

        >>> Table((Number("age", fill=30.0),)).filled({"age": [22, None]})
        {'age': 1}
        """
        columns = [column.name for column in self.columns if not column.indicator]
        found = {name: sum(map(is_missing, cells)) for name, cells in columns_of(rows, columns).items()}
        return {name: count for name, count in found.items() if count}

    @classmethod
    def of(cls, rows: object, chosen: bool = False, place: Place = in_row) -> tuple["Table", tuple[str, ...]]:
        """Return the table of training rows, and a sentence for each column that is left out.

        Args:
            rows: as for `encode`.
            chosen: whether somebody asked for these very columns: then text of any kind is a category.
            place: says where a row is, for errors.

        Raises:
            DataError: most cells of a column are numbers and some are not.
        """
        kept, notes = [], []
        for name, cells in columns_of(rows).items():
            column, why = _column(name, cells, chosen, place)
            if column is None:
                notes.append(f"column {name!r} is left out: {why}")
            else:
                kept.append(column)
        return cls(tuple(kept)), tuple(notes)


def _column(name: str, cells: Sequence[Any], chosen: bool, place: Place) -> tuple[Column | None, str]:
    """The description of a training column, or why it is left out."""
    known = [cell for cell in cells if not is_missing(cell)]
    if not known:
        return None, "all of its cells are empty"
    if found := Boolean.of(name, cells) or Number.of(name, cells) or Date.of(name, cells):
        return found, ""
    read = ([i for i, cell in enumerate(cells) if not is_missing(cell) and number(cell, mark) is None] for mark in ".,")
    words = min(read, key=len)
    if len(words) * 2 < len(known):  # one typing error must not become a thousand categories
        raise DataError(
            f"{place(words[0])}, column {name!r}: found {cells[words[0]]!r}, expected a number as in most rows; "
            "correct it or leave it empty"
        )
    column = Category.of(name, cells)
    values = len(column.values)
    if not chosen and values == 1 and not column.indicator:
        return None, f"it is {column.values[0]!r} in every row"
    if not chosen and (values > MOST_VALUES or values * 2 > len(known) > 3):
        return None, f"its {values} different texts in {len(known)} rows say little of a row"
    return column, ""
