"""CSV files with a header: rows to train on, or rows as they stand in the file."""

import io
from collections.abc import Sequence
from csv import Error as CSVError, reader as csv_reader
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxprop.checks import LARGEST
from jaxprop.data.rows import Data, as_data, as_labels, choose, read_bytes
from jaxprop.errors import DataError


def csv(
    path: str | Path,
    target: str | None = None,
    features: Sequence[str] | None = None,
    validation: float = 0.2,
    seed: int | None = 0,
    labels: bool | None = None,
) -> Data:
    """Read a CSV file with a header, in UTF-8: x `[N, I]`, and targets as labels `[N]` or as numbers `[N, 1]`.

    The separator (, ; or tab) is the header's most frequent.

    Args:
        path: the file.
        target: the column of targets: text becomes labels, numbers stay numbers.
        features: the columns of x; by default every column but the target.
        validation: how many rows are held out, as a fraction below 1 or a number of rows.
        seed: what chooses them; None for the last rows.
        labels: with True, numbers become labels too; with False, text is refused.

    Raises:
        DataError: something in the file is wrong; the text names line and column.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "flowers.csv")
    ...     _ = path.write_text("petal,kind\\n1.5,iris\\n4.0,rose\\n1.0,iris\\n")
    ...     flowers = csv(path, target="kind", validation=0)
    >>> print(flowers.targets, flowers.classes, flowers.columns)
    [0 1 0] ('iris', 'rose') ('petal',)
    """
    table = _table(path)
    target, features = _chosen(table, target, features)
    x = table.features(features, "leave the column out with features=[...]")
    targets, classes = table.targets(target, labels)
    source = f"{Path(path).name} ({len(x)} rows)"
    names = {"classes": classes, "columns": tuple(features), "target": target}
    return as_data(x, targets, validation, seed, source, path, **names)


def csv_rows(
    path: str | Path, columns: Sequence[str], target: str | None = None, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return every row of a CSV file in its own order, as rows to predict: (x `[N, I]` float32, targets or None).

    Nothing is split, and one row is enough.

    Args:
        path: the file; it may order its columns freely and have others.
        columns: the columns of x.
        target: the column of targets, if the file has it.
        classes: what labels stand for: then targets are int32 `[N]`, places in it, and without it float32 `[N, 1]`.

    Raises:
        DataError: something in the file is wrong; the text names line and column.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "new.csv")
    ...     _ = path.write_text("kind,colour,petal\\nrose,red,4.0\\niris,blue,1.5\\n")
    ...     csv_rows(path, ["petal"], "kind", ["iris", "rose"])
    (array([[4. ],
           [1.5]], dtype=float32), array([1, 0], dtype=int32))
    """
    table = _table(path)
    columns = _columns(table, "columns", columns, target)
    x = table.features(columns, "predict from other columns").astype(np.float32)
    if target is None or target not in table.names:
        return x, None
    if classes is not None:
        return x, table.known_labels(target, classes)
    return x, table.numbers(target, "give its classes with classes=[...]")[:, None].astype(np.float32)


@dataclass(frozen=True)
class _Table:
    """A CSV file: the names of its columns, and (line number, cells) of each row."""

    path: str | Path
    names: list[str]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str) -> list[tuple[str, str]]:
        """(where, cell) of each row, none of them empty."""
        at = self.names.index(name)
        cells = [(f"{self.path}, line {line}, column {name!r}", row[at]) for line, row in self.rows]
        for where, cell in cells:
            if not cell:
                raise DataError(f"{where}: found an empty cell, expected a value; fill it in or remove the row")
        return cells

    def numbers(self, name: str, hint: str) -> np.ndarray:
        """`[N]`; `hint` says what else one may do about a cell that is text."""
        cells = self.column(name)
        for where, cell in cells:
            value = _number(cell)
            if value is None:
                comma = _number(cell.replace(",", ".")) is not None
                todo = "write decimals with a point" if comma else f"correct it, or {hint}"
                raise DataError(f"{where}: found {cell!r}, expected a number; {todo}")
            if not abs(value) <= LARGEST:  # also true of nan
                raise DataError(f"{where}: found {cell!r}, expected a finite float32; correct it or remove the row")
        return np.array([_number(cell) for _, cell in cells], np.float64)

    def features(self, names: Sequence[str], hint: str) -> np.ndarray:
        """`[N, I]`, a column for each name."""
        return np.stack([self.numbers(name, hint) for name in names], 1)

    def known_labels(self, name: str, classes: Sequence[str]) -> np.ndarray:
        """int32 `[N]`, the place of each cell in `classes`."""
        number = {str(known): i for i, known in enumerate(classes)}
        cells = self.column(name)
        for where, cell in cells:
            if cell not in number:
                known = ", ".join(number) or "(none)"
                raise DataError(
                    f"{where}: found {cell!r}, expected a known class: {known}; correct it or remove the row"
                )
        return np.array([number[cell] for _, cell in cells], np.int32)

    def targets(self, name: str, labels: bool | None) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """Labels `[N]` and their classes, or numbers `[N, 1]` and None."""
        cells = [cell for _, cell in self.column(name)]
        numeric = [_number(cell) is not None for cell in cells]
        # a column of numbers with one typing error must not become a thousand classes: all text, or none
        if labels or (labels is None and not any(numeric)):
            key = (lambda cell: (float(cell), cell)) if all(numeric) else None
            return as_labels(cells, f"{self.path}: target column {name!r}", key)
        return self.numbers(name, "make the column classes with labels=True")[:, None], None


def _chosen(table: _Table, target: str | None, features: Sequence[str] | None) -> tuple[str, list[str]]:
    if target is None:
        raise DataError(f"{table.path}: which column is the target? pass target=..., one of: {', '.join(table.names)}")
    target = choose(target, table.names, f"column of {table.path}:", "; the first line must hold the names")
    features = [name for name in table.names if name != target] if features is None else features
    return target, _columns(table, "features", features, target)


def _columns(table: _Table, what: str, names: Sequence[str], target: str | None) -> list[str]:
    """The columns to make x of, given as the argument `what`."""
    if isinstance(names, str):
        raise DataError(f"{what} is the text {names!r}; expected a list of column names: [{names!r}]")
    names = [choose(name, table.names, f"column of {table.path}:") for name in names]
    if not names or target in names or len(set(names)) < len(names):
        raise DataError(f"{table.path}: {what} {names}, target {target!r}; expected other columns than it, each once")
    return names


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)  # Python's 1_000 is nobody's CSV
    except ValueError:
        return None


def _table(path: str | Path) -> _Table:
    (at, names), *rows = _lines(path)
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            what = f"is {name!r} again" if name else "has no name"
            raise DataError(f"{path}, line {at}: column {i + 1} {what}; expected a name of its own for each: rename it")
    for line, cells in rows:
        if len(cells) < len(names):
            what = f"short row: it ends before column {names[len(cells)]!r}"
        elif len(cells) > len(names):
            what = f"long row: it goes on after the last column {names[-1]!r}"
        else:
            continue
        raise DataError(f"{path}, line {line}: a {what}: {len(cells)} cells, expected {len(names)}; repair the line")
    return _Table(path, names, rows)


def _lines(path: str | Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of the header and each row, without blank lines."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (at byte {error.start}); save it as CSV in UTF-8") from None
    header = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=header.count)
    # strict: an open quote is an error, not a cell that swallows the rest of the file
    reader = csv_reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    lines = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if cells not in ([], [""]):
                lines.append((reader.line_num, cells))
    except CSVError as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}); check its quotes") from None
    if len(lines) < 2:
        found = "only a header" if lines else "an empty file"
        raise DataError(f"{path}: found {found}; expected a line of column names, then rows of numbers")
    return lines
