"""The gRPC door: `inference.GRPCInferenceService`, health and reflection, in the same loop as the HTTP door.

Inference has its own way through; every other call asks the HTTP handler of the same name and turns its JSON into the
message, so the two doors cannot tell different things. Calls that belong to Triton alone (shared memory, streams, trace
and log settings) are UNIMPLEMENTED.
"""

import asyncio
import contextlib
import io
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

import grpc
import numpy as np
import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from jaxprop_serve.errors import ServeError
from jaxprop_serve.grpc_door.health import Health
from jaxprop_serve.grpc_door.limits import check_message, varint
from jaxprop_serve.grpc_door.messages import HEALTH, INFERENCE
from jaxprop_serve.grpc_door.reflection import ALPHA, MESSAGES, STABLE, Reflection
from jaxprop_serve.grpc_door.tensors import Message, read_inputs, read_outputs, read_timeout
from jaxprop_serve.http1 import endpoints
from jaxprop_serve.http1.application import App
from jaxprop_serve.http1.request import Request
from jaxprop_serve.http1.routes import Reply, checked_name
from jaxprop_serve.models.lifecycle import Served
from jaxprop_serve.models.queue import who
from jaxprop_serve.protocol.answers import LARGE_ANSWER, gathered, in_binary, string_bytes
from jaxprop_serve.protocol.aside import LARGE, aside, breathe
from jaxprop_serve.protocol.by_column import features
from jaxprop_serve.protocol.checks import Wanted
from jaxprop_serve.protocol.data import to_bytes
from jaxprop_serve.protocol.requests import check_size

WATCHERS, WATCHERS_EACH = 256, 64  # calls without an end (who watches, who reflects) at once, and of each client
_RAW_OUTPUT = bytes([6 << 3 | 2])  # before each of raw_output_contents, and its length

Context = grpc.aio.ServicerContext
Response = Callable[..., Message]
Answer = Callable[[Message, Response, "Call"], Awaitable[Message]]

_numbers = itertools.count(1)
# Where a method belongs; all others are the protocol's own.
_SERVICES = {"Check": "grpc.health.v1.Health", "Watch": "grpc.health.v1.Health", "ServerReflectionInfo": STABLE}


class Call:
    """What the wrapper around a call keeps: labels for the metrics, and when the call came."""

    __slots__ = ("arrived", "context", "id", "model", "size", "trace", "version")

    def __init__(self, context: Context):
        self.context = context
        self.arrived = time.monotonic()
        self.id = self.model = self.version = ""
        self.trace: Any = None  # a seen.traces.Trace, where tracing is on
        self.size = 0  # of its message

    def deadline(self, timeout_us: int | None) -> float | None:
        """Return the earlier of the client's gRPC deadline and the request's own `timeout`."""
        found = None if timeout_us is None else self.arrived + timeout_us * 1e-6
        left = self.context.time_remaining()
        if left is None:
            return found
        left += time.monotonic()
        return left if found is None else min(left, found)

    def client(self) -> str:
        """Return who asks, as queues tell clients apart: gRPC writes `ipv4:127.0.0.1:5` and `ipv6:%5B::1%5D:5`."""
        kind, _, address = self.context.peer().partition(":")
        return who(unquote(address.rpartition(":")[0]).strip("[]")) if kind in ("ipv4", "ipv6") else ""


class Asked(Request):
    """A call as an HTTP handler is given it: a body of JSON, and nothing that waits."""

    def __init__(self, app: App, sent: dict[str, Any]):
        self.models, self.settings, self.metrics = app.models, app.settings, app.metrics
        self.headers: dict[bytes, bytes] = {}
        self.model = self.version = ""
        self._sent = sent

    async def body(self) -> bytes:
        """Return what was sent, which may be nothing."""
        return orjson.dumps(self._sent) if self._sent else b""

    def deadline(self, timeout_us: int | None) -> float | None:
        """Return None: what is asked in this way takes no time."""
        return None

    def client(self) -> str:
        """Return nobody: what is asked in this way does not queue."""
        return ""

    def cancel_if_gone(self) -> None:
        """Leave it to gRPC, which cancels the call."""


class Service:
    """Answers calls with an application's models, settings, access rules, metrics and log."""

    def __init__(self, app: App):
        self.app = app
        self.active = 0  # calls whose message has come, and for whose answer a drain waits
        self.streams: Counter[str] = Counter()  # calls of Watch and of reflection, which end when a drain begins
        self.draining = False
        self._health = Health(app.models)
        self._reflection = Reflection([*INFERENCE.services, *HEALTH.services], app.settings.idle_timeout_s)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return what a grpc.aio server is given."""
        methods = {
            "ServerLive": (self.asking(endpoints.live), "open"),
            "ServerReady": (self.asking(endpoints.ready), "open"),
            "ModelReady": (self.model_ready, "user"),
            "ServerMetadata": (self.asking(endpoints.server_metadata), "user"),
            "ModelMetadata": (self.asking(endpoints.model_metadata), "user"),
            "ModelInfer": (self.infer, "user"),
            "ModelConfig": (self.asking(endpoints.model_config, "config"), "user"),
            "ModelStatistics": (self.statistics, "user"),
            "RepositoryIndex": (self.asking(endpoints.index, "models"), "user"),
            "RepositoryModelLoad": (self.asking(endpoints.load), "admin"),
            "RepositoryModelUnload": (self.asking(endpoints.unload), "admin"),
        }
        found = {name: self._handler(INFERENCE, name, *method) for name, method in methods.items()}
        health = {
            "Check": self._handler(HEALTH, "HealthCheck", self.health, "open", "Check"),
            "Watch": self._handler(HEALTH, "HealthCheck", self.watch, "open", "Watch", streams=True),
        }
        reflect = self._handler(
            MESSAGES, "ServerReflection", self.reflect, "user", "ServerReflectionInfo", streams=True
        )
        return [
            grpc.method_handlers_generic_handler("inference.GRPCInferenceService", found),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
            *(
                grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": reflect})
                for name in (STABLE, ALPHA)
            ),
        ]

    def _handler(
        self, messages: Any, name: str, answer: Answer, level: str, method: str = "", streams: bool = False
    ) -> grpc.RpcMethodHandler:
        request, response = getattr(messages, name + "Request"), getattr(messages, name + "Response")
        # A stream of one message: gRPC would wait for it without end, and before anybody could ask for a token.
        handler = grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler
        return handler(
            self._answered(method or name, answer, level, request, response),  # pyright: ignore[reportArgumentType] (grpc.aio)
            response_serializer=_serialized,
        )

    def _answered(
        self, name: str, answer: Answer, level: str, kind: type[Message], response: Response
    ) -> Callable[..., Awaitable[Message]]:
        """Wrap an answer, so that each call ends in one status, whatever happens."""
        app = self.app
        full_name = f"{_SERVICES.get(name, 'inference.GRPCInferenceService')}/{name}"

        async def answered(_: object, context: Context) -> Message:
            call, code, size, request = Call(context), "OK", None, None
            peer = context.peer() if app.access_log is not None else ""
            if app.traces is not None:
                call.trace = app.traces.grpc(full_name, context.invocation_metadata(), context.peer())
            try:
                if self.draining:
                    raise _stopping()
                if app.access.token is not None or app.access.admin_token is not None:
                    app.access.check_token(_headers(context), level)
                request = await _message(call, kind, app.settings.body_timeout_s)
                self.active += 1
                try:
                    said = await answer(request, response, call)
                finally:
                    self.active -= 1
                if app.access_log is not None and said is not None:
                    size = len(said) if isinstance(said, bytes) else said.ByteSize()
                return said
            except ServeError as error:
                code, text = error.grpc, error.text
                if app.metrics is not None and error.limit is not None:
                    app.metrics.rejected(error.limit, "grpc", name)
            except asyncio.CancelledError:  # by the client, or its deadline
                late = context.time_remaining() == 0
                code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
                if app.metrics is not None and late:
                    app.metrics.rejected("deadline", "grpc", name)
                raise
            except Exception as error:
                code, call.id = "INTERNAL", call.id or f"grpc-{next(_numbers):x}"
                text = f"internal error, request {call.id}: the server's log has the details"
                traced = {}
                if call.trace is not None:
                    call.trace.failed(error)
                    traced = {"trace": call.trace.id}
                app.log("error", "unforeseen", id=call.id, path=name, **traced, exception=error)
            finally:
                request = None  # gRPC keeps what is raised here for long, and with it what stands in this function
                seconds = time.monotonic() - call.arrived
                if app.metrics is not None:
                    app.metrics.request(call.model, call.version, "grpc", name, code, seconds)
                trace = call.trace
                if trace is not None:
                    trace.answered(code, name, call.model, call.version)
                if app.access_log is not None:
                    app.access_log.request(
                        peer, "gRPC", name, name, code, seconds, size, call.model, call.version, call.id,
                        "" if trace is None else trace.id,
                    )  # fmt: skip
            await context.abort(grpc.StatusCode[code], text)

        return answered

    async def infer(self, request: Message, response: Response, call: Call) -> Message:
        """Answer an inference, the hot path: check, queue, answer in raw bytes, which is all that clients read."""
        app = self.app
        call.id = request.id[:128]
        with app.models.pin(_sane(request.model_name) or "", _sane(request.model_version)) as served:
            call.model, call.version = served.name, served.version
            served.admit(call.client)
            signature = served.signature
            reading = request, signature, served.name, app.settings.max_rows
            inputs = await aside(call.size, read_inputs, *reading) if call.size > LARGE else read_inputs(*reading)
            wanted = read_outputs(request, signature, served.name)
            rows = len(next(iter(inputs.values())))
            size = rows * signature.answer_row_bytes
            if size > app.settings.max_answer_bytes:
                check_size(wanted, rows, signature, served.name, app.settings.max_answer_bytes)
            if signature.table is not None:
                inputs = await features(inputs, signature, served.name)
            outputs = await served.infer(inputs, call.deadline(read_timeout(request)), call.client)
            if signature.answers_strings:
                size += string_bytes(outputs.values())
            if size > LARGE_ANSWER:
                limit = app.settings.max_answer_bytes
                return await aside(size, _large_answer, request.id, wanted, outputs, served, limit)
            answer = _described(request.id, wanted, outputs, served)
            answer.raw_output_contents.extend([to_bytes(outputs[one.name], one.datatype) for one in wanted])
            return answer

    def asking(self, endpoint: Callable[..., Awaitable[Reply]], field: str = "") -> Answer:
        """Return the HTTP endpoint's answer as a message, or as the `field` of one."""

        async def ask(request: Message, response: Response, call: Call) -> Message:
            names: dict[str, Any] = {}
            if model := getattr(request, "model_name", "") or getattr(request, "name", ""):
                names["model"] = _sane(model)
                if getattr(request, "version", ""):
                    names["version"] = _sane(request.version)
            elif endpoint in _NAMED:
                raise ServeError(400, "the request names no model")
            sent: dict[str, Any] = {"ready": True} if getattr(request, "ready", False) else {}
            if getattr(request, "parameters", None):
                sent["parameters"] = dict.fromkeys(request.parameters, True)
            body: Any = (await endpoint(Asked(self.app, sent), **names)).body  # never so large that it is in pieces
            value = orjson.loads(body)
            return json_format.ParseDict({field: value} if field else value, response(), ignore_unknown_fields=True)

        return ask

    async def model_ready(self, request: Message, response: Response, call: Call) -> Message:
        """Say whether a model is ready. As in Triton, an unknown one is not an error here: it is not ready."""
        try:
            with self.app.models.pin(_sane(request.name) or "", _sane(request.version)):
                return response(ready=True)
        except ServeError as error:
            if error.status not in (404, 503):
                raise
            return response(ready=False)

    async def statistics(self, request: Message, response: Response, call: Call) -> Message:
        """Answer with the statistics of one model, or of all that are ready."""
        ask = self.asking(endpoints.model_stats if request.name else endpoints.all_stats)
        return await ask(request, response, call)

    async def health(self, request: Message, response: Response, call: Call) -> Message:
        """Say whether the server (`service` is "") or the model of that name serves."""
        return response(status=self._health.check(request.service))

    async def watch(self, request: Message, response: Response, call: Call) -> None:
        """Say it at once and at each change, until the server drains."""
        with self._stream(call.client()):
            async for status in self._health.watch(request.service, lambda: self.draining):
                await call.context.write(response(status=status))
        raise _stopping()

    async def reflect(self, request: Message, response: Response, call: Call) -> None:
        """Describe services and messages."""
        with self._stream(call.client()):
            await self._reflection.answer(request, call.context)

    @contextlib.contextmanager
    def _stream(self, client: str) -> Iterator[None]:
        """Count a call without an end, for which the drain does not wait. Raises ServeError 429 if there are many."""
        for found, most, whose in ((self.streams[client], WATCHERS_EACH, "of this client "),
                                   (self.streams.total(), WATCHERS, "")):  # fmt: skip
            if found >= most:
                text = f"{most} calls of Watch and of reflection {whose}are open, the most at once: try again later"
                raise ServeError(429, text, limit="streams")
        self.active -= 1
        self.streams[client] += 1
        try:
            yield
        finally:
            self.active += 1
            self.streams[client] -= 1
            self.streams += Counter()  # forgets who has none


_NAMED = (endpoints.model_metadata, endpoints.model_config, endpoints.load, endpoints.unload)


def _stopping() -> ServeError:
    return ServeError(503, "this server is stopping: ask another")


def _described(id: str, wanted: Iterable[Wanted], outputs: dict[str, np.ndarray], served: Served) -> Message:
    answer = INFERENCE.ModelInferResponse(model_name=served.name, model_version=served.version, id=id)
    for one in wanted:
        answer.outputs.add(name=one.name, datatype=one.datatype, shape=outputs[one.name].shape)
    return answer


def _large_answer(
    id: str, wanted: Iterable[Wanted], outputs: dict[str, np.ndarray], served: Served, limit: int
) -> bytes:
    """Return the message's bytes, made beside the event loop: protobuf would copy the tensors twice, each in one call.

    Raises ServeError 400 where strings make it larger than `limit`.
    """
    message = io.BytesIO()
    message.write(_described(id, wanted, outputs, served).SerializeToString())
    for one in wanted:
        pieces = gathered(in_binary(outputs[one.name], one.datatype), limit, served.name)
        message.write(_RAW_OUTPUT + varint(sum(map(len, pieces))))
        for piece in pieces:
            message.write(piece)
            breathe()
    return message.getvalue()


def _serialized(said: Message | bytes) -> bytes:
    return said if isinstance(said, bytes) else said.SerializeToString()


async def _message(call: Call, kind: type[Message], seconds: float) -> Message:
    """Return the call's message; ServeError 408 if it is not whole in time, 400 if it is none."""
    try:
        async with asyncio.timeout(seconds):
            data = await call.context.read()
    except TimeoutError:
        raise ServeError(408, f"the message did not arrive within {seconds:g} seconds") from None
    if not isinstance(data, bytes) and not call.context.peer():  # gRPC has told the client, and forgotten it
        raise ServeError(413, "the message is larger than max_body_bytes")
    call.size = len(data) if isinstance(data, bytes) else 0
    try:
        return kind.FromString(data) if call.size <= LARGE else await aside(call.size, _parsed, kind, data)
    except (DecodeError, TypeError):  # TypeError: the stream ended without one
        raise ServeError(400, f"what came is not a {kind.DESCRIPTOR.full_name}") from None


def _parsed(kind: type[Message], data: bytes) -> Message:
    check_message(data)
    return kind.FromString(data)


def _headers(context: Context) -> dict[bytes, bytes]:
    """Return the call's `authorization` as HTTP's header. Given twice, it is no token."""
    given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    return {b"authorization": str(given[0]).encode("latin-1", "replace")} if len(given) == 1 else {}


def _sane(name: str) -> str | None:
    """Return a model's name or version as the HTTP door accepts it; None for ""."""
    return _checked(name) if name else None


@lru_cache(256)  # of accepted names alone, which are short: what raises is not kept
def _checked(name: str) -> str:
    return checked_name(quote(name, safe="").encode())
