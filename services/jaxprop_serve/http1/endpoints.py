"""What each path answers: the Open Inference Protocol's endpoints, `/predict` for people, `/metrics`.

A handler is `async (request, **names in the path) -> Reply`; what it refuses it raises as ServeError.
"""

import math
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version as installed
from typing import Any

import msgspec
import numpy as np

from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1 import messages
from jaxprop_serve.http1.request import Request
from jaxprop_serve.http1.routes import Reply, Route
from jaxprop_serve.models.lifecycle import Served
from jaxprop_serve.models.policy import described as described_policy
from jaxprop_serve.models.runtimes import Loaded
from jaxprop_serve.protocol.answers import LARGE_ANSWER, check_answer, gathered, in_json, string_bytes, written
from jaxprop_serve.protocol.aside import LARGE, aside
from jaxprop_serve.protocol.by_column import Cell, columns_from_json, described, encoded, features
from jaxprop_serve.protocol.data import checked_rows, rows_from_json, to_json
from jaxprop_serve.protocol.json_reading import json_text, read_json
from jaxprop_serve.protocol.large_json import allowance, skeleton
from jaxprop_serve.protocol.requests import InferRequest, check_size, decode, encode, encode_large, takes_long
from jaxprop_serve.protocol.tensors import Signature, TensorSpec
from jaxprop_serve.settings import Settings

JSON = (b"content-type", b"application/json")
EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics"]
_object = msgspec.json.Decoder(dict[str, Any])


class _Rows(msgspec.Struct, forbid_unknown_fields=True):
    rows: msgspec.Raw


_rows = msgspec.json.Decoder(_Rows)
_by_column = msgspec.json.Decoder(list[dict[str, Cell]])
_numbers = msgspec.json.Decoder(list[int])


def reply(value: object, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> Reply:
    """Return an answer of JSON."""
    return Reply(written(value), [JSON, *headers], status)


async def infer(request: Request, model: str, version: str | None = None) -> Reply:
    """`POST /v2/models/{model}[/versions/{version}]/infer`: outputs for rows of inputs, in JSON or as bytes."""
    settings = request.settings
    with request.models.pin(model, version) as served:
        request.model, request.version = served.name, served.version
        served.admit(request.client)
        body = await request.body()
        signature = served.signature
        if len(body) > LARGE and takes_long(request.headers, body, signature):
            asked = await decode_aside(request, body, served, settings.max_rows)
        else:
            asked = decode(
                request.headers,
                body,
                signature,
                served.name,
                max_rows=settings.max_rows,
                max_depth=settings.max_json_depth,
            )
        request.cancel_if_gone()
        inputs = asked.inputs
        rows = len(next(iter(inputs.values())))
        size = rows * signature.answer_row_bytes
        if size > settings.max_answer_bytes:
            check_size(asked.outputs, rows, signature, served.name, settings.max_answer_bytes)
        if signature.table is not None:
            inputs = await features(inputs, signature, served.name)
        outputs = await served.infer(inputs, request.deadline(asked.timeout_us), request.client)
        if signature.answers_strings:
            size += string_bytes(outputs.values())
        if size > LARGE_ANSWER:
            limit = settings.max_answer_bytes
            return Reply(*await aside(size, encode_large, asked, outputs, served.name, served.version, limit))
        return Reply(*encode(asked, outputs, served.name, served.version))


async def decode_aside(request: Request, body: bytes, served: Served, max_rows: int) -> InferRequest:
    """Return a large request, read beside the event loop, for as long as the client waits for it."""
    request.cancel_if_gone()
    return await aside(
        len(body), decode, request.headers, body, served.signature, served.name,
        max_rows=max_rows, max_depth=request.settings.max_json_depth,
    )  # fmt: skip


async def predict(request: Request, model: str) -> Reply:
    """`POST /predict/{model}`: rows in, rows out, and labels with probabilities where the model knows its classes.

    `{"rows": [[...], ...]}` or the bare list of rows; a row is flat or has the input's own shape. Of a model with a
    table a row may be `{"age": 22, "sex": "male"}`, and `unknown` names the categories that training never saw.
    """
    settings = request.settings
    with request.models.pin(model) as served:
        request.model, request.version = served.name, served.version
        if len(served.signature.inputs) != 1:
            raise ServeError(
                400, f"model '{served.name}' has several inputs: send them to /v2/models/{served.name}/infer"
            )
        served.admit(request.client)
        body = await request.body()
        signature, spec, limit = served.signature, served.signature.inputs[0], settings.max_answer_bytes
        request.cancel_if_gone()
        try:
            if len(body) > LARGE:
                rows = await aside(len(body), _large_rows_of, body, signature, settings)
            else:
                rows = _rows_of(body, signature, settings)
        except ServeError as error:
            raise ServeError(error.status, f"rows for model '{served.name}': {error.text}", limit=error.limit) from None
        count = len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)
        row = _answer_row_bytes(served)
        check_answer(count, row, limit, served.name)
        if isinstance(rows, np.ndarray):
            x, unknown = rows, {}
        else:
            x, unknown = await encoded(rows, count, signature, served.name)
        outputs = await served.infer({spec.name: x}, None, request.client)
        size = count * row + (string_bytes(outputs.values()) if signature.answers_strings else 0)
        if size <= LARGE_ANSWER:
            return reply(_answer(outputs, unknown, served))
        pieces = await aside(size, lambda: gathered(in_json(_answer(outputs, unknown, served)), limit, served.name))
        return Reply(pieces, [JSON])


def _answer_row_bytes(served: Served) -> int:
    """Return the most bytes that a row has in an answer of `predict`, with its brackets, label and probability."""
    found = served.signature.answer_row_bytes
    for spec in served.signature.outputs:
        found += 3 * sum(math.prod(spec.shape[1:axis]) for axis in range(1, len(spec.shape)))
    return found + max((6 * len(name) + 25 for name in served.loaded.classes or ()), default=0)


def _answer(outputs: dict[str, np.ndarray], unknown: dict[str, Any], served: Served) -> dict[str, Any]:
    """Return what `predict` answers."""
    answer: dict[str, Any] = {"model": served.name, "version": served.version}
    for output in served.signature.outputs:
        key = "rows" if len(served.signature.outputs) == 1 else output.name
        answer[key] = to_json(_wide(outputs[output.name]), output.datatype, output.name, served.name)
    if "rows" in answer:
        answer |= labels(answer["rows"], served.loaded)
    return answer | ({"unknown": unknown} if unknown else {})


def _rows_of(body: bytes, signature: Signature, settings: Settings) -> np.ndarray | list[dict[str, Cell]]:
    """Return the rows as x, or by column name."""
    text = json_text(body)
    if text[:1] == b"{":
        text = bytes(read_json(text, _rows, settings.max_json_depth).rows)
    if text[:1] != b"[":
        raise _no_rows(signature)
    if signature.table is None or not text[1:].lstrip().startswith(b"{"):
        return rows_from_json(text, signature.inputs[0], settings.max_rows)
    rows = read_json(text, _by_column, where=".rows")
    checked_rows(len(rows), settings.max_rows)
    return rows


def _large_rows_of(body: bytes, signature: Signature, settings: Settings) -> np.ndarray | dict[str, list[Cell]]:
    """Return the rows as x, or the columns, read in pieces."""
    text = json_text(body)
    if text[:1] not in (b"[", b"{"):
        raise _no_rows(signature)
    most = allowance(len(signature.inputs))
    around, lists = skeleton(text, 2 if text[:1] == b"{" else 1, most, settings.max_json_depth)
    rows = bytes(read_json(around, _rows).rows) if text[:1] == b"{" else around
    if rows[:1] != b"[" or not lists:
        raise _no_rows(signature)
    read_json(rows, _numbers)  # nothing comes after it
    content = lists[int(rows[1:-1])]
    if signature.table is None or not content.beginning()[1:].lstrip().startswith(b"{"):
        return rows_from_json(content, signature.inputs[0], settings.max_rows)
    return columns_from_json(content, signature.table, settings.max_rows)


def _no_rows(signature: Signature) -> ServeError:
    row = "[...]" if signature.table is None else "{column: cell, ...}"
    return ServeError(400, f'send {{"rows": [{row}, ...]}} or the list of rows itself')


def _wide(array: np.ndarray) -> np.ndarray:
    """Return FP16 and BF16 as FP32, which JSON writers know."""
    return array.astype(np.float32) if array.dtype.itemsize == 2 and array.dtype.kind not in "iu" else array


def labels(y: np.ndarray, loaded: Loaded) -> dict[str, Any]:
    """Return the class of each row [N, C], and its probability if the network was trained as a softmax."""
    classes = loaded.classes
    if not classes or y.ndim != 2 or y.shape[1] != len(classes):
        return {}
    best = y.argmax(axis=1)
    found: dict[str, Any] = {"labels": [classes[i] for i in best]}
    if loaded.cost is not None and loaded.cost.outputs == "class logits":
        powers = np.exp(y.astype(np.float64) - y.max(axis=1, keepdims=True))
        found["probabilities"] = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1).round(6)
    return found


async def server_metadata(request: Request) -> Reply:
    """`GET /v2`: the server's name, version and extensions."""
    return reply({"name": "jaxprop", "version": server_version(), "extensions": EXTENSIONS})


async def live(request: Request) -> Reply:
    """`GET /v2/health/live`: the process answers."""
    return reply({"live": True})


async def ready(request: Request) -> Reply:
    """`GET /v2/health/ready`: 503 until every model was loaded, and from the moment the server drains; else 200."""
    is_ready = bool(request.models.ready())
    return reply({"ready": is_ready}, 200 if is_ready else 503)


async def model_ready(request: Request, model: str, version: str | None = None) -> Reply:
    """`GET /v2/models/{model}[/versions/{version}]/ready`: 404 if the model is unknown, 503 if it is not ready."""
    with request.models.pin(model, version) as served:
        return reply({"name": served.name, "ready": True})


async def model_metadata(request: Request, model: str, version: str | None = None) -> Reply:
    """`GET /v2/models/{model}[/versions/{version}]`: tensors with their shapes and datatypes, and the columns of x."""
    with request.models.pin(model, version) as served:
        signature = served.signature
        return reply(
            {
                "name": served.name,
                "versions": request.models.versions(served.name),
                "platform": signature.platform,
                "inputs": [_tensor(spec) for spec in signature.inputs],
                "outputs": [_tensor(spec) for spec in signature.outputs],
            }
            | ({} if signature.table is None else {"columns": described(signature.table)})
        )


async def model_config(request: Request, model: str, version: str | None = None) -> Reply:
    """`GET /v2/models/{model}[/versions/{version}]/config`: Triton's ModelConfig."""
    with request.models.pin(model, version) as served:
        signature, settings = served.signature, request.settings
        return reply(
            {
                "name": served.name,
                "platform": signature.platform,
                "backend": "jaxprop",
                "version_policy": described_policy(settings.versions),
                "max_batch_size": settings.max_batch,
                "input": [_config_tensor(spec) for spec in signature.inputs],
                "output": [_config_tensor(spec) for spec in signature.outputs],
                "dynamic_batching": {"max_queue_delay_microseconds": settings.max_delay_us}
                if settings.batching
                else None,
                # whether a row's answer has the same bits alone and in the largest batch, as measured at load
                "parameters": {"bit_exact": {"string_value": str(served.bit_exact).lower()}},
            }
        )


async def model_stats(request: Request, model: str, version: str | None = None) -> Reply:
    """`GET /v2/models/{model}[/versions/{version}]/stats`: counts and times since the server started."""
    with request.models.pin(model, version) as served:
        return reply({"model_stats": [served.statistics.describe(served.name, served.version)]})


async def all_stats(request: Request) -> Reply:
    """`GET /v2/models/stats`: counts and times of every model that is ready."""
    found = []
    for entry in request.models.index():
        if entry["state"] == "READY":
            with request.models.pin(entry["name"], entry["version"]) as served:
                found.append(served.statistics.describe(served.name, served.version))
    return reply({"model_stats": found})


async def index(request: Request) -> Reply:
    """`POST /v2/repository/index`: every model's state, and why; with `ready` only those that answer."""
    asked = await _options(request)
    only_ready = asked.get("ready", False)
    if type(only_ready) is not bool:
        raise ServeError(400, f"'ready' must be true or false, found {str(only_ready)[:80]!r}")
    return reply([entry for entry in request.models.index() if not only_ready or entry["state"] == "READY"])


async def load(request: Request, model: str) -> Reply:
    """`POST /v2/repository/models/{model}/load`: load or reload from the store; what runs goes on until it is ready."""
    if (await _options(request)).get("parameters") not in (None, {}):
        raise ServeError(400, "load takes no parameters: a model is what its folder says, not what a request brings")
    request.cancel_if_gone()
    await request.models.everywhere.load(model)
    return reply({})


async def unload(request: Request, model: str) -> Reply:
    """`POST /v2/repository/models/{model}/unload`: take no more requests, answer those that run, let go."""
    await _options(request)
    request.cancel_if_gone()
    await request.models.everywhere.unload(model)
    return reply({})


async def metrics(request: Request) -> Reply:
    """`GET /metrics`: Prometheus' text format."""
    if request.metrics is None:
        raise ServeError(404, "this server keeps no metrics")
    return Reply(await request.metrics.scrape(), [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")])


async def hint(request: Request) -> Reply:
    """`GET /`: what to try."""
    return reply({"server": "jaxprop", "try": 'GET /v2, or POST /predict/{model} with {"rows": [[...]]}'})


async def _options(request: Request) -> dict[str, Any]:
    """Return the body of a repository call: a JSON object, or nothing, which is what most clients send."""
    body = await request.body()
    if len(body) > LARGE:
        raise ServeError(400, f"the body of this call has {len(body):,} bytes, at most {LARGE:,} are read")
    return read_json(body, _object, request.settings.max_json_depth) if body.strip() else {}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.shape[1:])}


def server_version() -> str:
    """Return the version of this package."""
    try:
        return installed("jaxprop-nn")
    except PackageNotFoundError:
        return "0"


_MODEL = "/v2/models/{model}"
_VERSION = _MODEL + "/versions/{version}"

ROUTES = [
    Route("GET", "/", hint, "open", gives=messages.Hint),
    Route("GET", "/v2", server_metadata, gives=messages.ServerMetadata),
    Route("GET", "/v2/", server_metadata, gives=messages.ServerMetadata),
    Route("GET", "/v2/health/live", live, "open", gives=messages.Live),
    Route("GET", "/v2/health/ready", ready, "open", gives={200: messages.Ready, 503: messages.Ready}),
    Route("GET", "/v2/models/stats", all_stats, gives=messages.ModelStatistics),
    *(
        Route(method, base + path, handler, eager=handler is infer, takes=takes, gives=gives)
        for base in (_MODEL, _VERSION)
        for method, path, handler, takes, gives in (
            ("GET", "", model_metadata, None, messages.ModelMetadata),
            ("GET", "/ready", model_ready, None, messages.ModelReady),
            ("GET", "/config", model_config, None, messages.ModelConfig),
            ("GET", "/stats", model_stats, None, messages.ModelStatistics),
            ("POST", "/infer", infer, messages.InferRequest, messages.InferAnswer),
        )
    ),
    Route("POST", "/v2/repository/index", index, takes=messages.IndexRequest, gives=list[messages.IndexEntry]),
    *(
        Route("POST", f"/v2/repository/models/{{model}}/{name}", handler, "admin", takes=takes, gives=messages.Nothing)
        for name, handler, takes in (("load", load, messages.LoadRequest), ("unload", unload, messages.UnloadRequest))
    ),
    Route("POST", "/predict/{model}", predict, eager=True, takes=messages.PredictRequest, gives=messages.Prediction),
    Route("GET", "/metrics", metrics, gives=str),
]
