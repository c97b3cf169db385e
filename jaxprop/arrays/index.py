"""An index: which entry of an array is meant, read from text and checked against the array's shape."""

import operator
from typing import Any

from jaxprop.errors import JaxpropError


def read_index(text: str) -> tuple[int, ...]:
    """Read the index that "12,3" writes; empty text is the index of a scalar.

    Raises JaxpropError for anything but whole numbers separated by commas.

    >>> read_index("12,3"), read_index("7"), read_index("")
    ((12, 3), (7,), ())
    """
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise JaxpropError(f"--index: found {text!r}, expected whole numbers such as 12,3 or 7") from None


def check_index(index: Any, path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return `index` (a whole number, or a tuple of them) as an index of the array at `path`, which has `shape`.

    Raises JaxpropError for what is not whole, for too many or too few numbers, and for one that is out of range.

    >>> check_index((12, 3), "0.W", (64, 10)), check_index(7, "0.b", (10,))
    ((12, 3), (7,))
    >>> check_index((64, 3), "0.W", (64, 10))
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: index [64, 3]: 0.W has shape [64, 10], so its index runs over 0 to 63 and 0 to 9
    """
    given = index if isinstance(index, tuple | list) else (index,)
    try:
        found = tuple(operator.index(i) for i in given)
    except TypeError:
        raise JaxpropError(f"index must be whole numbers, found {index!r}; {path} has shape {list(shape)}") from None
    if len(found) != len(shape):
        needs = f"{len(shape)} number" + "s" * (len(shape) != 1)
        raise JaxpropError(f"index {list(found)}: {path} has shape {list(shape)}, so its index is {needs}")
    if not all(0 <= i < n for i, n in zip(found, shape, strict=True)):
        ranges = " and ".join(f"0 to {n - 1}" for n in shape)
        raise JaxpropError(f"index {list(found)}: {path} has shape {list(shape)}, so its index runs over {ranges}")
    return found
