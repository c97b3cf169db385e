"""What people give as rows that are not in memory, as a source."""

import mmap
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxprop.arrays.given import in_own_precision
from jaxprop.checks import check_finite
from jaxprop.errors import DataError, JaxpropError
from jaxprop.train.precision import Precision, kept
from jaxprop.train.rows import Rows, as_numpy, read_mask, read_rows, read_weights
from jaxprop.train.sources.files import ArrayElsewhere, FileArray, Piece, Stored
from jaxprop.train.sources.grain import Records, Stream, is_rows_by_number, is_stream
from jaxprop.train.sources.own import Own, is_own
from jaxprop.train.sources.source import Cast, Source, Weighted


def read_data(given: Any, name: str = "data", weights: Any = None, mask: Any = None) -> Rows | Source | Stream:
    """Return what people give as rows: in memory, checked; or where they are read as they are needed.

    given: what `read_rows` takes, or what `as_source` and `Stream` do.

    >>> read_data(([[1.0], [2.0]], [0, 1])).x.shape
    (2, 1)
    """
    if (source := as_source(given, name, weights, mask)) is not None:
        return source
    if is_stream(given):
        if weights is not None or mask is not None:
            raise JaxpropError(
                f"fit: {name} is a stream, whose rows have no numbers: give weights and masks in its batches"
            )
        return given if isinstance(given, Stream) else Stream(given, name=name)
    return read_rows(given, name, weights, mask)


def in_precision(rows: Any, precision: Precision | None) -> Any:
    """Return rows with their floating numbers as a precision keeps them, wherever they are; None stays None.

    >>> in_precision(Rows(np.ones(1, np.float16), np.arange(1)), "float32").x.dtype.name
    'float32'
    """
    if precision is None or not isinstance(rows, Source | Stream):
        return kept(rows, precision)
    return Cast(rows, precision) if isinstance(rows, Source) else rows.mapped(lambda part: kept(part, precision))


def as_source(given: Any, name: str = "data", weights: Any = None, mask: Any = None) -> Source | None:
    """Return rows that are read as they are needed as a source; None for what is in memory.

    given: a `Source`; a pair (x, targets) of which one is a memory map of numpy's or an array of files; a data set of
    Grain's whose elements are such pairs, or dicts with x and targets; an object with `rows` and `read`.

    >>> as_source(([[1.0]], [0])) is None
    True
    """
    if isinstance(given, tuple | list) and 2 <= len(given) <= 4:
        parts = [file_array(part) for part in given]
        if not any(map(_is_stored, parts)):
            return None
        source: Source = _paired(parts, name)
        weights, mask = (*parts[2:], *(weights, mask)[len(parts) - 2 :])
    elif isinstance(given, Source):
        source = given
    elif is_own(given):
        source = Own(given, name)
    elif is_rows_by_number(given):
        source = Records(given, name)
    else:
        return None
    if weights is None and mask is None:
        return source
    if weights is not None:
        weights = read_weights(weights, source.rows, f"{name}: weights")
        weights = weights / np.mean(weights, dtype=weights.dtype)
    return Weighted(source, weights, read_mask(mask, source.rows, f"{name}: mask"))


def as_inputs(given: Any, mask: Any = None) -> Source | None:
    """Return inputs x that are not in memory as a source, with their targets or without; None for what is in memory.

    mask: what padding is masked by, from memory, with first axis N.

    >>> as_inputs([[1.0]]) is None
    True
    """
    x = file_array(given)
    source = Stored(Rows(x, None)) if _is_stored(x) else None if isinstance(given, tuple) else as_source(given)
    if source is None or mask is None:
        return source
    return Weighted(source, None, read_mask(mask, source.rows))


def file_array(given: Any) -> Any:
    """Return a memory map of numpy's, opened for reading, as an array of files; anything else as it is."""
    if isinstance(given, dict):
        return {name: file_array(part) for name, part in given.items()}
    whole = isinstance(given, np.memmap) and isinstance(given.base, mmap.mmap) and given.flags.c_contiguous
    if not whole or given.mode == "c" or given.filename is None or not given.ndim:
        return given  # a view of one, or one whose changes are nowhere but in memory
    path = Path(given.filename)
    return FileArray([Piece(path, given.offset, len(given))], given.dtype, given.shape[1:], str(path))


def _is_stored(part: Any) -> bool:
    return isinstance(part, ArrayElsewhere) or (isinstance(part, dict) and any(map(_is_stored, part.values())))


def _paired(parts: list[Any], name: str) -> Source:
    """A source of x and targets, of which one is stored and the other may lie in memory."""
    whats = (f"{name}: x", f"{name}: targets")
    read = [_part(part, what) for part, what in zip(parts, whats, strict=False)]
    try:
        return Stored(Rows(*read))
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _part(part: Any, what: str) -> Any:
    if isinstance(part, dict):
        return {name: _part(inner, f"{what}, {name}") for name, inner in part.items()}
    if not isinstance(part, ArrayElsewhere):
        return jax.tree.map(lambda array: in_own_precision(check_finite(array, what), what), as_numpy(part, what))
    if not (part.dtype.kind in "biu" or "float" in part.dtype.name):
        raise DataError(f"{what} is of dtype {part.dtype}; expected real numbers: save it with x.astype('float32')")
    if not len(part):
        raise DataError(f"{what} is empty, of shape {list(part.shape)}; expected [N, ...] with at least one row")
    return part
