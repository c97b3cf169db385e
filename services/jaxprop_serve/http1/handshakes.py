"""Connections over TLS: a handshake is counted by `max_connections` and has `header_timeout_s` to end.

asyncio makes a connection's protocol known only when the handshake is over, and gives it a minute: until then nobody
counts it. So we accept these connections ourselves, and then they are uvicorn's as all others.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn

from jaxprop_serve.settings import Settings

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
        self._protocol: Any = functools.partial(server.config.http_protocol_class, server.config, self._state, {})
        self._seconds, self._most = float(settings.header_timeout_s), int(settings.max_connections)
        self._under_way: set[asyncio.Task[None]] = set()
        self._listening = listening.dup()  # ours until nobody waits for it any more
        self._listening.setblocking(False)
        self._listening.listen(server.config.backlog)
        self._accepting = self._loop.create_task(self._accept())

    def take(self, connected: socket.socket) -> None:
        """Begin a handshake, or close at once what is beyond the limit: without one nothing can be said."""
        if len(self._state.connections) + len(self._under_way) >= self._most:
            connected.close()
            self._closed()
            return
        task = self._loop.create_task(self._shake_hands(connected))
        for tasks in (self._under_way, self._state.tasks):  # uvicorn waits for its own when it stops
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def close(self) -> None:
        """Accept no more."""
        self._accepting.cancel()
        for task in self._under_way:
            self._loop.call_later(CLOSING_S, task.cancel)

    async def wait_closed(self) -> None:
        """Wait until nothing is accepted."""
        await asyncio.wait([self._accepting])

    async def _accept(self) -> None:
        try:
            while True:
                try:
                    connected, _ = await self._loop.sock_accept(self._listening)
                except OSError:
                    await asyncio.sleep(RETRY_S)
                else:
                    self.take(connected)
        finally:
            self._listening.close()

    async def _shake_hands(self, connected: socket.socket) -> None:
        with contextlib.suppress(OSError):  # of TLS too: a client that went away, or speaks something else
            await self._loop.connect_accepted_socket(
                self._protocol, connected, ssl=self._context, ssl_handshake_timeout=self._seconds
            )
