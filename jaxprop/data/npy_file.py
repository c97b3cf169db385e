"""Rows of `.npy` and `.npz` files, where they lie: nothing is read but the headers."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from jaxprop.errors import DataError
from jaxprop.train.sources.files import FileArray, Piece

LOCAL_HEADER = 30  # bytes of a zip member before its name, as APPNOTE.TXT 4.3.7 has it
WHOLE = "save x.astype('float32') and labels as integers, each with np.save"


def npy_array(paths: Sequence[Path], name: str) -> FileArray:
    """Return the rows of one array, which lie in one `.npy` file or one after the other in several.

    Raises:
        DataError: a file is not whole, or not of rows in C order, or its rows are of another kind than the first's.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(2):
    ...         np.save(Path(folder, f"x-{i}.npy"), np.full((2, 3), i, np.float32))
    ...     npy_array([Path(folder, f"x-{i}.npy") for i in range(2)], "x")[1:3].tolist()
    [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    found = []
    for path in paths:
        with _opened(path) as file:
            found.append((path, *_header(file, path, "", path.stat().st_size)))
    return _joined(found, name)


def npz_arrays(paths: Sequence[Path]) -> tuple[FileArray, FileArray]:
    """Return x and targets (or y) of `.npz` files, as `np.savez` writes them: each array begins at a place of its own.

    Raises:
        DataError: an array is not there, is compressed, or is of another kind than that of the first file.
    """
    found: dict[str, list[tuple[Path, int, int, np.dtype, tuple[int, ...]]]] = {"x": [], "targets": []}
    for path in paths:
        try:
            with zipfile.ZipFile(path) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path}: not a whole npz file ({error}); save it again with np.savez") from None
        members["targets"] = members.get("targets", members.get("y"))  # pyright: ignore[reportArgumentType]
        if "x" not in members or members["targets"] is None:
            names = ", ".join(name for name, info in members.items() if info is not None) or "(none)"
            raise DataError(
                f"{path}: found the arrays {names}; expected x and targets: np.savez(path, x=x, targets=targets)"
            )
        for name, parts in found.items():
            info = members[name]
            if info.compress_type != zipfile.ZIP_STORED:
                raise DataError(
                    f"{path}: {name} is compressed, so that no row can be read without those before it; save it with "
                    "np.savez instead of np.savez_compressed, or read all of it into memory with jp.data.npz"
                )
            with _opened(path) as file:
                file.seek(info.header_offset)
                local = file.read(LOCAL_HEADER)
                start = info.header_offset + LOCAL_HEADER + int.from_bytes(local[26:28], "little")
                file.seek(start + int.from_bytes(local[28:30], "little"))
                parts.append((path, *_header(file, path, f" {name}", file.tell() + info.file_size)))
    return _joined(found["x"], "x"), _joined(found["targets"], "targets")


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a file: check the path") from None


def _header(file: IO[bytes], path: Path, name: str, end: int) -> tuple[int, int, np.dtype, tuple[int, ...]]:
    """Where the first row begins, how many there are, and of what kind, by the header at the place of the file."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(file)
    except ValueError as error:
        raise DataError(f"{path}{name}: not a whole npy file ({error}); save it again with np.save") from None
    if not (dtype.kind in "biu" or "float" in dtype.name):
        what = "Python objects, stored as a pickle, which may run any code" if dtype.hasobject else f"dtype {dtype}"
        raise DataError(f"{path}{name}: found {what}; expected numbers: {WHOLE}")
    if by_columns and len(shape) > 1:
        raise DataError(
            f"{path}{name}: the array is stored by columns (Fortran order), so that a row lies in pieces; save "
            "np.ascontiguousarray(x)"
        )
    if not shape or not shape[0]:
        raise DataError(f"{path}{name}: an array of shape {list(shape)}; expected [N, ...] with at least one row")
    needed = file.tell() + math.prod(shape) * dtype.itemsize
    if needed > end:
        raise DataError(
            f"{path}{name}: the file ends at byte {end}, expected {needed} for {list(shape)}: copy it again"
        )
    return file.tell(), shape[0], dtype, shape[1:]


def _joined(found: Sequence[tuple[Path, int, int, np.dtype, tuple[int, ...]]], name: str) -> FileArray:
    """One array of files whose rows are of one kind."""
    first, _, _, dtype, row = found[0]
    for path, _, _, other, shape in found[1:]:
        if (other, shape) != (dtype, row):
            raise DataError(
                f"{path}: rows of {name} are {other}{list(shape)}, those of {first} are {dtype}{list(row)}; expected "
                "the same kind of rows in all files"
            )
    return FileArray([Piece(path, offset, rows) for path, offset, rows, _, _ in found], dtype, row, name)
