"""The gRPC door: `inference.GRPCInferenceService` and `grpc.health.v1.Health`, in the same loop as the HTTP door.

Inference has its own way through; every other call asks the HTTP handler of the same name and turns its JSON into the
message, so the two doors cannot tell different things. Calls that belong to Triton alone (shared memory, streams, trace
and log settings) are UNIMPLEMENTED.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import grpc
import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from jaxprop.errors import JaxpropError
from jaxprop_serve.errors import ServeError
from jaxprop_serve.grpc_door.messages import Messages
from jaxprop_serve.grpc_door.tensors import read_inputs, read_outputs, read_timeout
from jaxprop_serve.http1.application import REASONS
from jaxprop_serve.http1.routes import checked_name
from jaxprop_serve.protocol import endpoints
from jaxprop_serve.protocol.data import to_bytes

INFERENCE, HEALTH = Messages("inference.proto"), Messages("health.proto")

MAX_STREAMS = 256  # of one connection at once; further calls of its client wait there
REFUSING_S = 0.2  # long enough for clients that are told so to turn away
_numbers = itertools.count(1)


class _Call:
    """What the wrapper around a call keeps: labels for the metrics, and the deadline."""

    __slots__ = ("arrived", "context", "id", "model", "version")

    def __init__(self, context: Any):
        self.context = context
        self.arrived = time.monotonic()
        self.id = self.model = self.version = ""

    def deadline(self, timeout_us: int | None) -> float | None:
        """The earlier of the client's gRPC deadline and the request's own `timeout`."""
        found = None if timeout_us is None else self.arrived + timeout_us * 1e-6
        left = self.context.time_remaining()
        if left is None:
            return found
        left += time.monotonic()
        return left if found is None else min(left, found)


class Service:
    """The answers, for an `http.App`: its models, settings, access rules, metrics and log."""

    def __init__(self, app: Any):
        self.app = app
        self.active = 0  # calls whose message has come
        self.draining = False

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What a grpc.aio server is given."""
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
        health = {"Check": self._handler(HEALTH, "HealthCheck", self.health, "open")}
        return [
            grpc.method_handlers_generic_handler("inference.GRPCInferenceService", found),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        ]

    def _handler(self, messages: Messages, name: str, answer: Callable[..., Awaitable[Any]], level: str) -> Any:
        request, response = getattr(messages, name + "Request"), getattr(messages, name + "Response")
        # A stream of one message: gRPC would wait for it without end, and before anybody could ask for a token.
        return grpc.stream_unary_rpc_method_handler(
            self._answered(name, answer, level, request, response),  # pyright: ignore[reportArgumentType] (grpc.aio)
            response_serializer=response.SerializeToString,
        )

    def _answered(self, name: str, answer: Any, level: str, kind: Any, response: Any) -> Callable[..., Awaitable[Any]]:
        """One call, one status, whatever happens."""
        app = self.app

        async def answered(_: Any, context: Any) -> Any:
            call, code = _Call(context), "OK"
            try:
                if self.draining:
                    raise ServeError(503, "this server is stopping: ask another")
                if app.access.token is not None or app.access.admin_token is not None:
                    app.access.check_token(_headers(context), level)
                request = await _message(context, kind, app.settings.body_timeout_s)
                self.active += 1
                try:
                    return await answer(request, response, call)
                finally:
                    self.active -= 1
            except ServeError as error:
                code, text = error.grpc, error.text
                if app.metrics is not None and error.status in REASONS:
                    app.metrics.rejected(REASONS[error.status])
            except asyncio.CancelledError:  # by the client, or its deadline
                late = context.time_remaining() == 0
                code = "DEADLINE_EXCEEDED" if late else "CANCELLED"
                if app.metrics is not None and late:
                    app.metrics.rejected("deadline")
                raise
            except Exception as error:
                code, call.id = "INTERNAL", call.id or f"grpc-{next(_numbers):x}"
                text = f"internal error, request {call.id}: the server's log has the details"
                app.log("error", "unforeseen", id=call.id, path=name, exception=error)
            finally:
                seconds = time.monotonic() - call.arrived
                if app.metrics is not None:
                    app.metrics.request(call.model, call.version, "grpc", code, seconds)
                if app.logs_requests:
                    app.log("info", "request", id=call.id, method="gRPC", path=name, code=code, seconds=seconds)
            await context.abort(grpc.StatusCode[code], text)

        return answered

    async def infer(self, request: Any, response: Any, call: _Call) -> Any:
        """The hot path: check, queue, answer in raw bytes, which is all that clients read."""
        app = self.app
        call.id = request.id[:128]
        with app.models.pin(_sane(request.model_name) or "", _sane(request.model_version)) as served:
            call.model, call.version = served.name, served.version
            served.admit()
            signature = served.signature
            inputs = read_inputs(request, signature, served.name, app.settings.max_rows)
            wanted = read_outputs(request, signature, served.name)
            outputs = await served.infer(inputs, call.deadline(read_timeout(request)))
            answer = response(model_name=served.name, model_version=served.version, id=request.id)
            datatypes = {spec.name: spec.datatype for spec in signature.outputs}
            for one in wanted:
                array, datatype = outputs[one.name], datatypes[one.name]
                answer.outputs.add(name=one.name, datatype=datatype, shape=array.shape)
                answer.raw_output_contents.append(to_bytes(array, datatype))
            return answer

    def asking(self, endpoint: Callable[..., Awaitable[Any]], field: str = "") -> Callable[..., Awaitable[Any]]:
        """The HTTP endpoint's answer as a message, or as the `field` of one."""

        async def ask(request: Any, response: Any, call: _Call) -> Any:
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

            async def body() -> bytes:
                return orjson.dumps(sent) if sent else b""

            asked = SimpleNamespace(app=self.app, body=body, headers={}, model="", version="", id=call.id)
            value = orjson.loads((await endpoint(asked, **names)).body)
            return json_format.ParseDict({field: value} if field else value, response(), ignore_unknown_fields=True)

        return ask

    async def model_ready(self, request: Any, response: Any, call: _Call) -> Any:
        """As in Triton, a model that is unknown or not ready is not an error here, it is not ready."""
        try:
            with self.app.models.pin(_sane(request.name), _sane(request.version)):
                return response(ready=True)
        except ServeError as error:
            if error.status not in (404, 503):
                raise
            return response(ready=False)

    async def statistics(self, request: Any, response: Any, call: _Call) -> Any:
        """Of one model, or of all that are ready."""
        ask = self.asking(endpoints.model_stats if request.name else endpoints.all_stats)
        return await ask(request, response, call)

    async def health(self, request: Any, response: Any, call: _Call) -> Any:
        """`service` is "" for the server, or a model's name."""
        serving, not_serving = 1, 2
        if not request.service:
            return response(status=serving if self.app.models.ready() else not_serving)
        try:
            with self.app.models.pin(_sane(request.service), None):
                return response(status=serving)
        except ServeError as error:
            if error.status != 503:
                raise
            return response(status=not_serving)


_NAMED = (endpoints.model_metadata, endpoints.model_config, endpoints.load, endpoints.unload)


class Door:
    """A running gRPC server: its port, and how it stops."""

    def __init__(self, service: Service, server: grpc.aio.Server, port: int):
        self.port = port
        self._service, self._server = service, server

    async def stop(self, seconds: float = 0) -> None:
        """Refuse new calls with UNAVAILABLE, answer those under way for so long, then let go.

        gRPC's own way of stopping cancels calls it has received and not yet handed over.
        """
        self._service.draining = True
        end = time.monotonic() + seconds
        await asyncio.sleep(min(REFUSING_S, seconds))
        while (busy := self._service.active) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await self._server.stop(0.1 if seconds and not busy else 0)


async def start(app: Any, settings: Any, port: int) -> Door:
    """A running gRPC server on `settings.host`; JaxpropError if the port is taken.

    Several processes may share the port if there are `settings.workers`; otherwise nobody else can take it too.
    """
    service = Service(app)
    server = grpc.aio.server(
        handlers=service.handlers(),
        maximum_concurrent_rpcs=settings.max_queue_rows,
        options=[
            ("grpc.max_receive_message_length", int(settings.max_body_bytes)),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            ("grpc.so_reuseport", int(settings.workers > 1)),
            ("grpc.max_connection_idle_ms", int(1000 * settings.idle_timeout_s)),
            ("grpc.server_handshake_timeout_ms", int(1000 * settings.header_timeout_s)),
        ],
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        if settings.tls_cert is None:
            bound = server.add_insecure_port(f"{host}:{port}")
        else:
            pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
            bound = server.add_secure_port(f"{host}:{port}", grpc.ssl_server_credentials([pair]))
    except RuntimeError:
        raise JaxpropError(
            f"cannot serve gRPC on {settings.host}:{port}: the port is taken; choose another with --grpc-port"
        ) from None
    await server.start()
    return Door(service, server, bound)


async def _message(context: Any, kind: Any, seconds: float) -> Any:
    """The call's message; 408 if it is not whole in time, 400 if it is none."""
    try:
        async with asyncio.timeout(seconds):
            data = await context.read()
    except TimeoutError:
        raise ServeError(408, f"the message did not arrive within {seconds:g} seconds") from None
    try:
        return kind.FromString(data)
    except (DecodeError, TypeError):  # TypeError: the stream ended without one
        raise ServeError(400, f"what came is not a {kind.DESCRIPTOR.full_name}") from None


def _headers(context: Any) -> dict[bytes, bytes]:
    """The call's `authorization`, as HTTP's header; given twice it is no token."""
    given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    return {b"authorization": given[0].encode("latin-1", "replace")} if len(given) == 1 else {}


def _sane(name: str) -> Any:
    """A model's name or version, as the HTTP door accepts one; "" is none."""
    return _checked(name) if name else None


@lru_cache(256)  # of accepted names alone, which are short: what raises is not kept
def _checked(name: str) -> str:
    return checked_name(quote(name, safe="").encode())
