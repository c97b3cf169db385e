"""What the server says of itself: one JSON object a line on stderr, written by a thread, and no request waits.

The standard library's queue handler and listener do the work. A log that cannot be written (a full disk, a closed pipe,
a reader that is too slow) loses lines and counts them; it never stops the server. Tokens are blotted out wherever they
appear.
"""

import json
import logging
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from logging.handlers import QueueHandler, QueueListener
from typing import Any, TextIO

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_WAITING = 10_000


class Log(QueueHandler):
    """`log(level, event, **fields)`: a line `{"time", "level", "event", ...}`, if the level is high enough.

    It is a handler too: as the root logger's, it writes what libraries log (uvicorn, grpc, jax) into the same lines.

    Args:
        level: of the least important lines still written. At "debug" each request is logged too.
        secrets: texts never written.
        stream: stderr by default.
        always: fields of every line, such as `worker=0`.
    """

    def __init__(
        self, level: str = "info", secrets: Iterable[str] = (), stream: TextIO | None = None, **always: object
    ):
        waiting: queue.Queue[Any] = queue.Queue(_WAITING)
        super().__init__(waiting)
        self.threshold = LEVELS[level]
        self.requests = self.threshold <= logging.DEBUG
        self.dropped = 0
        self._always = always
        self.setLevel(max(logging.WARNING, self.threshold))  # of what libraries log
        self._writer = _Writer(self, waiting, stream if stream is not None else sys.stderr, secrets)
        self._writer.start()
        self._closing = threading.Thread(target=self._writer.stop, name="close log", daemon=True)

    def __call__(self, level: str, event: str, **fields: object) -> None:
        """Log an event; an `exception` among the fields is written with its traceback."""
        if LEVELS[level] >= self.threshold:
            self.enqueue({"time": time.time(), "level": level, "event": event} | self._always | fields)

    def hide(self, secrets: Iterable[str]) -> None:
        """Never write these texts either, from now on."""
        self._writer.hide(secrets)

    def prepare(self, record: logging.LogRecord) -> dict[str, object]:
        """Return what is queued of a library's record: its fields, read while its arguments still are what they
        were."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        fields = {"time": record.created, "level": level, "event": record.name} | self._always
        exception = {"exception": record.exc_info[1]} if record.exc_info else {}
        return fields | {"message": record.getMessage()} | exception

    def enqueue(self, record: object) -> None:
        """Queue a line without waiting; where the queue is full, the line is lost and counted."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def close(self, timeout: float = 2.0) -> None:
        """Write what is waiting, for at most `timeout` seconds."""
        if self._closing.ident is None:  # logging closes it once more on exit
            self._closing.start()
            self._closing.join(timeout)
        super().close()


class _Writer(QueueListener):
    """The thread that writes; after lines were lost, it also says how many. It can be stopped while the queue is full.

    It is no handler itself: logging locks its handlers on exit, and one that hangs in a write would never let go.
    """

    def __init__(self, log: Log, waiting: queue.Queue[Any], stream: TextIO, secrets: Iterable[str]):
        super().__init__(waiting)
        self._log, self._stream, self._reported = log, stream, 0
        self._secrets: tuple[str, ...] = ()
        self.hide(secrets)

    def hide(self, secrets: Iterable[str]) -> None:
        added = (json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets if secret)
        self._secrets = (*self._secrets, *(secret for secret in added if secret not in self._secrets))

    def handle(self, record: dict[str, Any]) -> None:
        text = self._line(record)
        if self._log.dropped > self._reported:
            self._reported = self._log.dropped
            text += self._line({"time": time.time(), "level": "warning", "event": "lines lost", "n": self._reported})
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._log.dropped += 1

    def enqueue_sentinel(self) -> None:
        while True:
            try:
                return super().enqueue_sentinel()
            except queue.Full:
                time.sleep(0.01)

    def _line(self, fields: dict[str, Any]) -> str:
        seconds = fields["time"]
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
        shown = {key: _plain(value) for key, value in fields.items()} | {"time": moment}
        text = json.dumps(shown, ensure_ascii=False)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text + "\n"


def _plain(value: object) -> str | int | float | bool | None:
    if isinstance(value, BaseException):
        return "".join(traceback.format_exception(value))
    if isinstance(value, float):
        return round(value, 6)
    return value if isinstance(value, str | int | bool | None) else str(value)
