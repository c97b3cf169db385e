"""Which handler answers a path: a small trie of path parts, each pattern part literal or `{name}`.

>>> router = Router([Route("GET", "/v2/models/{model}", print), Route("GET", "/v2/models/stats", len)])
>>> router.find("GET", b"/v2/models/digits").names
{'model': 'digits'}
>>> router.find("GET", b"/v2/models/stats").route.handler
<built-in function len>
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from jaxprop_serve.errors import ServeError

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
ASGI = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

_REMEMBERED = 1024
_LONGEST_REMEMBERED = 256
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Route:
    """`handler(request, **names)` answers `method` on `path`; `level` is what the token must open (see access.py).

    An `eager` handler may be run without a task of its own, which costs less: it must not ask asyncio for its task, nor
    use what does, such as `asyncio.timeout`.

    For the server's description (openapi.py) its docstring says what it does, and `takes` and `gives` are the types of
    its JSON, as msgspec knows them; answers with several statuses are `{status: type}`.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable["Reply"]]
    level: str = "user"
    eager: bool = False
    takes: Any = None
    gives: Any = None


@dataclass(frozen=True)
class Mount:
    """An ASGI application that answers all paths under `prefix` (its `root_path`), behind the same limits and
    tokens."""

    prefix: str
    application: ASGI
    level: str = "user"


class NotAllowed(ServeError):  # noqa: N818 (it is what the status is called)
    """405: the path has other methods, which `allow` lists as the header of that name does."""

    def __init__(self, method: str, methods: set[str]):
        super().__init__(405, f"{method[:20]} is not allowed on this path: use {' or '.join(sorted(methods))}")
        every = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        self.allow = ", ".join(sorted(every)).encode()


class Reply(NamedTuple):
    """An answer: its bytes (those of a large one in pieces, sent one by one), its headers (content-length is added) and
    its status."""

    body: bytes | list[bytes | memoryview]
    headers: list[tuple[bytes, bytes]]
    status: int = 200


async def send_reply(answer: Reply, send: Send) -> None:
    """Send an answer as ASGI has it. Each piece is let go once it is sent, and `send` waits for a client that does not
    read."""
    body, headers, status = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body})
        return
    body.reverse()
    while body:
        piece = bytes(body.pop())
        await send({"type": "http.response.body", "body": piece, "more_body": bool(body)})
        await asyncio.sleep(0)  # a client that reads as fast as we write holds up nobody


class Found(NamedTuple):
    """A route and the values of the `{name}` parts of its path."""

    route: Route
    names: dict[str, str]


class _Node:
    """One part of a path: what may follow it, and the routes that end here, by method."""

    def __init__(self) -> None:
        self.literal: dict[bytes, _Node] = {}
        self.variable: _Node | None = None
        self.name = ""
        self.ends: dict[str, Route] = {}


class Router:
    """Finds the route of a path; for a path that was seen before this costs one look into a dict."""

    def __init__(self, routes: Iterable[Route]):
        self.root = _Node()
        self._remembered: dict[tuple[str, bytes], Found] = {}
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> None:
        """Add a route. A second one for the same method and path is a ValueError."""
        node = self.root
        for part in route.path.encode().split(b"/"):
            if part.startswith(b"{"):
                node.variable = node.variable or _Node()
                node = node.variable
                node.name = node.name or part[1:-1].decode()
                if node.name != part[1:-1].decode():
                    raise ValueError(f"{route.path}: this part of the path is called {{{node.name}}} in another route")
            else:
                node = node.literal.setdefault(part, _Node())
        if route.method in node.ends:
            raise ValueError(f"two handlers for {route.method} {route.path}")
        node.ends[route.method] = route

    def find(self, method: str, path: bytes) -> Found:
        """Return the route of a raw, percent-encoded path.

        ServeError: 404 for an unknown path, 405 for another method.
        """
        found = self._remembered.get((method, path))
        if found is not None:
            return found
        ends: list[tuple[_Node, dict[str, bytes]]] = []
        _walk(self.root, path.split(b"/"), {}, ends)
        if not ends:
            raise ServeError(404, f"no such path: {path[:120].decode('latin-1')}")
        for node, names in ends:
            if method in node.ends:
                found = Found(node.ends[method], {name: checked_name(value) for name, value in names.items()})
                if len(path) <= _LONGEST_REMEMBERED:
                    if len(self._remembered) >= _REMEMBERED:
                        self._remembered.clear()
                    self._remembered[method, path] = found
                return found
        raise NotAllowed(method, {method for node, _ in ends for method in node.ends})


def _walk(node: _Node, parts: list[bytes], names: dict[str, bytes], ends: list[tuple[_Node, dict[str, bytes]]]) -> None:
    """Collect the ends this path reaches, literal parts before variable ones, no deeper than the patterns."""
    if not parts:
        if node.ends:
            ends.append((node, names))
        return
    if parts[0] in node.literal:
        _walk(node.literal[parts[0]], parts[1:], names, ends)
    if node.variable is not None and parts[0]:
        _walk(node.variable, parts[1:], {**names, node.variable.name: parts[0]}, ends)


def checked_name(part: bytes) -> str:
    """Return a model's name or version out of a path.

    Names with separators, NUL or .. are refused: no store sees them.
    """
    try:
        name = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise ServeError(400, "a name in the path is not UTF-8") from None
    if (
        len(name) > _LONGEST_NAME
        or name in (".", "..")
        or any(c in "/\\" or ord(c) < 32 or ord(c) == 127 for c in name)
    ):
        raise ServeError(404, f"{name[:80]!r} cannot be the name of a model or version")
    return name
