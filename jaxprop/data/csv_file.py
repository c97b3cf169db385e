"""CSV files with a header: rows to train on, or rows as they stand in the file."""

import csv as standard
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from jaxprop.columns import Table
from jaxprop.data.rows import Data, read_bytes
from jaxprop.data.tabular import Cells, rows_to_predict, rows_to_train
from jaxprop.errors import DataError

HEADER_ENDS = 2**20  # characters within which a file's header ends


def csv(
    path: str | Path,
    target: str | None = None,
    features: Sequence[str] | None = None,
    validation: float = 0.2,
    seed: int | None = 0,
    labels: bool | None = None,
    rows: int | None = None,
) -> Data:
    """Read a CSV file with a header, in UTF-8: x `[N, F]`, and targets as labels `[N]` or as numbers `[N, 1]`.

    Cells are read as people write them: numbers (1,234 or $950), text, dates, yes and no, and missing ones. The
    separator (, ; or tab) is the header's most frequent, outside quotes.

    Args:
        path: the file.
        target: the column of targets: text becomes labels, numbers stay numbers; 0 and 1 alone need `labels`.
        features: the columns of x; by default every column but the target that says something of a row.
        validation: how many rows are held out, as a fraction below 1 or a number of rows.
        seed: what chooses them; None for the last rows.
        labels: with True, numbers become labels too; with False, text is refused.
        rows: how many of the first rows to read; all by default.

    Raises:
        DataError: something in the file is wrong; the text names line and column.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "flowers.csv")
    ...     _ = path.write_text("petal,colour,kind\\n1.5,red,iris\\n4.0,red,rose\\n,blue,iris\\n")
    ...     flowers = csv(path, target="kind", validation=0)
    >>> print(flowers.targets, flowers.classes, flowers.columns)
    [0 1 0] ('iris', 'rose') ('petal', 'petal missing', 'colour=blue', 'colour=red')
    """
    return rows_to_train(read_csv(path).first(rows), target, features, validation, seed, labels)


def csv_rows(
    path: str | Path,
    columns: Table | Sequence[str],
    target: str | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return every row of a CSV file in its own order, as rows to predict: (x `[N, F]` float32, targets or None).

    Nothing is split, and one row is enough.

    Args:
        path: the file; it may order its columns freely and have others.
        columns: what the columns of x are, as in `Data.table`; names stand for columns of numbers.
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
    return rows_to_predict(read_csv(path), columns, target, classes)


def read_csv(path: str | Path) -> Cells:
    """Return the cells of a CSV file by column; an error names the line."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (at byte {error.start}); save it as CSV in UTF-8") from None
    (cells,) = csv_blocks(path, io.StringIO(text, newline=""), None)
    return cells


def csv_blocks(path: str | Path, file: TextIO, cells: int | None) -> Iterator[Cells]:
    """Yield an open CSV file by column, rows of about so many cells at a time; an error names the line."""
    start = file.tell()
    separator = _separator(file.read(HEADER_ENDS).lstrip())
    file.seek(start)
    lines = _lines(path, file, separator)
    at, names = next(lines, (0, []))
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            what = f"is {name!r} again" if name else "has no name"
            raise DataError(f"{path}, line {at}: column {i + 1} {what}; expected a name of its own for each: rename it")
    lines, some = _fitting(path, lines, names), False
    rows = None if cells is None else max(1, cells // max(1, len(names)))
    while block := list(itertools.islice(lines, rows)):
        some = True
        columns = dict(zip(names, map(list, zip(*(cells for _, cells in block), strict=True)), strict=True))
        at_line = [line for line, _ in block]
        yield Cells(columns, str(path), Path(path).name, lambda row, at=at_line: f"{path}, line {at[row]}")
    if not some:
        found = "only a header" if names else "an empty file"
        raise DataError(f"{path}: found {found}; expected a line of column names, then rows of numbers")


def _fitting(
    path: str | Path, lines: Iterator[tuple[int, list[str]]], names: list[str]
) -> Iterator[tuple[int, list[str]]]:
    """The lines, each with a cell for every column."""
    for line, cells in lines:
        if len(cells) != len(names):
            if len(cells) < len(names):
                what = f"short row: it ends before column {names[len(cells)]!r}"
            else:
                what = f"long row: it goes on after the last column {names[-1]!r}"
            raise DataError(
                f"{path}, line {line}: a {what}: {len(cells)} cells, expected {len(names)}; repair the line"
            )
        yield line, cells


def _lines(path: str | Path, file: TextIO, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of the header and each row, without blank lines."""
    # strict: an open quote is an error, not a cell that swallows the rest of the file
    reader = standard.reader(file, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if cells not in ([], [""]):
                yield reader.line_num, cells
    except standard.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}); check its quotes") from None


def _separator(text: str) -> str:
    """The most frequent of , ; and tab outside quotes in the header, which ends with its last line."""
    counts, quoted = dict.fromkeys(",;\t", 0), False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif not quoted:
            if character in "\r\n":
                break
            if character in counts:
                counts[character] += 1
    return max(counts, key=lambda separator: counts[separator])
