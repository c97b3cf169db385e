"""Rows that stay in their files: `.npy`, `.npz`, ArrayRecord and CSV, in one file or in many."""

import contextlib
import glob
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxprop.checks import check_finite
from jaxprop.data.array_record import ROWS_AT_ONCE, ArrayRecords
from jaxprop.data.csv_shards import csv_shards
from jaxprop.data.npy_file import npy_array, npz_arrays
from jaxprop.data.rows import Data, as_labels, split
from jaxprop.errors import DataError
from jaxprop.train.rows import Rows
from jaxprop.train.sources import Source
from jaxprop.train.sources.files import Chosen, FileArray, Inputs, Stored

Files = str | Path | Sequence[str | Path]
LARGE = 2**28  # bytes of an .npz file from which on `load` leaves its rows there
KINDS = {".npy": "npy", ".npz": "npz", ".array_record": "array_record", ".arrayrecord": "array_record", ".csv": "csv"}
TARGETS = re.compile(r"^(targets|y)(?![a-z])", re.IGNORECASE)


def stored(x: Files, targets: Files | None = None, **table: Any) -> Source:
    """Return rows that stay in their files and are read as they are needed: for `fit`, `evaluate` and `predict`.

    Memory does not grow with the files: at most 64 MB of an array is kept, if that is all of it, beside two chunks of
    16 MB and 8 bytes a row for the order of an epoch.

        stored("x.npy", "targets.npy")                 two arrays
        stored("rows/x-*.npy", "rows/targets-*.npy")   the same in shards, in the order of their names
        stored("rows/*.npz")                           np.savez(path, x=x, targets=targets), not compressed
        stored("rows/*.array_record")                  what `write_array_record` wrote
        stored("rows/*.csv", target="price")           a table, converted once: see below
        stored("rows/")                                a folder of one of these, x*.npy beside targets*.npy

    Reading numbers out of text takes a hundred times as long as a step of training. So the shards of a table are
    converted once, in one pass of bounded memory, into .npy files in a folder `.jaxprop` beside them, which is made
    anew when a shard changes. Their columns are described by their first million cells (`rows.table`).

    Args:
        x: a file, a folder, a pattern with * and ?, or a list of files.
        targets: the same of the targets, where x is of .npy files.
        table: of CSV: `target`, `features` and `labels`, as `csv` takes them; `cache`, another folder to convert to.

    Raises:
        DataError: there is no such file, or something in one is wrong; the text names it.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(Path(folder, "rows.npz"), x=np.ones((4, 2)), targets=np.arange(4))
    ...     rows = stored(Path(folder, "rows.npz"))
    ...     print(rows.rows, rows.read(np.array([3, 1])).targets)
    4 [3 1]
    """
    paths = files_of(x)
    kind = _kind(paths)
    if targets is not None and kind != "npy":
        raise DataError(f"{paths[0]}: its targets are in the same file; leave targets={targets!r} out")
    if table and kind != "csv":
        raise DataError(f"{paths[0]}: {next(iter(table))}= is of tables (.csv); leave it out")
    if kind == "npy":
        return _arrays(paths, files_of(targets) if targets is not None else None)
    readers: dict[str, Callable[..., Source]] = {"array_record": ArrayRecords, "csv": csv_shards}
    return Stored(Rows(*npz_arrays(paths))) if kind == "npz" else readers[kind](paths, **table)


def stored_data(
    path: str | Path,
    target: str | None = None,
    features: Sequence[str] | None = None,
    labels: bool | None = None,
    validation: float = 0.2,
    seed: int | None = 0,
) -> Data:
    """Return rows that stay in their files as `Data`: x is read as it is needed, the targets are in memory.

    As from other files, x is float32, and targets `[N]` of integers are labels, renumbered from 0.

    Args:
        path: a folder, a pattern or a file, as `stored` takes it.
        target: of CSV: the column of targets.
        features: of CSV: the columns of x.
        labels: of CSV: whether the target's values are classes.
        validation: how many rows are held out, as a fraction below 1 or a number of rows.
        seed: what chooses them; None for the last rows.

    Raises:
        DataError: something in a file is wrong; the text names it.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "x.npy"), np.ones((10, 3)))
    ...     np.save(Path(folder, "targets.npy"), np.arange(10) % 2)
    ...     stored_data(f"{folder}/x.npy").x.shape
    (8, 3)
    """
    asked: dict[str, Any] = {"target": target, "features": features, "labels": labels}
    rows = stored(path, **{name: value for name, value in asked.items() if value is not None})
    as_read = np.dtype(np.float32)
    x = rows.parts.x if isinstance(rows, Stored) else Inputs(rows, as_read)
    if isinstance(x, FileArray):
        x = FileArray(x.pieces, x.stored, x.row or (1,), x.name, as_read)
    targets, classes = _all_targets(rows), getattr(rows, "classes", None)
    if classes is None and targets.ndim == 1 and targets.dtype.kind in "biu":
        targets, classes = as_labels(targets.tolist(), f"{path}: targets")
    elif targets.ndim == 1 and classes is None:
        targets = targets[:, None]
    check_finite(targets, f"{path}: targets")
    targets = targets.astype(np.int32 if classes is not None else np.float32, copy=False)
    (chosen, kept), held = split(np.arange(len(targets)), targets, validation, seed)
    table = getattr(rows, "table", None)
    return Data(
        Chosen(x, chosen),  # pyright: ignore[reportArgumentType] (read as an array is)
        kept,
        None if held is None else (Chosen(x, held[0]), held[1]),  # pyright: ignore[reportArgumentType]
        classes=classes, target=target, table=table, columns=None if table is None else table.features,
        notes=getattr(rows, "notes", ()), source=f"{Path(path).name} ({len(targets):,} rows in files)",
    )  # fmt: skip


def _all_targets(rows: Source) -> np.ndarray:
    """The targets of all rows."""
    if isinstance(rows, Stored):
        return rows.parts.targets[:]
    parts = (np.arange(i, min(i + ROWS_AT_ONCE, rows.rows)) for i in range(0, rows.rows, ROWS_AT_ONCE))
    return np.concatenate([rows.read(part).targets for part in parts])


def is_stored(name: str | Path) -> bool:
    """Return whether a name is one of rows that stay in their files: a pattern, or a folder or file of such.

    >>> is_stored("rows/*.csv"), is_stored("rows.array_record"), is_stored("rows.csv")
    (True, True, False)
    """
    path = Path(name)
    if path.is_dir():
        return any(_ending(inner) in KINDS for inner in path.iterdir())
    many = not path.exists() and glob.has_magic(str(name))
    return many or KINDS.get(_ending(path)) in ("npy", "array_record") or (path.suffix == ".npz" and _is_large(path))


def _is_large(path: Path) -> bool:
    """Whether an .npz file is one that had better not be read whole, and need not be."""
    if not path.is_file() or path.stat().st_size < LARGE:
        return False
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        plain = all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        return plain and not any("_validation" in name for name in archive.namelist())
    return False


def _arrays(paths: list[Path], targets: list[Path] | None) -> Source:
    """x and targets of .npy files; without names for the targets, by the names of files that lie together."""
    if targets is None:
        beside = [path for path in (files_of(paths[0].parent) if len(paths) == 1 else paths) if path.suffix == ".npy"]
        targets = [path for path in beside if TARGETS.match(path.stem)]
        if len(paths) > 1:
            paths = [path for path in paths if path not in targets]
        else:  # x-3.npy belongs to targets-3.npy
            rest = re.sub(r"^x", "", paths[0].stem, flags=re.IGNORECASE)
            targets = [path for path in targets if TARGETS.sub("", path.stem) == rest]
        if not targets or not paths:
            missing = "targets" if paths else "x"
            raise DataError(
                f"{(paths or beside)[0]}: found no {missing}; expected x.npy and targets.npy side by side, or x-3.npy "
                "and targets-3.npy, or both by name: stored(x, targets)"
            )
    x, y = npy_array(paths, "x"), npy_array(targets, "targets")
    if len(paths) == len(targets):
        for a, b in zip(x.pieces, y.pieces, strict=True):
            if a.rows != b.rows:
                raise DataError(f"{a.path} has {a.rows} rows and {b.path} {b.rows}; expected one target a row of x")
    elif len(x) != len(y):
        raise DataError(f"{paths[0]}: {len(x)} rows of x and {len(y)} of targets; expected one target a row of x")
    return Stored(Rows(x, y))


def files_of(given: Files) -> list[Path]:
    """Return the files that a path, a folder, a pattern or a list of these names, in the order of their names.

    >>> files_of("absent/*.npy")
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: absent/*.npy: found no file of this pattern; check the path
    """
    if not isinstance(given, str | Path):
        return [path for one in given for path in files_of(one)]
    path = Path(given)
    if path.is_dir():
        found = [inner for inner in path.iterdir() if _ending(inner) in KINDS]
        if not found:
            raise DataError(f"{path}: found no rows in this folder; expected files of {', '.join(KINDS)}")
    elif path.exists() or not glob.has_magic(str(given)):
        found = [path]
    else:
        found = list(map(Path, glob.glob(str(given), recursive=True)))
        if not found:
            raise DataError(f"{given}: found no file of this pattern; check the path")
    for one in found:
        if not one.is_file():
            raise DataError(f"{one}: cannot be read (No such file or directory); expected a file: check the path")
    return sorted(found, key=_in_order)


def _in_order(path: Path) -> list[Any]:
    """x-2 before x-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _ending(path: Path) -> str:
    """The ending that says what a file holds: rows.array_record-00001-of-00008 too."""
    return re.sub(r"-\d+(-of-\d+)?$", "", path.suffix.lower())


def _kind(paths: list[Path]) -> str:
    kinds = {_ending(path): path for path in reversed(paths)}
    unknown = [path for ending, path in kinds.items() if ending not in KINDS]
    if unknown:
        raise DataError(f"{unknown[0]}: of an unknown kind; expected files of {', '.join(KINDS)}")
    if len({KINDS[ending] for ending in kinds}) > 1:
        raise DataError(f"found files of several kinds, {' and '.join(map(str, kinds.values()))}; expected one kind")
    return KINDS[next(iter(kinds))]
