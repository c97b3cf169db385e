"""How much a request may bring: bytes of body as sent, and bytes once they are decompressed.

Every limit is checked before what it guards against has happened: the declared length before reading, the running count
while reading, the decompressed size while decompressing.
"""

import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from jaxprop_serve.errors import ServeError


class Disconnected(Exception):  # noqa: N818 (not an error: nobody is left to tell)
    """The client went away before its request was whole."""


async def read_body(receive: Callable[[], Awaitable[dict[str, Any]]], headers: dict[bytes, bytes], limit: int) -> bytes:
    """Read the body as it was sent; it is refused with 413 before more than `limit` bytes are kept."""
    declared = headers.get(b"content-length")
    if declared is not None:
        if not declared.isdigit():
            raise ServeError(400, f"Content-Length must be a whole number, found {declared[:40].decode('latin-1')!r}")
        if int(declared[:20]) > limit:
            raise too_large(int(declared[:20]), limit)
    parts: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        part = message.get("body", b"")
        total += len(part)
        if total > limit:
            raise too_large(total, limit)
        if not message.get("more_body", False):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def too_large(size: int, limit: int) -> ServeError:
    """Return the 413 for a body of `size` bytes, or of more than `limit` where it was not read to its end."""
    return ServeError(413, f"the request's body has at least {size} bytes, this server takes at most {limit}")


def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Decompress a body sent as gzip or deflate (zlib); never more than `limit` bytes of it are in memory."""
    encoding = encoding.strip().lower()
    if encoding == b"identity":
        return body
    bits = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}.get(encoding)
    if bits is None:
        name = encoding[:40].decode("latin-1")
        raise ServeError(415, f"Content-Encoding {name!r} is unknown here: send gzip, deflate, or no encoding")
    stream = zlib.decompressobj(bits)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise ServeError(400, f"the body is not valid {encoding.decode()}: {error}") from None
    if len(plain) > limit:
        raise too_large(len(plain), limit)
    if not stream.eof or stream.unused_data:
        raise ServeError(400, f"the body is not valid {encoding.decode()}: it is cut short or followed by other bytes")
    return plain
