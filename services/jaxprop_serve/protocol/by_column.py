"""Rows by column name: a model that was trained on a table takes the cells of its columns in place of x.

Cells become x here, for both doors and for every path, by the table that the model was saved with.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

import msgspec
import numpy as np

from jaxprop.columns import Boolean, Category, Number, Table
from jaxprop.errors import DataError
from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol.aside import aside
from jaxprop_serve.protocol.data import checked_rows, counted_on
from jaxprop_serve.protocol.json_reading import read_json
from jaxprop_serve.protocol.large_json import LONGEST, Content, allowance, count, pieces
from jaxprop_serve.protocol.tensors import DATATYPES, Signature, TensorSpec

Cell = str | int | float | bool | None
# Rows of JSON, or the cells of each column, as they are or as a tensor.
Cells = Sequence[Mapping[str, Cell]] | Mapping[str, np.ndarray] | Mapping[str, list[Cell]]
CELL_TYPES = [name for name in DATATYPES if name not in ("FP16", "BF16")]
INLINE = 500  # cells; more become x in a thread, so that nobody else waits for them
_CELL_BYTES = 10  # of JSON, about: so much work is a cell
_rows = msgspec.json.Decoder(list[dict[str, Cell]])
_LONGEST = 500  # of a refusal, which shows the cell


class Encoded(NamedTuple):
    """x `[rows, F]`, and by column the categories that training never saw."""

    x: np.ndarray
    unknown: dict[str, tuple[str, ...]]


def names_columns(given: Sequence[Any], signature: Signature) -> bool:
    """Return whether a request's `given` inputs are columns, and not x."""
    return len(given) != 1 or given[0].name != signature.inputs[0].name


def of_columns(given: Iterable[Any], table: Table, signature: Signature, model: str) -> Signature:
    """Return the signature of a request whose `given` inputs are the columns, each of the type in which it comes.

    Raises ServeError 400 for a column that is missing or unknown.
    """
    tensors = {item.name: item for item in given}
    known = f"the columns {', '.join(map(repr, table.names))}, or '{signature.inputs[0].name}' alone"
    for name in tensors:
        if name not in table.names:
            raise ServeError(400, f"unexpected inference input '{name[:80]}' for model '{model}', expected {known}")
    for name in table.names:
        if name not in tensors:
            raise ServeError(400, f"input '{name}' for model '{model}' is missing, expected {known}")
    for name, item in tensors.items():
        if item.datatype not in CELL_TYPES:
            raise ServeError(
                400, f"column '{name}' for model '{model}' is {item.datatype[:40]}, expected {', '.join(CELL_TYPES)}"
            )
    specs = [TensorSpec(name, one.datatype, (-1, 1)[: max(1, len(one.shape))]) for name, one in tensors.items()]
    return Signature(tuple(specs), signature.outputs, signature.platform)


async def features(inputs: dict[str, np.ndarray], signature: Signature, model: str) -> dict[str, np.ndarray]:
    """Return x by its name, from the tensors of the columns; what is x already stays as it is."""
    name = signature.inputs[0].name
    if inputs.keys() == {name}:
        return inputs
    found = await encoded(inputs, len(next(iter(inputs.values()))), signature, model)
    return {name: found.x}


async def encoded(cells: Cells, rows: int, signature: Signature, model: str) -> Encoded:
    """Return x from cells, made in a thread where there are many. ServeError 400 names the row and the column."""
    table = signature.table
    assert table is not None
    if rows * len(table.names) <= INLINE:
        return _encoded(cells, table, signature.inputs[0], model)
    return await aside(rows * len(table.names) * _CELL_BYTES, _encoded, cells, table, signature.inputs[0], model)


def _encoded(cells: Cells, table: Table, spec: TensorSpec, model: str) -> Encoded:
    try:
        given = {name: _listed(name, array) for name, array in cells.items()} if isinstance(cells, Mapping) else cells
        with np.errstate(over="ignore"):
            x = table.encode(given).astype(spec.dtype, copy=False)
        if not np.isfinite(x).all():
            row, feature = np.argwhere(~np.isfinite(x))[0]
            raise DataError(f"row {row}: {table.features[feature]!r} does not fit into {spec.datatype}")
        found = Encoded(x, table.unknown(given))
        for column in given.values() if isinstance(given, dict) else ():  # here, where nobody waits for it
            column.clear()
        return found
    except DataError as error:
        text = str(error)
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        raise ServeError(400, f"rows for model '{model}': {text}") from None


def columns_from_json(content: Content, table: Table, max_rows: int) -> dict[str, list[Cell]]:
    """Return the cells of each column of a large list of rows by column name, which is read a piece at a time."""
    rows = checked_rows(count(content), max_rows)
    most, wanted, first = allowance(len(table.names)), table.names, 0
    found: dict[str, list[Cell]] = {name: [] for name in wanted}
    for piece in pieces(content):
        if len(piece) > max(most, LONGEST):
            raise ServeError(400, f"row {first} has {len(piece):,} bytes, at most {most:,} are read of a row")
        try:
            some = read_json(b"[%b]" % piece, _rows, where=".rows")
        except ServeError as error:
            raise ServeError(400, counted_on(error.text, ".rows", first)) from None
        for row in some:
            if absent := [name for name in wanted if name not in row]:
                raise ServeError(
                    400, f"row {first} has no column {absent[0]!r}; expected {', '.join(wanted)}, null where missing"
                )
            for name in wanted:
                found[name].append(row[name])
            first += 1
    assert first == rows
    return found


def _listed(name: str, array: np.ndarray | list[Cell]) -> list[Any]:
    """Return the cells of a column, of a tensor `[rows]` or `[rows, 1]` as Python's own values."""
    if isinstance(array, list):
        return array
    values = array.reshape(-1).tolist()
    if array.dtype != object:
        return values
    for row, value in enumerate(values):
        try:
            values[row] = value.decode()
        except UnicodeDecodeError:
            raise DataError(f"row {row}, column {name!r}: found bytes that are not UTF-8") from None
    return values


def described(table: Table) -> list[dict[str, Any]]:
    """Return what a client must know of each column: its name and kind, its values, and the features of x it makes."""
    return [
        {"name": column.name, "kind": column.kind}
        | ({"values": column.values} if isinstance(column, Category) else {})
        | {"features": column.features}
        for column in table.columns
    ]


def example_row(table: Table) -> dict[str, Cell]:
    """Return a row to try, with the values that stand for missing ones.

    >>> example_row(Table((Number("age", fill=30.0), Category("sex", ("female", "male")))))
    {'age': 30.0, 'sex': 'female'}
    """
    return {column.name: _typical(column) for column in table.columns}


def _typical(column: Any) -> Cell:
    if isinstance(column, Number):
        return column.fill or 0.0
    if isinstance(column, Category):
        return column.values[0] if column.values else None
    if isinstance(column, Boolean):
        return True
    day = date(1970, 1, 1) + timedelta(days=column.fill)
    return day.isoformat() if column.format == "ISO" else day.strftime(column.format)
