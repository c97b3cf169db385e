"""One HTTP request and its answer on a connection: ASGI's `receive` and `send`, at the least cost.

uvicorn's own cycle makes an event, two regular-expression searches a header and two writes for every request, half of
what a small model's request costs. Here a body that has arrived is handed over without waiting, and an answer of one
piece is one write.
"""

import asyncio
import functools
import http
import logging
import types
from collections.abc import Coroutine, Generator, Iterable
from typing import Any, Protocol

from jaxprop_serve.http1.routes import ASGI, Reply, send_reply

_log = logging.getLogger("jaxprop_serve")
_PHRASES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
# More of a body than this is not read before the application asks for it.
HIGH_WATER = 1 << 16


class Owner(Protocol):
    """What an exchange asks of the connection that it belongs to."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    writable: asyncio.Future[None] | None

    def pause_reading(self) -> None: ...  # noqa: D102
    def resume_reading(self) -> None: ...  # noqa: D102
    def answered(self) -> None: ...  # noqa: D102


class Exchange:
    """Holds the state of one request between its connection and the application."""

    __slots__ = (
        "body",
        "connection",
        "disconnected",
        "expects_continue",
        "head",
        "keep_alive",
        "left",
        "more_body",
        "response_complete",
        "response_started",
        "scope",
        "taken",
        "task",
        "waiter",
    )

    def __init__(self, scope: dict[str, Any], connection: Owner, keep_alive: bool, expects_continue: bool):
        self.scope = scope
        self.connection = connection
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.taken = False  # the whole body has been handed over
        self.waiter: asyncio.Future[Any] | None = None
        self.task: asyncio.Task[None] | None = None  # what runs the application, unless it had nothing to wait for
        self.disconnected = self.response_started = self.response_complete = False
        self.head: dict[str, Any] | None = None  # the start of the answer, until its first piece is there
        self.left: int | None = None  # bytes still to come of an answer whose length was declared

    # What the connection tells.
    def feed(self, data: bytes) -> None:
        """Take a piece of the body that has come."""
        if not self.body:
            self.body = data
            self.wake()  # whoever waits for more is woken by its first piece
        elif isinstance(self.body, bytearray):
            self.body += data
        else:
            self.body = bytearray(self.body + data)
        if len(self.body) > HIGH_WATER:
            self.connection.pause_reading()

    def wake(self) -> None:
        """Say that something has changed that `receive` may be waiting for."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    @property
    def begun(self) -> bool:
        """Whether the application has begun to answer."""
        return self.response_started or self.head is not None

    # What the application calls.
    async def receive(self) -> dict[str, Any]:
        """Return the next piece of the body; after its end, wait until the client goes away or is answered."""
        while (
            not self.disconnected and not self.response_complete and (self.taken or (self.more_body and not self.body))
        ):
            if self.expects_continue:
                self.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.expects_continue = False
            self.connection.resume_reading()
            waiter = self.waiter = self.connection.loop.create_future()
            await waiter
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), b""
        self.taken = not self.more_body
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def _answer(self, answer: Reply) -> None:
        """Send a whole answer."""
        connection, body = self.connection, answer.body
        text = self._head(answer.status, answer.headers, len(body))
        self.response_started = self.response_complete = True
        connection.transport.write(text + body if self.scope["method"] != "HEAD" else text)
        self.wake()
        if not self.keep_alive:
            connection.transport.close()
        connection.answered()

    async def send(self, message: dict[str, Any]) -> None:
        """Send a part of the answer.

        Its start is kept back until the first piece of the body, so that both are one write.
        """
        connection = self.connection
        if connection.writable is not None and not self.disconnected:
            await asyncio.shield(connection.writable)
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and self.head is None and not self.response_started:
            self.head = message
            return
        if (
            message["type"] != "http.response.body"
            or self.response_complete
            or not (self.head or self.response_started)
        ):
            raise RuntimeError(f"{message['type']} does not follow what was sent before")
        body, more = message.get("body", b""), message.get("more_body", False)
        text = b""
        if self.head is not None and not self.response_started:
            text = self._head(self.head["status"], self.head.get("headers", ()), None if more else len(body))
        self.response_started = True
        if self.scope["method"] == "HEAD":
            body, self.left = b"", 0
        if self.left is None:  # chunked
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        else:
            self.left -= len(body)
            if self.left < 0 or (self.left and not more):
                self.keep_alive = False
                connection.transport.close()
                raise RuntimeError("the answer is not as long as its Content-Length says")
        connection.transport.write(text + body if text else body)
        if not more:
            self.response_complete = True
            self.wake()
            if not self.keep_alive:
                connection.transport.close()
            connection.answered()

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]], length: int | None) -> bytes:
        """Return the status line and the headers. A line break smuggled into a header is an error."""
        lines = [_PHRASES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        declared = chunked = closing = False
        for name, value in headers:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                declared, self.left = True, int(value)
            elif name == b"connection" and value.lower() == b"close":
                closing, self.keep_alive = True, False
            elif name == b"transfer-encoding":
                chunked = True
        if not declared and not chunked:
            if status in (204, 304):
                self.left = 0
            elif length is not None:
                self.left = length
                lines.append(b"content-length: %d\r\n" % length)
            else:
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive and not closing:
            lines.append(b"connection: close\r\n")
        text = b"".join(lines)
        if text.count(b"\n") != len(lines) or text.count(b"\r") != len(lines):
            raise RuntimeError("a header of the answer holds a line break")
        return text + b"\r\n"

    async def run(self, app: ASGI) -> None:
        """Run the application. A failure of it (App has none) closes the connection and never leaves it hanging.

        One that has a `reply` (App) gives its answer without messages.
        """
        connection = self.connection
        try:
            reply = getattr(app, "reply", None)
            if reply is None:
                await app(self.scope, self.receive, self.send)
            elif (answer := await reply(self.scope, self.receive, self.send)) is not None:
                if connection.writable is not None and not self.disconnected:
                    await asyncio.shield(connection.writable)
                if type(answer.body) is not bytes:
                    self.scope.pop("jaxprop.cancel", None)  # what is sent to nobody ends by itself
                    await send_reply(answer, self.send)
                elif not self.disconnected:
                    self._answer(answer)
        except BaseException as error:
            _log.error("the application failed", exc_info=error)
        if not self.response_complete and not self.disconnected:
            connection.transport.close()


async def resumed(work: Coroutine[Any, Any, None], waited_for: Any) -> None:
    """Go on with a coroutine that was begun without a task and waits for something: for a task."""
    await _rest(work, waited_for)


@types.coroutine
def _rest(work: Coroutine[Any, Any, None], waited_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            sent = yield waited_for
        except BaseException as error:
            step = functools.partial(work.throw, error)
        else:
            step = functools.partial(work.send, sent)
        try:
            waited_for = step()
        except StopIteration:
            return
