"""Tables as people have them: columns of cells in, rows to train on or to predict out.

The columns of x are described by a `jaxprop.columns.Table`, from the training rows alone: what a missing cell is filled
with, which values a category has, says nothing about the rows held out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxprop.checks import LARGEST
from jaxprop.columns import Number, Table
from jaxprop.columns.cells import Place, decimal_mark, empty_cell, in_row, is_missing, number
from jaxprop.columns.frames import columns_of
from jaxprop.data.rows import Data, as_data, as_labels, choose, split
from jaxprop.errors import DataError


@dataclass(frozen=True)
class Cells:
    """A table as it was read: its columns, what it is called in errors, its short name, and where each row is."""

    columns: Mapping[str, Sequence[Any]]
    where: str
    name: str
    place: Place = in_row

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def first(self, rows: int | None) -> "Cells":
        """The first rows alone."""
        if rows is None or rows >= len(self):
            return self
        return Cells({name: cells[:rows] for name, cells in self.columns.items()}, self.where, self.name, self.place)

    def without(self, rows: Sequence[int]) -> "Cells":
        """The table without some rows."""
        if not rows:
            return self
        gone = set(rows)
        kept = [row for row in range(len(self)) if row not in gone]
        columns = {name: [cells[row] for row in kept] for name, cells in self.columns.items()}
        return Cells(columns, self.where, self.name, lambda row: self.place(kept[row]))


def frame(
    frame: object,
    target: str | None = None,
    features: Sequence[str] | None = None,
    validation: float = 0.2,
    seed: int | None = 0,
    labels: bool | None = None,
) -> Data:
    """Return the rows of a frame of pandas, polars or Arrow, a dict of columns or a list of dicts, as `csv` does.

    Args:
        frame: the table.
        target: the column of targets.
        features: the columns of x; by default every column but the target.
        validation: how many rows are held out, as a fraction below 1 or a number of rows.
        seed: what chooses them; None for the last rows.
        labels: whether the target's values are classes; by default text is, and numbers are not.

    Raises:
        DataError: something in the table is wrong; the text names row and column.

    >>> people = {"age": [22, None, 35, 41], "sex": ["m", "f", "f", "m"], "pay": [1.0, 2.0, 3.0, 4.0]}
    >>> data = frame(people, target="pay", validation=0)
    >>> data.columns
    ('age', 'age missing', 'sex=f', 'sex=m')
    >>> data.x[1].tolist()
    [35.0, 1.0, 1.0, 0.0]
    """
    cells = Cells(columns_of(frame), "the frame", "frame")
    return rows_to_train(cells, target, features, validation, seed, labels)


def rows_to_train(
    cells: Cells,
    target: str | None,
    features: Sequence[str] | None,
    validation: float,
    seed: int | None,
    labels: bool | None,
) -> Data:
    """Return a table as `Data`: its columns described by the training rows, its target as labels or numbers."""
    target, chosen = _chosen(cells, target, features)
    total = len(cells)
    absent = [row for row, cell in enumerate(cells.columns[target]) if is_missing(cell)]
    cells = cells.without(absent)
    if not len(cells):
        raise DataError(f"{cells.where}: the target column {target!r} is empty in every row; expected values in it")
    notes = [f"{len(absent)} of {total} rows are left out: their {target} is missing"] if absent else []
    targets, classes = _targets(cells, target, labels)
    (training, _), _ = split(np.arange(len(cells)), np.arange(len(cells)), validation, seed)
    if features is None and (numbering := [name for name in chosen if _numbers_rows(name, cells.columns[name])]):
        chosen = [name for name in chosen if name not in numbering]
        notes += [f"column {name!r} is left out: it only numbers the rows" for name in numbering]
    known = {name: [cells.columns[name][row] for row in training] for name in chosen}
    place: Place = lambda row: cells.place(int(training[row]))  # noqa: E731
    table, left_out = Table.of(known, features is not None, place)
    if not table.columns:
        raise DataError(f"{cells.where}: no column is left to predict from: {'; '.join(left_out)}")
    x = table.encode(cells.columns, cells.place)
    source = f"{cells.name} ({total} rows)"
    return as_data(
        x, targets, validation, seed, source, cells.where, classes=classes, columns=table.features, target=target,
        table=table, notes=(*notes, *left_out), total=total,
    )  # fmt: skip


def rows_to_predict(
    cells: Cells, table: Table | Sequence[str], target: str | None = None, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return every row of a table in its own order: (x `[N, F]` float32, targets or None where it has none).

    Args:
        cells: the table; it may order its columns freely and have others.
        table: what the columns of x are; names stand for columns of numbers.
        target: the column of targets, if the table has it.
        classes: what labels stand for: then targets are int32 `[N]`, places in it, and without it float32 `[N, 1]`.

    >>> rows_to_predict(Cells({"b": ["1", "2"], "a": ["3", "4"]}, "my.csv", "my.csv"), ["a"])
    (array([[3.],
           [4.]], dtype=float32), None)
    """
    if not isinstance(table, Table):
        names = _names(cells, "columns", table, target)
        table = Table(tuple(Number(name) for name in names))
    for name in table.names:
        choose(name, cells.columns, f"column of {cells.where}:")
    x = table.encode(cells.columns, cells.place)
    if target is None or target not in cells.columns or all(is_missing(cell) for cell in cells.columns[target]):
        return x, None
    if classes is not None:
        return x, _known_labels(cells, target, classes)
    return x, _numbers(cells, target, "give its classes with classes=[...]")[:, None].astype(np.float32)


def _chosen(cells: Cells, target: str | None, features: Sequence[str] | None) -> tuple[str, list[str]]:
    names = list(cells.columns)
    if target is None:
        raise DataError(f"{cells.where}: which column is the target? pass target=..., one of: {', '.join(names)}")
    target = choose(target, names, f"column of {cells.where}:", "; the first line must hold the names")
    features = [name for name in names if name != target] if features is None else features
    return target, _names(cells, "features", features, target)


def _numbers_rows(name: str, column: Sequence[Any]) -> bool:
    """Whether a column is called an id or a number, and no two rows have the same: it would be learned by heart."""
    called = re.search(r"(?i)(^|[_\W])(id|index|nr|no|number)$|I[dD]$", name)
    return bool(called) and len(column) > 1 and len(set(map(str, column))) == len(column)


def _names(cells: Cells, what: str, names: Sequence[str], target: str | None) -> list[str]:
    """The columns to make x of, given as the argument `what`."""
    if isinstance(names, str):
        raise DataError(f"{what} is the text {names!r}; expected a list of column names: [{names!r}]")
    names = [choose(name, cells.columns, f"column of {cells.where}:") for name in names]
    if not names or target in names or len(set(names)) < len(names):
        raise DataError(f"{cells.where}: {what} {names}, target {target!r}; expected other columns than it, each once")
    return names


def _targets(cells: Cells, target: str, labels: bool | None) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels `[N]` and their classes, or numbers `[N, 1]` and None."""
    column = [_label(cell) for cell in cells.columns[target]]
    mark = decimal_mark(column)
    booleans = all(isinstance(cell, bool | np.bool_) for cell in column)
    values = [None if booleans else number(cell, mark) for cell in column]
    numeric = [value is not None for value in values]
    if labels is None and all(numeric) and set(values) == {0.0, 1.0}:
        raise DataError(
            f"{cells.where}: the target column {target!r} holds only 0 and 1: say which is meant, two classes "
            "(labels=True) or numbers (labels=False)"
        )
    # a column of numbers with one typing error must not become a thousand classes: all text, or none
    if labels or (labels is None and not any(numeric)):
        key = (lambda cell: (number(cell, mark), str(cell))) if all(numeric) else str
        found, classes = as_labels(column, f"{cells.where}: target column {target!r}", key)
        return found, tuple(map(str, classes))
    return _numbers(cells, target, "make the column classes with labels=True")[:, None], None


def _numbers(cells: Cells, name: str, hint: str) -> np.ndarray:
    """A column of numbers `[N]`; `hint` says what else one may do about a cell that is text."""
    column = cells.columns[name]
    mark = decimal_mark(column)
    found = np.empty(len(column))
    for row, cell in enumerate(column):
        where = f"{cells.place(row)}, column {name!r}"
        if is_missing(cell):
            raise empty_cell(cells.place(row), name)
        value = number(cell, mark)
        if value is None:
            raise DataError(f"{where}: found {cell!r}, expected a number; correct it, or {hint}")
        if not abs(value) <= LARGEST:
            raise DataError(f"{where}: found {cell!r}, expected a finite float32; correct it or remove the row")
        found[row] = value
    return found


def _label(cell: Any) -> Any:
    """A cell of the target: frames hold whole numbers as 1.0 where others of the column were missing."""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return cell.strip() if isinstance(cell, str) else cell


def _known_labels(cells: Cells, name: str, classes: Sequence[str]) -> np.ndarray:
    """int32 `[N]`, the place of each cell in `classes`."""
    place = {str(known): i for i, known in enumerate(classes)}
    found = np.empty(len(cells), np.int32)
    for row, cell in enumerate(cells.columns[name]):
        where = f"{cells.place(row)}, column {name!r}"
        if is_missing(cell):
            raise empty_cell(cells.place(row), name)
        text = str(_label(cell))
        if text not in place:
            known = ", ".join(place) or "(none)"
            raise DataError(f"{where}: found {text!r}, expected a known class: {known}; correct it or remove the row")
        found[row] = place[text]
    return found
