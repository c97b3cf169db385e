"""What a gRPC request for answers brings: its tensors, the outputs it wants, its timeout; checked as HTTP's are."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol.aside import breathe
from jaxprop_serve.protocol.checks import Wanted, check_inputs, checked_timeout, wanted_outputs
from jaxprop_serve.protocol.data import counted_on, from_bytes, pack
from jaxprop_serve.protocol.tensors import Signature, TensorSpec

Message = Any  # a protobuf message, whose class is made when the door is loaded

# Where the typed contents of each datatype are; FP16 and BF16 have none.
_CONTENTS = {
    "BOOL": "bool_contents", "BYTES": "bytes_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
}  # fmt: skip


_AT_ONCE = 1 << 14  # values of a tensor that are Python objects at the same time


class _Given(NamedTuple):
    """A tensor of the request, as checks.py is given one."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any]
    data: Any


def read_inputs(request: Message, signature: Signature, model: str, max_rows: int) -> dict[str, np.ndarray]:
    """Return the inputs, checked as HTTP's are, from raw bytes or from typed contents, never from a mix of both."""
    raw = request.raw_input_contents
    given = [_Given(i.name, i.datatype, list(i.shape), _parameters(i.parameters), i) for i in request.inputs]
    typed = [i.name for i in request.inputs if i.HasField("contents")]
    items = check_inputs(given, signature, model, max_rows, False)
    if raw and typed:
        raise ServeError(
            400, f"contents field must not be set when raw_input_contents is, for input '{typed[0]}' of '{model}'"
        )
    if raw and len(raw) != len(items):
        raise ServeError(400, f"expected {len(items)} raw_input_contents but got {len(raw)} for model '{model}'")
    found = {}
    for i, item in enumerate(items):
        spec, shape = item.spec, list(item.shape)
        if raw:
            found[spec.name] = from_bytes(raw[i], spec, shape, model, 0, len(raw[i]))
        else:
            found[spec.name] = _from_contents(given[i].data.contents, spec, shape, model)
    return found


def _from_contents(contents: Message, spec: TensorSpec, shape: list[int], model: str) -> np.ndarray:
    field = _CONTENTS.get(spec.datatype)
    if field is None:
        raise ServeError(
            400, f"input '{spec.name}' for model '{model}' is {spec.datatype}: send it in raw_input_contents"
        )
    others = [found.name for found, _ in contents.ListFields() if found.name != field]
    if others:
        raise ServeError(
            400, f"input '{spec.name}' for model '{model}' is {spec.datatype}: fill {field}, not {others[0]}"
        )
    values, count = getattr(contents, field), math.prod(shape)
    if len(values) != count:
        raise ServeError(
            400, f"input '{spec.name}' for model '{model}' got {len(values)} elements, but shape {shape} holds {count}"
        )
    array = np.empty(count, spec.dtype)
    for i in range(0, count, _AT_ONCE):
        some = values[i : i + _AT_ONCE]
        if spec.datatype == "BYTES":
            array[i : i + len(some)] = some
        elif spec.datatype in ("FP32", "FP64"):
            array[i : i + len(some)] = np.array(some, spec.dtype)  # with NaN and Infinity, which JSON's pack won't meet
        else:
            array[i : i + len(some)] = _packed(some, spec, f"{field} of input '{spec.name}'", i)
        breathe()
    return array.reshape(shape)


def _packed(values: list[Any], spec: TensorSpec, where: str, first: int) -> np.ndarray:
    try:
        return pack(values, spec, where)
    except ServeError as error:
        raise ServeError(400, counted_on(error.text, where, first)) from None


def _parameters(parameters: Mapping[str, Message]) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in parameters.items()
    }


def read_outputs(request: Message, signature: Signature, model: str) -> tuple[Wanted, ...]:
    """Return the outputs that are wanted: all, or those that are named."""
    asked = [_Given(o.name, "", [], _parameters(o.parameters), None) for o in request.outputs]
    return wanted_outputs(asked, {"binary_data_output": True}, signature, model)


def read_timeout(request: Message) -> int | None:
    """Return the request's own `timeout` in microseconds."""
    return checked_timeout(_parameters(request.parameters)) if request.parameters else None
