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
from typing import TextIO

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
        waiting: queue.Queue[logging.LogRecord] = queue.Queue(_WAITING)
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
            record = logging.LogRecord("jaxprop_serve", LEVELS[level], "", 0, event, None, None)
            record.fields = {"level": level, "event": event} | self._always | fields
            self.emit(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A library's record gets its fields here, where its arguments still are what they were."""
        if not hasattr(record, "fields"):
            level = "error" if record.levelno >= logging.ERROR else "warning"
            record.fields = {"level": level, "event": record.name} | self._always | {"message": record.getMessage()}
            if record.exc_info:
                record.fields["exception"] = record.exc_info[1]
        return record

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: D102 (logging's name; the queue is full)
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

    def __init__(self, log: Log, waiting: queue.Queue[logging.LogRecord], stream: TextIO, secrets: Iterable[str]):
        super().__init__(waiting)
        self._log, self._stream, self._reported = log, stream, 0
        self._secrets = [json.dumps(secret, ensure_ascii=False)[1:-1] for secret in secrets if secret]

    def handle(self, record: logging.LogRecord) -> None:
        text = self._line(record.created, record.fields)  # pyright: ignore[reportAttributeAccessIssue] (see Log)
        if self._log.dropped > self._reported:
            self._reported = self._log.dropped
            text += self._line(time.time(), {"level": "warning", "event": "lines lost", "n": self._reported})
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

    def _line(self, seconds: float, fields: dict[str, object]) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
        text = json.dumps({"time": moment} | {key: _plain(value) for key, value in fields.items()}, ensure_ascii=False)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text + "\n"


def _plain(value: object) -> str | int | float | bool | None:
    if isinstance(value, BaseException):
        return "".join(traceback.format_exception(value))
    if isinstance(value, float):
        return round(value, 6)
    return value if isinstance(value, str | int | bool | None) else str(value)
