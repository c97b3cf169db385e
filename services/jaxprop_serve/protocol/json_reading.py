"""JSON read into types: its depth is bounded before any parser recurses into it, and a mistake is named by its path.

JSON is UTF-8. A byte order mark before it is passed over, and other encodings are refused by their names.
"""

from typing import TypeVar

import msgspec
import numpy as np

from jaxprop_serve.errors import ServeError

T = TypeVar("T")

_MARK = "\ufeff".encode()
_CHUNK = 1 << 16
# What each byte does to the depth of a JSON text, outside strings.
_STEP = np.zeros(256, np.int8)
_STEP[[ord("["), ord("{")]] = 1
_STEP[[ord("]"), ord("}")]] = -1


def read_json(text: bytes, decoder: msgspec.json.Decoder[T], max_depth: int | None = None, where: str = "") -> T:
    """`decoder.decode`, with every refusal a ServeError 400 naming the field.

    Args:
        text: JSON.
        decoder: of a type; one that skips nothing (no unknown fields, no Raw) bounds the depth by itself.
        max_depth: checked before parsing, for a decoder that skips what it does not know.
        where: the path of `text` in the request, such as `.inputs[0].data`.
    """
    if max_depth is not None:
        check_depth(text, max_depth)
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise ServeError(400, located(error, where)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if text.startswith(_MARK):
            return read_json(text[len(_MARK) :], decoder, max_depth, where)
        if encoding := other_encoding(text):
            raise ServeError(400, f"the request's JSON is {encoding}: send it as UTF-8") from None
        hint = ""
        if any(word in text for word in (b"NaN", b"nan", b"Infinity", b"inf")):
            hint = "; JSON has no NaN or Infinity: send such values as binary data"
        raise ServeError(400, f"the request is not JSON: {error}{hint}") from None


def json_text(body: bytes) -> bytes:
    """Return a body without the space around it and without a mark before it.

    Raises ServeError 400 if it is not UTF-8.
    """
    text = body.removeprefix(_MARK).strip()
    if encoding := other_encoding(text):
        raise ServeError(400, f"the request's JSON is {encoding}: send it as UTF-8")
    return text


def other_encoding(text: bytes) -> str | None:
    """Return the encoding that JSON starts in where it is not UTF-8: its first two characters are ASCII, or a mark and
    one.

    >>> other_encoding('{"a": 1}'.encode("utf-16")), other_encoding("[1]".encode("utf-32-be")), other_encoding(b"[1]")
    ('UTF-16', 'UTF-32', None)
    """
    zeros = [i for i, byte in enumerate(text[:4]) if byte == 0]
    if text[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff") or zeros in ([0, 1, 2], [1, 2, 3]):
        return "UTF-32"
    return "UTF-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") or zeros in ([0, 2], [1, 3]) else None


def located(error: msgspec.ValidationError, where: str) -> str:
    """What msgspec says of a value, with the path from the top of the request.

    >>> located(msgspec.ValidationError("Expected `int`, got `str` - at `$[2]`"), ".rows")
    'Expected `int`, got `str` - at `$.rows[2]`'
    >>> located(msgspec.ValidationError("Expected `int`, got `str`"), ".rows")
    'Expected `int`, got `str` - at `$.rows`'
    """
    text = str(error) if "`$" in str(error) else f"{error} - at `$`"
    return text.replace("`$", f"`${where}")


def check_depth(text: bytes, limit: int) -> None:
    """Refuse JSON nested deeper than `limit`, by counting brackets outside strings, before any parser recurses into it.

    >>> check_depth(b'[[1, "[[["]]', 2)
    >>> check_depth(b"[" * 100_000, 100)
    Traceback (most recent call last):
    ...
    jaxprop_serve.errors.ServeError: the JSON is nested deeper than 100 levels
    """
    if text.count(b"[") + text.count(b"{") <= limit:
        return
    if b"\\" in text:  # an escaped quote does not end a string, nor does an escaped backslash escape one
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    depth, quotes = 0, 0
    for start in range(0, len(text), _CHUNK):
        chunk = np.frombuffer(text, np.uint8, min(_CHUNK, len(text) - start), start)
        seen = quotes + np.cumsum(chunk == ord('"'), dtype=np.int64)
        levels = depth + np.cumsum(np.where(seen % 2 == 0, _STEP[chunk], 0), dtype=np.int64)
        if levels.max() > limit:
            raise ServeError(400, f"the JSON is nested deeper than {limit} levels", limit="depth")
        depth, quotes = int(levels[-1]), int(seen[-1])
