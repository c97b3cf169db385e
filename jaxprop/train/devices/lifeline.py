"""A line from every process of a job to process 0, by which all learn that one of them has ended.

JAX's own service finds out too, when heartbeats stay away, and then aborts every process in C++; until then a
collective on a GPU waits for the lost one. The operating system closes the connections of a process that dies, so
that here the news comes at once, with the reason if there was time to say one, and is told in one line.
"""

import contextlib
import json
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

import numpy as np
from jax.experimental import multihost_utils

SECONDS_TO_CONNECT = 5.0
ADDRESS_BYTES = 1024
GOES_ON = "with checkpoints the job goes on from its latest one, on any number of devices"


class Lifeline:
    """The lines of this process: to all others if it is process 0, else to process 0.

    A message is a line of JSON: [process, what became of it], where the latter is "done" or the reason why it failed.
    """

    def __init__(self, index: int, count: int, end: Callable[[str], None]) -> None:
        self.index, self.count, self.end = index, count, end
        self.lines: dict[int, socket.socket] = {}
        self.done: set[int] = set()
        self.ended = threading.Event()

    def open(self, host: str | None) -> None:
        """Connect with the others; `host` is where process 0 can be reached, if that is known."""
        token = secrets.token_hex(16)
        listener = socket.create_server(("", 0), backlog=self.count) if self.index == 0 else None
        port = 0 if listener is None else listener.getsockname()[1]
        said = json.dumps([[h for h in (host, *_names()) if h], port, token]).encode().ljust(ADDRESS_BYTES)
        said = multihost_utils.broadcast_one_to_all(np.frombuffer(said[:ADDRESS_BYTES], np.uint8))
        hosts, port, token = json.loads(said.tobytes())
        if listener is not None:
            self._accept(listener, token)
        elif (line := _reached(hosts, port)) is not None:
            line.sendall(f"{token} {self.index}\n".encode())
            self.follow(0, line)
        else:
            print(
                f"jaxprop: process {self.index} cannot reach {' or '.join(hosts)} at port {port}: it learns only from "
                "JAX's heartbeats, later and in more words, if another process ends",
                file=sys.stderr,
            )

    def tell(self, what: str) -> None:
        """Tell the others that this process is done, or why it failed; then it ends by itself, whatever they say."""
        if what != "done":
            self.ended.set()
        for line in self.lines.values():
            _send(line, self.index, what)

    def _accept(self, listener: socket.socket, token: str) -> None:
        """Take the calls of the others, of whom each says the token and its number; strangers are hung up on."""
        listener.settimeout(SECONDS_TO_CONNECT)
        until = time.monotonic() + 2 * SECONDS_TO_CONNECT
        with listener, contextlib.suppress(TimeoutError):
            while len(self.lines) < self.count - 1 and time.monotonic() < until:
                line, _ = listener.accept()
                line.settimeout(SECONDS_TO_CONNECT)
                reader = line.makefile("r", encoding="utf-8")
                with contextlib.suppress(OSError, ValueError):
                    said, process = reader.readline(100).split()
                    if secrets.compare_digest(said, token):
                        self.follow(int(process), line, reader)
                        continue
                line.close()

    def follow(self, process: int, line: socket.socket, reader: IO[str] | None = None) -> None:
        """Hear from now on, in a thread, what a process at the other end of a line says, and when it ends."""
        reader = reader or line.makefile("r", encoding="utf-8")
        line.settimeout(None)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine that lost its power sends nothing
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option) and line.family != getattr(socket, "AF_UNIX", None):
                line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self.lines[process] = line
        threading.Thread(target=self._listen, args=(process, reader), daemon=True).start()

    def _listen(self, process: int, reader: IO[str]) -> None:
        """Hear what a process says until its line is closed."""
        with contextlib.suppress(OSError, ValueError):
            for message in reader:
                self._hear(*json.loads(message))
        if process not in self.done:
            self._hear(process, "")

    def _hear(self, process: int, what: str) -> None:
        """Pass on what became of a process, and end with it unless it is done."""
        for other, line in self.lines.items():
            if other not in (process, self.index) and self.index == 0:
                _send(line, process, what)
        if what == "done":
            self.done.add(process)
        elif not self.ended.is_set():
            self.ended.set()
            how = f"stopped: {what}" if what else "has ended without a word (killed, or its machine was lost)"
            self.end(f"process {process} of {self.count} {how}, and process {self.index} ends with it; {GOES_ON}")


def _send(line: socket.socket, process: int, what: str) -> None:
    with contextlib.suppress(OSError):  # whoever has ended hears no more
        line.sendall(json.dumps([process, what]).encode() + b"\n")


def _names() -> list[str]:
    """Names and addresses under which other machines may know this one."""
    names = [socket.getfqdn(), socket.gethostname()]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect(("192.0.2.1", 9))  # sends nothing: it asks which address would be its sender's
        names.insert(0, out.getsockname()[0])
    return list(dict.fromkeys(names))[:4]


def _reached(hosts: list[str], port: int) -> socket.socket | None:
    for host in hosts:
        with contextlib.suppress(OSError):
            return socket.create_connection((host, port), SECONDS_TO_CONNECT)
    return None
