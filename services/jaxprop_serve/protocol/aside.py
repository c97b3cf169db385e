"""Work on large bodies and answers beside the event loop, in steps so short that nobody else waits for them.

A thread alone does not help: a call into C that parses 16 MiB keeps Python's lock, and with it the event loop, for as
long as it takes. So what is large is cut into pieces, each a few milliseconds of work, with `breathe` between them. Two
threads do it, one for what is very large and one for the rest, each one body after the other: a client that sends many
holds up neither small requests, nor, for long, those of middling size.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LARGE = 1 << 17  # bytes; what is smaller is read in the event loop
_VERY_LARGE = 1 << 20
_PAUSE_S = 2e-4  # a sleep of no length gives the lock away and takes it back before anybody else has woken up
_threads = ThreadPoolExecutor(1, "bodies"), ThreadPoolExecutor(1, "large bodies")
_work = threading.local()


class GivenUp(Exception):  # noqa: N818 (nobody hears of it)
    """Raised in the thread where nobody waits for the result any more."""


async def aside(size: int, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Return `work(...)`, done in the thread for what has `size` bytes. It ends at its next breath if nobody waits."""
    gone = threading.Event()

    def run() -> T:
        begin(gone)
        return work(*arguments, **named)

    try:
        return await asyncio.get_running_loop().run_in_executor(_threads[size > _VERY_LARGE], run)
    finally:
        gone.set()


def begin(gone: threading.Event) -> None:
    """Say that this thread works beside the event loop from now on, until `gone` is set."""
    _work.gone = gone


def breathe() -> None:
    """Let the event loop run, if this is not the event loop; called between two pieces of work.

    Raises GivenUp if nobody waits for the work any more.
    """
    gone: threading.Event | None = getattr(_work, "gone", None)
    if gone is not None:
        if gone.is_set():
            raise GivenUp
        time.sleep(_PAUSE_S)
