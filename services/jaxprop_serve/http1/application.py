"""The HTTP door: a bare ASGI application that any ASGI server runs, with one JSON shape for every refusal.

In order, for every request: who asks (access.py), what for (routes.py), the handler (endpoints.py), one answer.
Whatever goes wrong becomes `{"error": "..."}`; what nobody foresaw becomes a 500 with a request id, and its traceback
goes to the log, never to the client.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1.access import Access, single
from jaxprop_serve.http1.compression import compressed
from jaxprop_serve.http1.endpoints import ROUTES, reply
from jaxprop_serve.http1.limits import Disconnected
from jaxprop_serve.http1.openapi import describing
from jaxprop_serve.http1.request import HttpRequest
from jaxprop_serve.http1.routes import Mount, NotAllowed, Receive, Reply, Route, Router, Send, send_reply
from jaxprop_serve.models.lifecycle import Models
from jaxprop_serve.seen.logs import Log
from jaxprop_serve.seen.metrics import Metrics
from jaxprop_serve.settings import Settings

GONE = 499  # counted where the client went away: nobody to answer


class App:
    """The ASGI application; see `create_app`."""

    def __init__(
        self,
        models: Models,
        settings: Settings,
        metrics: Metrics | None,
        log: Log | None,
        routes: Iterable[Route | Mount],
        traces: Any = None,
    ):
        self.models = models
        self.settings = settings
        self.metrics = metrics
        self.log = log if log is not None else _log
        self.access_log = log if log is not None and getattr(log, "requests", False) else None
        self.traces = traces
        self.access = Access(settings)
        self.compression = settings.compression
        routes = list(routes)
        answered = [*ROUTES, *(route for route in routes if isinstance(route, Route))]
        self.description = describing(answered, settings)
        self.router = Router([*answered, self.description])
        self.mounts = [mount for mount in routes if isinstance(mount, Mount)]

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Give one answer to one request, whatever happens."""
        if scope["type"] != "http":
            await _not_http(scope, receive, send)
            return
        answer = await self.reply(scope, receive, send)
        if answer is not None:
            scope.pop("jaxprop.cancel", None)  # what is sent to nobody ends by itself
            await send_reply(answer, send)

    async def reply(self, scope: dict[str, Any], receive: Receive, send: Send) -> Reply | None:
        """Return the answer, counted; None where a mounted application gave it, or nobody is left to be answered."""
        request = HttpRequest(self.models, self.settings, self.metrics, scope, receive)
        if self.traces is not None:
            request.trace = self.traces.http(scope)
        try:
            answer = await self._answer(request, send)
            if b"accept-encoding" in request.headers and self.compression and answer is not None:
                answer = await compressed(answer, request.headers[b"accept-encoding"])
        except ServeError as error:
            answer = self._refusal(request, error)
        except Disconnected:
            self._gone(request)
            return None
        except asyncio.CancelledError:
            if "jaxprop.cancel" not in scope:
                raise
            self._gone(request)
            return None
        except Exception as error:
            self._unforeseen(request, error)
            text = f"internal error, request {request.id}: the server's log has the details"
            answer = reply({"error": text}, 500, [(b"x-request-id", request.id.encode())])
        finally:
            if request.held:
                request.let_go()
        return None if answer is None else self._complete(request, answer)

    async def _answer(self, request: HttpRequest, send: Send) -> Reply | None:
        scope = request.scope
        request.headers = headers = scope.get("jaxprop.headers") or single(scope["headers"])
        access = self.access
        path = scope.get("raw_path") or scope["path"].encode()
        for mount in self.mounts:
            if path == mount.prefix.encode() or path.startswith(mount.prefix.encode() + b"/"):
                request.route = mount.prefix
                access.check_source(scope, headers, mount.level)
                access.check_token(headers, mount.level)
                await self._mounted(mount, request, send)
                return None
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            access.check_source(scope, headers, "user")
            return Reply(b"", [*_PREFLIGHT], 204)
        try:
            route, names = self.router.find("GET" if scope["method"] == "HEAD" else scope["method"], path)
        except ServeError as error:
            access.check_source(scope, headers, "user")
            access.check_token(headers, "user")  # strangers do not learn which paths there are
            if scope["method"] == "OPTIONS" and isinstance(error, NotAllowed):
                return Reply(b"", [(b"allow", error.allow)], 204)
            raise
        request.route = route.path
        access.check_source(scope, headers, route.level)
        access.check_token(headers, route.level)
        if route.eager and self.traces is None:  # a trace needs a context of its own, which is a task's
            scope["jaxprop.eager"] = True
        answer = await route.handler(request, **names)
        # Headers are added to it, and a plugin may keep the one that it gives.
        return answer if route.eager else answer._replace(headers=[*answer.headers])

    async def _mounted(self, mount: Mount, request: HttpRequest, send: Send) -> None:
        """Hand over to a mounted application.

        The request's body is counted, and the application's failures are answered here.
        """
        if request.headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":  # applications know none
            raise ServeError(501, f"{mount.prefix} takes bodies as they are: send Transfer-Encoding chunked, or none")
        limit, total, status = self.settings.max_body_bytes, 0, 0

        async def receive() -> dict[str, Any]:
            nonlocal total
            message = await request.receive()
            total += len(message.get("body", b""))
            if total > limit:
                raise ServeError(
                    413, f"the request's body has at least {total} bytes, this server takes at most {limit}"
                )
            return message

        async def sending(message: dict[str, Any]) -> None:
            nonlocal status
            status = status or message.get("status", 0)
            await send(message)

        root = request.scope.get("root_path", "") + mount.prefix
        try:
            scope = {**request.scope, "root_path": root, "headers": [*request.scope["headers"]]}
            await mount.application(scope, receive, sending)
        except Exception as error:
            if not status:
                raise
            self._unforeseen(request, error)
        self._count(request, status or GONE)

    def _unforeseen(self, request: HttpRequest, error: Exception) -> None:
        traced = {}
        if request.trace is not None:
            request.trace.failed(error)
            traced = {"trace": request.trace.id}
        self.log("error", "unforeseen", id=request.id, path=_path(request.scope), **traced, exception=error)

    def _refusal(self, request: HttpRequest, error: ServeError) -> Reply:
        headers: list[tuple[bytes, bytes]] = []
        if error.retry_after is not None or error.status == 429:
            headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after or 1))))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if isinstance(error, NotAllowed):
            headers.append((b"allow", error.allow))
        if self.metrics is not None and error.limit is not None:
            self.metrics.rejected(error.limit, "http", request.route)
        return reply({"error": error.text}, error.status, headers)

    def _complete(self, request: HttpRequest, answer: Reply) -> Reply:
        """Add the headers that every answer has, and count it."""
        body, headers, status = answer
        size = len(body) if isinstance(body, bytes) else sum(map(len, body))
        if status != 204:
            headers.append((b"content-length", b"%d" % size))
        given = request.headers
        if b"x-request-id" in given and status != 500:
            headers.append((b"x-request-id", request.id.encode()))
        if b"origin" in given and status != 403:
            headers += [(b"access-control-allow-origin", given[b"origin"]), (b"vary", b"origin")]
        self._count(request, status, size)
        return answer

    def refused(self, status: int, client: tuple[str, int | None] | None) -> None:
        """Count and log what connections.py answered without the application: it never became a request."""
        if self.metrics is not None:
            self.metrics.request("", "", "http", "", status, 0.0)
            if status in _AT_THE_CONNECTION:
                self.metrics.rejected(_AT_THE_CONNECTION[status], "http", "")
        if self.access_log is not None:
            self.access_log.request(client, "", "", "", status, 0.0, None)

    def _gone(self, request: HttpRequest) -> None:
        """Count a request whose client went away, or was given up by connections.py while its body came."""
        status = request.scope.get("jaxprop.status", GONE)
        if self.metrics is not None and status in _AT_THE_CONNECTION:
            self.metrics.rejected(_AT_THE_CONNECTION[status], "http", request.route)
        self._count(request, status)

    def _count(self, request: HttpRequest, status: int, size: int | None = None) -> None:
        """Count and log a request that is over."""
        seconds = time.monotonic() - request.arrived
        model, version, route = request.model, request.version, request.route
        if self.metrics is not None:
            self.metrics.request(model, version, "http", route, status, seconds)
        trace = request.trace
        if trace is not None:
            trace.answered(status, route, model, version)
        if self.access_log is not None:
            scope, known = request.scope, b"x-request-id" in request.headers or status == 500
            self.access_log.request(
                scope.get("client"), scope["method"], scope["path"], route, status, seconds, size, model, version,
                request.id if known else "", "" if trace is None else trace.id,
            )  # fmt: skip


_AT_THE_CONNECTION = {408: "timeout", 431: "header", 503: "connections"}  # limits that connections.py keeps
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, inference-header-content-length, x-request-id"),
    (b"access-control-max-age", b"600"),
]


def create_app(
    models: Models,
    settings: Settings,
    metrics: Metrics | None = None,
    log: Log | None = None,
    routes: Iterable[Route | Mount] = (),
    traces: Any = None,
) -> App:
    """The server's ASGI application.

    Args:
        models: `models.Models`, started and stopped by the caller (server.py), not here.
        settings: limits and tokens, see settings.py.
        metrics: `.request(...)`, `.rejected(...)` and `.render()` of a `Metrics`.
        log: `log(level, event, **fields)`; with `log.requests` true, `log.request(...)` for each request.
        routes: more `Route`s and `Mount`s, such as explain's and the plugins'.
        traces: a seen.traces.Traces, or None.

    Raises ValueError for settings that would leave a server reachable from other machines without a token.
    """
    return App(models, settings, metrics, log, routes, traces)


def _path(scope: dict[str, Any]) -> str:
    """Return the path for the log, without its query and cut to a useful length."""
    return scope["path"][:200]


def _log(level: str, event: str, **fields: Any) -> None:
    exception = fields.pop("exception", None)
    logging.getLogger("jaxprop_serve").log(
        logging.getLevelNamesMapping()[level.upper()], "%s %s", event, fields, exc_info=exception
    )


async def _not_http(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Acknowledge lifespan events (server.py starts and stops the models), and close WebSockets, which are not
    served."""
    if scope["type"] != "lifespan":
        await send({"type": "websocket.close", "code": 1003})
        return
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
