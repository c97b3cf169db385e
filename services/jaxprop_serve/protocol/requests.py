"""The Open Inference Protocol's request and answer: JSON, and tensors as raw bytes behind it (binary_tensor_data).

A request with the header `Inference-Header-Content-Length: N` is N bytes of JSON followed by the raw tensors in the
order of `inputs`; N = 0 means that all of it is the one input's bytes; without the header all of it is JSON. What the
Content-Type says does not matter (clients send none). Everything is checked, against the model's signature (checks.py),
before anything is queued.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson

from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol import again
from jaxprop_serve.protocol.answers import Piece, check_answer, gathered, in_binary, in_json, written
from jaxprop_serve.protocol.aside import LARGE
from jaxprop_serve.protocol.by_column import names_columns
from jaxprop_serve.protocol.checks import Item, Parameters, Wanted, check_inputs, checked_timeout, wanted_outputs
from jaxprop_serve.protocol.data import from_bytes, from_json, python_type, to_bytes, to_json
from jaxprop_serve.protocol.json_reading import read_json
from jaxprop_serve.protocol.large_json import allowance, skeleton, without_byte
from jaxprop_serve.protocol.tensors import Signature

LENGTH = b"inference-header-content-length"
MAX_ROWS, MAX_DEPTH = 8192, 100


@dataclass(slots=True)
class InferRequest:
    """A checked request, whose `inputs` [rows, ...] by name are ready to be queued."""

    id: str | None
    inputs: dict[str, np.ndarray]
    outputs: tuple[Wanted, ...]
    parameters: dict[str, Any]
    timeout_us: int | None

    @property
    def rows(self) -> int:
        """The number of rows, the same for all inputs."""
        return len(next(iter(self.inputs.values())))


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: Parameters | None = None


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Output] | None = None


_general = msgspec.json.Decoder(_Request)
_shape, _skipped = msgspec.json.Decoder(list[int]), msgspec.json.Decoder(msgspec.Raw)
_DEPTH = 4  # of an input's lists: {"inputs": [{"data": [


@cache
def _flat(python: type) -> msgspec.json.Decoder[Any]:
    """Return the fast decoder: one pass over flat data of one Python type; it skips nothing, which bounds the depth."""
    data = ("data", list[python] | msgspec.UnsetType, msgspec.UNSET)
    parameters = ("parameters", Parameters | None, None)
    fields = [("name", str), ("shape", list[int]), ("datatype", str), parameters, data]
    item = msgspec.defstruct("Input", fields, forbid_unknown_fields=True)
    fields = [("inputs", list[item]), ("id", str | None, None), parameters, ("outputs", list[_Output] | None, None)]
    return msgspec.json.Decoder(msgspec.defstruct("Request", fields, forbid_unknown_fields=True))


def takes_long(headers: Mapping[bytes, bytes], body: bytes, signature: Signature) -> bool:
    """Return whether a body is to be read beside the event loop: it is large, and not mostly numbers in binary."""
    if len(body) <= LARGE:
        return False
    length = headers.get(LENGTH, b"")
    strings = any(spec.datatype == "BYTES" for spec in signature.inputs) or signature.table is not None
    return strings or not (length.isdigit() and int(length[:20]) <= LARGE)


def decode(
    headers: Mapping[bytes, bytes],
    body: bytes,
    signature: Signature,
    model: str,
    *,
    max_rows: int = MAX_ROWS,
    max_depth: int = MAX_DEPTH,
) -> InferRequest:
    """Read and check an inference request.

    Args:
        headers: by lower-case name (only Inference-Header-Content-Length is read).
        body: decompressed.
        signature: what the model takes and gives.
        model: its name, for messages.
        max_rows: of one request.
        max_depth: of its JSON.

    Raises ServeError 400 naming the model, the input, what was wanted and what came.
    """
    length = headers.get(LENGTH)
    if length is None:
        parts = again.split(body)
        found = parts and again.read(parts, signature, max_rows)
        if found:
            head, x = found
            return InferRequest(head.id, {head.inputs[0].spec.name: x}, head.outputs, head.parameters, head.timeout_us)
        head, start = _read(body, signature, model, max_rows, max_depth, False), len(body)
        one = len(head.inputs) == len(signature.inputs) == 1 and head.inputs[0].spec is signature.inputs[0]  # no column
        if parts and head.id is None and one:  # words with an id are new
            known = head._replace(inputs=(head.inputs[0]._replace(data=None),))
            again.remember(parts, signature, max_rows, known, _flat(python_type(signature.inputs[0])))
    else:
        start = _header_length(length, len(body))
        if start == 0:
            return _raw(body, signature, model)
        text = body[:start]
        head = _remembered.get((text, id(signature), max_rows))
        if head is None:
            head = _read(text, signature, model, max_rows, max_depth, True)
            _remember(text, signature, max_rows, head)
        if start + head.size != len(body):
            found = len(body) - start
            raise ServeError(
                400, f"{found} bytes of binary data follow the JSON, but the inputs account for {head.size}"
            )
    inputs = {}
    for item in head.inputs:
        if item.size is None:
            inputs[item.spec.name] = from_json(item.data, item.spec, item.shape, model, item.path)
        else:
            inputs[item.spec.name] = from_bytes(body, item.spec, item.shape, model, start, item.size)
            start += item.size
    return InferRequest(head.id, inputs, head.outputs, head.parameters, head.timeout_us)


class _Head(NamedTuple):
    """The checked JSON of a request, without the values of its inputs."""

    signature: Signature
    id: str | None
    inputs: tuple[Item, ...]
    outputs: tuple[Wanted, ...]
    parameters: dict[str, Any]
    timeout_us: int | None
    size: int  # bytes of binary data that must follow


# Clients that send their tensors as bytes send the same few words of JSON before them, request after request.
_remembered: dict[tuple[bytes, int, int], _Head] = {}
_REMEMBERED, _LONGEST = 512, 1024


def _remember(text: bytes, signature: Signature, max_rows: int, head: _Head) -> None:
    """Keep a head without values. It holds its signature, so the signature's id cannot become another's."""
    if len(text) <= _LONGEST and all(item.size is not None for item in head.inputs):
        if len(_remembered) >= _REMEMBERED:
            _remembered.clear()
        _remembered[text, id(signature), max_rows] = head


def _read(text: bytes, signature: Signature, model: str, max_rows: int, max_depth: int, has_tail: bool) -> _Head:
    request = _parse(text, signature, max_depth)
    parameters = request.parameters or {}
    inputs = check_inputs(request.inputs, signature, model, max_rows, has_tail)
    timeout = checked_timeout(parameters)
    outputs = wanted_outputs(request.outputs, parameters, signature, model)
    size = sum(item.size or 0 for item in inputs)
    return _Head(signature, request.id, inputs, outputs, parameters, timeout, size)


def _header_length(value: bytes, total: int) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ServeError(
            400, f"Inference-Header-Content-Length must be a whole number ≥ 0, found {value[:40].decode('latin-1')!r}"
        )
    size = int(value)
    if size > total:
        raise ServeError(400, f"Inference-Header-Content-Length is {size}, but the body has only {total} bytes")
    return size


def _parse(text: bytes, signature: Signature, max_depth: int) -> _Request:
    if len(text) > LARGE:
        return _parse_large(text, signature, max_depth)
    python = python_type(signature.inputs[0])
    if len(signature.inputs) == 1 or all(python_type(spec) is python for spec in signature.inputs):
        try:
            request = _flat(python).decode(text)
            if signature.table is None or not names_columns(request.inputs, signature):
                return request
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # nested data, columns, unknown fields or a mistake: the general way takes it or says what is wrong
    return read_json(text, _general, max_depth)


def _parse_large(text: bytes, signature: Signature, max_depth: int) -> _Request:
    """Read the request without the lists of its inputs, each of which is `[0]`, `[1]`, ... here; put them in then."""
    tensors = len(signature.inputs) + len(signature.outputs) + len(signature.table.names if signature.table else ())
    most = allowance(tensors)
    head, lists = skeleton(text, _DEPTH, most, max_depth)
    try:
        request = read_json(head, _general)
    except ServeError as error:
        raise ServeError(400, without_byte(error.text)) from None
    unused = dict(enumerate(lists))
    for i, item in enumerate(request.inputs):
        shape = unused.pop(item.shape[0])
        item.shape = read_json(shape.whole(most), _shape, where=f".inputs[{i}].shape")
        if item.data is not msgspec.UNSET and bytes(item.data)[:1] == b"[":
            content = unused.pop(int(bytes(item.data)[1:-1]))
            item.data = content  # pyright: ignore[reportAttributeAccessIssue] (from_json takes both)
    for content in unused.values():  # of names that are no part of the protocol
        read_json(content.whole(most), _skipped)
    return request


def _raw(body: bytes, signature: Signature, model: str) -> InferRequest:
    """Read a raw binary request: its body is the one input of one row, and all outputs come back binary."""
    if len(signature.inputs) != 1:
        raise ServeError(
            400, f"a raw binary request needs a model with one input, '{model}' has {len(signature.inputs)}"
        )
    spec = signature.inputs[0]
    array = from_bytes(body, spec, [1, *spec.shape[1:]], model, 0, len(body))
    wanted = tuple(Wanted(output.name, True, output.datatype) for output in signature.outputs)
    return InferRequest(None, {spec.name: array}, wanted, {}, None)


Encoded = tuple[bytes, list[tuple[bytes, bytes]]]


def encode(request: InferRequest, outputs: Mapping[str, np.ndarray], model: str, version: str) -> Encoded:
    """Return body and headers of the answer. NaN or Infinity in JSON is a ServeError 400 and never becomes `null`."""
    if len(request.outputs) == 1 and request.id is None:
        return _one(request.outputs[0], outputs, model, version)
    body, headers = _pieces(
        request, outputs, model, version,
        lambda array, datatype: [to_bytes(array, datatype)], lambda answer: [written(answer)],
    )  # fmt: skip
    return b"".join(body), headers


@lru_cache(512)
def _around(wanted: Wanted, shape: tuple[int, ...], size: int, model: str, version: str) -> tuple[bytes, bytes]:
    """Return what stands around the values of a request's one output, or all of the JSON before their `size` bytes."""
    item: dict[str, Any] = {"name": wanted.name, "datatype": wanted.datatype, "shape": shape}
    item |= {"parameters": {"binary_data_size": size}} if wanted.binary else {"data": []}
    text = orjson.dumps({"model_name": model, "model_version": version, "outputs": [item]})
    return (text, b"") if wanted.binary else (text[:-5], text[-3:])


def _one(wanted: Wanted, outputs: Mapping[str, np.ndarray], model: str, version: str) -> Encoded:
    """Return the answer of one output and no id."""
    name, binary, datatype = wanted
    array = outputs[name]
    if binary:
        tail = to_bytes(array, datatype)
        text, _ = _around(wanted, array.shape, len(tail), model, version)
        return text + tail, [(b"content-type", b"application/octet-stream"), (LENGTH, b"%d" % len(text))]
    before, after = _around(wanted, array.shape, 0, model, version)
    values = array if datatype != "BYTES" else to_json(array, datatype, name, model)
    text = written(values.reshape(-1))
    if values is array and b"null" in text:  # NaN or Infinity, and refused
        to_json(array, datatype, name, model)
    return before + text + after, [(b"content-type", b"application/json")]


def check_size(wanted: Iterable[Wanted], rows: int, signature: Signature, model: str, limit: int) -> None:
    """Raise ServeError 400 if the answer to so many rows, in the form that was asked for, may be larger than
    `limit`."""
    specs = {spec.name: spec for spec in signature.outputs}
    check_answer(rows, sum(specs[one.name].row_bytes(one.binary) for one in wanted), limit, model)


def encode_large(
    request: InferRequest, outputs: Mapping[str, np.ndarray], model: str, version: str, limit: int
) -> tuple[list[Piece], list[tuple[bytes, bytes]]]:
    """Return what `encode` returns, in pieces, beside the event loop; ServeError 400 where strings make it larger than
    `limit`."""
    return _pieces(
        request, outputs, model, version,
        lambda array, datatype: gathered(in_binary(array, datatype), limit, model),
        lambda answer: gathered(in_json(answer), limit, model),
    )  # fmt: skip


def _pieces(
    request: InferRequest, outputs: Mapping[str, np.ndarray], model: str, version: str,
    in_bytes: Callable[[np.ndarray, str], list[Piece]], in_text: Callable[[dict[str, Any]], list[Piece]],
) -> tuple[list[Piece], list[tuple[bytes, bytes]]]:  # fmt: skip
    """Return the answer's pieces and headers, its raw values and its JSON made by these functions."""
    described: list[dict[str, Any]] = []
    tails: list[Piece] = []
    for name, binary, datatype in request.outputs:
        array = outputs[name]
        item: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
        if binary:
            tail = in_bytes(array, datatype)
            item["parameters"] = {"binary_data_size": sum(map(len, tail))}
            tails += tail
        else:
            item["data"] = to_json(array, datatype, name, model).reshape(-1)
        described.append(item)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request.id is not None:
        answer["id"] = request.id
    text = in_text(answer)
    if not tails:
        return text, [(b"content-type", b"application/json")]
    headers = [(b"content-type", b"application/octet-stream"), (LENGTH, b"%d" % sum(map(len, text)))]
    return [*text, *tails], headers
