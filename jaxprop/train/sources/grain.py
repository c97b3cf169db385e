"""Grain's data sets as rows: one that is indexed is read by number, one that is gone through gives batches.

Grain need not be installed: whatever has `__len__` and `__getitem__`, or can be gone through again and again, will do.
"""

import contextlib
import copy
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter, thread_time
from typing import Any

import jax
import numpy as np

from jaxprop.arrays.given import in_own_precision
from jaxprop.checks import check_whole
from jaxprop.errors import DataError
from jaxprop.train.rows import Rows, as_numpy
from jaxprop.train.sources.source import Source, check_read, sha256_of

THREADS = 16  # as many as Grain's own ReadOptions has
WAITING = 3.0  # how many times the processor's time reading takes where a disk or a network is waited for


class Records(Source):
    """The elements of a `grain.MapDataset`, or of anything else with `len` and an index: (x, targets) of one row.

    >>> class Squares:
    ...     def __len__(self):
    ...         return 4
    ...     def __getitem__(self, i):
    ...         return {"x": np.float32([i]), "targets": np.float32([i * i])}
    >>> Records(Squares()).read(np.array([3, 1])).targets.tolist()
    [[9.0], [1.0]]
    """

    def __init__(self, records: Any, name: str = "data") -> None:
        self.records, self.name, self.waits = records, name, False
        if not 0 < self.rows < sys.maxsize // 2:
            found = "no end" if self.rows else "no elements"
            raise DataError(
                f"{name}: the data set has {found}; expected rows to go through in an epoch: leave repeat out"
            )

    @property
    def rows(self) -> int:
        """How many rows there are, N."""
        return len(self.records)

    def read(self, numbers: np.ndarray, out: Any = None) -> Any:
        """Return the rows of these numbers, see `Source`."""
        wall, busy = perf_counter(), thread_time()
        chosen = numbers.tolist()
        if self.waits and len(chosen) > 1:
            with ThreadPoolExecutor(THREADS) as pool:
                found = list(pool.map(self.records.__getitem__, chosen))
        else:
            found = [self.records[number] for number in chosen]
            self.waits = perf_counter() - wall > WAITING * (thread_time() - busy)
        first = as_rows(self._whole(found, chosen), self.where(chosen[0]))  # one says what all are like
        names = [name for name, part in first._asdict().items() if part is not None]
        columns = ([self._named(element, name) for element in found] for name in names)
        parts = {
            name: self._stacked(first, column, chosen, name, out) for name, column in zip(names, columns, strict=True)
        }
        return first._replace(**parts)

    def _whole(self, found: list[Any], chosen: list[int]) -> Any:
        """The first element, when all are there."""
        if (absent := next((i for i, element in enumerate(found) if element is None), None)) is not None:
            raise DataError(
                f"{self.where(chosen[absent])} is filtered out, which leaves the number of rows unknown; filter after "
                "to_iter_dataset(), and batch there"
            )
        return found[0]

    def _named(self, element: Any, name: str) -> Any:
        """x, targets, weights or mask of an element."""
        return element[name] if isinstance(element, dict) else element[("x", "targets").index(name)]

    def _stacked(self, first: Rows, column: list[Any], chosen: list[int], name: str, out: Rows | None) -> Any:
        """One part of all elements, each array of it stacked, into `out` if that is given."""
        like, into = getattr(first, name), None if out is None else getattr(out, name)
        leaves, structure = jax.tree.flatten(like)
        buffers = [None] * len(leaves) if into is None else jax.tree.leaves(into)
        arrays = [column] if structure == jax.tree.structure(0) else zip(*map(jax.tree.leaves, column), strict=True)
        try:
            stacks = [
                _stack(parts, buffer, f"{self.name}: {name}") for parts, buffer in zip(arrays, buffers, strict=True)
            ]
        except ValueError as error:
            shapes = [jax.tree.map(np.shape, part) for part in column]
            other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
            if other is None:
                raise DataError(f"{self.name}: {name}: {error}") from None
            raise DataError(
                f"{self.where(chosen[other])} has {name} of {shapes[other]}, {self.where(chosen[0])} of {shapes[0]}; "
                "expected one shape for all: pad or cut them"
            ) from None
        return jax.tree.unflatten(structure, stacks)

    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""
        return f"{self.name}: element {number}"

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others: how many there are, of what kind, the first and the last."""
        sha256 = sha256_of(self.read(np.array([0, self.rows - 1])))
        return {"kind": type(self.records).__name__, "rows": self.rows, "sha256": sha256}


class Stream:
    """Batches in the order in which a data set gives them: a `grain.IterDataset`, whose pipeline shuffles and batches.

    Args:
        batches: gives (x, targets) of a batch each, or dicts with x and targets, whenever it is gone through.
        steps_per_epoch: how many batches are an epoch; by default it is over when they are. The next one goes on from
            there, and where a data set ends it begins again.

    >>> stream = Stream([(np.ones((2, 1), np.float32), np.zeros(2, np.float32))] * 3)
    >>> len(list(stream.epoch(0)))
    3
    """

    def __init__(self, batches: Any, steps_per_epoch: int | None = None, name: str = "data") -> None:
        if iter(batches) is batches:
            raise DataError(
                f"{name} is a {type(batches).__name__}, which can be gone through once; expected batches that an epoch "
                "can go through again, such as a grain.IterDataset"
            )
        if steps_per_epoch is not None:
            check_whole(steps_per_epoch, "Stream: steps_per_epoch")
        self.batches, self.steps, self.name = batches, steps_per_epoch, name
        self.running: Iterator[Any] | None = None  # goes on from epoch to epoch
        self.looked_at: list[Rows] = []  # the first batches: starting a pipeline with workers takes seconds

    def begun(self) -> "Stream":
        """Return the same stream at its beginning: each run goes through it by itself."""
        again = copy.copy(self)
        again.running = None
        return again

    def epoch(self, epoch: int, first: int = 0, check: Callable[[Rows], None] = lambda rows: None) -> Iterator[Rows]:
        """Yield the batches of an epoch from its step `first` on; those before are read, and not used.

        `check` refuses rows that cannot be trained on; they are finite before it sees them.
        """
        if self.steps is None:
            with closing(iter(self.batches)) as given:
                yield from self._read(itertools.islice(given, first, None), first, check)
            return
        if self.running is None:
            self.running = self._endless()
            first += epoch * self.steps
            for _ in range(first):
                next(self.running)
            first %= self.steps
        yield from self._read(itertools.islice(self.running, self.steps - first), first, check)

    def _endless(self) -> Iterator[Any]:
        while True:
            some = False
            for batch in self.batches:
                some = True
                yield batch
            if not some:
                return

    def _read(
        self, given: Iterator[Any], first: int, check: Callable[[Rows], None] = lambda rows: None
    ) -> Iterator[Rows]:
        step = first - 1
        for step, batch in enumerate(given, first):
            where = f"{self.name}: batch {step}"
            rows = as_rows(batch, where)
            lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(rows)}
            if len(lengths) != 1 or lengths & {(), (0,)}:
                raise DataError(f"{where} is of {_shapes(rows)}; expected x [B, ...] and targets [B, ...] of one B ≥ 1")
            check_read(lambda row, where=where: f"{where}, row {row}", range(len(rows.targets)), rows, check)
            yield rows
        if step < 0:  # none since the beginning; one that goes on may stand at its end
            raise DataError(f"{self.name}: the data set gave no batch; expected at least one an epoch")

    def mapped(self, change: Callable[[Rows], Rows]) -> "Stream":
        """Return the stream of changed batches."""
        return Stream(Mapped(Stream(self.batches, None, self.name), change), self.steps, self.name)

    def first(self, rows: int) -> Rows:
        """Return the first rows of the stream, of as many batches as that takes."""
        if sum(len(batch.targets) for batch in self.looked_at) < rows:
            with closing(iter(self.batches)) as given:
                self.looked_at = []
                for batch in self._read(given, 0):
                    self.looked_at.append(batch)
                    if sum(len(part.targets) for part in self.looked_at) >= rows:
                        break
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:rows], *self.looked_at)

    def one(self) -> Rows:
        """Return the first batch."""
        self.first(1)
        return self.looked_at[0]

    def digest(self) -> dict[str, Any]:
        """Return what tells this stream from others: what it calls itself, and its first batch."""
        return {"kind": type(self.batches).__name__, "steps": self.steps, "sha256": sha256_of(self.first(1))}


@contextlib.contextmanager
def closing(given: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """Close an iterator in the end, if it can be closed: one of Grain's may have processes."""
    try:
        yield given
    finally:
        if hasattr(given, "close"):
            given.close()  # pyright: ignore[reportAttributeAccessIssue]


class Mapped:
    """The batches of a stream, changed."""

    def __init__(self, stream: Stream, change: Callable[[Rows], Rows]) -> None:
        self.stream, self.change = stream, change

    def __iter__(self) -> Iterator[dict[str, Any]]:
        changed = map(self.change, self.stream.epoch(0))
        return ({name: part for name, part in rows._asdict().items() if part is not None} for rows in changed)


def is_rows_by_number(given: Any) -> bool:
    """Return whether this is a data set that is indexed, such as a `grain.MapDataset`; arrays and lists are none."""
    plain = isinstance(given, str | bytes | dict | list | tuple | np.ndarray) or hasattr(given, "__array__")
    return not plain and all(hasattr(type(given), name) for name in ("__len__", "__getitem__"))


def is_stream(given: Any) -> bool:
    """Return whether this is gone through from its beginning, such as a `grain.IterDataset` or a `grain.DataLoader`."""
    return isinstance(given, Stream) or (hasattr(type(given), "__iter__") and not hasattr(type(given), "__len__"))


def as_rows(element: Any, where: str) -> Rows:
    """Return an element of a data set as `Rows`, in JAX's own precision."""
    if isinstance(element, dict) and {"x", "targets"} <= element.keys() <= {"x", "targets", "weights", "mask"}:
        parts = {name: as_numpy(part, f"{where}: {name}") for name, part in element.items()}
    elif isinstance(element, tuple | list) and len(element) == 2:
        parts = {name: as_numpy(part, f"{where}: {name}") for name, part in zip(("x", "targets"), element, strict=True)}
    else:
        found = f"a dict with {', '.join(map(str, element))}" if isinstance(element, dict) else type(element).__name__
        raise DataError(
            f"{where} is {found}; expected a pair (x, targets), or a dict with x and targets: write "
            "dataset.map(lambda element: (..., ...))"
        )
    return Rows(**{n: jax.tree.map(lambda a, n=n: in_own_precision(a, f"{where}: {n}"), p) for n, p in parts.items()})


def _shapes(rows: Rows) -> str:
    return " and ".join(
        f"{name} {jax.tree.map(lambda a: list(np.shape(a)), part)}"
        for name, part in zip(("x", "targets"), rows, strict=False)
    )


def _stack(parts: Sequence[Any], buffer: np.ndarray | None, what: str) -> np.ndarray:
    """Arrays of one shape along a new first axis, in JAX's own precision; the buffer is filled from its start."""
    if buffer is not None and np.asarray(parts[0]).dtype == buffer.dtype:
        np.stack(parts, out=buffer[: len(parts)])
        return buffer
    stacked = in_own_precision(np.stack(parts), what)
    if buffer is None:
        return stacked
    buffer[: len(parts)] = stacked
    return buffer
