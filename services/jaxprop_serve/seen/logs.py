"""What the server says of itself: one JSON object a line on stderr, written by a thread: no request waits for it.

A log that cannot be written (a full disk, a closed pipe, a reader that is too slow) loses lines and counts them; it
never stops the server. Tokens are blotted out wherever they appear.
"""

import contextlib
import json
import logging
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from typing import Any, TextIO

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_WAITING = 10_000


class Log:
    """`log(level, event, **fields)`: a line `{"time", "level", "event", ...}`, if the level is high enough.

    Args:
        level: of the least important lines still written. At "debug" each request is logged too.
        secrets: texts never written.
        stream: stderr by default.
        always: fields of every line, such as `worker=0`.
    """

    def __init__(self, level: str = "info", secrets: Iterable[str] = (), stream: TextIO | None = None, **always: Any):
        self.threshold = LEVELS[level]
        self.requests = self.threshold <= LEVELS["debug"]
        self.dropped = 0
        self._secrets = [secret for secret in secrets if secret]
        self._stream = stream if stream is not None else sys.stderr
        self._always = always
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def __call__(self, level: str, event: str, **fields: Any) -> None:
        """Log an event; an `exception` among the fields is written with its traceback."""
        if LEVELS[level] < self.threshold:
            return
        try:
            self._queue.put_nowait({"time": time.time(), "level": level, "event": event} | self._always | fields)
        except queue.Full:
            self.dropped += 1

    def close(self, timeout: float = 2.0) -> None:
        """Write what is waiting, for at most `timeout` seconds."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout)
            self._thread.join(timeout)

    def line(self, fields: dict[str, Any]) -> str:
        """One event as it is written."""
        seconds = fields["time"]
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
        shown = {key: _plain(value) for key, value in fields.items()} | {"time": moment}
        text = json.dumps(shown, ensure_ascii=False)
        for secret in self._secrets:
            text = text.replace(json.dumps(secret, ensure_ascii=False)[1:-1], "***")
        return text

    def _write_all(self) -> None:
        reported = 0
        while (fields := self._queue.get()) is not None:
            text = self.line(fields)
            if self.dropped > reported:
                reported = self.dropped
                text += "\n" + self.line(
                    {"time": time.time(), "level": "warning", "event": "lines lost", "n": reported}
                )
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1


class Forward(logging.Handler):
    """The standard library's logging (uvicorn's, grpc's, jax's) into the same lines."""

    def __init__(self, log: Log):
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record under its logger's name."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        fields = {"exception": record.exc_info[1]} if record.exc_info else {}
        self._log(level, record.name, message=record.getMessage(), **fields)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return "".join(traceback.format_exception(value))
    if isinstance(value, float):
        return round(value, 6)
    return value if isinstance(value, str | int | bool | None) else str(value)
