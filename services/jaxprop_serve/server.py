"""The life of a server: bind, answer "not ready", load and warm the models, answer, drain, go.

One process runs HTTP, gRPC and the batchers in one asyncio loop. Liveness is answered from the start, readiness only
while every model can answer. On SIGHUP tokens, certificates and models are read again, and nothing is interrupted. On
SIGTERM readiness is 503 at once and nobody is cut off: requests under way and those that still come in are answered,
each with `Connection: close`, until all connections are gone or `drain_timeout_s` has passed.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import uvicorn

from jaxprop_serve.certificates import certificate_of
from jaxprop_serve.grpc_door import server as grpc_server
from jaxprop_serve.http1.application import create_app
from jaxprop_serve.http1.connections import connection
from jaxprop_serve.http1.handshakes import Handshakes
from jaxprop_serve.http1.routes import ASGI, Mount, Receive, Route, Send
from jaxprop_serve.jobs import Parent
from jaxprop_serve.models.lifecycle import Known, Models
from jaxprop_serve.renewal import Renewal
from jaxprop_serve.seen.logs import Log
from jaxprop_serve.seen.metrics import Metrics
from jaxprop_serve.settings import Settings
from jaxprop_serve.systemd import TERMINAL, notify

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LAME_DUCK_S = 0.5  # after SIGTERM new connections are still taken for this long, to be told that we are not ready
IDLE_S = 1.0  # after SIGTERM a connection on which nothing comes for this long is closed
STUCK_S = 5.0


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: `Server` decides when it stops."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:
        """Capture none."""
        return contextlib.nullcontext()


class Server:
    """One process's server.

    Args:
        settings: all of them.
        models: a `models.Models`, not yet started.
        routes: what is mounted beside the protocol.
        worker: its number among `settings.workers`.
        parent: of a worker: through it `load` and `unload` reach the others too.
        known: of a worker that replaces another: the models that the others have. It listens when it has them.
    """

    def __init__(
        self,
        settings: Settings,
        models: Models,
        routes: Iterable[Route | Mount] = (),
        worker: int = 0,
        parent: Parent | None = None,
        known: Known | None = None,
    ):
        self.settings = settings
        self.models = models
        self.parent, self.known = parent, known
        if parent is not None:
            models.everywhere = parent
        secrets = [t.get_secret_value() for t in (settings.token, settings.admin_token) if t]
        always: dict[str, Any] = {"worker": worker} if settings.workers > 1 else {}
        self.log = Log(settings.log_level, secrets, access=settings.access_log, **always)
        models.log = self.log
        self.metrics = Metrics(models, worker, settings.max_batch)
        self.traces = None
        if settings.tracing:
            from jaxprop_serve.seen.traces import Traces

            self.traces = Traces()
        self.app = create_app(models, settings, self.metrics, self.log, routes, self.traces)
        self.port, self.grpc_port = settings.port, settings.grpc_port
        self.grpc: grpc_server.Door | None = None
        self.http: HttpServer | None = None
        self.handshakes: Handshakes | None = None

    async def run(self, listening: socket.socket, ready: Callable[["Server"], None]) -> int:
        """Serve on a bound socket until a signal comes; return the exit code. `ready` is called once when it is.

        SIGTERM and SIGINT drain; so does SIGHUP once the terminal is gone. Any other SIGHUP reloads.
        """
        stop, hangup = asyncio.Event(), asyncio.Event()
        signals: list[int] = []
        loop = asyncio.get_running_loop()

        def end(number: int) -> None:
            signals.append(number)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, number)
        parent, started = multiprocessing.parent_process(), asyncio.Event()
        if self.parent is not None and parent is not None:
            loop.add_reader(parent.sentinel, stop.set)  # a worker does not outlive whoever replaces and stops it
            self.parent.listen(self.models, functools.partial(self._do, started))
        else:
            loop.add_signal_handler(signal.SIGHUP, lambda: end(signal.SIGHUP) if TERMINAL.gone() else hangup.set())
        _forward_logging(self.log)
        watchdog = Watchdog(loop, self.log)
        self.metrics.watch(loop)
        self.metrics.gauge("log_lines_lost", "Lines of the log that could not be written.", lambda: self.log.dropped)
        tasks: list[asyncio.Task[None]] = []
        try:
            if self.known is None:
                await self._open(listening)
            if await _first(stop, self.models.start(self.known)):
                started.set()
                if self.known is not None:  # others answer meanwhile: a client is not to meet one that cannot
                    await self._open(listening)
                gc.collect()
                gc.freeze()  # models and modules stay: later collections need not look at them
                gc.set_threshold(10_000)  # a request leaves no cycles: looking for them at every tenth of one costs 5 %
                path = self.settings.unix_socket
                where: dict[str, Any] = {"port": self.port} if path is None else {"unix_socket": path}
                self.log("info", "ready", **where, grpc_port=self.grpc_port, pid=os.getpid())
                ready(self)
                notify("READY=1")
                tasks = [asyncio.create_task(work) for work in (self.renewal.watch(), self._reloading(hangup))]
                await _first(stop, asyncio.shield(self.serving))
            for task in tasks:
                task.cancel()
            notify("STOPPING=1")
            self.log("info", "draining", signal=signal.Signals(signals[-1]).name if signals else None)
            await self._drain(listening, hurry=signal.SIGINT in signals)
            self.log("info", "stopped")
        finally:
            await self._close()
            await self.models.stop()
            watchdog.stop()
            if self.traces is not None:
                self.traces.close()
            self.log.close()
            for number in SIGNALS:
                loop.remove_signal_handler(number)
        return 130 if signal.SIGINT in signals else 0

    async def reload(self) -> None:
        """Read tokens, certificates and models again. What cannot be used is logged, and the one before goes on."""
        notify("RELOADING=1")
        self.log("info", "reloading")
        await self.renewal.renew()
        await self.models.reload()
        self.log("info", "reloaded")
        notify("READY=1")

    async def _do(self, started: asyncio.Event, verb: str, name: str) -> None:
        """Do what the parent asks of every worker."""
        await started.wait()
        await {"load": self.models.load, "unload": self.models.unload, "reload": lambda _: self.reload()}[verb](name)

    async def _reloading(self, hangup: asyncio.Event) -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            try:
                await self.reload()
            except Exception as error:
                self.log("error", "the reload failed", exception=error)

    async def _open(self, listening: socket.socket) -> None:
        """Listen at both doors."""
        settings = self.settings
        certificate = certificate_of(settings)
        self.renewal = Renewal(settings, self.app.access, certificate, self.log)
        config = uvicorn.Config(
            self.app, http=connection(settings, refused=self.app.refused), ws="none", lifespan="off", log_config=None,
            access_log=False, date_header=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        config.load()
        self.http = http = HttpServer(config)
        if settings.unix_socket is None:
            self.port = listening.getsockname()[1]
        tls = certificate is not None and settings.unix_socket is None
        self.serving = asyncio.create_task(http.serve([] if tls else [listening]))
        while not http.started:
            if self.serving.done():
                self.serving.result()
            await asyncio.sleep(0.005)
        if certificate is not None and tls:
            self.handshakes = Handshakes(
                http, listening, certificate.context, settings,
                closed=functools.partial(self.metrics.rejected, "connections", "http", ""),
            )  # fmt: skip
            http.servers.append(self.handshakes)  # pyright: ignore[reportArgumentType] (what it asks of one is there)
        self.metrics.gauge("connections", "HTTP connections open now.", lambda: len(http.server_state.connections))
        if settings.grpc_port is not None:
            self.grpc = await grpc_server.start(self.app, settings, settings.grpc_port, certificate)
            self.grpc_port = self.grpc.port
            self.metrics.gauge("grpc_calls", "gRPC calls being answered now.", self.grpc.active)

    async def _close(self) -> None:
        if self.http is not None:
            self.http.should_exit = True
            await asyncio.wait([self.serving], timeout=2)
        if self.grpc is not None:
            await self.grpc.stop()

    async def _drain(self, listening: socket.socket, hurry: bool) -> None:
        """Answer what there is and what still comes, until nobody is connected."""
        http = self.http
        if http is None:
            return
        began = time.monotonic()
        end = began + self.settings.drain_timeout_s
        self.models.drain()
        state: Any = http.server_state  # its connections are ours, not uvicorn's
        http.config.loaded_app = closing = _closing(self.app)
        for one in list(state.connections):
            one.app = closing
            if one.exchange is not None and not one.exchange.response_complete:
                one.exchange.keep_alive = False
        if not hurry:
            await asyncio.sleep(min(LAME_DUCK_S, self.settings.drain_timeout_s))
            await self._stop_listening(http, listening)
        stopping = asyncio.create_task(self.grpc.stop(end - time.monotonic())) if self.grpc else None
        idle = time.monotonic() + (0 if hurry else IDLE_S)
        while state.connections or state.tasks or (stopping and not stopping.done()):
            if time.monotonic() > end:
                left = len(state.connections)
                self.log("warning", f"{left} connections are cut off, {self.settings.drain_timeout_s:g} s are over")
                return
            if time.monotonic() > idle:
                for one in list(state.connections):
                    if not one.started:
                        one.shutdown()
            await asyncio.sleep(0.02)

    async def _stop_listening(self, http: HttpServer, listening: socket.socket) -> None:
        """Take whoever is connected already but not yet accepted: closing the socket would cut them off."""
        with listening.dup() as last:
            for server in http.servers:
                server.close()
            last.setblocking(False)
            found = []
            with contextlib.suppress(OSError):
                while True:
                    found.append(last.accept()[0])
        config, loop = http.config, asyncio.get_running_loop()
        for one in found:
            if self.handshakes is not None:
                self.handshakes.take(one)
                continue
            protocol: Any = functools.partial(config.http_protocol_class, config, http.server_state, {})
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(protocol, one)


def _closing(app: ASGI) -> ASGI:
    """Return the application with `Connection: close` in each answer."""

    async def closing(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [h for h in message.get("headers", ()) if h[0] != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, sending)

    return closing


async def _first(stop: asyncio.Event, work: Awaitable[object]) -> bool:
    """Wait for `work`, but no longer than until `stop`. Return whether it was done; its failure is raised."""
    work, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not work.done():
        work.cancel()
        return False
    work.result()
    return True


class Watchdog:
    """Says in a thread where the event loop is stuck, if it is: nobody can ask the loop itself meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, limit: float = STUCK_S):
        self._loop, self._log, self._limit = loop, log, limit
        self._stopped, self._beat = threading.Event(), threading.Event()
        self._watched = threading.get_ident()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._limit / 5):
            self._beat.clear()
            try:
                self._loop.call_soon_threadsafe(self._beat.set)
            except RuntimeError:
                return
            if not self._beat.wait(self._limit) and not self._stopped.is_set():
                frame = sys._current_frames().get(self._watched)
                where = "".join(traceback.format_stack(frame)) if frame else ""
                self._log("error", f"the event loop is stuck for {self._limit:g} s", stack=where)
                self._beat.wait()


def _forward_logging(log: Log) -> None:
    root = logging.getLogger()
    root.handlers = [log]
    root.setLevel(logging.WARNING)
