"""Large JSON in pieces: where its lists are and where they may be cut, found without making a Python object of a value.

    skeleton({"inputs": [{"data": [1, 2, ...]}]})  ->  {"inputs": [{"data": [0]}]}  and where list 0 is
    pieces(1, 2, ...)                              ->  some, and some more, cut at commas

Brackets, commas and quotes are found by NumPy, a window at a time. Every byte is still read by the JSON parser, which
refuses what it always refuses: the skeleton as a whole, and each piece as a list of its own.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol.aside import LARGE, breathe

WINDOW = 1 << 15
_BYTE = re.compile(r" \(byte \d+\)")
LONGEST = 3 * WINDOW
_COMMA, _QUOTE, _BACKSLASH, _LIST = b',"\\['
_MARK = np.zeros(256, np.bool_)
_MARK[list(b'[]{},"\\')] = True
# What each byte does to the depth of a JSON text, outside strings.
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1


class Content(NamedTuple):
    """What is between the brackets of a list: a part of a text."""

    text: bytes
    start: int
    end: int

    def __bytes__(self) -> bytes:
        return self.text[self.start : self.end]

    def whole(self, most: int) -> bytes:
        """Return the list with its brackets; ServeError 400 if it has more than `most` bytes."""
        if self.end - self.start > most:
            raise _too_much(self.text, most)
        return b"[%b]" % bytes(self)

    def beginning(self) -> bytes:
        """Return how the list begins, with its bracket."""
        return b"[%b" % self.text[self.start : min(self.start + 1024, self.end)]


def marks(text: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the brackets and commas outside strings, a window at a time: their positions, what they are, and the depth
    after each."""
    end = len(text) if end is None else end
    depth, quotes, backslashes = 0, 0, 0
    for begin in range(start, end, WINDOW):
        window = np.frombuffer(text, np.uint8, min(WINDOW, end - begin), begin)
        at = np.flatnonzero(_MARK[window])
        kinds = window[at]
        is_quote = kinds == _QUOTE
        if backslashes or (kinds == _BACKSLASH).any():
            escaped, backslashes = _escaped(window, backslashes)
            is_quote &= ~escaped[at]
        inside = (quotes + np.cumsum(is_quote, dtype=np.int64)) % 2
        quotes = int(inside[-1]) if len(inside) else quotes
        outside = (inside == 0) & (kinds != _QUOTE) & (kinds != _BACKSLASH)
        kinds = kinds[outside]
        depths = depth + np.cumsum(_STEP[kinds], dtype=np.int64)
        depth = int(depths[-1]) if len(depths) else depth
        yield at[outside] + begin, kinds, depths


def _escaped(window: np.ndarray, before: int) -> tuple[np.ndarray, int]:
    """Return which bytes follow an odd number of backslashes, `before` of them before the window, and how many end
    it."""
    places = np.arange(len(window))
    last = np.maximum.accumulate(np.where(window == _BACKSLASH, -1, places))
    runs = np.where(last < 0, before + places + 1, places - last)
    odd = runs % 2 == 1
    return np.concatenate(([before % 2 == 1], odd[:-1])), int(runs[-1])


def skeleton(text: bytes, level: int, most: int, max_depth: int) -> tuple[bytes, list[Content]]:
    """Return the text with its lists at depth `level` replaced by their numbers, `[0]`, `[1]`, ..., and what they held.

    Raises ServeError 400 if it is nested deeper than `max_depth`, or has more than `most` bytes without the lists.
    """
    opened: list[int] = []  # where each bracket at that level opens and closes, in turn
    for at, kinds, depths in marks(text):
        if len(depths) and int(depths.max()) > max_depth:
            raise ServeError(400, f"the JSON is nested deeper than {max_depth} levels", limit="depth")
        if len(depths) and int(depths.min()) < 0:
            raise ServeError(400, "the request is not JSON: a bracket is closed that was never opened")
        step = _STEP[kinds]
        found = ((step > 0) & (depths == level)) | ((step < 0) & (depths == level - 1))
        opened.extend(at[found].tolist())
        if len(opened) > most:
            raise _too_much(text, most)
        breathe()
    parts, contents, done = [], [], 0
    for begin, end in zip(opened[::2], [*opened[1::2], len(text)], strict=False):
        if text[begin] == _LIST:
            parts.append(b"%b[%d" % (text[done:begin], len(contents)))
            contents.append(Content(text, begin + 1, end))
            done = end
    parts.append(text[done:])
    if sum(map(len, parts)) > most:
        raise _too_much(text, most)
    return b"".join(parts), contents


def _too_much(text: bytes, most: int) -> ServeError:
    return ServeError(
        400, f"the request's JSON has {len(text):,} bytes, and more than {most:,} of them beside the values of tensors"
    )


def allowance(tensors: int) -> int:
    """Return how many bytes a request may need to describe so many tensors, without their values."""
    return LARGE + 512 * tensors


def pieces(content: Content) -> Iterator[bytes]:
    """Cut what is in a list at commas of its own, into pieces of at most `LONGEST`; a longer one is one element."""
    text, begin, cut = content.text, content.start, False
    for at, kinds, depths in marks(text, content.start, content.end):
        commas = at[(kinds == _COMMA) & (depths == 0)]
        if not len(commas):
            continue
        first, last = int(commas[0]), int(commas[-1])
        for end in (first, last) if first - begin > 2 * WINDOW else (last,):
            if end >= begin:
                yield _not_blank(text[begin:end])
                begin, cut = end + 1, True
                breathe()
    yield _not_blank(text[begin : content.end]) if cut else text[begin : content.end]


def _not_blank(piece: bytes) -> bytes:
    if not piece or piece.isspace():
        raise ServeError(400, "the request is not JSON: nothing stands before or after a comma")
    return piece


def without_byte(text: str) -> str:
    """Return a parser's error without the byte at which it was found, which is that of a piece.

    >>> without_byte("JSON is malformed: invalid character (byte 7)")
    'JSON is malformed: invalid character'
    """
    return _BYTE.sub("", text)


def count(content: Content) -> int:
    """Return how many elements a list has, by its commas."""
    found = 0
    for _, kinds, depths in marks(*content):
        found += int(np.count_nonzero((kinds == _COMMA) & (depths == 0)))
        breathe()
    return found + bool(found or bytes(content).strip())
