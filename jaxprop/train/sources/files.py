"""Arrays whose rows lie in files, one row's bytes after the other, as numpy writes them.

Rows are read, not mapped: a page that is mapped counts as the process's memory for as long as it is, and giving pages
back costs more than reading (docs/decisions/22-sources.md has the figures). What is small is read once and kept.
"""

import abc
import hashlib
import os
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxprop.arrays.given import in_own_precision
from jaxprop.errors import DataError
from jaxprop.train.sources.source import Source, filled

KEPT = 64 * 2**20  # bytes of an array that is read once and kept
OPEN = 200  # files of an array that are open at once
THREADS = 16  # that read when the disk, not the processor, is what rows wait for
SLOW = 20e-6  # seconds a row: from memory one takes two or three microseconds
LOOKS, LOOK = 8, 4096  # places of a file, from its head to its tail, and bytes at each, that tell it from others


@dataclass(frozen=True)
class Piece:
    """Rows in one file: where its first row begins, and how many there are."""

    path: Path
    offset: int
    rows: int


class ArrayElsewhere(abc.ABC):
    """An array `[N, ...]` whose rows are read when they are asked for: `array[numbers]`, `array[2:5]`."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        """How many axes there are, that of rows among them."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Any) -> np.ndarray:
        if isinstance(chosen, slice):
            return self.take(np.arange(len(self))[chosen])
        numbers = np.asarray(chosen)
        return self.take(np.arange(len(self))[np.atleast_1d(numbers)]).reshape(*numbers.shape, *self.shape[1:])

    @abc.abstractmethod
    def take(self, numbers: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the rows of these numbers, in this order; into the first rows of `out` if that is given."""

    @abc.abstractmethod
    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""

    @abc.abstractmethod
    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others without reading all of them."""


class Chosen(ArrayElsewhere):
    """Some rows of an array that is elsewhere."""

    def __init__(self, array: ArrayElsewhere, numbers: np.ndarray) -> None:
        self.array, self.numbers = array, numbers
        self.shape, self.dtype = (len(numbers), *array.shape[1:]), array.dtype

    def take(self, numbers: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the rows of these numbers, in this order; into the first rows of `out` if that is given."""
        return self.array.take(self.numbers[numbers], out)

    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""
        return self.array.where(int(self.numbers[number]))

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others."""
        return {"of": self.array.digest(), "rows": hashlib.sha256(self.numbers.tobytes()).hexdigest()}


class Inputs(ArrayElsewhere):
    """The x of a source, as an array of that dtype whose rows have an axis."""

    def __init__(self, source: Source, dtype: np.dtype) -> None:
        self.source, self.dtype = source, dtype
        self.shape = (source.rows, *(source.read(np.zeros(1, int)).x.shape[1:] or (1,)))

    def take(self, numbers: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the rows of these numbers, in this order; into the first rows of `out` if that is given."""
        x = self.source.read(numbers).x
        return filled(x.astype(self.dtype, copy=False).reshape(len(numbers), *self.shape[1:]), out)

    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""
        return self.source.where(number)

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others."""
        return self.source.digest()


class FileArray(ArrayElsewhere):
    """An array `[N, ...]` in one file or in several, in numbers as JAX has them or, asked for, as `read_as` says.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.arange(6.0, dtype=np.float32).tofile(Path(folder, "rows"))
    ...     array = FileArray([Piece(Path(folder, "rows"), 0, 3)], np.dtype("float32"), (2,))
    ...     print(array.shape, array[[2, 0]].tolist())
    (3, 2) [[4.0, 5.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        stored: np.dtype,
        row: tuple[int, ...],
        name: str = "",
        read_as: np.dtype | None = None,
    ) -> None:
        self.pieces, self.stored, self.row, self.name, self.read_as = tuple(pieces), stored, row, name, read_as
        self.ends = np.cumsum([piece.rows for piece in pieces])
        self.row_bytes = stored.itemsize * int(np.prod(row))
        self.open: dict[int, int] = {}  # descriptors, the latest used last
        self.kept: np.ndarray | None = None
        self.slow = False
        self.shape = (int(self.ends[-1]), *row)
        weakref.finalize(self, _close, self.open)

    @property
    def dtype(self) -> np.dtype:  # pyright: ignore[reportIncompatibleVariableOverride] (JAX's 64 bits may be turned on)
        """The dtype of rows as they are read."""
        own = jax.dtypes.canonicalize_dtype(self.stored.newbyteorder("="))
        return np.dtype(own) if self.read_as is None else self.read_as

    @property
    def nbytes(self) -> int:
        """Bytes of all rows as they are stored."""
        return len(self) * self.row_bytes

    def take(self, numbers: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the rows of these numbers, in this order; into the first rows of `out` if that is given."""
        anew = self.kept is None or self.kept.dtype != self.dtype  # JAX's 64 bits may have been turned on or off
        if anew and self.nbytes <= KEPT:
            whole = np.empty(self.shape, self.stored)
            self._read(np.arange(len(self)), whole)
            self.kept = self._own(whole)
        if self.kept is not None:
            return _of_memory(self.kept, numbers, out)
        if out is not None and out.dtype == self.stored and out.flags.c_contiguous:
            self._read(numbers, out[: len(numbers)])
            return out
        found = np.empty((len(numbers), *self.row), self.stored)
        self._read(numbers, found)
        return filled(self._own(found), out)

    def _own(self, found: np.ndarray) -> np.ndarray:
        """Rows as they are read, of those as they are stored."""
        return in_own_precision(found, self.name) if self.read_as is None else found.astype(self.read_as, copy=False)

    def _read(self, numbers: np.ndarray, found: np.ndarray) -> None:
        """Read rows, each into its place."""
        if not self.row_bytes or not len(numbers):
            return
        flat = found.reshape(len(numbers), -1).view(np.uint8)
        shards = np.searchsorted(self.ends, numbers, side="right")
        order = np.argsort(shards, kind="stable") if len(self.pieces) > 1 else np.arange(len(numbers))
        began = perf_counter()
        for some in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
            self._read_piece(int(shards[some[0]]), numbers, some, flat)
        self.slow = perf_counter() - began > SLOW * len(numbers)

    def _read_piece(self, shard: int, numbers: np.ndarray, some: np.ndarray, flat: np.ndarray) -> None:
        piece, file = self.pieces[shard], self._opened(shard)
        inside = numbers[some] - (self.ends[shard] - piece.rows)
        in_a_row = some[-1] - some[0] == len(some) - 1 and np.all(np.diff(inside) == 1) and np.all(np.diff(some) == 1)
        if in_a_row:  # in one go
            buffers, places = [(flat[some[0] : some[-1] + 1],)], [piece.offset + int(inside[0]) * self.row_bytes]
        else:
            buffers = list(zip(map(flat.__getitem__, some.tolist()), strict=True))
            places = (piece.offset + inside * self.row_bytes).tolist()
        if self.slow and len(places) > THREADS:
            with ThreadPoolExecutor(THREADS) as pool:
                parts = [(buffers[i::THREADS], places[i::THREADS]) for i in range(THREADS)]
                read = sum(pool.map(lambda part: _read_all(file, *part), parts))
        else:
            read = _read_all(file, buffers, places)
        if read != len(some) * self.row_bytes:
            size, expected = os.fstat(file).st_size, piece.offset + piece.rows * self.row_bytes
            raise DataError(
                f"{piece.path}: the file has {size} bytes, expected {expected} as when it was opened: something wrote "
                "to it meanwhile; begin again with the file whole"
            )

    def _opened(self, shard: int) -> int:
        """A descriptor of a file; the one used longest ago is closed when there are too many."""
        if shard not in self.open:
            if len(self.open) >= OPEN:
                os.close(self.open.pop(next(iter(self.open))))
            try:
                self.open[shard] = os.open(self.pieces[shard].path, os.O_RDONLY)
            except OSError as error:
                raise DataError(f"{self.pieces[shard].path}: cannot be read ({error.strerror})") from None
            if hasattr(os, "posix_fadvise"):  # no reading ahead of a row that is not asked for
                os.posix_fadvise(self.open[shard], 0, 0, os.POSIX_FADV_RANDOM)
        self.open[shard] = self.open.pop(shard)
        return self.open[shard]

    def where(self, number: int) -> str:
        """Return the file and the row in it."""
        shard = int(np.searchsorted(self.ends, number, side="right"))
        return f"{self.pieces[shard].path}, row {number - int(self.ends[shard]) + self.pieces[shard].rows}"

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others: files' names and sizes, and bytes from head to tail of each."""
        digest = hashlib.sha256(f"{self.stored} {self.row}".encode())
        for piece in self.pieces:
            with piece.path.open("rb") as file:
                digest.update(f"{piece.path.name} {piece.rows}".encode())
                last = max(0, piece.rows * self.row_bytes - LOOK)
                for at in {piece.offset + last * i // (LOOKS - 1): None for i in range(LOOKS)}:
                    file.seek(at)
                    digest.update(file.read(LOOK))
        return {"shape": list(self.shape), "files": len(self.pieces), "sha256": digest.hexdigest()}


def _read_all(file: int, buffers: Any, places: Sequence[int]) -> int:
    """Read into each buffer from its place; return how many bytes there were. The loop is C's: it is the cost."""
    return sum(map(os.preadv, repeat(file), buffers, places))


def _close(files: dict[int, int]) -> None:
    for file in files.values():
        os.close(file)


class Stored(Source):
    """Rows of arrays with one first axis, each of which lies in files or in memory: `parts` is a tree as `Rows` is."""

    def __init__(self, parts: PyTree) -> None:
        self.parts = parts
        lengths = {leaf.shape[0] for leaf in self._leaves()}
        if len(lengths) != 1:
            raise DataError(f"arrays of {' and '.join(map(str, sorted(lengths)))} rows; expected one length for all")

    def _leaves(self) -> list[Any]:
        return jax.tree.leaves(self.parts)

    @property
    def rows(self) -> int:
        """How many rows there are, N."""
        return int(self._leaves()[0].shape[0])

    def read(self, numbers: np.ndarray, out: Any = None) -> Any:
        """Return the rows of these numbers, see `Source`."""
        if out is None:
            return jax.tree.map(lambda part: _take(part, numbers, None), self.parts)
        return jax.tree.map(lambda part, buffer: _take(part, numbers, buffer), self.parts, out)

    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""
        away = (leaf for leaf in self._leaves() if isinstance(leaf, ArrayElsewhere))
        return next((leaf.where(number) for leaf in away), f"row {number}")

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others."""
        found = []
        for leaf in self._leaves():
            if isinstance(leaf, ArrayElsewhere):
                found.append(leaf.digest())
            else:
                found.append({"sha256": hashlib.sha256(np.ascontiguousarray(leaf).tobytes()).hexdigest()})
        return {"kind": "Stored", "rows": self.rows, "arrays": found}


def _take(part: Any, numbers: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    return part.take(numbers, out) if isinstance(part, ArrayElsewhere) else _of_memory(part, numbers, out)


def _of_memory(array: np.ndarray, numbers: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """Rows of an array; into the first rows of `out`, which may be of another precision, if that is given."""
    if out is None:
        return array[numbers]
    if out.dtype == array.dtype:
        np.take(array, numbers, axis=0, out=out[: len(numbers)], mode="clip")
    else:
        out[: len(numbers)] = array[numbers]
    return out
