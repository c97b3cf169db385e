"""Logs of one line an epoch: a table (CSV) and JSON lines. What they hold is whole after every epoch."""

import abc
import csv
import io
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprop.errors import JaxpropError
from jaxprop.saved.folder import write_whole
from jaxprop.train.result import Row
from jaxprop.train.watching import Moment, Watched, Watcher


@dataclass(frozen=True)
class Csv:
    """Start a log that is a table, a column for every name that a row of the history has.

    A run that goes on (`state=`, `resume=True`) adds to the rows of the epochs behind it; another run begins anew.

    >>> import tempfile, numpy as np, optax
    >>> from jaxprop import HalfSquaredError, Linear, fit
    >>> path, x = Path(tempfile.mkdtemp()) / "run.csv", np.ones((4, 1), np.float32)
    >>> _ = fit(Linear(1), HalfSquaredError(), optax.sgd(0.1), (x, x), epochs=2, progress=False, log=Csv(path))
    >>> path.read_text().splitlines()[0]
    'epoch,cost,seconds'
    """

    path: Path

    def __call__(self, about: Watched) -> Watcher:
        """Start it: the file is opened when the first epoch is over."""
        return _Table(Path(self.path))


@dataclass(frozen=True)
class JsonLines:
    """Start a log of a JSON object an epoch; numbers that are not finite are null.

    A run that goes on adds to the lines of the epochs behind it; another run begins anew.

    >>> import tempfile, numpy as np, optax
    >>> from jaxprop import HalfSquaredError, Linear, fit
    >>> path, x = Path(tempfile.mkdtemp()) / "run.jsonl", np.ones((4, 1), np.float32)
    >>> _ = fit(Linear(1), HalfSquaredError(), optax.sgd(0.1), (x, x), epochs=2, progress=False, log=JsonLines(path))
    >>> [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
    [1, 2]
    """

    path: Path

    def __call__(self, about: Watched) -> Watcher:
        """Start it: the file is opened when the first epoch is over."""
        return _Lines(Path(self.path))


class _Rows(abc.ABC):
    """A file of rows. The rows of a run that goes on are kept up to the epoch that it starts with."""

    looking = False

    def __init__(self, path: Path) -> None:
        self.path: Any = path  # None once it cannot be written
        self.started = False

    def report(self, moment: Moment) -> None:
        """The first report says which epochs are behind: what the file says of later ones did not happen.

        A file that is no log is refused also where a run begins: it may be the data set.
        """
        if self.started:
            return
        self.started = True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            behind = self.read(_lines_of(self.path)) if self.path.exists() else []
            self.begin([row for row in behind if float(row["epoch"]) <= moment.epochs])
        except OSError as error:
            why = f"{error.strerror} ({error.filename})"
            raise JaxpropError(f"log {self.path}: cannot be written: {why}; choose another file") from None
        except (ValueError, KeyError, TypeError):
            raise JaxpropError(
                f"log {self.path}: is there already, and is no log of a run; choose another file, or delete it"
            ) from None

    def epoch(self, row: Row) -> None:
        """Write an epoch's row. A disk that is full is told once, and does not end the training."""
        if self.path is None:
            return
        try:
            self.write(row)
        except OSError as error:
            warnings.warn(
                f"fit: log {self.path}: cannot be written any more: {error.strerror}; it ends before epoch "
                f"{row['epoch']}, and training goes on",
                stacklevel=2,
            )
            self.path = None

    def close(self, moment: Moment, stopped: str) -> None:
        """End: every line is written already."""
        return None

    @abc.abstractmethod
    def read(self, text: str) -> list[dict[str, Any]]:
        """Return the rows of a file with this text."""

    @abc.abstractmethod
    def begin(self, rows: list[dict[str, Any]]) -> None:
        """Write a file with these rows."""

    @abc.abstractmethod
    def write(self, row: Row) -> None:
        """Add a row."""


class _Table(_Rows):
    def read(self, text: str) -> list[dict[str, Any]]:
        return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]

    def begin(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.columns = list(dict.fromkeys(name for row in rows for name in row))
        write_whole(self.path, self._lines(rows, head=bool(rows)).encode())

    def write(self, row: Row) -> None:
        self.rows.append(dict(row))
        new = [name for name in row if name not in self.columns]
        if new:  # a monitor has its first record, say: the file gets a column, and is written anew
            last = ["seconds"] if "seconds" in self.columns or "seconds" in new else []
            self.columns = [name for name in (*self.columns, *new) if name != "seconds"] + last
            write_whole(self.path, self._lines(self.rows, head=True).encode())
        else:
            _append(self.path, self._lines([dict(row)], head=False))

    def _lines(self, rows: list[dict[str, Any]], head: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if head:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


class _Lines(_Rows):
    def read(self, text: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in text.splitlines()]

    def begin(self, rows: list[dict[str, Any]]) -> None:
        write_whole(self.path, "".join(map(_line, rows)).encode())

    def write(self, row: Row) -> None:
        _append(self.path, _line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(_finite(row), allow_nan=False, default=str) + "\n"


def _finite(value: Any) -> Any:
    """What is not finite is None, also within lists and dicts."""
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines_of(path: Path) -> str:
    """The lines of a file that are whole: a full disk or a power cut may have torn the last one."""
    text = path.read_bytes().decode("utf-8")
    return text[: text.rfind("\n") + 1] or text


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)
