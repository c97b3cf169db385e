"""Tables in CSV files that do not fit into memory: converted once, in one pass, into arrays beside them."""

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from jaxprop.columns import Number, Table
from jaxprop.columns.cells import decimal_mark, is_missing, number
from jaxprop.data.csv_file import csv_blocks
from jaxprop.data.npy_file import npy_array
from jaxprop.data.tabular import Cells, rows_to_train
from jaxprop.errors import DataError
from jaxprop.train.rows import Rows
from jaxprop.train.sources.files import Stored

DESCRIBED = 1_000_000  # cells that say what the columns are; one takes about 200 bytes
AT_ONCE = 200_000  # cells
HEADER = 128  # bytes of an .npy file before its rows
VERSION = 1  # of what is converted to


@dataclass(frozen=True)
class About:
    """What is known of converted rows: their columns, and the classes that labels stand for."""

    table: Table
    target: str
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]


class TableRows(Stored):
    """The rows of a table in files, with what a saved model keeps of them."""

    def __init__(self, folder: Path, about: About, names: Sequence[Path]) -> None:
        self.table, self.target, self.classes, self.notes = about.table, about.target, about.classes, about.notes
        super().__init__(Rows(*(npy_array([folder / f"{name}.npy"], name) for name in ("x", "targets"))))
        self.files = ", ".join(path.name for path in names[:3]) + (" …" if len(names) > 3 else "")

    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""
        return f"{self.files}, row {number} of all that have a target"


def csv_shards(
    paths: Sequence[Path],
    target: str | None = None,
    features: Sequence[str] | None = None,
    labels: bool | None = None,
    cache: str | Path | None = None,
) -> TableRows:
    """Return the rows of a table in CSV files, converted into arrays in a folder beside them if they are not yet.

    Args:
        paths: the files, each with the same columns.
        target: the column of targets.
        features: the columns of x; by default every column but the target that says something of a row.
        labels: whether the target's values are classes; by default text is, and numbers are not.
        cache: the folder to convert to; by default `.jaxprop` beside the first file.

    Raises:
        DataError: something in a file is wrong; the text names line and column.
    """
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    asked = json.dumps([VERSION, states, target, features, labels])
    name = hashlib.sha256(asked.encode()).hexdigest()[:12]
    folder = Path(cache if cache is not None else paths[0].parent / ".jaxprop", name)
    if not (folder / "about.json").exists():
        _convert_whole(folder, paths, target, features, labels)
    about = TypeAdapter(About).validate_json((folder / "about.json").read_bytes())
    return TableRows(folder, about, paths)


def _convert_whole(
    folder: Path, paths: Sequence[Path], target: str | None, features: Sequence[str] | None, labels: bool | None
) -> None:
    """Convert into a folder of its own, which takes its name when it is whole: several processes may do so at once."""
    size = sum(path.stat().st_size for path in paths)
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder.parent}: cannot be written ({error.strerror}); pass cache=, a folder that can"
        ) from None
    if size > 2**26:
        print(f"jaxprop: converting {size / 2**20:,.0f} MB of CSV to {folder}, once", file=sys.stderr)
    try:
        about = _convert(unfinished, paths, target, features, labels)
        (unfinished / "about.json").write_bytes(TypeAdapter(About).dump_json(about))
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(unfinished, folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); pass cache=, a folder with room") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _convert(
    folder: Path, paths: Sequence[Path], target: str | None, features: Sequence[str] | None, labels: bool | None
) -> About:
    first = _first_rows(paths)
    known = rows_to_train(first, target, features, 0, None, labels)  # the columns, by the first rows
    assert known.table is not None and known.target is not None
    table, target, numbers = known.table, known.target, None
    if known.classes is None:
        cells = [cell for cell in first.columns[target] if not is_missing(cell)]
        numbers = Number(target, "," if decimal_mark(cells) == "," else ".")
    classes: dict[str, int] = {}
    total = left_out = 0
    unknown: dict[str, set[str]] = {}
    with (
        _rows_file(folder / "x.npy", np.float32, (len(table.features),)) as x,
        _rows_file(
            folder / "targets.npy", np.int32 if numbers is None else np.float32, () if numbers is None else (1,)
        ) as y,
    ):
        for cells in _blocks(paths, list(first.columns)):
            absent = [row for row, cell in enumerate(cells.columns[target]) if is_missing(cell)]
            total, left_out, cells = total + len(cells), left_out + len(absent), cells.without(absent)
            if not len(cells):
                continue
            x.write(table.encode(cells.columns, cells.place).tobytes())
            for column, values in table.unknown(cells.columns).items():
                unknown.setdefault(column, set()).update(itertools.islice(values, 5))
            if numbers is not None:
                y.write(numbers.encode(cells.columns[target], cells.place).astype(np.float32).tobytes())
            else:
                found = [classes.setdefault(str(cell), len(classes)) for cell in cells.columns[target]]
                y.write(np.array(found, np.int32).tobytes())
    names = _sorted(folder / "targets.npy", classes) if numbers is None else None
    notes = [note for note in known.notes if "rows are left out" not in note]
    notes += [f"{left_out:,} of {total:,} rows are left out: their {target} is missing"] if left_out else []
    for column, values in unknown.items():
        shown = ", ".join(map(repr, sorted(values)[:5]))
        notes.append(f"column {column!r}: the first {len(first):,} rows never have {shown}; such a cell says nothing")
    return About(table, target, names, tuple(notes))


def _first_rows(paths: Sequence[Path]) -> Cells:
    """Rows of all files, as many of each: they say what the columns are."""
    each = math.ceil(DESCRIBED / len(paths))
    parts = []
    for path in paths:
        with _opened(path) as file:
            parts.append(next(csv_blocks(path, file, each)))
    starts = np.cumsum([0, *map(len, parts)])
    names = list(parts[0].columns)
    for part in parts:
        _check_columns(part, names, paths[0])
    columns = {name: [cell for part in parts for cell in part.columns[name]] for name in names}

    def place(row: int) -> str:
        part = int(np.searchsorted(starts, row, side="right")) - 1
        return parts[part].place(row - int(starts[part]))

    return Cells(columns, str(paths[0]), paths[0].name, place)


def _blocks(paths: Sequence[Path], names: list[str]) -> Iterator[Cells]:
    for path in paths:
        with _opened(path) as file:
            yield from csv_blocks(path, file, AT_ONCE)


def _check_columns(part: Cells, names: list[str], first: Path) -> None:
    if set(part.columns) != set(names):
        differing = ", ".join(map(repr, sorted(set(part.columns) ^ set(names))))
        raise DataError(
            f"{part.where}: {differing}: not in all files; expected the columns of {first}: {', '.join(names)}"
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.TextIOWrapper]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save it as CSV in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def _rows_file(path: Path, dtype: type[np.generic], row: tuple[int, ...]) -> Iterator[io.BufferedWriter]:
    """An .npy file to which rows are written; its header says at the end how many there are."""
    with path.open("wb") as file:
        file.write(bytes(HEADER))
        yield file
        row_bytes = np.dtype(dtype).itemsize * math.prod(row)
        shape = ((file.tell() - HEADER) // row_bytes, *row)
        header = io.BytesIO()
        about = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, about)
        assert header.tell() == HEADER
        file.seek(0)
        file.write(header.getvalue())


def _sorted(path: Path, classes: dict[str, int]) -> tuple[str, ...]:
    """The classes in order, and labels renumbered by it, in place."""
    if len(classes) < 2:
        raise DataError(f"the target holds a single class, {next(iter(classes), None)!r}; expected two or more")
    numeric = all(number(name) is not None for name in classes)
    names = sorted(classes, key=(lambda name: (number(name), name)) if numeric else str)
    place = np.empty(len(classes), np.int32)
    place[[classes[name] for name in names]] = np.arange(len(classes))
    labels = np.lib.format.open_memmap(path, "r+")
    for start in range(0, len(labels), 2**20):
        labels[start : start + 2**20] = place[labels[start : start + 2**20]]
    labels.flush()
    return tuple(names)
