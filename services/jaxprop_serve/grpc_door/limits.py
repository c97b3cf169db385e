"""How much of a message is left to protobuf, which reads all of it in one call that nobody can interrupt.

Raw tensors and lists of floats are copied by it, in no time. Everything else costs it tens of nanoseconds a byte, so it
is counted first, by a walk over the fields that reads no value.
"""

from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol.aside import breathe

MOST = 1 << 19  # bytes
# Numbers of fields, from ModelInferRequest on: inputs and their contents are looked into, and of raw_input_contents,
# fp32_contents and fp64_contents only the length is read.
_INSIDE = {(5,), (5, 5)}
_COPIED = {(7,), (5, 5, 6), (5, 5, 7)}
_STEP = 4096  # fields between two breaths


def check_message(data: bytes) -> None:
    """Raise ServeError 400 for a message that is large in other ways than by its tensors."""
    walk = _Walk(data)
    walk.fields(0, len(data), ())


class _Walk:
    """A walk over a message's fields, as far as they are well formed; protobuf says what is wrong with the rest."""

    def __init__(self, data: bytes):
        self.data, self.counted, self.seen = data, 0, 0

    def fields(self, at: int, end: int, path: tuple[int, ...]) -> None:
        """Count the bytes of the fields between two places, those of tensors not."""
        while at < end:
            began = at
            key, at = self.varint(at, end)
            kind, inner = key & 7, (*path, key >> 3)
            if kind == 2:
                size, at = self.varint(at, end)
                if at + size > end:
                    return
                if inner in _INSIDE:
                    self.fields(at, at + size, inner)
                elif inner not in _COPIED:
                    self.counted += size
                self.counted += at - began
                at += size
            elif kind > 5:
                return
            else:
                at = self.varint(at, end)[1] if kind == 0 else at + {1: 8, 5: 4}.get(kind, 0)
                self.counted += at - began
            if self.counted > MOST:
                raise ServeError(
                    400, f"the message has {len(self.data):,} bytes, and more than {MOST:,} of them beside its "
                    "raw_input_contents, fp32_contents and fp64_contents: send tensors in raw_input_contents"
                )  # fmt: skip
            self.seen += 1
            if self.seen % _STEP == 0:
                breathe()

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """Return the number that begins here, and where it has ended."""
        value, shift = 0, 0
        while at < end and shift < 70:
            byte = self.data[at]
            value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
            if byte < 128:
                return value, at
        return 7, end  # no field has this key: the walk is over


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it.

    >>> varint(5), varint(300)
    (b'\\x05', b'\\xac\\x02')
    """
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
