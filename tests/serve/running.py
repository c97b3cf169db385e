"""A real uvicorn around an application, on a free port: in a thread of the tests, or in the loop that runs."""

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import Any

import uvicorn

from jaxprop_serve.http1.connections import connection
from jaxprop_serve.http1.handshakes import Handshakes


def _server(app: Any, settings: Any, lifespan: Any, **limits: Any) -> Any:
    config = uvicorn.Config(
        app, http=connection(settings, **limits), ws="none", log_config=None, access_log=False, lifespan=lifespan,
        date_header=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


@contextlib.contextmanager
def running(app: Any, settings: Any, lifespan: Any = "on", **limits: Any):
    """Yield the port; on leaving, the server has stopped and its thread is gone."""
    server = _server(app, settings, lifespan, **limits)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        factory = server.config.get_loop_factory()  # uvloop, as `jaxprop serve` has it
        target = lambda: asyncio.Runner(loop_factory=factory).run(server._serve([listening]))  # noqa: E731
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


@contextlib.asynccontextmanager
async def running_here(
    app: Any, settings: Any, tls: ssl.SSLContext | None = None, closed: Any = lambda: None, **limits: Any
):
    """The same in this loop, where the application's models live; over TLS if there is a context."""
    server = _server(app, settings, "off", **limits)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server._serve([] if tls else [listening]))
        while not server.started:
            await asyncio.sleep(0.005)
        if tls:
            server.servers.append(Handshakes(server, listening, tls, settings, closed))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@contextlib.contextmanager
def running_granian(app: Any):
    """The same application on granian, which knows nothing of our connections: plain ASGI."""
    from granian.constants import Interfaces
    from granian.server.embed import Server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(app, port=port, interface=Interfaces.ASGI, websockets=False, log_enabled=False)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve()), daemon=True)
    thread.start()
    try:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            thread.join(0.01)
        yield port
    finally:
        loop.call_soon_threadsafe(server.stop)
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
