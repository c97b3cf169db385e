"""Rows by column name, however they come: a dict of columns, a list of dicts, or a frame of pandas, polars or Arrow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxprop.errors import DataError


def columns_of(rows: object, names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Return the cells of each column, by name, as lists of Python's own values.

    Args:
        rows: a dict of columns, a list of dicts, or a frame of pandas, polars or Arrow.
        names: which columns are wanted; all of them by default.

    Raises:
        DataError: it is none of these, a column is not there, or the columns have different lengths.

    >>> columns_of([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
    {'a': [1, 2], 'b': ['x', 'y']}
    """
    if isinstance(rows, list | tuple) and rows and all(isinstance(row, Mapping) for row in rows):
        found = _from_dicts(rows, names)
    elif isinstance(rows, Mapping):
        found = {str(name): _listed(name, cells) for name, cells in rows.items() if names is None or str(name) in names}
    elif hasattr(rows, "columns") or hasattr(rows, "column_names"):
        kept = getattr(rows, "column_names", None) or list(rows.columns)  # pyright: ignore[reportAttributeAccessIssue]
        wanted = [name for name in kept if names is None or str(name) in names]
        if twice := [name for name in wanted if wanted.count(name) > 1]:
            raise DataError(f"column {twice[0]!r} is there more than once; expected a name of its own for each")
        found = {str(name): _listed(name, rows[name]) for name in wanted}  # pyright: ignore[reportIndexIssue]
    else:
        raise DataError(
            f"rows by column name: found {type(rows).__name__}, expected a dict of columns, a list of dicts, or a "
            "frame of pandas, polars or Arrow"
        )
    absent = [name for name in names or () if name not in found]
    if absent:
        raise DataError(f"rows have no column {absent[0]!r}; expected the columns {', '.join(names or ())}")
    lengths = {name: len(cells) for name, cells in found.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"columns have different numbers of rows: {lengths}; expected the same for all")
    return found


def _from_dicts(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> dict[str, list[Any]]:
    wanted = list(names) if names is not None else list(dict.fromkeys(name for row in rows for name in row))
    for i, row in enumerate(rows):
        if absent := [name for name in wanted if name not in row]:
            raise DataError(f"row {i} has no column {absent[0]!r}; expected {', '.join(wanted)}, null where missing")
    return {name: [row[name] for row in rows] for name in wanted}


def _listed(name: object, cells: Any) -> list[Any]:
    if isinstance(cells, str) or not hasattr(cells, "__len__"):
        raise DataError(f"column {name!r} is {cells!r}; expected a list of cells; one row is [{{{name!r}: {cells!r}}}]")
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        cells = cells.astype("datetime64[us]")  # nanoseconds would be listed as whole numbers
    for method in ("to_pylist", "tolist", "to_list"):
        if hasattr(cells, method):
            return getattr(cells, method)()
    return list(cells)
