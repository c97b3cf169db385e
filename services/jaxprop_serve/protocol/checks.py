"""What a request says of its inputs and outputs, checked against the model's signature before any value is read.

Both doors ask here, so that they refuse the same things in the same words.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol.by_column import names_columns, of_columns
from jaxprop_serve.protocol.data import BINARY_ONLY
from jaxprop_serve.protocol.tensors import Signature, TensorSpec

Parameters = dict[str, str | int | float | bool]

MOST_STRINGS = 1 << 20  # to let go of more takes so long that the event loop would be held up
_LATEST = 2**63 - 1  # as gRPC has it
_UNSUPPORTED = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification")


class GivenOutput(Protocol):
    """An output as either door describes it."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def parameters(self) -> Parameters | None: ...  # noqa: D102


class GivenInput(GivenOutput, Protocol):
    """An input as either door describes it."""

    @property
    def shape(self) -> list[int]: ...  # noqa: D102
    @property
    def datatype(self) -> str: ...  # noqa: D102
    @property
    def data(self) -> Any: ...  # noqa: D102


class Wanted(NamedTuple):
    """An output that is asked for, and whether it is to come as raw bytes."""

    name: str
    binary: bool
    datatype: str


class Item(NamedTuple):
    """An input as the request describes it, checked; `size` None means that its values are in `data`."""

    spec: TensorSpec
    shape: list[int]
    size: int | None
    data: Any
    path: str


def check_inputs(
    given: Sequence[GivenInput], signature: Signature, model: str, max_rows: int, has_tail: bool
) -> tuple[Item, ...]:
    """Return what the request says of each of the model's inputs, in its order. ServeError 400: see this module."""
    if signature.table is not None and names_columns(given, signature):
        signature = of_columns(given, signature.table, signature, model)
    if len(given) != len(signature.inputs):
        raise ServeError(
            400, f"expected {len(signature.inputs)} inputs but got {len(given)} inputs for model '{model}'"
        )
    found: list[Item] = []
    strings = 0
    for i, item in enumerate(given):
        spec = _spec(item.name, signature, model)
        if any(other.spec is spec for other in found):
            raise ServeError(400, f"input '{item.name}' is given twice for model '{model}'")
        _check(spec, item.datatype, item.shape, model, max_rows)
        if found and found[0].shape[0] != item.shape[0]:
            rows, others = item.shape[0], found[0].shape[0]
            raise ServeError(400, f"input '{item.name}' for model '{model}' has {rows} rows, the others {others}")
        if spec.datatype == "BYTES":
            strings += math.prod(item.shape)
        size = _binary_size(item, spec, model, has_tail)
        found.append(Item(spec, item.shape, size, item.data, f".inputs[{i}].data"))
    if strings > MOST_STRINGS:
        raise ServeError(
            400, f"the inputs for model '{model}' are {strings:,} strings, at most {MOST_STRINGS:,} are taken at once",
            limit="rows",
        )  # fmt: skip
    return tuple(found)


def _spec(name: str, signature: Signature, model: str) -> TensorSpec:
    for spec in signature.inputs:
        if spec.name == name:
            return spec
    known = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
    raise ServeError(400, f"unexpected inference input '{name[:80]}' for model '{model}', expected {known}")


def _check(spec: TensorSpec, datatype: str, shape: list[int], model: str, max_rows: int) -> None:
    """Check datatype and shape against the signature before any data is read: later sizes cannot overflow."""
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
            400, f"input '{spec.name}' for model '{model}' has {shape[0]} rows, at most {max_rows} are taken at once",
            limit="rows",
        )  # fmt: skip


def _binary_size(item: GivenInput, spec: TensorSpec, model: str, has_tail: bool) -> int | None:
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


def wanted_outputs(
    given: Sequence[GivenOutput] | None, parameters: dict[str, Any], signature: Signature, model: str
) -> tuple[Wanted, ...]:
    """Return the outputs to send in the order in which they were asked for; all of them if none was named."""
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
        raise ServeError(400, f"parameter '{name}' must be true or false, found {shown(value)}")
    return value


def checked_timeout(parameters: Mapping[str, Any]) -> int | None:
    """Return the request's own `timeout` in microseconds; None where it has none, which 0 stands for too."""
    timeout = parameters.get("timeout")
    if timeout is not None and (type(timeout) is not int or not 0 <= timeout <= _LATEST):
        raise ServeError(
            400, f"parameter 'timeout' must be a whole number of microseconds, 0 to {_LATEST}, found {shown(timeout)}"
        )
    return timeout or None


def shown(value: object) -> str:
    """Return what a client sent, as an error shows it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
