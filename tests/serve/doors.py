"""What the tests of the HTTP door share: models without JAX behind it, a call of the application without sockets."""

import asyncio
import contextlib
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson

import jaxprop as jp
from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1.application import create_app
from jaxprop_serve.protocol.tensors import Signature, TensorSpec

W = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
HOST = (b"host", b"localhost:8000")


def signature(datatype: str = "FP32", row: tuple[int, ...] = (4,), answer: str = "FP32") -> Signature:
    outputs = (TensorSpec("y", answer, (-1, 3)), TensorSpec("twice", answer, (-1, 3)))
    return Signature(
        (TensorSpec("x", datatype, (-1, *row)),), outputs[:1] if answer == "FP32" else outputs, "jaxprop_saved"
    )


class FakeModel:
    """y = x W, on numpy; what the doors ask of models.Served, and no more."""

    def __init__(self, name: str = "digits", **kinds: Any):
        self.name, self.version = name, "1"
        self.signature = signature(**kinds)
        self.statistics = SimpleNamespace(describe=lambda name, version: {"name": name, "version": version})
        self.loaded = SimpleNamespace(classes=("a", "b", "c"), cost=jp.SoftmaxCrossEntropy())
        self.full, self.bit_exact = False, True
        self.calls = 0

    def admit(self, client: Any = None) -> None:
        if self.full:
            raise ServeError(429, "the queue is full", retry_after=0.4)

    async def infer(
        self, inputs: dict[str, np.ndarray], deadline: float | None = None, client: Any = None
    ) -> dict[str, np.ndarray]:
        self.calls += 1
        if deadline is not None and time.monotonic() >= deadline:
            raise ServeError(504, "the deadline has passed")
        x = inputs["x"]
        assert x.shape[1:] == self.signature.inputs[0].shape[1:] and x.dtype == self.signature.inputs[0].dtype
        with np.errstate(all="ignore"):
            y = x.reshape(len(x), -1)[:, :4].astype(np.float32) @ W
            return {"y": y, "twice": 2 * y}


class FakeModels:
    def __init__(self, *models: FakeModel):
        self.models = {model.name: model for model in models}
        self.is_ready = True
        self.asked: list[tuple[str, str]] = []
        self.everywhere = self
        self.statistics = {(model.name, model.version): model.statistics for model in models}

    @contextlib.contextmanager
    def pin(self, name: str, version: str | None = None):
        model = self.models.get(name)
        if model is None or version not in (None, model.version):
            raise ServeError(404, f"unknown model '{name}'")
        yield model

    def versions(self, name: str) -> list[str]:
        return [self.models[name].version]

    def index(self) -> list[dict[str, str]]:
        ready = [dict(name=name, version="1", state="READY", reason="") for name in self.models]
        return [*ready, dict(name="broken", version="1", state="UNAVAILABLE", reason="no weights")]

    def ready(self) -> bool:
        return self.is_ready

    async def load(self, name: str) -> None:
        self.asked.append(("load", name))

    async def unload(self, name: str) -> None:
        self.asked.append(("unload", name))


def settings(**changed: Any) -> SimpleNamespace:
    defaults = dict(
        host="127.0.0.1", max_batch=64, batching=True, max_delay_us=0, max_body_bytes=1 << 20, max_rows=64,
        max_json_depth=100, workers=1, header_timeout_s=10, body_timeout_s=30, idle_timeout_s=75, max_connections=1024,
        token=None, admin_token=None, allowed_hosts=(), allowed_origins=(), compression=True, versions="all",
        max_answer_bytes=64 << 20,
    )  # fmt: skip
    return SimpleNamespace(**(defaults | changed))


def an_app(
    *models: FakeModel, metrics: Any = None, log: Any = None, routes: Any = (), traces: Any = None, **changed: Any
) -> Any:
    return create_app(FakeModels(*(models or (FakeModel(),))), settings(**changed), metrics, log, routes, traces)


async def acall(
    app: Any,
    method: str,
    path: str,
    body: Any = b"",
    headers: Any = (),
    *,
    host: bool = True,
    chunks: Any = None,
    client: str | None = None,
) -> SimpleNamespace:
    """One request; `chunks` are sent instead of `body`, one at a time, and counted as they are asked for."""
    body = body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    path, _, query = path.partition("?")
    sent: list[dict[str, Any]] = []
    waiting = list(chunks) if chunks is not None else [body]
    count = len(waiting)

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        part = waiting.pop(0)
        if callable(part):
            await part()
            part = b""
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [*([HOST] if host else []), *headers], "root_path": "", "client": client and (client, 1),
    }  # fmt: skip
    await app(scope, receive, send)
    if not sent:
        return SimpleNamespace(status=None, read=count - len(waiting))
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    got = dict(sent[0]["headers"])
    assert got.get(b"content-length", b"0") == b"%d" % len(answer)
    try:
        value = orjson.loads(answer)
    except orjson.JSONDecodeError:
        value = None
    return SimpleNamespace(
        status=sent[0]["status"], headers=got, body=answer, json=value, read=count - len(waiting),
        error=value.get("error") if isinstance(value, dict) else None,
    )  # fmt: skip


def call(app: Any, method: str, path: str, body: Any = b"", headers: Any = (), **how: Any) -> SimpleNamespace:
    return asyncio.run(acall(app, method, path, body, headers, **how))


def a_request(x: Any = None, **changed: Any) -> dict[str, Any]:
    """A valid request, with one input changed."""
    x = np.ones((2, 4), np.float32) if x is None else x
    return {"inputs": [{"name": "x", "shape": list(np.shape(x)), "datatype": "FP32", "data": np.ravel(x)} | changed]}
