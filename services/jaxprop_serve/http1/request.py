"""What a handler is given: `Request` says what every door offers, `HttpRequest` is a request of the HTTP door."""

import asyncio
import itertools
import os
import time
from typing import Any, Protocol

from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1.limits import BODIES, decompress, encodings, read_body, too_large
from jaxprop_serve.http1.routes import Receive
from jaxprop_serve.models.lifecycle import Models
from jaxprop_serve.models.queue import who
from jaxprop_serve.protocol.aside import aside
from jaxprop_serve.seen.metrics import Metrics
from jaxprop_serve.settings import Settings

_ids = itertools.count(1)
_prefix = os.urandom(4).hex()


class Request(Protocol):
    """What a handler may ask of a request, whichever door it came through."""

    __slots__ = ()

    models: Models
    settings: Settings
    metrics: Metrics | None
    headers: dict[bytes, bytes]  # by lower-case name
    model: str  # this and the version are set once a model is pinned: labels for the metrics
    version: str

    async def body(self) -> bytes:
        """Return the whole body, decompressed, within the limits."""
        ...

    def deadline(self, timeout_us: int | None) -> float | None:
        """Return the instant (time.monotonic) after which an answer is of no use."""
        ...

    def client(self) -> str:
        """Return who asks, as queues tell clients apart."""
        ...

    def cancel_if_gone(self) -> None:
        """Drop the work if the client goes away from here on."""
        ...


class HttpRequest(Request):
    """A request of the HTTP door, as ASGI describes it. The names in its path are the handler's arguments."""

    __slots__ = (
        "_id", "arrived", "headers", "held", "metrics", "model", "models", "receive", "route", "scope", "settings",
        "trace", "version",
    )  # fmt: skip

    def __init__(
        self, models: Models, settings: Settings, metrics: Metrics | None, scope: dict[str, Any], receive: Receive
    ):
        self.models, self.settings, self.metrics = models, settings, metrics
        self.scope = scope
        self.receive = receive
        self.arrived = time.monotonic()
        self.headers: dict[bytes, bytes] = {}
        self.model = self.version = self.route = ""
        self.trace: Any = None  # a seen.traces.Trace, where tracing is on
        self._id = ""
        self.held = 0  # bytes of its body that are counted

    @property
    def id(self) -> str:
        """The client's X-Request-Id if it is a sane one, and one of our own otherwise."""
        if not self._id:
            given = self.headers.get(b"x-request-id", b"")
            sane = 0 < len(given) <= 128 and all(33 <= c <= 126 for c in given)
            self._id = given.decode() if sane else f"{_prefix}-{next(_ids):x}"
        return self._id

    async def body(self) -> bytes:
        """Return the whole body, decompressed, within the limits."""
        settings = self.settings
        limit = settings.max_body_bytes
        body = self.scope.get("jaxprop.body")  # what came in one piece with its header
        if body is not None:
            if len(body) > limit:
                raise too_large(len(body), limit)
        elif "jaxprop.timed" in self.scope:  # connections.py keeps the time
            body = await read_body(self.receive, self.headers, limit, self.hold)
        else:
            try:
                async with asyncio.timeout(settings.body_timeout_s):
                    body = await read_body(self.receive, self.headers, limit, self.hold)
            except TimeoutError:
                raise ServeError(408, f"the body did not arrive within {settings.body_timeout_s:g} seconds") from None
        if b"content-encoding" not in self.headers and b"transfer-encoding" not in self.headers:
            return body
        encoded = encodings(self.headers)
        if not encoded:
            return body
        if len(body) < 1 << 10 and len(encoded) == 1:  # which cannot become more than a MiB
            plain = decompress(body, encoded, limit)
        else:
            self.cancel_if_gone()
            plain = await aside(len(body), decompress, body, encoded, limit)
            del self.scope["jaxprop.cancel"]
        self.hold(len(plain))
        return plain

    def hold(self, size: int) -> None:
        """Count bytes of the body, until `let_go`; ServeError 429 where clients hold too many together."""
        BODIES.take(self.client(), size, self.settings.max_body_bytes)
        self.held += size

    def let_go(self) -> None:
        """Count the body no longer, since the request is over."""
        BODIES.give(self.client(), self.held)
        self.held = 0

    def deadline(self, timeout_us: int | None) -> float | None:
        """Return the instant (time.monotonic) after which an answer is of no use."""
        return None if timeout_us is None else self.arrived + timeout_us * 1e-6

    def client(self) -> str:
        """Return who asks, as queues tell clients apart; "" for all that come through a Unix socket."""
        name = self.scope.get("jaxprop.client")  # connections.py knows it
        if name is None:
            peer = self.scope.get("client")
            name = self.scope["jaxprop.client"] = who(peer[0]) if peer else ""
        return name

    def cancel_if_gone(self) -> None:
        """Drop the work if the client goes away from here on; connections.py calls back what is left here."""
        self.scope["jaxprop.cancel"] = True
