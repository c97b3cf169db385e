"""What `fit` asks of the rows that it trains on: how many there are, and some of them, by number."""

import abc
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxprop.errors import DataError
from jaxprop.train.precision import Precision, kept
from jaxprop.train.rows import Rows

ROWS_LOOKED_AT = 256  # before the first step, for shapes: where rows are not in memory, all are checked as they come


class Source(abc.ABC):
    """Rows that are read by number, in any order. `rows` and `read` are all that one must have.

    A class of your own need not be a `Source`: with `rows` and `read(numbers)`, which returns a pair (x, targets), or a
    dict with weights and mask beside these, `fit` takes it too. A `Source` writes into the arrays that are given it.

    >>> class Squares(Source):
    ...     rows = 1000
    ...     def read(self, numbers, out=None):
    ...         x = numbers[:, None].astype(np.float32)
    ...         return filled(Rows(x, x**2), out)
    >>> Squares().read(np.array([3, 1])).targets.tolist()
    [[9.0], [1.0]]
    """

    @property
    @abc.abstractmethod
    def rows(self) -> int:
        """How many rows there are, N."""

    @abc.abstractmethod
    def read(self, numbers: np.ndarray, out: Any = None) -> Any:
        """Return the `Rows` of these numbers `[K]`, in this order, as numpy arrays with the first axis K.

        Into `out`, arrays with at least K rows, if they are given: then the result has all the rows of `out`. A thread
        of its own calls it, never two at once. Numbers are in JAX's own precision: 32 bits unless its 64 are on.
        """

    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""
        return f"row {number}"

    def digest(self) -> dict[str, Any]:
        """Return, as plain data, what tells these rows from others without reading all of them."""
        return {"kind": type(self).__name__, "rows": self.rows}

    def split(self, validation: float, seed: int | None = 0) -> tuple["Source", "Source"]:
        """Return (training, validation) rows, every row in one of the two.

        Args:
            validation: how many are held out: a fraction below 1, rounded to whole rows, or a whole number of rows.
            seed: what chooses them; None for the last rows.

        Raises:
            DataError: one of the two would have no rows.
        """
        count = round(validation * self.rows) if validation < 1 else int(validation)
        if not 0 < count < self.rows:
            raise DataError(
                f"split: validation={validation!r} holds out {count} of {self.rows} rows; expected at least one row in "
                "each part"
            )
        order = np.arange(self.rows) if seed is None else np.random.default_rng([seed, 1]).permutation(self.rows)
        order = order.astype(np.int32 if self.rows < 2**31 else np.int64)  # it is kept: 4 bytes a row
        return Part(self, np.sort(order[:-count])), Part(self, np.sort(order[-count:]))


class Part(Source):
    """Some rows of a source."""

    def __init__(self, source: Source, numbers: np.ndarray) -> None:
        self.source, self.numbers = source, numbers

    @property
    def rows(self) -> int:
        """How many rows there are, N."""
        return len(self.numbers)

    def read(self, numbers: np.ndarray, out: Any = None) -> Any:
        """Return the rows of these numbers, see `Source`."""
        return self.source.read(self.numbers[numbers].astype(np.int64), out)

    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""
        return self.source.where(int(self.numbers[number]))

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others."""
        chosen = (len(self.numbers), *self.numbers[:: max(1, len(self.numbers) // 64)].tolist())
        return {"of": self.source.digest(), "rows": chosen}


class Around(Source):
    """The rows of a source, with something done to each."""

    source: Source

    @property
    def rows(self) -> int:
        """How many rows there are, N."""
        return self.source.rows

    def where(self, number: int) -> str:
        """Return where a row lies, for errors."""
        return self.source.where(number)

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others."""
        return self.source.digest()


class Weighted(Around):
    """The rows of a source, with a weight and a mask for each from memory; the weights have the mean 1."""

    def __init__(self, source: Source, weights: np.ndarray | None, mask: PyTree) -> None:
        self.source, self.weights, self.mask = source, weights, mask

    def read(self, numbers: np.ndarray, out: Any = None) -> Any:
        """Return the rows of these numbers, see `Source`."""
        mine = {"weights": self.weights} | ({} if self.mask is None else {"mask": self.mask})
        mine = {name: part for name, part in mine.items() if part is not None}
        theirs = self.source.read(numbers, None if out is None else out._replace(**dict.fromkeys(mine)))
        own = jax.tree.map(lambda part: part[numbers], mine)
        if out is not None:
            own = filled(own, {name: getattr(out, name) for name in own})
        return theirs._replace(**own)

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others."""
        bytes_of = b"".join(np.ascontiguousarray(part).tobytes() for part in jax.tree.leaves((self.weights, self.mask)))
        return {"of": self.source.digest(), "weights and mask": hashlib.sha256(bytes_of).hexdigest()}


class Cast(Around):
    """The rows of a source, with floating numbers as a precision keeps them."""

    def __init__(self, source: Source, precision: Precision) -> None:
        self.source = source
        self.precision: Precision = precision

    def read(self, numbers: np.ndarray, out: Any = None) -> Any:
        """Return the rows of these numbers, see `Source`."""
        found = self.source.read(numbers, out)  # what is written into `out` takes its dtypes
        return found if out is not None else kept(found, self.precision)


class Checked(Around):
    """The rows of a source, each looked at when it is read for the first time: the first epoch reads every one."""

    def __init__(self, source: Source, check: Callable[[Rows], None]) -> None:
        self.source, self.check = source, check
        self.left = source.rows + 1  # one is read before the first epoch

    def read(self, numbers: np.ndarray, out: Any = None) -> Any:
        """Return the rows of these numbers, see `Source`."""
        found = self.source.read(numbers, out)
        if self.left > 0:
            self.left -= len(numbers)
            read = jax.tree.map(lambda part: part[: len(numbers)], found)
            check_read(self.source.where, numbers.tolist(), read, self.check)
        return found


def check_read(where: Callable[[int], str], numbers: Sequence[int], rows: Rows, check: Callable[[Rows], None]) -> None:
    """Raise DataError, with the place of the row, unless rows are finite and `check` lets them pass."""
    for name, part in (("x", rows.x), ("targets", rows.targets), ("weights", rows.weights), ("mask", rows.mask)):
        for array in jax.tree.leaves(part):
            _check_finite(where, numbers, array, name)
    try:
        check(rows)
    except DataError:
        for i, number in enumerate(numbers):  # which one it is
            try:
                check(jax.tree.map(lambda part, i=i: part[i : i + 1], rows))
            except DataError as error:
                raise DataError(f"{where(number)}: {error}") from None
        raise


def _check_finite(where: Callable[[int], str], numbers: Sequence[int], array: np.ndarray, name: str) -> None:
    if array.dtype.kind in "biu":
        return
    with np.errstate(all="ignore"):
        if np.isfinite(np.add.reduce(array.reshape(-1))):  # one pass; what is not finite stays so
            return
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        row, *column = (int(i) for i in wrong[0])
        at = f", column {', '.join(map(str, column))}," if column else ""
        found = array[tuple(wrong[0])]
        raise DataError(
            f"{where(numbers[row])}: {name}{at} is {found}; expected finite numbers: remove or repair the row"
        )


def sample(source: Any) -> Rows:
    """Return the first rows of a source or a stream, from which shapes are known."""
    if not isinstance(source, Source):
        return source.first(ROWS_LOOKED_AT)
    return source.read(np.arange(min(source.rows, ROWS_LOOKED_AT)))


def filled(found: Any, out: Any) -> Any:
    """Return rows that were found: as they are, or copied into the first rows of `out`.

    >>> filled(np.array([1, 2]), np.zeros(3, int))
    array([1, 2, 0])
    """
    if out is None:
        return found

    def fill(array: np.ndarray, buffer: np.ndarray) -> np.ndarray:
        buffer[: len(array)] = array
        return buffer

    return jax.tree.map(fill, found, out)


def sha256_of(rows: Any) -> str:
    """Return a digest of the bytes of some rows, array after array.

    >>> sha256_of(np.zeros(1)) == sha256_of(np.ones(1))
    False
    """
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(rows))).hexdigest()
