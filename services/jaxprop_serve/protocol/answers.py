"""How many bytes an answer may have, known before it is computed, and large answers made a piece at a time.

A piece is a few milliseconds of work at most, with `breathe` between two, and is sent by itself.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson

from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol.aside import breathe
from jaxprop_serve.protocol.data import to_bytes
from jaxprop_serve.protocol.tensors import DATATYPES

Piece = bytes | memoryview
LARGE_ANSWER = 1 << 19  # bytes, at most; what is smaller is made in the event loop
_PIECE_VALUES, _PIECE_BYTES = 1 << 14, 1 << 18
_NAMES = 1 << 16  # bytes of an answer that are not values


def check_answer(rows: int, row: int, limit: int, model: str) -> None:
    """Raise ServeError 400 if the answer to so many rows may be larger than `limit`, of `row` bytes for each."""
    if rows * row <= limit:
        return
    fits = f"ask for at most {limit // row} at once" if row <= limit else "one row is too many: ask for less of it"
    raise ServeError(
        400,
        f"model '{model}': the answer to {rows} rows may have {rows * row:,} bytes, {row:,} for each, and at most "
        f"{limit:,} are sent (max_answer_bytes): {fits}",
        limit="answer",
    )


def string_bytes(outputs: Iterable[np.ndarray]) -> int:
    """Return how many bytes all strings of the outputs have."""
    return sum(len(text) for array in outputs if array.dtype == object for text in array.reshape(-1))


def gathered(pieces: Iterable[Piece], limit: int, model: str) -> list[Piece]:
    """Return the pieces of an answer, made one after the other; ServeError 400 once they are more than `limit`."""
    found: list[Piece] = []
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit + _NAMES:  # strings, whose length nobody knew
            raise ServeError(
                400, f"model '{model}': the answer has more than {limit:,} bytes, the most that are sent "
                "(max_answer_bytes): ask for fewer rows at once", limit="answer",
            )  # fmt: skip
        found.append(piece)
        breathe()
    return found


def in_json(value: Any) -> Iterator[bytes]:
    """Yield a value's JSON, long lists and arrays in several pieces.

    >>> b"".join(in_json({"a": [1, 2], "b": {}, "c": np.zeros((2, 1))}))
    b'{"a":[1,2],"b":{},"c":[[0.0],[0.0]]}'
    """
    if isinstance(value, dict) and value:
        for i, (key, inner) in enumerate(value.items()):
            yield b"%b%b:" % (b"," if i else b"{", orjson.dumps(key))
            yield from in_json(inner)
        yield b"}"
    elif step := _at_once(value):
        for i in range(0, len(value), step):
            yield b"," if i else b"["
            if step == 1:
                yield from in_json(value[i])
            else:
                yield written(value[i : i + step])[1:-1]
        yield b"]"
    else:
        yield written(value)


def _at_once(value: Any) -> int:
    """Return how many elements of a list or an array are one piece; 0 for a value that is one piece as it is."""
    if isinstance(value, np.ndarray):
        return max(1, _PIECE_VALUES * len(value) // value.size) if value.size > _PIECE_VALUES else 0
    if not isinstance(value, list) or not value:
        return 0
    return 1 if isinstance(value[0], dict) else _PIECE_VALUES


def written(value: object) -> bytes:
    """Return a value's JSON."""
    return orjson.dumps(value, default=np.ndarray.tolist, option=orjson.OPT_SERIALIZE_NUMPY)


def in_binary(array: np.ndarray, datatype: str) -> Iterator[Piece]:
    """Yield an array's raw bytes, as `to_bytes` has them, mostly without copying them."""
    if datatype == "BYTES":
        flat = array.reshape(-1)
        for i in range(0, len(flat), _PIECE_VALUES):
            yield to_bytes(flat[i : i + _PIECE_VALUES], datatype)
        return
    dtype = DATATYPES[datatype]
    raw = np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data
    for i in range(0, len(raw), _PIECE_BYTES):
        yield raw[i : i + _PIECE_BYTES]
