"""Where the server listens: a host and a port, or a Unix socket."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from jaxprop.errors import JaxpropError
from jaxprop_serve.settings import Settings, is_loopback

_ADVICE = {
    errno.EADDRINUSE: "; choose another with {flag}",
    errno.EACCES: "; a port below 1024 is not for everybody, choose another with {flag}",
    errno.EADDRNOTAVAIL: ": this machine has no such address; choose another with --host",
}


class TakenError(JaxpropError):
    """Somebody listens there already."""


def bind(host: str, port: int, shared: bool = False, flag: str = "--port") -> socket.socket:
    """Return a bound socket, on which several processes may listen if `shared`.

    Raises JaxpropError if it cannot be had, which names the `flag` that chooses another; TakenError if somebody has it.
    """
    door = "gRPC on " if flag == "--grpc-port" else "on "
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise JaxpropError(f"cannot serve {door}{host}:{port}: {why}; choose another with --host") from None
    family, kind, _, _, address = min(addresses, key=lambda one: one[0] != socket.AF_INET)  # localhost is 127.0.0.1
    found = socket.socket(family, kind)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        text = f"cannot serve {door}{host}:{port}: {error.strerror}"
        kind = TakenError if error.errno == errno.EADDRINUSE else JaxpropError
        raise kind(text + _ADVICE.get(error.errno or 0, "").format(flag=flag)) from None
    return found


@contextlib.contextmanager
def bound_to_file(path: Path) -> Iterator[socket.socket]:
    """Yield a socket bound to a path, for its owner and group; the path is free again at the end.

    What a dead server left is replaced. Raises JaxpropError if the path cannot be had, TakenError if somebody listens
    there.
    """
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_what_is_left(path)
        before = os.umask(0o117)
        try:
            found.bind(str(path))
        finally:
            os.umask(before)
    except OSError as error:
        found.close()
        raise JaxpropError(f"cannot serve on unix_socket {path}: {error.strerror or error}") from None
    except JaxpropError:
        found.close()
        raise
    ours = path.stat().st_ino
    try:
        yield found
    finally:
        found.close()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == ours:  # not another server's, which has come meanwhile
                path.unlink()


def check_file(path: Path) -> None:
    """Raise what `bound_to_file` would, and change nothing."""
    _remove_what_is_left(path, only_look=True)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        why = "not a folder in which this user can write"
        raise JaxpropError(f"cannot serve on unix_socket {path}: {path.parent} is {why}")
    if len(os.fsencode(path)) > 107:
        raise JaxpropError(f"cannot serve on unix_socket {path}: AF_UNIX path too long, at most 107 bytes")


def _remove_what_is_left(path: Path, only_look: bool = False) -> None:
    """Remove the socket of a server that is dead."""
    try:
        kind = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(kind):
        raise JaxpropError(f"cannot serve on unix_socket {path}: there is something else, which is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            if not only_look:
                path.unlink()
        except OSError:
            pass  # what binding says is clearer
        else:
            raise TakenError(f"cannot serve on unix_socket {path}: a server listens there already")


def url(settings: Settings, port: int) -> str:
    """Return the URL at which clients on this machine find the server."""
    if settings.unix_socket is not None:
        return "http://localhost"
    host = settings.host if is_loopback(settings.host) else socket.gethostname()
    return f"{'https' if settings.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
