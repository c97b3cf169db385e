"""How much a request may bring: bytes of body as sent, bytes once they are decompressed, and all requests together.

Every limit is checked before what it guards against has happened: the declared length before reading, the running count
while reading, the decompressed size while decompressing.
"""

import io
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from jaxprop_serve.errors import ServeError
from jaxprop_serve.models.queue import OTHERS
from jaxprop_serve.protocol.aside import breathe

_MOST_ENCODINGS = 2
_MOST_MEMBERS = 1000  # of a gzip body: more are more work than they are bytes
_WINDOW = 1 << 16
_TOGETHER = 16  # so many of the largest bodies may be in memory at one time
_UNCOUNTED = 1 << 16  # of each request


class Disconnected(Exception):  # noqa: N818 (not an error: nobody is left to tell)
    """The client went away before its request was whole."""


class Bodies:
    """The bytes of bodies that this process holds, all requests together. Most of the work on them is done one body
    after the other, so those that wait for it pile up.

    As in a model's queue, a client may hold nine times what would still be free beside it, and more is a 429.

    >>> held = Bodies()
    >>> held.take("10.0.0.1", 100, limit=100), held.total
    (None, 100)
    >>> held.give("10.0.0.1", 100)
    """

    def __init__(self) -> None:
        self.total = 0
        self._by_client: dict[str, int] = {}

    def take(self, client: str, size: int, limit: int) -> None:
        """Count more bytes; ServeError 429 if there are too many. `limit` is that of one body."""
        own, free = self._by_client.get(client, 0) + size, _TOGETHER * limit - self.total - size
        if own > OTHERS * free:
            text = f"this server has {self.total:,} bytes of requests in memory, and too many are this client's"
            raise ServeError(429, f"{text}: try again later", retry_after=1.0, limit="bodies")
        self._by_client[client] = own
        self.total += size

    def give(self, client: str, size: int) -> None:
        """Count bytes no longer."""
        self.total -= size
        self._by_client[client] -= size
        if not self._by_client[client]:
            del self._by_client[client]


BODIES = Bodies()  # memory is the process's, however many applications it has


async def read_body(
    receive: Callable[[], Awaitable[dict[str, Any]]],
    headers: dict[bytes, bytes],
    limit: int,
    hold: Callable[[int], None] | None = None,
) -> bytes:
    """Read the body as it was sent; it is refused with 413 before more than `limit` bytes are kept.

    `hold` is told of the bytes as they come, once there are many.
    """
    declared = headers.get(b"content-length")
    if declared is not None:
        if not declared.isdigit():
            raise ServeError(400, f"Content-Length must be a whole number, found {declared[:40].decode('latin-1')!r}")
        if int(declared[:20]) > limit:
            raise too_large(int(declared[:20]), limit)
    gathered = io.BytesIO()  # a list of the smallest pieces would be many times their bytes, and joined in one go
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
            if total == len(part):
                return part
            gathered.write(part)
            return gathered.getvalue()
        gathered.write(part)
        if hold is not None and total > _UNCOUNTED:
            hold(len(part))


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
        breathe()
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
