"""Parquet and Arrow (Feather) files, read by pyarrow."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxprop.data.rows import Data
from jaxprop.data.tabular import Cells, rows_to_train
from jaxprop.errors import DataError

ENDINGS = (".parquet", ".arrow", ".feather")


def parquet(
    path: str | Path,
    target: str | None = None,
    features: Sequence[str] | None = None,
    validation: float = 0.2,
    seed: int | None = 0,
    labels: bool | None = None,
    rows: int | None = None,
) -> Data:
    """Read a Parquet, Arrow or Feather file as `csv` reads a CSV file; pyarrow is in the `table` extra.

    Args:
        path: the file.
        target: the column of targets: text becomes labels, numbers stay numbers; 0 and 1 alone need `labels`.
        features: the columns of x; by default every column but the target that says something of a row.
        validation: how many rows are held out, as a fraction below 1 or a number of rows.
        seed: what chooses them; None for the last rows.
        labels: with True, numbers become labels too; with False, text is refused.
        rows: how many of the first rows to read; all by default.

    Raises:
        DataError: pyarrow is not installed, or something in the file is wrong.

    >>> parquet("absent.parquet", target="price")
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: absent.parquet: cannot be read (No such file or directory); expected a file: check the path
    """  # noqa: E501
    return rows_to_train(read_arrow(path).first(rows), target, features, validation, seed, labels)


def read_arrow(path: str | Path) -> Cells:
    """Return the cells of a Parquet, Arrow or Feather file by column."""
    if not Path(path).is_file():
        raise DataError(f"{path}: cannot be read (No such file or directory); expected a file: check the path")
    kind = "parquet" if Path(path).suffix.lower() == ".parquet" else "feather"
    try:
        reader: Any = importlib.import_module(f"pyarrow.{kind}")
    except ImportError:
        raise DataError(f'{path}: needs pyarrow, which is not installed: pip install ".[table]"') from None
    try:
        table = reader.read_table(path)
    except (ValueError, OSError) as error:  # pyarrow's own errors are ValueErrors
        raise DataError(f"{path}: not a whole {kind} file ({error}); save it again") from None
    columns = {str(name): table[name].to_pylist() for name in table.column_names}
    return Cells(columns, str(path), Path(path).name)
