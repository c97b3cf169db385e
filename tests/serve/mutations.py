"""Bodies with something wrong in them: cut short, bytes flipped, words swapped, values of another type."""

import orjson

WORDS = [
    b"null", b"true", b"NaN", b"1e999", b"-1", b'""', b"[]", b"{}", b"[[", b'"x"', b"9" * 30, b"\0", b"\xff", b"1e38",
]  # fmt: skip
VALUES = [None, True, -1, 2**63, 1e300, "x", [], {}, [[1]], {"name": "x"}, 0.5]


def mutated(rng, body):
    """`body` with one mutation, which may by chance leave it valid."""
    at = rng.randrange(len(body) + 1)
    to = min(len(body), at + rng.randrange(1, 12))
    kind = rng.randrange(6)
    if kind == 0:
        return body[:at]
    if kind == 1:
        return body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
    if kind == 2:
        return body[:at] + rng.choice(WORDS) + body[to:]
    if kind == 3:
        return body[:at] + body[to:]
    if kind == 4:
        return body[:at] + body[at:to] * rng.randrange(2, 50) + body[to:]
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:  # mutated before, or with binary data in it
        return body[::-1]
    _swap(rng, value)
    return orjson.dumps(value)


def _swap(rng, value):
    """Put something of another type somewhere into a JSON value."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = rng.choice(keys)
    if isinstance(value[key], (dict, list)) and rng.random() < 0.7:
        _swap(rng, value[key])
    else:
        value[key] = rng.choice(VALUES)
