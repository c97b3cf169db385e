"""Work that nobody waits for any more is given up: what computes for long asks now and then whether it is wanted."""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from jaxprop.errors import JaxpropError

T = TypeVar("T")
_left: ContextVar[threading.Event | None] = ContextVar("left", default=None)


def unless(left: threading.Event, work: Callable[[], T]) -> T:
    """Return what `work` returns; within it `check` raises once `left` is set."""
    token = _left.set(left)
    try:
        check()
        return work()
    finally:
        _left.reset(token)


def check() -> None:
    """Raise `JaxpropError` if whoever asked for the work that this thread does has gone."""
    left = _left.get()
    if left is not None and left.is_set():
        raise JaxpropError("this was given up, since the page that asked for it has gone")
