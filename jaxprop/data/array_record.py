"""ArrayRecord files, one row a record.

A record says what it holds: the four letters `jxr1`, the length of a description as two bytes, the description as
JSON, `{"x": ["<f4", [784]], "targets": ["<i4", []]}`, then the bytes of x and of the targets. All records of a file
have the same description, so that rows are found at the same places of each.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxprop.arrays.given import in_own_precision
from jaxprop.errors import DataError
from jaxprop.train.rows import Rows
from jaxprop.train.sources import InMemory, Source, read_data
from jaxprop.train.sources.source import filled

MAGIC = b"jxr1"
ROWS_AT_ONCE = 1024
OF_ROWS, BUFFER = "readahead_buffer_size:0,max_parallelism:0", 4096  # for records that are read one by one
INSTALL = 'pip install ".[large]"'


def write_array_record(path: str | Path, rows: Any, options: str = "group_size:1,uncompressed") -> None:
    """Write rows as an ArrayRecord file, one record a row; the file is there when it is whole.

    Args:
        path: the file, such as "rows.array_record".
        rows: (x, targets), or rows that are not in memory: whatever `fit` takes but a stream.
        options: of ArrayRecord's writer. `group_size:1` lets every row be read alone.

    Raises:
        DataError: array_record is not installed, or rows cannot be used.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rows.array_record")
    ...     write_array_record(path, (np.eye(3, dtype=np.float32), np.arange(3)))
    ...     array_record([path]).read(np.array([2, 0])).x.tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    source = rows if isinstance(rows, Source) else read_data(rows)
    source = InMemory(source) if isinstance(source, Rows) else source
    if not isinstance(source, Source):
        raise DataError(f"{path}: a stream has no number of rows; expected rows by number")
    module = _module(path)
    unfinished = Path(f"{path}.writing")
    writer = module.ArrayRecordWriter(str(unfinished), options)
    try:
        for start in range(0, source.rows, ROWS_AT_ONCE):
            part = source.read(np.arange(start, min(start + ROWS_AT_ONCE, source.rows)))
            x, targets = (np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in part[:2])
            fields = {"x": [x.dtype.str, list(x.shape[1:])], "targets": [targets.dtype.str, list(targets.shape[1:])]}
            said = json.dumps(fields).encode()
            head = MAGIC + len(said).to_bytes(2, "little") + said
            for row, target in zip(x, targets, strict=True):
                writer.write(head + row.tobytes() + target.tobytes())
        if not writer.ok():
            raise DataError(f"{path}: cannot be written; is the disk full?")
        writer.close()
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


class ArrayRecords(Source):
    """Rows of ArrayRecord files that `write_array_record` wrote.

    Grain's data source of these files takes twice the processor's time: it reads 32 KB around every record.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths, module = list(map(str, paths)), _module(paths[0])
        self.readers = []
        for path in self.paths:
            try:
                self.readers.append(module.ArrayRecordReader(path, OF_ROWS, file_reader_buffer_size=BUFFER))
                whole = self.readers[-1].ok() and self.readers[-1].num_records()
            except Exception:  # what it raises is of no kind of its own
                whole = False
            if not whole:
                raise DataError(f"{path}: not a whole ArrayRecord file, or one without records; write it again")
        self.ends = np.cumsum([reader.num_records() for reader in self.readers])
        self.head, self.fields = _described(self._records(np.zeros(1, int))[0], self.where(0))
        self.dtype = np.dtype(
            {"names": ["head", *self.fields], "formats": [f"V{len(self.head)}", *self.fields.values()]}
        )

    @property
    def rows(self) -> int:
        """How many rows there are, N."""
        return int(self.ends[-1])

    def read(self, numbers: np.ndarray, out: Any = None) -> Any:
        """Return the rows of these numbers, see `Source`."""
        found = self._records(numbers)
        if set(map(len, found)) != {self.dtype.itemsize} or not all(record.startswith(self.head) for record in found):
            for number, record in zip(numbers.tolist(), found, strict=True):
                if len(record) != self.dtype.itemsize or not record.startswith(self.head):
                    raise DataError(
                        f"{self.where(number)}: the record is of another kind than {self.where(0)}: write it again"
                    )
        rows = np.frombuffer(b"".join(found), self.dtype)
        part = Rows(rows["x"], rows["targets"])
        if out is not None and jax.tree.map(lambda a, b: a.dtype == b.dtype, part, out) == Rows(True, True):
            return filled(part, out)
        return filled(jax.tree.map(lambda a: in_own_precision(np.ascontiguousarray(a), self.paths[0]), part), out)

    def _records(self, numbers: np.ndarray) -> list[bytes]:
        """The records of these numbers, in this order, each file's read in one call."""
        files = np.searchsorted(self.ends, numbers, side="right")
        found: list[bytes] = [b""] * len(numbers)
        for file in np.unique(files).tolist():
            places = np.flatnonzero(files == file)
            first = int(self.ends[file - 1]) if file else 0
            try:
                records = self.readers[file].read((numbers[places] - first).tolist())
            except Exception as error:
                raise DataError(f"{self.paths[file]}: cannot be read ({str(error).splitlines()[0]})") from None
            for place, record in zip(places.tolist(), records, strict=True):
                found[place] = record
        return found

    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""
        file = int(np.searchsorted(self.ends, number, side="right"))
        return f"{self.paths[file]}, record {number - (int(self.ends[file - 1]) if file else 0)}"

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others: files' names and sizes, and some records."""
        digest = hashlib.sha256(self.head)
        for path in self.paths:
            digest.update(f"{Path(path).name} {os.path.getsize(path)}".encode())
        for record in self._records(np.linspace(0, self.rows - 1, 64).astype(int)):
            digest.update(record)
        return {"kind": "ArrayRecords", "rows": self.rows, "sha256": digest.hexdigest()}


def array_record(paths: Sequence[Path]) -> ArrayRecords:
    """Return the rows of ArrayRecord files that `write_array_record` wrote."""
    return ArrayRecords(paths)


def _described(record: bytes, where: str) -> tuple[bytes, dict[str, np.dtype]]:
    """What every record begins with, and what follows it."""
    if not record.startswith(MAGIC):
        raise DataError(
            f"{where}: the record is not one of jp.data.write_array_record; of others make pairs with Grain: "
            "fit(..., grain.MapDataset.source(ArrayRecordDataSource(paths)).map(lambda record: (x, targets)))"
        )
    length = int.from_bytes(record[4:6], "little")
    fields = json.loads(record[6 : 6 + length])
    kinds = {name: np.dtype((np.dtype(fields[name][0]), tuple(fields[name][1]))) for name in ("x", "targets")}
    return record[: 6 + length], kinds


def _module(path: str | Path) -> Any:
    try:
        return importlib.import_module("array_record.python.array_record_module")
    except ImportError:
        raise DataError(f"{path}: needs array_record, which is not installed: {INSTALL}") from None
