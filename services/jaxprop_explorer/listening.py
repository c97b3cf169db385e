"""Where the explorer listens: on this machine alone, since whoever reaches it may ask it anything."""

import asyncio
import errno
import logging
import socket

import uvicorn
from starlette.types import ASGIApp

from jaxprop.errors import JaxpropError

HOST, PORT = "127.0.0.1", 8765


def bound(port: int, or_any: bool = False) -> socket.socket:
    """Return a socket bound to a port of this machine, 0 for any; raise `JaxpropError` if it cannot be had.

    With `or_any` a port that somebody has is no error: any other is taken.
    """
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except OSError as error:
        found.close()
        if or_any and error.errno == errno.EADDRINUSE:
            return bound(0)
        raise JaxpropError(
            f"cannot serve on {HOST}:{port}: {error.strerror}; choose another with --port, 0 is any free one"
        ) from None
    return found


def address(listening: socket.socket) -> str:
    """Return the page's address."""
    return f"http://{HOST}:{listening.getsockname()[1]}/"


def server(app: ASGIApp) -> uvicorn.Server:
    """Return a server that ends within a second or two, though pages are open and answers are being computed."""
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2, server_header=False)
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the server's log is worth a reader's time: not that the end cut answers off, as it has to."""
    error = record.exc_info[1] if record.exc_info else None
    return not (
        isinstance(error, asyncio.CancelledError) or "timeout graceful shutdown exceeded" in record.getMessage()
    )
