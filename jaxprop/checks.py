"""What rows must be before anything is done with them."""

from typing import Any

import numpy as np

from jaxprop.errors import DataError

LARGEST = float(np.finfo(np.float32).max)


def check_rows(x: Any, targets: Any, name: str = "data") -> None:
    """Raise DataError unless x `[N, ...]` and targets `[N, ...]` are finite numbers, one target a row.

    >>> check_rows([[1.0], [float("nan")]], [[0.0], [1.0]])
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: data: x row 1, column 0 is nan; expected finite numbers: remove or repair the row
    """
    x, targets = check_finite(x, f"{name}: x"), check_finite(targets, f"{name}: targets")
    if len(x) != len(targets):
        raise DataError(f"{name}: found {len(x)} rows of x and {len(targets)} of targets; expected one target per row")


def check_finite(values: Any, what: str) -> np.ndarray:
    """Return `values` as an array of finite real numbers with a first axis, or raise DataError saying where not."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise DataError(f"{what} has rows of different lengths; expected one shape for all: pad or cut them") from None
    if not (array.dtype.kind in "biu" or "float" in array.dtype.name):  # "float": bfloat16 has a kind of its own
        raise DataError(f"{what} is of dtype {array.dtype}; expected real numbers: convert with x.astype('float32')")
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"{what} is empty, of shape {list(array.shape)}; expected [N, ...] with at least one row")
    with np.errstate(invalid="ignore"):
        fits = -LARGEST <= array.min() and array.max() <= LARGEST  # NaN compares as false
    if not fits:
        _raise_for_nonfinite(array, what)
    return array


def _raise_for_nonfinite(array: np.ndarray, what: str) -> None:
    """Name the first number that float32 cannot hold; there may be none, for rounding."""
    with np.errstate(over="ignore"):  # what overflows float32 becomes inf here, not later in the network
        nonfinite = np.argwhere(~np.isfinite(array.astype(np.float32, copy=False)))
    if not len(nonfinite):
        return
    row, *rest = index = tuple(int(i) for i in nonfinite[0])
    where = f"row {row}" + (f", column {', '.join(map(str, rest))}" if rest else "")
    if np.isfinite(array[index]):
        raise DataError(
            f"{what} {where} is {array[index]}; float32 ends at {LARGEST:.2g}: rescale, as with a smaller unit"
        )
    raise DataError(f"{what} {where} is {array[index]}; expected finite numbers: remove or repair the row")
