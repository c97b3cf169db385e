"""One HTTP request and its answer on a connection: ASGI's `receive` and `send`, at the least cost.

uvicorn's own cycle makes an event, two regular-expression searches a header and two writes for every request, half of
what a small model's request costs. Here a body that has arrived is handed over without waiting, and an answer of one
piece is one write.
"""

import asyncio
import http
import logging
from collections.abc import Coroutine, Iterable
from functools import lru_cache
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
        "waits_for",
        "work",
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
        self.task: asyncio.Task[None] | None = None  # what runs the application, unless it was begun here
        self.work: Coroutine[Any, Any, None] | None = None
        self.waits_for: asyncio.Future[Any] | None = None
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
        """Send a whole answer, which is no list of pieces."""
        connection = self.connection
        body: Any = answer.body
        text, self.keep_alive = _whole_head(answer.status, tuple(answer.headers), self.keep_alive)
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
        declared = chunked = closing = False
        for name, value in headers:
            if name == b"content-length":
                declared, self.left = True, int(value)
            elif name == b"connection" and value.lower() == b"close":
                closing, self.keep_alive = True, False
            elif name == b"transfer-encoding":
                chunked = True
        more: list[tuple[bytes, bytes]] = []
        if not declared and not chunked:
            if status in (204, 304):
                self.left = 0
            elif length is not None:
                self.left = length
                more.append((b"content-length", b"%d" % length))
            else:
                more.append((b"transfer-encoding", b"chunked"))
        if not self.keep_alive and not closing:
            more.append((b"connection", b"close"))
        return _lines(status, (*headers, *more))

    def begin(self, app: ASGI) -> None:
        """Run an application that asks for no task of its own (see routes.py): what it waits for calls back."""
        self.work = self.run(app)
        self._go_on(None)

    def _go_on(self, _: object) -> None:
        assert self.work is not None
        try:
            waits_for = self.waits_for = self.work.send(None)
        except StopIteration:
            self.work = self.waits_for = None
            return
        if waits_for is None:  # asyncio.sleep(0)
            self.connection.loop.call_soon(self._go_on, None)
        else:
            waits_for.add_done_callback(self._go_on)

    def cancel(self) -> None:
        """Let what the application waits for be cancelled."""
        waits_for = self.task or self.waits_for
        if waits_for is not None:
            waits_for.cancel()

    async def run(self, app: ASGI) -> None:
        """Run the application. A failure of it (App has none) closes the connection and never leaves it hanging.

        One that has a `reply` (App) gives its answer without messages.
        """
        connection = self.connection
        try:
            reply = getattr(app, "reply", None)
            if reply is None:
                self.scope["headers"] = [*self.scope["headers"]]  # it may write into them
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


def _lines(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [_PHRASES.get(status) or b"HTTP/1.1 %d \r\n" % status, *(b"%b: %b\r\n" % header for header in headers)]
    text = b"".join(lines)
    if text.count(b"\n") != len(lines) or text.count(b"\r") != len(lines):
        raise RuntimeError("a header of the answer holds a line break")
    return text + b"\r\n"


@lru_cache(1024)  # most answers of a server begin in one of a few ways
def _whole_head(status: int, headers: tuple[tuple[bytes, bytes], ...], keep_alive: bool) -> tuple[bytes, bool]:
    """Return the status line and the headers of an answer that has all of them, and whether the connection is kept."""
    closing = any(name == b"connection" and value.lower() == b"close" for name, value in headers)
    if not keep_alive and not closing:
        headers = (*headers, (b"connection", b"close"))
    return _lines(status, headers), keep_alive and not closing
