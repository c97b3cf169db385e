"""How much a request may bring: bytes of body as sent, and bytes once they are decompressed.

Every limit is checked before what it guards against has happened: the declared length before reading, the running count
while reading, the decompressed size while decompressing.
"""

import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from jaxprop_serve.errors import ServeError

_MOST_ENCODINGS = 2
_MOST_MEMBERS = 1000  # of a gzip body: more are more work than they are bytes
_WINDOW = 1 << 16


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
    gathered = bytearray()  # a list of the smallest pieces would be many times their bytes
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
            return bytes(gathered + part) if gathered else part
        gathered += part


def too_large(size: int, limit: int) -> ServeError:
    """Return the 413 for a body of `size` bytes, or of more than `limit` where it was not read to its end."""
    return ServeError(413, f"the request's body has at least {size} bytes, this server takes at most {limit}")


def encodings(headers: dict[bytes, bytes]) -> list[bytes]:
    """Return how a body was encoded, the first encoding first: for its content, then for its way here.

    ServeError: 415 for one that is unknown, 501 where it is of the way here.
    """
    found: list[bytes] = []
    for header, status in ((b"content-encoding", 415), (b"transfer-encoding", 501)):
        for word in headers.get(header, b"").lower().split(b","):
            name = word.strip().removeprefix(b"x-")
            if name not in (b"gzip", b"deflate", b"identity", b"chunked", b""):
                shown = word.strip()[:40].decode("latin-1")
                raise ServeError(
                    status, f"{header.decode().title()} {shown!r} is unknown here: send gzip, deflate, or no encoding"
                )
            if name in (b"gzip", b"deflate"):
                found.append(name)
    if len(found) > _MOST_ENCODINGS:
        raise ServeError(415, f"the body is encoded {len(found)} times, this server takes {_MOST_ENCODINGS} at most")
    return found


def decompress(body: bytes, encoded: list[bytes], limit: int) -> bytes:
    """Undo the encodings of a body, the last one first. What has more than `limit` bytes is refused there with 413."""
    for encoding in reversed(encoded):
        body = _decompressed(body, encoding.decode(), limit)
    return body


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Decompress gzip, which may have several members (RFC 1952, 2.2), or deflate (zlib)."""
    bits = {"gzip": 31, "deflate": 15}[encoding]
    stream, view, plain = zlib.decompressobj(bits), memoryview(body), []
    at = size = members = 0
    while at < len(body):
        window = view[at : at + _WINDOW]  # since each end of a member copies what is left of it
        try:
            piece = stream.decompress(window, limit + 1 - size)
        except zlib.error as error:
            after = f", after {members} members of it" if members else ""
            raise ServeError(400, f"the body is not valid {encoding}{after}: {error}") from None
        plain.append(piece)
        size += len(piece)
        if size > limit:
            raise too_large(size, limit)
        at += len(window) - len(stream.unused_data)
        if stream.eof:
            members += 1
            if at == len(body):
                return b"".join(plain) if len(plain) > 1 else piece
            if encoding == "deflate" or members == _MOST_MEMBERS:
                raise ServeError(400, f"the body is not valid {encoding}: other bytes follow its end")
            stream = zlib.decompressobj(bits)
    raise ServeError(400, f"the body is not valid {encoding}: it is cut short")
