"""What the server says of itself: one JSON object a line on stderr, written by a thread, and no request waits.

A line is queued as it is and made into text by the thread, which gathers what comes within a moment: waking a thread
for every request would cost more than answering it. A log that cannot be written (a full disk, a closed pipe, a reader
that is too slow) loses lines and counts them; it never stops the server. Tokens are blotted out wherever they appear.
"""

import json
import logging
import re
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TextIO
from urllib.parse import unquote

import msgspec

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Asked every few seconds by whoever watches the server: logged at "debug" unless they fail.
PROBES = frozenset(
    (
        *("/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready", "/metrics"),
        *("ServerLive", "ServerReady", "ModelReady", "Check"),
    )
)
_encoder = msgspec.json.Encoder()
_WAITING = 10_000
_LONGEST_PATH = 200
_AT_ONCE = 100  # lines made into text before other threads get their turn
_GATHERED_S = 0.05
# What JSON does not escape and a terminal or a viewer of logs might obey: C1 controls, line ends, changes of direction.
_UNSEEN = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class _Asked(msgspec.Struct, omit_defaults=True):
    """The first fields of a line about a request that is over: what is empty is left out."""

    level: str
    event: str
    client: Any = None  # its address
    method: str = ""  # HTTP's, or "gRPC"
    path: str = ""  # as it was asked for, without the query
    route: str = ""  # the pattern that it matched
    code: int | str = ""


class _Answered(msgspec.Struct, omit_defaults=True):
    """Its last fields, after `seconds` and `bytes`, those of the answer's body."""

    model: str = ""
    version: str = ""
    id: str = ""
    trace: str = ""
    worker: int | str | None = None


class Log(logging.Handler):
    """`log(level, event, **fields)`: a line `{"time", "level", "event", ...}`, if the level is high enough.

    It is a handler too: as the root logger's, it writes what libraries log (uvicorn, grpc, jax) into the same lines.

    Args:
        level: of the least important lines still written. At "debug" the probes' requests are logged too.
        secrets: texts never written.
        stream: stderr by default.
        access: whether requests are logged, which are of level "info".
        worker: a field of every line, if it is given.
    """

    def __init__(
        self,
        level: str = "info",
        secrets: Iterable[str] = (),
        stream: TextIO | None = None,
        access: bool = True,
        worker: int | str | None = None,
    ):
        self.threshold = LEVELS[level]
        super().__init__(max(logging.WARNING, self.threshold))  # of what libraries log
        self.requests = access and self.threshold <= logging.INFO
        self.dropped = 0
        self._worker = worker
        self._always: dict[str, object] = {} if worker is None else {"worker": worker}
        self._waiting: deque[dict[str, Any] | tuple[Any, ...]] = deque()
        self._awake, self._ending = threading.Event(), threading.Event()
        self._stream = stream if stream is not None else sys.stderr
        self._secrets: tuple[str, ...] = ()
        self.hide(secrets)
        self._second, self._moment = 0, ""
        # No lock of logging's is held while it writes: one that hangs in a write would never let go of it on exit.
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def __call__(self, level: str, event: str, **fields: object) -> None:
        """Log an event; an `exception` among the fields is written with its traceback."""
        if LEVELS[level] >= self.threshold:
            self._put({"time": time.time(), "level": level, "event": event} | self._always | fields)

    def hide(self, secrets: Iterable[str]) -> None:
        """Never write these texts either, from now on."""
        added = (json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets if secret)
        self._secrets = (*self._secrets, *(secret for secret in added if secret not in self._secrets))

    def request(
        self, client: Any, method: str, path: str, route: str, code: int | str, seconds: float, size: int | None,
        model: str = "", version: str = "", id: str = "", trace: str = "",
    ) -> None:  # fmt: skip
        """Log a request that is over. `client` is as ASGI has it, (host, port), or as gRPC has it."""
        self._put((time.time(), client, method, path, route, code, seconds, size, model, version, id, trace))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue what is to be said of a library's record, read while its arguments still are what they were."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        exception = {"exception": record.exc_info[1]} if record.exc_info else {}
        said = {"time": record.created, "level": level, "event": record.name} | self._always
        self._put(said | {"message": record.getMessage()} | exception)

    def close(self, timeout: float = 2.0) -> None:
        """Write what is waiting, for at most `timeout` seconds."""
        if not self._ending.is_set():  # logging closes it once more on exit
            self._ending.set()
            self._awake.set()
            self._thread.join(timeout)
        super().close()

    def _put(self, line: dict[str, Any] | tuple[Any, ...]) -> None:
        """Queue a line without waiting; where too many wait, it is lost and counted."""
        if len(self._waiting) >= _WAITING:
            self.dropped += 1
            return
        self._waiting.append(line)
        if not self._awake.is_set():
            self._awake.set()

    def _write(self) -> None:
        """Write what waits, whenever something does; after lines were lost, also say how many."""
        reported = 0
        while True:
            self._awake.wait()
            self._awake.clear()
            while self._waiting:
                lines = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                if self.dropped > reported:
                    reported = self.dropped
                    lines.append({"time": time.time(), "level": "warning", "event": "lines lost", "n": reported})
                try:
                    self._stream.write(self._text(lines))
                    self._stream.flush()
                except Exception:  # a stream that is full or closed, a line that cannot be shown: the log goes on
                    self.dropped += len(lines)
            if self._ending.wait(_GATHERED_S) and not self._waiting:
                return

    def _text(self, lines: list[dict[str, Any] | tuple[Any, ...]]) -> str:
        """Return lines of JSON, without the probes' if nobody wants to hear of them."""
        shown: list[str] = []
        for line in lines:
            if isinstance(line, tuple):
                shown.append(self._of_request(*line))
            else:
                fields = {key: _plain(value) for key, value in line.items()} | {"time": self._when(line["time"])}
                shown.append(_json(fields) + "\n")
        text = "".join(shown)
        if not text.isascii() or "\x7f" in text:
            text = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _of_request(
        self, moment: float, client: Any, method: str, path: str, route: str, code: int | str, seconds: float,
        size: int | None, model: str, version: str, id: str, trace: str,
    ) -> str:  # fmt: skip
        level = "info"
        if route in PROBES and code in (200, "OK"):
            if self.threshold > logging.DEBUG:
                return ""
            level = "debug"
        host = client[0] if type(client) is tuple else address(client)
        asked = _asked(level, host, method, path[:_LONGEST_PATH], route, code)
        answered = (_answered.__wrapped__ if id or trace else _answered)(model, version, id, trace, self._worker)
        size_text = "" if size is None else f',"bytes":{size}'
        return f'{{"time":"{self._when(moment)}",{asked},"seconds":{seconds:.6f}{size_text}{answered}}}\n'

    def _when(self, moment: Any) -> str:
        second = int(moment)
        if second != self._second:
            self._second, self._moment = second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._moment}{int((moment - second) * 1e6):06d}Z"


def address(client: Any) -> str | None:
    """Return the address alone: ASGI has (host, port), gRPC ipv4:host:port, ipv6:%5Bhost%5D:port or unix:path."""
    if isinstance(client, str) and client[:5] in ("ipv4:", "ipv6:"):
        return unquote(client[5:].rpartition(":")[0]).strip("[]")
    return client[0] if isinstance(client, list | tuple) else client


def _plain(value: object) -> str | int | float | bool | None:
    if isinstance(value, BaseException):
        return "".join(traceback.format_exception(value))
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, str | int | bool | None):
        return value
    try:
        return str(value)
    except Exception:  # what cannot be shown must not end the log
        return f"<{type(value).__name__}>"


# Most lines are alike but for their time, seconds and bytes: what they share is made into text once.
@lru_cache(1024)
def _asked(level: str, client: str | None, method: str, path: str, route: str, code: int | str) -> str:
    return _json(_Asked(level, "request", client, method, path, route, code))[1:-1]


@lru_cache(1024)
def _answered(model: str, version: str, id: str, trace: str, worker: int | str | None) -> str:
    text = _json(_Answered(model, version, id, trace, worker))[1:-1]
    return f",{text}" if text else ""


def _json(value: object) -> str:
    try:
        return _encoder.encode(value).decode()
    except (OverflowError, UnicodeEncodeError):  # numbers above 64 bits, halves of surrogate pairs
        return json.dumps(msgspec.to_builtins(value))
