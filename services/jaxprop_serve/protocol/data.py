"""Tensors' values on the wire: JSON lists and raw bytes to numpy arrays and back, losing nothing without saying so.

JSON has no NaN, no Infinity and no half precision; such values travel as raw bytes, and asking for them in JSON is an
error, never a silent `null`. Numbers that do not fit the datatype, strings, nulls and booleans in place of numbers, and
ragged lists are refused with the path of the first one.
"""

import math
import re
import struct
from functools import cache
from typing import Any

import msgspec
import numpy as np

from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol.json_reading import read_json
from jaxprop_serve.protocol.large_json import LONGEST, Content, count, pieces, without_byte
from jaxprop_serve.protocol.tensors import DATATYPES, TensorSpec

BINARY_ONLY = ("FP16", "BF16")
_LONGEST_ESCAPED = 1 << 22  # bytes; the parser takes long to undo so many escapes, and cannot be interrupted

# How a JSON value of each datatype is packed: struct refuses what does not fit, and is three times as fast as np.array.
_PACK = {
    "BOOL": "?",
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP32": "f", "FP64": "d",
}  # fmt: skip
_PYTHON = {"BOOL": bool, "BYTES": str, "FP16": float, "BF16": float, "FP32": float, "FP64": float}


@cache
def _nested(python: type, depth: int) -> msgspec.json.Decoder[Any]:
    kind: Any = python
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def from_json(
    values: list[Any] | msgspec.Raw | Content, spec: TensorSpec, shape: list[int], model: str, path: str
) -> np.ndarray:
    """Return `data` (a flat list, or its JSON, flat or nested in the tensor's shape) as an array."""
    if spec.datatype in BINARY_ONLY:
        raise ServeError(400, f"input '{spec.name}' for model '{model}' is {spec.datatype}: send it as binary data")
    expected = math.prod(shape)
    try:
        if not isinstance(values, list):
            if isinstance(values, Content):
                return _large(values, spec, shape, path)
            values = _values(bytes(values), spec, shape, path)
        if len(values) == expected:
            return pack(values, spec, path).reshape(shape)
    except ServeError as error:
        raise ServeError(400, f"input '{spec.name}' for model '{model}': {error.text}") from None
    raise ServeError(400, f"input '{spec.name}' for model '{model}' {_other_count(len(values), shape)}")


def _other_count(found: int, shape: list[int]) -> str:
    return f"got {found} elements, but shape {shape} holds {math.prod(shape)}"


def _large(content: Content, spec: TensorSpec, shape: list[int], path: str) -> np.ndarray:
    """Return a large list, flat or nested in the tensor's shape, as an array."""
    if leading_brackets(content.beginning()) > 1:
        return _in_pieces(content, spec, shape, path).reshape(shape)
    if (found := count(content)) != math.prod(shape):
        raise ServeError(400, _other_count(found, shape))
    return _in_pieces(content, spec, [found], path).reshape(shape)


def _values(text: bytes, spec: TensorSpec, shape: list[int], path: str) -> list[Any]:
    nested = leading_brackets(text) > 1
    values = read_json(text, _nested(python_type(spec), len(shape) if nested else 1), where=path)
    return flatten(values, shape, path) if nested else values


def _in_pieces(content: Content, spec: TensorSpec, shape: list[int], path: str) -> np.ndarray:
    """Return the flat array of a large list that is nested as `shape` says.

    It is counted first, and then read a piece at a time: its values are never all there as Python objects.
    """
    into = np.empty(math.prod(shape), spec.dtype)
    _fill(into, content, spec, shape, path)
    return into


def _fill(into: np.ndarray, content: Content, spec: TensorSpec, shape: list[int], path: str) -> None:
    if (found := count(content)) != shape[0]:
        raise ServeError(400, f"`${path}` has {found} elements, expected {shape[0]}")
    size, decoder, first = math.prod(shape[1:]), _nested(python_type(spec), len(shape)), 0
    for piece in pieces(content):
        element = piece.strip() if len(piece) > LONGEST and len(shape) > 1 else b""
        if element[:1] == b"[" and element[-1:] == b"]":
            inner = Content(element, 1, len(element) - 1)
            _fill(into[first * size : (first + 1) * size], inner, spec, shape[1:], f"{path}[{first}]")
            first += 1
            continue
        if len(piece) > _LONGEST_ESCAPED and b"\\" in piece:
            raise ServeError(400, f"`${path}[{first}]` is a long string with escapes in it: send it as binary data")
        try:
            values = read_json(b"[%b]" % piece, decoder, where=path)
            flat = flatten(values, [len(values), *shape[1:]], path)
        except ServeError as error:
            raise ServeError(400, counted_on(error.text, path, first)) from None
        try:
            into[first * size : first * size + len(flat)] = pack(flat, spec, path)
        except ServeError as error:
            raise ServeError(400, counted_on(error.text, path, first * size)) from None
        first += len(values)


def counted_on(text: str, path: str, first: int) -> str:
    """Return what is said of a piece of a list, as of the whole list, in which `first` elements come before it.

    >>> counted_on("Expected `int`, got `str` - at `$.rows[2][1]`", ".rows", 100)
    'Expected `int`, got `str` - at `$.rows[102][1]`'
    """
    where = rf"`\$({re.escape(path)})\[(\d+)\]"
    return re.sub(where, lambda found: f"`${found[1]}[{first + int(found[2])}]", without_byte(text))


def rows_from_json(text: bytes | Content, spec: TensorSpec, max_rows: int) -> np.ndarray:
    """Return a JSON list of rows, each flat or in the input's own shape, as a tensor [rows, ...] of the input's
    datatype."""
    row = list(spec.shape[1:])
    depth = leading_brackets(text if isinstance(text, bytes) else text.beginning())
    if depth not in (2, len(row) + 1):
        raise ServeError(400, f"expected a list of lists of {math.prod(row)} values each")
    nested = row if depth == len(row) + 1 else [math.prod(row)]
    packed = TensorSpec(spec.name, "FP32", spec.shape) if spec.datatype in BINARY_ONLY else spec
    if isinstance(text, Content):
        rows = checked_rows(count(text), max_rows)
        flat = _in_pieces(text, packed, [rows, *nested], ".rows")
    else:
        values = read_json(text, _nested(python_type(spec), depth), where=".rows")
        rows = checked_rows(len(values), max_rows)
        flat = pack(flatten(values, [rows, *nested], ".rows"), packed, ".rows")
    if packed is not spec:
        with np.errstate(over="ignore"):
            flat = flat.astype(spec.dtype)
        if not np.isfinite(flat).all():
            raise ServeError(400, f"a value in `$.rows` does not fit into {spec.datatype}")
    return flat.reshape(rows, *row)


def checked_rows(found: int, most: int) -> int:
    """Return the number of rows; ServeError 400 if there are none, or too many."""
    if not 0 < found <= most:
        raise ServeError(400, f"expected 1 to {most} rows at once, got {found}", limit="rows" if found else None)
    return found


def leading_brackets(text: bytes) -> int:
    """Return how deep the first value of a JSON list lies: 2 for `[[1`."""
    start = text[:1024].translate(None, b" \t\r\n")
    return len(start) - len(start.lstrip(b"["))


def python_type(spec: TensorSpec) -> type:
    """Return the Python type that one element has in JSON."""
    return _PYTHON.get(spec.datatype, int)


def flatten(data: list[Any], shape: list[int], path: str) -> list[Any]:
    """Flatten nested lists, row-major; raise ServeError 400 where one is longer or shorter than the shape says."""
    if len(data) != shape[0]:
        raise ServeError(400, f"`${path}` has {len(data)} elements, expected {shape[0]}")
    if len(shape) == 1:
        return data
    return [value for i, part in enumerate(data) for value in flatten(part, shape[1:], f"{path}[{i}]")]


def pack(values: list[Any], spec: TensorSpec, path: str = "") -> np.ndarray:
    """Pack Python values into a flat array of the tensor's datatype; ServeError 400 names the first that does not
    fit."""
    if spec.datatype == "BYTES":
        return np.array([value.encode() for value in values], dtype=object)
    code = _PACK[spec.datatype]
    try:
        return np.frombuffer(struct.pack(f"<{len(values)}{code}", *values), spec.dtype)
    except (struct.error, OverflowError):
        for i, value in enumerate(values):
            try:
                struct.pack(f"<{code}", value)
            except (struct.error, OverflowError):
                raise ServeError(400, f"`${path}[{i}]` does not fit into {spec.datatype}") from None
        raise


def from_bytes(body: bytes, spec: TensorSpec, shape: list[int], model: str, start: int, size: int) -> np.ndarray:
    """View `size` raw little-endian, row-major bytes as an array; raise ServeError 400 unless they are just as many
    as needed."""
    if spec.datatype == "BYTES":
        return _strings(body[start : start + size], spec, shape, model)
    elements = math.prod(shape)
    if size != elements * spec.dtype.itemsize:
        needed = elements * spec.dtype.itemsize
        raise ServeError(
            400,
            f"input '{spec.name}' for model '{model}' got {size} bytes of binary data, shape {shape} needs {needed}",
        )
    array = np.frombuffer(body, spec.dtype, elements, start)
    if spec.datatype == "BOOL" and (array.view(np.uint8) > 1).any():
        raise ServeError(400, f"input '{spec.name}' for model '{model}': a BOOL is a byte 0 or 1")
    return array.reshape(shape)


def _strings(data: bytes, spec: TensorSpec, shape: list[int], model: str) -> np.ndarray:
    values, offset, needed = [], 0, math.prod(shape)
    while offset < len(data) and len(values) < needed:
        end = offset + 4 + int.from_bytes(data[offset : offset + 4], "little")
        if offset + 4 > len(data) or end > len(data):
            break
        values.append(data[offset + 4 : end])
        offset = end
    if offset != len(data) or len(values) != needed:
        raise ServeError(
            400,
            f"input '{spec.name}' for model '{model}' got {len(values)} whole strings, shape {shape} needs {needed}",
        )
    array = np.empty(needed, dtype=object)
    array[:] = values
    return array.reshape(shape)


def to_bytes(array: np.ndarray, datatype: str) -> bytes:
    """Return an array's raw little-endian bytes; for BYTES, each string follows its length."""
    if datatype == "BYTES":
        return b"".join(len(s).to_bytes(4, "little") + s for s in map(_as_bytes, array.reshape(-1)))
    dtype = DATATYPES[datatype]
    return array.tobytes() if array.dtype == dtype else array.astype(dtype).tobytes()


def to_json(array: np.ndarray, datatype: str, name: str, model: str) -> np.ndarray:
    """Return the array as orjson can write it without loss; raise ServeError 400 if it holds what JSON cannot say."""
    if datatype == "BYTES":
        try:
            return np.array([_as_bytes(value).decode() for value in array.reshape(-1)], object).reshape(array.shape)
        except UnicodeDecodeError:
            found = "a string that is not UTF-8"
    elif array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    else:
        found = "NaN or Infinity"
    raise ServeError(
        400, f"output '{name}' of model '{model}' holds {found}, which JSON cannot say: ask for binary data"
    )


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
