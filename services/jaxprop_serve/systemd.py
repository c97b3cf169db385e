"""What a service manager is told (`Type=notify`), and what a SIGHUP means."""

import os
import signal
import socket
import time


def notify(state: str) -> None:
    """Tell systemd READY=1, RELOADING=1 or STOPPING=1; without a service manager, nobody."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    if state == "RELOADING=1":
        state += f"\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.connect("\0" + path[1:] if path[0] == "@" else path)
            sending.send(state.encode())
    except OSError:
        pass  # a server serves, whoever listens


class Terminal:
    """The terminal that a server was started from, if it was: once it is gone, SIGHUP means that nobody needs us.

    Any other SIGHUP asks for a reload: from `kill -HUP`, from `systemctl reload`, or under `nohup`.
    """

    def __init__(self):
        self.ours = _there() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN

    def gone(self) -> bool:
        """Return whether it is closed."""
        return self.ours and not _there()


def ended_by_hangup(*_: object) -> None:
    """Handle a SIGHUP before there is anything to reload or to drain."""
    if TERMINAL.gone():
        raise SystemExit(128 + signal.SIGHUP)


def _there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


TERMINAL = Terminal()  # as it was when this process began
