"""Headers that came before: a client that keeps its connection sends the same one again and again.

One that was parsed before is known by its bytes and is not parsed again; and where the application can answer it
without a task of its own (see routes.py), it does. Known are headers of requests that came whole, in one piece, and had
nothing special about them, so that the same bytes always mean the same.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxprop_serve.http1.exchange import Exchange

_MOST, _LONGEST = 512, 1024  # headers, and bytes of each
_LONGEST_BODY = 1 << 16  # behind a known header; it is kept until the next request, and not counted (limits.py)
_SPECIAL = {b"transfer-encoding", b"expect", b"upgrade"}


class Known(NamedTuple):
    """What a header stands for: the request, the bytes of body that follow, and whether it needs no task."""

    scope: dict[str, Any]
    length: int
    eager: bool


class Headers:
    """The known headers of one server's connections."""

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}

    def find(self, data: bytes) -> tuple[bytes, Known | None]:
        """Return the header that `data` begins with, b"" if it is not whole or too long, and what is known of it if
        `data` is the request that it stands for, and nothing else."""
        end = data.find(b"\r\n\r\n", 0, _LONGEST) + 4
        if end < 4:
            return b"", None
        known = self._known.get(data[:end])
        return data[:end], known if known is not None and len(data) == end + known.length else None

    def learn(self, head: bytes, size: int, exchange: Exchange, scope_of: Callable[[str], dict[str, Any]]) -> None:
        """Know the header of a request that was answered and came, `size` bytes in all, in one piece.

        `scope_of` makes its scope again: what the application wrote into the other is that request's alone.
        """
        if exchange.scope["http_version"] != "1.1" or not exchange.keep_alive:
            return
        scope, length = scope_of("1.1"), size - len(head)
        headers = dict(scope["headers"])
        if (
            headers.get(b"connection", b"keep-alive").lower() != b"keep-alive"
            or _SPECIAL & headers.keys()
            or len(headers) != len(scope["headers"])
            or len(headers) + 2 != head.count(b"\n")  # blank lines came before it: the parser saw its end elsewhere
            or headers.get(b"content-length", b"0") != b"%d" % length
            or length > _LONGEST_BODY
        ):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        scope["jaxprop.headers"] = headers
        self._known[head] = Known(scope, length, "jaxprop.eager" in exchange.scope)
