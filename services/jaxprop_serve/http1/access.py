"""Who may ask: bearer tokens, the Host a request names, the web page (Origin) it comes from.

On loopback without tokens everything is open to programs. A web page must be of our own origin, and the Host must be a
name of this machine, so a page whose name was rebound to 127.0.0.1 (DNS rebinding) is refused. Beyond loopback a token
is required.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from pydantic import SecretStr

from jaxprop_serve.errors import ServeError
from jaxprop_serve.settings import Settings, is_loopback

LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
# Sent once and only once: of two values one proxy believes the first and another the last.
_SINGLE = frozenset(
    (
        b"authorization", b"host", b"origin", b"content-length", b"content-encoding", b"transfer-encoding",
        b"inference-header-content-length",
    )
)  # fmt: skip
_REMEMBERED, _LONGEST = 256, 512  # hosts, and the bytes of one or of an origin


def single(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers as a dict; raise ServeError 400 if one that decides about the request is given twice."""
    found = dict(headers)
    if len(found) != len(headers):
        names = [name for name, _ in headers]
        for name in _SINGLE & found.keys():
            if names.count(name) > 1:
                raise ServeError(400, f"header {name.decode()} is given {names.count(name)} times, expected once")
    return found


class Access:
    """Decides who is answered, from a request's headers and query alone. The levels are 'open', 'user' and 'admin'."""

    def __init__(self, settings: Settings):
        self.renew(settings)
        self.loopback = is_loopback(settings.host)
        if not self.loopback and self.token is None:
            raise ValueError(f"host {settings.host} can be reached from other machines: set a token (JAXPROP_TOKEN)")
        names = {host.lower() for host in settings.allowed_hosts}
        if self.loopback:
            names |= LOOPBACK | {settings.host}
        # Beyond loopback the token guards; without a list any name is taken, since a server cannot know its names.
        self.hosts = names or None
        self.origins = frozenset(origin.lower().rstrip("/") for origin in settings.allowed_origins)
        self._known_hosts: set[bytes] = set()

    def renew(self, settings: Settings) -> None:
        """Take the tokens of these settings from now on."""
        self.token, self.admin_token = _digest(settings.token), _digest(settings.admin_token)

    def check_source(self, scope: Mapping[str, Any], headers: dict[bytes, bytes], level: str) -> None:
        """Raise ServeError 400 or 403 unless this server may answer this Host, Origin and query at this level.

        What is open to everybody is answered under any Host and under none: kubelets and balancers ask for it by
        address, and a page whose name was rebound learns nothing from it.
        """
        host = headers.get(b"host")
        if host not in self._known_hosts and level != "open":
            self._check_host(host, scope.get("http_version", "1.1"))
        origin = headers.get(b"origin")
        if origin is not None:
            self._check_origin(origin, host or b"")
        query = scope["query_string"]
        if query:
            self._check_query(query)

    def check_token(self, headers: dict[bytes, bytes], level: str) -> None:
        """Raise ServeError 401 or 403 unless the bearer token opens `level`. The admin token opens everything."""
        if level == "open" or (self.token is None and (level == "user" or self.admin_token is None)):
            return
        given = _bearer(headers.get(b"authorization"))
        admin = _same(given, self.admin_token)
        user = _same(given, self.token)
        if admin or (user and level == "user"):
            return
        if user:
            missing = "" if self.admin_token else "; none is set on this server, so this is closed"
            raise ServeError(403, f"this needs the admin token{missing}")
        raise ServeError(401, "a valid token is needed: send the header 'Authorization: Bearer <token>'")

    def _check_host(self, host: bytes | None, version: str) -> None:
        if host is None and version == "1.0":
            return  # RFC 9112, 3.2 asks it of HTTP/1.1 alone, and every browser sends one
        if not host:
            raise ServeError(400, "the request has no Host header")
        name = _host_name(host)
        if self.hosts is not None and name not in self.hosts:
            raise ServeError(403, f"Host {name[:80]!r} is not a name of this server: add it to allowed_hosts")
        if len(self._known_hosts) < _REMEMBERED and len(host) <= _LONGEST:
            self._known_hosts.add(host)

    def _check_origin(self, origin: bytes, host: bytes) -> None:
        text = origin.decode("latin-1").lower().rstrip("/")
        ours = host.decode("latin-1").lower()
        ours = (f"http://{ours}", f"https://{ours}")
        if len(origin) > _LONGEST or (text not in self.origins and text not in ours):
            raise ServeError(403, f"Origin {text[:80]!r} is another site's: add it to allowed_origins")

    def _check_query(self, query: bytes) -> None:
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=None):
            secret = _same(value, self.token) or _same(value, self.admin_token)
            if secret or any(word in name.lower() for word in ("token", "authorization", "api_key", "apikey")):
                raise ServeError(
                    400, "a token in a URL ends up in logs: send the header 'Authorization: Bearer <token>'"
                )


def _host_name(host: bytes) -> str:
    """Return the name in a Host header without its port: localhost of localhost:8000, ::1 of [::1]:8000."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def _bearer(header: bytes | None) -> str | None:
    scheme, _, token = (header or b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _digest(token: SecretStr | str | None) -> bytes | None:
    """Return the SHA-256 of a token. All have the same length, so that the time of a comparison tells nothing."""
    text = token.get_secret_value() if isinstance(token, SecretStr) else token
    return hashlib.sha256(text.encode()).digest() if text else None


def _same(given: str | None, expected: bytes | None) -> bool:
    if given is None or expected is None:
        return False
    return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), expected)
