"""A running gRPC server: how it starts, on which port, and how it stops without cutting anybody off."""

import asyncio
import time

import grpc

from jaxprop.errors import JaxpropError
from jaxprop_serve.certificates import Certificate
from jaxprop_serve.grpc_door.service import WATCHERS, Service
from jaxprop_serve.http1.application import App
from jaxprop_serve.settings import Settings
from jaxprop_serve.sockets import bind

MAX_STREAMS = 256  # of one connection at once; further calls of its client wait there
REFUSING_S = 0.2  # long enough for clients that are told so to turn away


class Door:
    """A running gRPC server: its port, and how it stops."""

    def __init__(self, service: Service, server: grpc.aio.Server, port: int):
        self.port = port
        self._service, self._server = service, server

    def active(self) -> int:
        """Return how many calls are being answered."""
        return self._service.active

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


async def start(app: App, settings: Settings, port: int, certificate: Certificate | None = None) -> Door:
    """A running gRPC server on `settings.host`; JaxpropError if the port cannot be had.

    Several processes may share the port if there are `settings.workers`; otherwise nobody else can take it too.
    """
    service = Service(app)
    server = grpc.aio.server(
        handlers=service.handlers(),
        maximum_concurrent_rpcs=settings.max_queue_rows + WATCHERS,
        options=[
            ("grpc.max_receive_message_length", int(settings.max_body_bytes)),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", MAX_STREAMS),
            ("grpc.max_allowed_incoming_connections", int(settings.max_connections)),  # more are closed at once
            ("grpc.so_reuseport", int(settings.workers > 1)),
            ("grpc.max_connection_idle_ms", int(1000 * settings.idle_timeout_s)),
            # Whoever watches is silent for hours: a machine that has gone is noticed by this alone.
            ("grpc.keepalive_time_ms", int(1000 * settings.idle_timeout_s)),
            ("grpc.keepalive_timeout_ms", int(1000 * settings.header_timeout_s)),
            ("grpc.server_handshake_timeout_ms", int(1000 * settings.header_timeout_s)),
        ],
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        if certificate is None:
            bound = server.add_insecure_port(f"{host}:{port}")
        else:
            bound = server.add_secure_port(f"{host}:{port}", certificate.for_grpc_door())
    except RuntimeError as error:  # which does not say why
        bind(settings.host, port, settings.workers > 1, "--grpc-port").close()
        raise JaxpropError(f"cannot serve gRPC on {settings.host}:{port}: {str(error).partition(';')[0]}") from None
    await server.start()
    return Door(service, server, bound)
