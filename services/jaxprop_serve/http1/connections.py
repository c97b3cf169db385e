"""A TCP connection of uvicorn's server: HTTP/1.1 by httptools, with an end to every phase and a size to every header.

uvicorn closes neither slow nor oversized clients. Here a request has three phases: its header arrives
(`header_timeout_s`), its body arrives (`body_timeout_s`), it is answered (no limit here: deadlines are the batcher's);
between requests a connection may stay idle (`idle_timeout_s`). A phase only writes down when it ends; one sweep over
all connections, twice a second, closes what is overdue, so that a request pays for no timer.

Requests are answered one after the other, and what comes beyond a whole request waits until that one is answered. Much
that comes at once is parsed a piece a turn of the loop, so that others are served in between.

    uvicorn.Config(app, http=connection(settings), ws="none")
"""

import asyncio
import contextlib
import http
import json
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import httptools

from jaxprop_serve.http1.crowd import Crowd
from jaxprop_serve.http1.exchange import Exchange
from jaxprop_serve.http1.known import Headers, Known
from jaxprop_serve.models.queue import who
from jaxprop_serve.settings import Settings

SWEEP_S = 0.5
AT_ONCE = 1 << 14  # bytes that are parsed as they come; of more, pieces are parsed for so long in one turn of the loop
PIECE = 1 << 11
TURN_S = 0.0002
QUICK_S = 0.00002
PROBE_S = 10  # a client that closed its sending side is asked this often whether it is still there
# After an early answer (413) the rest of the body is read and dropped, so that the client sees the answer: this much.
_DROPPED_BYTES = 1 << 26
_ASGI = {"version": "3.0", "spec_version": "2.3"}


Refusals = Callable[[int, tuple[str, int | None] | None], None]


class Refused(Exception):  # noqa: N818 (raised inside the parser to stop it)
    """Raised where a header breaks a limit."""


def connection(
    settings: Settings, max_header_bytes: int = 32768, max_headers: int = 100, refused: "Refusals | None" = None
) -> type["Connection"]:
    """The protocol class for `uvicorn.Config(http=...)` with these limits.

    Args:
        settings: `header_timeout_s`, `body_timeout_s`, `idle_timeout_s`, `max_connections` (see settings.py).
        max_header_bytes: of request line and header together; more is answered with 431.
        max_headers: number of header lines; more is answered with 431.
        refused: told of every answer that is given here, not by the application: its status and the client.
    """

    class Limited(Connection):
        header_timeout = float(settings.header_timeout_s)
        body_timeout = float(settings.body_timeout_s)
        idle_timeout = float(settings.idle_timeout_s)
        max_connections = int(settings.max_connections)
        crowd = Crowd(max_connections)
        known = Headers()

    Limited.refused = staticmethod(refused) if refused is not None else None
    Limited.max_header_bytes = max_header_bytes
    Limited.max_headers = max_headers
    return Limited


class Connection(asyncio.Protocol):
    """One TCP connection, with what uvicorn's server asks of a protocol: its constructor, `shutdown`, and sets of
    tasks."""

    # ruff: noqa: D102 (asyncio's and the parser's callbacks)
    header_timeout: float
    body_timeout: float
    idle_timeout: float
    max_connections: int
    max_header_bytes: int
    max_headers: int
    refused: Refusals | None
    crowd: Crowd
    known: Headers

    def __init__(
        self, config: Any, server_state: Any, app_state: object, _loop: asyncio.AbstractEventLoop | None = None
    ):
        if not config.loaded:
            config.load()
        self.app = config.loaded_app
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.connections, self.tasks = server_state.connections, server_state.tasks
        self.parser = httptools.HttpRequestParser(self)
        self.transport: Any = None
        self.peer = ""  # who the client is, as queues and the crowd tell clients apart
        self.handshake: Callable[[], None] | None = None  # ends a handshake of TLS, while it is under way
        self.writable: asyncio.Future[None] | None = None  # set while the client does not read its answers
        self.reading_paused = False
        self.due: float | None = None  # when the present phase must be over; None while the answer is ours to give
        self.phase = "header"
        self.started = False  # whether any byte of the present request has come
        self.pending_bytes = 0  # since the last complete header, to stop one that never ends
        self.dropped_bytes = 0
        self.held = b""  # has come and is not parsed yet; meanwhile nothing more is read
        self.half_closed = False  # the client sends no more, and waits for its answers
        self.refusal: tuple[int, str] | None = None
        self.last_words: tuple[int, str] | None = None  # a refusal that is said after the answers before it
        self.exchange: Exchange | None = None  # the latest; those before it may still be unanswered
        self.running: Exchange | None = None  # the one that was parsed and is answered now
        self.waiting: deque[Exchange] = deque()  # pipelined: answered one after the other
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.expects_continue = False
        self.head = b""  # of a request that came in one piece, to be known once it is answered

    # asyncio's callbacks.
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connections.add(self)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._enter("header", self.header_timeout)
        self.peer = who(self.client[0]) if self.client else ""
        if not self.crowd.enter(self):
            self._refuse(503, f"this server has {self.max_connections} connections open, its limit: try again later")
        sweep(self)

    def data_received(self, data: bytes) -> None:
        if self.phase == "header" and not self.started and not self.held:
            self.head, known = self.known.find(data)
            if known is not None:
                self._again(known, data[len(self.head) :])
                return
            self.size = len(data)
        if self.phase == "answer" or len(data) > AT_ONCE or self.held or self.reading_paused:
            self._hold(data)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        if self.phase == "header":
            self.started = True
            self.pending_bytes += len(data)
        elif self.exchange is not None and self.exchange.response_complete:
            self.dropped_bytes += len(data)
            if self.dropped_bytes > _DROPPED_BYTES:
                self.transport.abort()
                return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._fail(*(self.refusal or (400, f"not a valid HTTP/1.1 request: {error}")))
        if self.phase == "header" and self.pending_bytes > self.max_header_bytes and not self.transport.is_closing():
            self._fail(431, f"the request's header has more than {self.max_header_bytes} bytes")

    def eof_received(self) -> bool:
        """Answer what is whole, though the client sends no more: it may still read (RFC 9112, 9.6)."""
        if self.phase == "body":
            self._fail(400, "the client closed its sending side before the body was whole")
        if self.transport.is_closing() or self.exchange is None or self.exchange.response_complete:
            return False
        self.half_closed = True
        self.exchange.keep_alive = False
        with contextlib.suppress(AttributeError, OSError):  # not every socket is TCP's, not every system has these
            tcp = self.transport.get_extra_info("socket")
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_S)
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_S)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.due = None
        self.held = b""
        self.connections.discard(self)
        self.crowd.leave(self)
        self.resume_writing()
        self._abandon()

    def pause_writing(self) -> None:
        """Give a client that does not read its answer as long for that as for a body."""
        self.writable = self.writable or self.loop.create_future()
        self.due = self.loop.time() + self.body_timeout

    def resume_writing(self) -> None:
        if self.writable is not None:
            self.writable.set_result(None)
            self.writable = None
            if self.phase == "answer":
                self.due = None

    # The parser's callbacks.
    def on_message_begin(self) -> None:
        self.url, self.headers, self.expects_continue, self.started = b"", [], False, True
        self._enter("header", self.header_timeout)
        if self.exchange is not None and not self.exchange.response_complete:
            self.pause_reading()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase == "header":  # else a trailer of a chunked body: never part of the request's header
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expects_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self.phase = "upgrade"  # read again without it, see _ignore_upgrade
            return
        # Perhaps the body's bytes, and perhaps it began in the piece before, which is not counted.
        if self.pending_bytes > self.max_header_bytes - AT_ONCE:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.max_header_bytes:
                self._stop(431, f"the request's header has more than {self.max_header_bytes} bytes")
        if len(self.headers) > self.max_headers:
            self._stop(431, f"the request has more than {self.max_headers} headers")
        self._enter("body", self.body_timeout)
        self.pending_bytes = self.dropped_bytes = 0
        version, before = self.parser.get_http_version(), self.exchange
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        self.exchange = Exchange(self._scope(version), self, keep_alive, self.expects_continue)
        if before is None or before.response_complete:
            self._start(self.exchange)
        else:
            self.waiting.append(self.exchange)

    def on_body(self, body: bytes) -> None:
        if self.exchange is not None and not self.exchange.response_complete:
            self.exchange.feed(body)

    def on_message_complete(self) -> None:
        if self.phase == "upgrade":
            return
        self.started = False
        self.pending_bytes = 0
        if self.exchange is None or self.exchange.response_complete:
            self._enter("header", self.idle_timeout)
        else:
            self.phase, self.due = "answer", None
            self.exchange.more_body = False
            self.exchange.wake()

    # What an exchange tells.
    def answered(self) -> None:
        """Start the next pipelined request after an answer is complete, or wait for the client's next one."""
        self.server_state.total_requests += 1
        if self.head and self.exchange is not None and self.phase == "answer" and not self.waiting:  # nothing follows
            self.known.learn(self.head, self.size, self.exchange, self._scope)
        self.head = b""
        if self.transport.is_closing():
            return
        if self.waiting:
            self._start(self.waiting.popleft())
        elif self.last_words is not None:
            self._refuse(*self.last_words)
        else:
            if self.phase == "answer":
                self._enter("header", self.idle_timeout)
            elif self.phase == "header":  # of the next request, a part has come
                self._enter("header", self.header_timeout)
            self.resume_reading()

    def pause_reading(self) -> None:
        """Read no more until somebody waits for it."""
        if not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, since somebody waits for it."""
        if self.reading_paused and not self.waiting and self.last_words is None:
            self.reading_paused = False
            if self.held:
                self.loop.call_soon(self._parse_held)
            else:
                self.transport.resume_reading()

    # What uvicorn's server tells.
    def shutdown(self) -> None:
        """Finish the answer that is under way, then close."""
        if self.exchange is None or self.exchange.response_complete:
            self.transport.close()
        else:
            self.exchange.keep_alive = False

    # What the crowd tells.
    def give_way(self) -> None:
        """Close, since other clients have fewer connections: in silence if nothing has come, and else with a 503."""
        if self.handshake is not None:
            self.handshake()
        elif self.phase == "header" and not self.started:
            self.transport.close()
        else:
            self._fail(503, f"this server has {self.max_connections} connections open, most of them yours")

    # Our own.
    def close_if_overdue(self, now: float) -> None:
        """End the present phase if its time is over, with a 408 where a request has begun and without a word
        elsewhere."""
        closing = self.transport.is_closing()
        if (self.half_closed or self.reading_paused) and not closing and _is_gone(self.transport):
            self.transport.abort()
            return
        if self.due is None:
            if closing:  # and its last bytes are not taken
                self.due = now + self.body_timeout
            return
        if now < self.due:
            return
        exchange = self.exchange
        unanswered = exchange is not None and not exchange.response_complete
        if self.writable or self.transport.is_closing():
            self.transport.abort()
        elif self.reading_paused:  # it is we who do not read
            self.due = now + self.body_timeout
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        elif self.phase == "body" and exchange is not None and not exchange.begun and not self.waiting:
            self._refuse(408, f"the body did not arrive within {self.body_timeout:g} seconds")
        elif self.phase == "header" and self.started and not unanswered:
            self._refuse(408, f"the header did not arrive within {self.header_timeout:g} seconds")
        else:
            self.transport.close()

    def _hold(self, data: bytes) -> None:
        """Keep what cannot be parsed now: it is beyond a request that is not answered yet, or too much for one turn."""
        if self.phase == "answer":
            self.pause_reading()
        waits = self.reading_paused or self.held
        self.held += data
        if not waits:
            self._parse_held()

    def _parse_held(self) -> None:
        """Parse what is held, and leave the rest to the next turn of the loop when this one's time is over."""
        held, self.held, at, size, now = self.held, b"", 0, PIECE, time.monotonic()
        end = now + TURN_S
        while at < len(held) and not (self.reading_paused or self.held or self.transport.is_closing()):
            if now > end:
                self.transport.pause_reading()
                self.loop.call_soon(self._parse_held)
                break
            self._parse(held[at : at + size])
            at += size
            began, now = now, time.monotonic()
            size = min(2 * size, AT_ONCE) if now - began < QUICK_S else PIECE  # most of a large body is quick
            if self.phase == "answer" and at < len(held):
                self.pause_reading()
        else:
            if not (self.reading_paused or self.held or self.transport.is_closing()):
                self.transport.resume_reading()
        self.held = b"" if self.transport.is_closing() else self.held + held[at:]

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request again without its Upgrade, which is an offer that a server may ignore (RFC 9110, 7.8).

        The parser takes what follows it, the body too, for another protocol.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        offers = [value.lower() for name, value in self.headers if name == b"upgrade"]
        if not offers or b"websocket" in offers:
            self._fail(400, "this server speaks HTTP/1.1 alone: no WebSocket, no CONNECT")
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.phase, self.head = "header", b""
        self.held = b"\r\n".join((*lines, b"", rest)) + self.held
        self.pending_bytes = 0
        if not self.reading_paused:
            self.transport.pause_reading()
            self.loop.call_soon(self._parse_held)

    def _enter(self, phase: str, seconds: float) -> None:
        self.phase = phase
        self.due = self.loop.time() + seconds

    def _scope(self, version: str) -> dict[str, Any]:
        """Return ASGI's description of the request."""
        if self.url[:1] == b"/":
            path, _, query = self.url.partition(b"?")
        else:  # absolute form: http://host/path
            parsed = httptools.parse_url(self.url)
            path, query = parsed.path or b"/", parsed.query or b""
        text = path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
            "jaxprop.timed": True,  # bodies are timed here: see Request.body
            "jaxprop.client": self.peer,
        }

    def _start(self, exchange: Exchange) -> None:
        self.running = exchange
        task = exchange.task = self.loop.create_task(exchange.run(self.app))
        self.tasks.add(task)  # uvicorn waits for these when it stops
        task.add_done_callback(self.tasks.discard)

    def _again(self, known: Known, body: bytes) -> None:
        """Answer a whole request whose header is known."""
        scope = known.scope | {
            "server": self.server, "client": self.client, "jaxprop.client": self.peer, "jaxprop.body": body,
        }  # fmt: skip
        exchange = self.exchange = Exchange(scope, self, True, False)
        exchange.body, exchange.more_body = body, False
        self.phase, self.due, self.head = "answer", None, b""
        if known.eager:
            exchange.begin(self.app)
        else:
            self._start(exchange)

    def _stop(self, status: int, text: str) -> None:
        self.refusal = (status, text)
        raise Refused

    def _abandon(self) -> None:
        """End what waits for a body or a result, since nobody is left to be answered."""
        for exchange in {*self.waiting, self.exchange, self.running}:
            if exchange is not None and not exchange.response_complete:
                exchange.disconnected = True
                exchange.wake()
                # The application says so while it waits for a result alone.
                if "jaxprop.cancel" in exchange.scope:
                    exchange.cancel()

    def _fail(self, status: int, text: str) -> None:
        """Refuse what is being read, once the whole requests before it are answered; no more is read."""
        self.held = b""
        self.pause_reading()
        exchange = self.exchange
        if exchange is None or (exchange.response_complete and self.phase != "body"):
            self._refuse(status, text)
        elif self.phase != "body" or self.waiting:
            if self.phase == "body":  # the bad one is the last of those that wait
                self.waiting.pop()
                self.phase = "header"
            self.last_words = (status, text)
        elif exchange.begun:  # too late to say anything else
            self.transport.close()
            self._abandon()
        else:
            self._refuse(status, text)

    def _refuse(self, status: int, text: str) -> None:
        """Answer without the application, and close. Nothing more of this connection is read."""
        body = json.dumps({"error": text}).encode()
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        if self.phase == "body" and self.exchange is not None and not self.exchange.response_complete:
            self.exchange.scope["jaxprop.status"] = status  # the application has the request, and counts it
        elif self.refused is not None:
            self.refused(status, self.client)
        self.due = self.loop.time() + 2.0  # to take the answer; then it is cut off
        self.transport.close()
        self._abandon()


def sweep(first: Connection) -> None:
    """Keep one sweep going over the connections of this server for as long as it has any."""
    state, connections, loop = first.server_state, first.connections, first.loop
    if getattr(state, "jaxprop_sweeping", False):
        return

    def once() -> None:
        now = loop.time()
        for one in list(connections):
            one.close_if_overdue(now)
        if connections:
            loop.call_later(SWEEP_S, once)
        else:
            state.jaxprop_sweeping = False

    state.jaxprop_sweeping = True
    loop.call_later(SWEEP_S, once)


def _is_gone(transport: Any) -> bool:
    """Return whether a client from which nothing is read has closed both sides, or its machine says so."""
    tcp = transport.get_extra_info("socket")
    if tcp is None or tcp.fileno() < 0:  # closed already
        return True
    poll = select.poll()
    poll.register(tcp.fileno(), 0)
    return bool(poll.poll(0))


def _address(name: object) -> tuple[str, int | None] | None:
    """Return (host, port) of a socket as ASGI has it; a Unix socket has no port."""
    if isinstance(name, (list, tuple)) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return (str(name), None) if name else None
