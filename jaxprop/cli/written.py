"""Columns written to a file, in the form that its ending names: .csv, .tsv, .json, .jsonl or .parquet."""

import csv
import importlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprop.errors import JaxpropError, pick

Columns = Mapping[str, Sequence[Any]]


def write(file: Path, columns: Columns) -> None:
    """Write a file whole, or leave what was there as it is."""
    kinds: dict[str, Callable[[Columns], bytes]] = {
        ".csv": _csv, ".tsv": lambda columns: _csv(columns, "\t"), ".json": _json, ".jsonl": _lines,
        ".parquet": _parquet,
    }  # fmt: skip
    data = kinds[pick(file.suffix.lower(), kinds, "ending of --out")](columns)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.write_bytes(data)
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise JaxpropError(f"{file}: cannot be written: {error.strerror or error}; choose another file") from None


def _csv(columns: Columns, separator: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    return text.getvalue().encode()


def _rows(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _json(columns: Columns) -> bytes:
    return (json.dumps(_rows(columns), ensure_ascii=False, indent=1, default=str) + "\n").encode()


def _lines(columns: Columns) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in _rows(columns)).encode()


def _parquet(columns: Columns) -> bytes:
    try:
        pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise JaxpropError('--out: a .parquet file needs pyarrow, which is missing: pip install ".[table]"') from None
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({name: list(column) for name, column in columns.items()}), sink)
    return sink.getvalue().to_pybytes()
