"""Connections over TLS: a handshake is counted by `max_connections` and has `header_timeout_s` to end.

asyncio makes a connection's protocol known only when the handshake is over, and gives it a minute: until then nobody
counts it. So we accept these connections ourselves, and then they are uvicorn's as all others.
"""

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn

from jaxprop_serve.http1.connections import Connection
from jaxprop_serve.http1.crowd import Crowd
from jaxprop_serve.models.queue import who
from jaxprop_serve.settings import Settings

_log = logging.getLogger("jaxprop_serve")
RETRY_S = 1.0  # after an accept that failed: no descriptor is free
CLOSING_S = 1.0  # what a handshake that has begun has left when the server stops


class Handshakes:
    """Listens for `server`, which asks no more of it than `close` and `wait_closed`.

    `closed` is called for each connection that is closed at once.
    """

    def __init__(
        self, server: uvicorn.Server, listening: socket.socket, context: ssl.SSLContext, settings: Settings,
        closed: Callable[[], None] = lambda: None,
    ):  # fmt: skip
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._state, self._context = server.server_state, context
        protocol: Any = server.config.http_protocol_class
        self._connection: Callable[[], Connection] = functools.partial(protocol, server.config, self._state, {})
        self._crowd: Crowd = protocol.crowd
        self._seconds = float(settings.header_timeout_s)
        self._under_way: set[Connection] = set()
        self._listening = listening.dup()  # ours until nobody waits for it any more
        self._listening.setblocking(False)
        self._listening.listen(server.config.backlog)
        self._accepting = self._loop.create_task(self._accept())

    def take(self, connected: socket.socket) -> None:
        """Begin a handshake, or close at once what is beyond the limit: without one nothing can be said."""
        one = self._connection()
        with contextlib.suppress(OSError):  # it is gone already
            one.peer = who(connected.getpeername()[0])
        one.due = self._loop.time() + self._seconds
        if not self._crowd.enter(one):
            self._crowd.leave(one)
            connected.close()
            self._closed()
            return
        one.handshake = functools.partial(_end, connected)
        self._under_way.add(one)
        task = self._loop.create_task(self._shake_hands(one, connected))
        self._state.tasks.add(task)  # uvicorn waits for these when it stops
        task.add_done_callback(self._state.tasks.discard)

    def close(self) -> None:
        """Accept no more."""
        self._accepting.cancel()
        self._loop.call_later(CLOSING_S, self._end_all)

    async def wait_closed(self) -> None:
        """Wait until nothing is accepted."""
        await asyncio.wait([self._accepting])

    def _end_all(self) -> None:
        for one in self._under_way:
            one.give_way()

    async def _accept(self) -> None:
        try:
            while True:
                try:
                    connected, _ = await self._loop.sock_accept(self._listening)
                except OSError:
                    await asyncio.sleep(RETRY_S)
                    continue
                try:
                    self.take(connected)
                except Exception:  # whatever it is, the next one is accepted
                    _log.exception("a connection could not be taken")
                    connected.close()
        finally:
            self._listening.close()

    async def _shake_hands(self, one: Connection, connected: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: one, connected, ssl=self._context, ssl_handshake_timeout=self._seconds
            )
        except OSError:  # of TLS too: a client that went away, or speaks something else
            pass
        finally:
            self._under_way.discard(one)
            one.handshake = None
            if one.transport is None:  # there is no connection
                self._crowd.leave(one)


def _end(connected: socket.socket) -> None:
    """End what goes on: uvloop leaves a connection open whose handshake is cancelled."""
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
