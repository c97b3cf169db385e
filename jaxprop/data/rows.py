"""Rows: what every source returns, and how raw arrays become that: checked, made float32 or int32, split by seed."""

import numbers
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeGuard, Unpack

import numpy as np
from numpy.typing import ArrayLike

from jaxprop.checks import LARGEST, check_rows
from jaxprop.columns import Table
from jaxprop.errors import DataError, JaxpropError, pick

Rows = tuple[np.ndarray, np.ndarray]  # x [N, ...], targets [N] or [N, O]


class Names(TypedDict, total=False):
    """What a source knows beside its rows: fields of `Data`."""

    classes: tuple[str, ...] | None
    columns: tuple[str, ...] | None
    target: str | None
    test: Rows | None
    table: Table | None
    notes: tuple[str, ...]
    total: int | None


@dataclass(frozen=True, eq=False, repr=False)  # arrays have no single answer to ==
class Data:
    """Rows and targets, split into training and validation, with the names that a saved model keeps.

    x `[N, ...]` float32; targets int32 labels `[N]`, or float32 numbers `[N, O]` (then `classes` is None).
    `source` is a short description without any machine's folders. Rows of a table have its `table`, which makes x of
    other rows too; `notes` are sentences on what was left out, `total` counts the
    rows of its file.

    >>> from jaxprop.data import line
    >>> line(rows=10)
    Data(line (slope 1.0, 10 rows, seed 0): x [8, 1], targets [8, 1], 2 for validation)
    """

    x: np.ndarray
    targets: np.ndarray
    validation: Rows | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    target: str | None = None
    source: str = ""
    test: Rows | None = None
    table: Table | None = None
    notes: tuple[str, ...] = ()
    total: int | None = None

    def __repr__(self) -> str:
        parts = [f"x {list(self.x.shape)}", f"targets {list(self.targets.shape)}"]
        held = (("validation", self.validation), ("test", self.test))
        parts += [f"{len(rows[0])} for {what}" for what, rows in held if rows is not None]
        return f"Data({self.source}: {', '.join(parts)})"


def check(x: ArrayLike, targets: ArrayLike, name: str = "data", training: bool = True) -> None:
    """Raise DataError unless x and targets are finite numbers that can be trained on.

    Args:
        x: rows `[N, ...]`.
        targets: `[N, ...]`; integers `[N]` are labels.
        name: what errors call the data.
        training: with False, one row or one class is enough.

    Raises:
        DataError: with the row, counted from 0, and the column of the first number that is wrong.

    >>> check([[1.0], [float("nan")]], [[0.0], [1.0]])
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: data: x row 1, column 0 is nan; expected finite numbers: remove or repair the row
    """
    check_rows(x, targets, name)
    targets = np.asarray(targets)
    if training and len(targets) == 1:
        raise DataError(f"{name}: found one row; expected two or more: add rows, or hold fewer out for validation")
    if training and targets.ndim == 1 and targets.dtype.kind in "iub" and (targets == targets[0]).all():
        raise DataError(
            f"{name}: every label is {targets[0]}; expected two classes or more: add rows of another class, "
            "or give numbers to predict as float targets [N, 1]"
        )


def split(x: np.ndarray, targets: np.ndarray, validation: float, seed: int | None = 0) -> tuple[Rows, Rows | None]:
    """Return (training, validation) rows, every row in one of the two.

    Args:
        x: rows `[N, ...]`.
        targets: `[N, ...]`.
        validation: how many are held out: a fraction below 1, rounded to whole rows, or a whole number of rows. With
            none, the second is None and the rows keep their order.
        seed: what chooses them; None for the last rows.

    Raises:
        DataError: fewer than two training rows would remain.

    >>> (x, targets), held = split(np.arange(10.0), np.arange(10), validation=3)
    >>> len(x), len(held[0]), sorted([*x, *held[0]]) == list(range(10))
    (7, 3, True)
    """
    count = _held_out(len(x), validation)
    if count == 0:
        return (x, targets), None
    if seed is None:
        return (x[:-count], targets[:-count]), (x[-count:], targets[-count:])
    order = random_numbers(seed, "split").permutation(len(x))
    held, kept = order[:count], order[count:]
    return (x[kept], targets[kept]), (x[held], targets[held])


def _held_out(rows: int, validation: float) -> int:
    whole = _is_integer(validation)
    if not whole and not (isinstance(validation, float | np.floating) and 0 <= validation < 1):
        raise DataError(f"validation is {validation!r}; expected a fraction from 0 to below 1, or a number of rows")
    count = int(validation) if whole else round(validation * rows)  # pyright: ignore[reportArgumentType]
    if not 0 <= count <= rows - min(rows, 2):  # a single row is `check`'s to refuse
        raise DataError(
            f"validation={validation!r} holds out {count} of {rows} rows; expected at least 0, and two rows left to "
            "train on: hold out fewer"
        )
    return count


def as_data(
    x: np.ndarray,
    targets: np.ndarray,
    validation: float,
    seed: int | None,
    source: str,
    where: str | Path = "",
    **names: Unpack[Names],
) -> Data:
    """Return rows as `Data`: checked, made float32 or int32, and split; `where` is what errors call them."""
    check(x, targets, str(where or source))
    _warn_of_equals(x, str(where or source))
    x = x.astype(np.float32, copy=False)
    targets = targets.astype(np.int32 if targets.dtype.kind in "iub" else np.float32, copy=False)
    rows, held = split(x, targets, validation, seed)
    if held is not None:
        check(*rows, f"{where or source}: training rows, {len(held[0])} held out")
    return Data(*rows, validation=held, source=source, **names)


def _warn_of_equals(x: np.ndarray, where: str) -> None:
    """Warn of columns whose numbers are too large for float32 to tell them apart: timestamps and ids, say."""
    if x.ndim != 2 or x.dtype == np.float32 or x.dtype.kind not in "iuf":
        return
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    for column in np.flatnonzero((np.maximum(abs(low), abs(high)) > 1e4 * (high - low)) & (high > low)):
        left, there = (len(np.unique(values)) for values in (x[:, column].astype(np.float32), x[:, column]))
        if left < there:
            warnings.warn(
                f"{where}: {there} different numbers of x, column {column}, are {left} in float32: subtract "
                f"{low[column]:.17g} from it before it is saved",
                stacklevel=4,
            )


def as_labels(
    values: Sequence[Any], where: str, key: Callable[[Any], Any] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return int32 labels `[N]` and the sorted class names they stand for."""
    found = sorted(set(values), key=key)
    if len(found) == 1 < len(values):  # a single row is `check`'s to refuse
        raise DataError(f"{where} holds a single class, {found[0]!r}; expected two or more: add rows of another class")
    number = {value: i for i, value in enumerate(found)}
    return np.array([number[value] for value in values], np.int32), tuple(map(str, found))


def random_numbers(seed: int, stream: str = "rows") -> np.random.Generator:
    """Return a generator; rows, their noise and the choice among them have a stream each, not the same random bits."""
    return np.random.default_rng([whole_number("seed", seed, 0), ("rows", "split", "noise").index(stream)])


def whole_number(name: str, value: object, lowest: int) -> int:
    """Return the option `name`, of Python or numpy, as an int ≥ `lowest`; else raise DataError."""
    if not _is_integer(value) or int(value) < lowest:
        raise DataError(f"{name} is {value!r}; expected a whole number ≥ {lowest}")
    return int(value)


def _is_integer(value: object) -> TypeGuard[numbers.Integral]:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def real_number(name: str, value: object, lowest: float = -LARGEST) -> float:
    """Return the option `name` as a finite float ≥ `lowest` (none, or 0); else raise DataError."""
    if not isinstance(value, numbers.Real) or not lowest <= float(value) <= LARGEST:
        raise DataError(f"{name} is {value!r}; expected a finite number{' ≥ 0' if lowest == 0 else ''}")
    return float(value)


def choose(name: object, known: Iterable[str], what: str, hint: str = "") -> str:
    """Return what `pick` chooses; a name that is not known is a DataError with a hint at its end."""
    try:
        return pick(str(name), known, what)
    except JaxpropError as error:
        raise DataError(f"{error}{hint}") from None


def read_bytes(path: str | Path) -> bytes:
    """Return all of a file; DataError where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a file: check the path") from None
