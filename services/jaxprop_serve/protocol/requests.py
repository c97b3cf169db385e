"""The Open Inference Protocol's request and answer: JSON, and tensors as raw bytes behind it (binary_tensor_data).

A request with the header `Inference-Header-Content-Length: N` is N bytes of JSON followed by the raw tensors in the
order of `inputs`; N = 0 means that all of it is the one input's bytes; without the header all of it is JSON. What the
Content-Type says does not matter (clients send none). Everything is checked here, against the model's signature, before
anything is queued.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson

from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol.data import BINARY_ONLY, from_bytes, from_json, python_type, read_json, to_bytes, to_json
from jaxprop_serve.protocol.tensors import Signature, TensorSpec

LENGTH = b"inference-header-content-length"
MAX_ROWS, MAX_DEPTH = 8192, 100

_UNSUPPORTED = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification")

Parameters = dict[str, str | int | float | bool] | None


class Wanted(NamedTuple):
    """An output asked for, and whether as raw bytes."""

    name: str
    binary: bool
    datatype: str


@dataclass(slots=True)
class InferRequest:
    """A checked request: `inputs` [rows, ...] by name, ready to be queued."""

    id: str | None
    inputs: dict[str, np.ndarray]
    outputs: tuple[Wanted, ...]
    parameters: dict[str, Any]
    timeout_us: int | None

    @property
    def rows(self) -> int:
        """How many rows all inputs have."""
        return len(next(iter(self.inputs.values())))


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: Parameters = None


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters = None
    outputs: list[_Output] | None = None


_general = msgspec.json.Decoder(_Request)


@cache
def _flat(python: type) -> msgspec.json.Decoder[Any]:
    """The fast decoder: one pass, data as a flat list of one Python type, nothing skipped, so depth is bounded."""
    data = ("data", list[python] | msgspec.UnsetType, msgspec.UNSET)
    parameters = ("parameters", Parameters, None)
    fields = [("name", str), ("shape", list[int]), ("datatype", str), parameters, data]
    item = msgspec.defstruct("Input", fields, forbid_unknown_fields=True)
    fields = [("inputs", list[item]), ("id", str | None, None), parameters, ("outputs", list[_Output] | None, None)]
    return msgspec.json.Decoder(msgspec.defstruct("Request", fields, forbid_unknown_fields=True))


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
        head, start = _read(body, signature, model, max_rows, max_depth, False), len(body)
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


class _Item(NamedTuple):
    """An input as the JSON describes it, checked; `size` None means that its values are in `data`."""

    spec: TensorSpec
    shape: list[int]
    size: int | None
    data: Any
    path: str


class _Head(NamedTuple):
    """The JSON of a request, checked: all but the values of its inputs."""

    signature: Signature
    id: str | None
    inputs: tuple[_Item, ...]
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
    timeout = parameters.get("timeout")
    if timeout is not None and (type(timeout) is not int or timeout < 0):
        raise ServeError(400, f"parameter 'timeout' must be a whole number of microseconds, found {timeout!r}")
    outputs = wanted_outputs(request.outputs, parameters, signature, model)
    size = sum(item.size or 0 for item in inputs)
    return _Head(signature, request.id, inputs, outputs, parameters, timeout or None, size)


def _header_length(value: bytes, total: int) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ServeError(
            400, f"Inference-Header-Content-Length must be a whole number ≥ 0, found {value[:40].decode('latin-1')!r}"
        )
    size = int(value)
    if size > total:
        raise ServeError(400, f"Inference-Header-Content-Length is {size}, but the body has only {total} bytes")
    return size


def _parse(text: bytes, signature: Signature, max_depth: int) -> Any:
    python = python_type(signature.inputs[0])
    if len(signature.inputs) == 1 or all(python_type(spec) is python for spec in signature.inputs):
        try:
            return _flat(python).decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # nested data, unknown fields or a mistake: the general way accepts it or says what is wrong
    return read_json(text, _general, max_depth)


def check_inputs(
    given: list[Any], signature: Signature, model: str, max_rows: int, has_tail: bool
) -> tuple[_Item, ...]:
    """What the request says of each of the model's inputs, once each, with as many rows; ServeError 400 otherwise."""
    if len(given) != len(signature.inputs):
        raise ServeError(
            400, f"expected {len(signature.inputs)} inputs but got {len(given)} inputs for model '{model}'"
        )
    found: list[_Item] = []
    for i, item in enumerate(given):
        spec = _spec(item.name, signature, model)
        if any(other.spec is spec for other in found):
            raise ServeError(400, f"input '{item.name}' is given twice for model '{model}'")
        _check(spec, item.datatype, item.shape, model, max_rows)
        if found and found[0].shape[0] != item.shape[0]:
            rows, others = item.shape[0], found[0].shape[0]
            raise ServeError(400, f"input '{item.name}' for model '{model}' has {rows} rows, the others {others}")
        size = _binary_size(item, spec, model, has_tail)
        found.append(_Item(spec, item.shape, size, item.data, f".inputs[{i}].data"))
    return tuple(found)


def _spec(name: str, signature: Signature, model: str) -> TensorSpec:
    for spec in signature.inputs:
        if spec.name == name:
            return spec
    known = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
    raise ServeError(400, f"unexpected inference input '{name[:80]}' for model '{model}', expected {known}")


def _check(spec: TensorSpec, datatype: str, shape: list[int], model: str, max_rows: int) -> None:
    """Datatype and shape against the signature, before any data is read: sizes computed afterwards cannot overflow."""
    if datatype != spec.datatype:
        raise ServeError(
            400,
            f"inference input '{spec.name}' data-type is '{datatype[:40]}', "
            f"but model '{model}' expects '{spec.datatype}'",
        )
    wanted = spec.shape
    if len(shape) != len(wanted) or any(s < 1 or w not in (-1, s) for s, w in zip(shape, wanted, strict=True)):
        got = "[" + ",".join(str(size) for size in shape[:20]) + (",...]" if len(shape) > 20 else "]")
        expected = "[" + ",".join(str(size) for size in wanted) + "]"
        raise ServeError(
            400, f"unexpected shape for input '{spec.name}' for model '{model}'. Expected {expected}, got {got[:200]}"
        )
    if shape[0] > max_rows:
        raise ServeError(
            400, f"input '{spec.name}' for model '{model}' has {shape[0]} rows, at most {max_rows} are taken at once"
        )


def _binary_size(item: Any, spec: TensorSpec, model: str, has_tail: bool) -> int | None:
    parameters = item.parameters or {}
    for name in _UNSUPPORTED:
        if name in parameters:
            raise ServeError(400, f"input '{spec.name}' for model '{model}': parameter '{name}' is not supported")
    size = parameters.get("binary_data_size")
    if size is None:
        if item.data is msgspec.UNSET:
            raise ServeError(400, f"input '{spec.name}' for model '{model}' has neither 'data' nor 'binary_data_size'")
        return None
    if item.data is not msgspec.UNSET:
        raise ServeError(400, f"input '{spec.name}' for model '{model}' has both 'data' and 'binary_data_size'")
    if type(size) is not int or size < 0:
        raise ServeError(400, f"input '{spec.name}' for model '{model}': binary_data_size must be a whole number ≥ 0")
    if not has_tail:
        raise ServeError(
            400, f"input '{spec.name}' for model '{model}' is binary: send the header Inference-Header-Content-Length"
        )
    return size


def _raw(body: bytes, signature: Signature, model: str) -> InferRequest:
    """A raw binary request: the body is the one input of one row, all outputs come back binary."""
    if len(signature.inputs) != 1:
        raise ServeError(
            400, f"a raw binary request needs a model with one input, '{model}' has {len(signature.inputs)}"
        )
    spec = signature.inputs[0]
    array = from_bytes(body, spec, [1, *spec.shape[1:]], model, 0, len(body))
    wanted = tuple(Wanted(output.name, True, output.datatype) for output in signature.outputs)
    return InferRequest(None, {spec.name: array}, wanted, {}, None)


def wanted_outputs(
    given: list[_Output] | None, parameters: dict[str, Any], signature: Signature, model: str
) -> tuple[Wanted, ...]:
    """The outputs to send, in the order they were asked for; all of them if none was named."""
    default = _boolean(parameters, "binary_data_output", False)
    known = {spec.name: spec.datatype for spec in signature.outputs}
    wanted = {name: default for name in known}
    if given:
        wanted = {}
        for item in given:
            own = item.parameters or {}
            if item.name not in known:
                raise ServeError(400, f"unexpected inference output '{item.name[:80]}' for model '{model}'")
            if item.name in wanted:
                raise ServeError(400, f"output '{item.name}' is asked for twice of model '{model}'")
            for name in _UNSUPPORTED:
                if name in own:
                    raise ServeError(
                        400, f"output '{item.name}' of model '{model}': parameter '{name}' is not supported"
                    )
            wanted[item.name] = _boolean(own, "binary_data", default)
    for name, binary in wanted.items():
        if not binary and known[name] in BINARY_ONLY:
            raise ServeError(400, f"output '{name}' of model '{model}' is {known[name]}: ask for binary data")
    return tuple(Wanted(name, binary, known[name]) for name, binary in wanted.items())


def _boolean(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise ServeError(400, f"parameter '{name}' must be true or false, found {value!r}")
    return value


def encode(
    request: InferRequest, outputs: Mapping[str, np.ndarray], model: str, version: str
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The answer to `request`, as body and headers; NaN or Infinity in JSON is a ServeError 400, never `null`."""
    described: list[dict[str, Any]] = []
    tails: list[bytes] = []
    for name, binary, datatype in request.outputs:
        array = outputs[name]
        item: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
        if binary:
            tail = to_bytes(array, datatype)
            item["parameters"] = {"binary_data_size": len(tail)}
            tails.append(tail)
        else:
            item["data"] = to_json(array, datatype, name, model).reshape(-1)
        described.append(item)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request.id is not None:
        answer["id"] = request.id
    text = orjson.dumps(answer, default=np.ndarray.tolist, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tails:
        return text, [(b"content-type", b"application/json")]
    headers = [(b"content-type", b"application/octet-stream"), (LENGTH, b"%d" % len(text))]
    return b"".join((text, *tails)), headers
