"""Files written whole: columns in the form that the ending names, .csv, .tsv, .json, .jsonl or .parquet."""

import csv
import importlib
import importlib.util
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprop.errors import JaxpropError, pick
from jaxprop.saved.description import plain

Columns = Mapping[str, Sequence[Any]]


def writer(file: Path) -> Callable[[Columns], None]:
    """Return what writes columns to a file, whole, or leaves what was there as it is; the ending says the form."""
    kinds: dict[str, Callable[[Columns], bytes]] = {
        ".csv": _csv, ".tsv": lambda columns: _csv(columns, "\t"), ".json": _json, ".jsonl": _lines,
        ".parquet": _parquet,
    }  # fmt: skip
    form = kinds[pick(file.suffix.lower(), kinds, "ending of --out")]
    if form is _parquet and importlib.util.find_spec("pyarrow") is None:
        raise JaxpropError('--out: a .parquet file needs pyarrow, which is missing: pip install ".[table]"')

    return lambda columns: write(file, form(columns))


def write(file: Path, data: bytes) -> None:
    """Write a file whole, or leave what was there as it is; its folder is made."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.write_bytes(data)
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise JaxpropError(f"{file}: cannot be written: {why}; choose another file") from None


def _csv(columns: Columns, separator: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    return text.getvalue().encode()


def _rows(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _json(columns: Columns) -> bytes:
    return (json.dumps(plain(_rows(columns)), ensure_ascii=False, indent=1, default=str) + "\n").encode()


def _lines(columns: Columns) -> bytes:
    rows = plain(_rows(columns))
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows).encode()


def _parquet(columns: Columns) -> bytes:
    pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({name: list(column) for name, column in columns.items()}), sink)
    return sink.getvalue().to_pybytes()
