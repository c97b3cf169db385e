"""Compression of answers, for clients that say they take it (`Accept-Encoding`): gzip, and deflate in zlib's format.

JSON of floats halves at 100 to 160 MB/s (zlib's level 1; higher levels save a few per cent more and take 2 to 7 times
as long). Bytes of floats do not shrink, so a sample decides. The length that the Open Inference Protocol counts
(`Inference-Header-Content-Length`) is the one before compression, as Triton's clients expect.

That a compressed length tells something of its content (BREACH) does no harm here: a body holds no secret of the server
or of another client beside what its own request asked for; tokens travel in headers alone, and only in requests; and
other sites' pages are not answered (access.py).
"""

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from jaxprop_serve.http1.routes import Reply

LEAST = 1400  # bytes; what fits into one packet arrives no sooner when it is shorter
INLINE = 1 << 14  # bytes, 0.1 ms; more are compressed beside the event loop ...
PIECE = 1 << 18  # ... in pieces of a few milliseconds, between which other answers have their turn
SAMPLE = 1 << 12
WORTHWHILE = 0.8  # of the sample's length
LEVEL = 1
_FORMATS = {"gzip": 31, "deflate": 15}  # by preference; zlib's `wbits`
_LONGEST = 256  # of a header that is read; the browsers' have 30 bytes

_thread = ThreadPoolExecutor(1, "compress")  # one: compressing never takes more than one core from computing


@lru_cache(256)
def chosen(accepted: bytes) -> tuple[str, bool] | None:
    """Return the coding that `Accept-Encoding` likes best, and whether a plain answer is refused; None for plain.

    >>> chosen(b"gzip, deflate;q=0.5, br"), chosen(b"deflate, gzip;q=0.5"), chosen(b"*, gzip;q=0")
    (('gzip', False), ('deflate', False), ('deflate', False))
    >>> chosen(b"gzip;q=1.0, identity;q=0"), chosen(b"br"), chosen(b"gzip;q=0.1, identity;q=0.5")
    (('gzip', True), None, None)
    """
    weights: dict[str, float] = {}
    for part in accepted.decode("latin-1").lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        given = [text.removeprefix("q=") for text in parameters if text.startswith("q=")]
        try:
            weights[name.removeprefix("x-")] = float(given[0]) if given else 1.0
        except ValueError:
            return None
    others = weights.get("*", 0.0)
    coding = max(_FORMATS, key=lambda name: weights.get(name, others))
    weight = weights.get(coding, others)
    plain = weights.get("identity", weights.get("*"))
    if not weight > 0 or weight < weights.get("identity", 0.0):
        return None
    return coding, plain == 0


async def compressed(answer: Reply, accepted: bytes) -> Reply:
    """Return the answer as the client takes it: compressed where that helps, and plain otherwise.

    Args:
        answer: as a handler made it; of one in pieces each is let go once it is compressed.
        accepted: the request's `Accept-Encoding`.
    """
    choice = chosen(accepted) if len(accepted) <= _LONGEST else None
    if choice is None:
        return answer
    body, headers, status = answer
    coding, needed = choice
    size = len(body) if isinstance(body, bytes) else sum(map(len, body))
    if (size < LEAST and not needed) or any(name == b"content-encoding" for name, _ in headers):
        return answer
    headers.append((b"vary", b"accept-encoding"))
    if not (needed or _shrinks(body)):
        return answer
    headers.append((b"content-encoding", coding.encode()))
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, _FORMATS[coding])
    left = body if isinstance(body, list) else _cut(body)
    left.reverse()
    if size <= INLINE:
        return Reply(_next(stream, left) + stream.flush(), headers, status)
    loop, pieces = asyncio.get_running_loop(), []
    while left:
        pieces.append(await loop.run_in_executor(_thread, _next, stream, left))
    return Reply([piece for piece in (*pieces, stream.flush()) if piece], headers, status)


def _cut(body: bytes) -> list[bytes | memoryview]:
    whole = memoryview(body)
    return [whole[i : i + PIECE] for i in range(0, len(body), PIECE)]


def _next(stream: Any, left: list[bytes | memoryview]) -> bytes:
    """Return, compressed, about PIECE bytes from the end of `left`."""
    found, size = [], 0
    while left and size < PIECE:
        piece = left.pop()
        size += len(piece)
        found.append(stream.compress(piece))
    return b"".join(found)


def _shrinks(body: bytes | list[bytes | memoryview]) -> bool:
    """Return whether a sample from the middle, where a large answer's values are, becomes shorter."""
    middle = body if isinstance(body, bytes) else max(body[len(body) // 2 :], key=len)
    start = max(0, (len(middle) - SAMPLE) // 2)
    sample = middle[start : start + SAMPLE]
    return len(zlib.compress(sample, LEVEL)) < WORTHWHILE * len(sample)
