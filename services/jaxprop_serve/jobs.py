"""Loads and unloads in every worker of `--workers N`: what a worker says to its parent, and hears from it.

A load or an unload may reach any worker. That worker asks the parent, the parent tells all, and the answer is given
when all have done it:

    a worker  ("ask", n, verb, name)       → parent      one of its doors was asked
              ("gone", n)                  → parent      its client no longer waits
    parent    ("do", n, verb, name)        → all         of each model one after the other
    a worker  ("done", n, refusal, known)  → parent
    parent    ("answer", n, refusal)       → who asked
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from jaxprop.errors import JaxpropError
from jaxprop_serve.errors import ServeError
from jaxprop_serve.models.lifecycle import Models

MOST_JOBS = 100  # that wait, of all models together
Refusal = tuple[int, str]  # a ServeError's status and text


@dataclass
class Job:
    """A load, an unload or a reload (of all: its name is "") in every worker."""

    verb: str
    name: str
    askers: list[tuple[int, int]]  # a worker, and the number of its question
    number: int = 0  # 0 until it has begun
    busy: set[int] = field(default_factory=set)  # workers that have not done it yet
    done: set[int] = field(default_factory=set)
    refused: dict[int, Refusal] = field(default_factory=dict)

    def answer(self) -> Refusal | None:
        """Return what the askers are told: what one server would tell, if all workers agree."""
        texts = set(self.refused.values())
        if not texts or (len(texts) == 1 and not self.done):
            return next(iter(texts), None)
        told = "; ".join(f"worker {number}: {text}" for number, (_, text) in sorted(self.refused.items()))
        count = len(self.refused) + len(self.done)
        return 503, f"{self.verb} failed in {len(self.refused)} of {count} workers, so ask again: {told}"


class Parent:
    """What a worker tells its parent, and does for it. `load` and `unload` mean every worker.

    Args:
        link: to the parent.
    """

    def __init__(self, link: Connection):
        self._link = link
        self._asked: dict[int, asyncio.Future[Refusal | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0

    def listen(self, models: Models, do: Callable[[str, str], Awaitable[None]]) -> None:
        """Hear the parent from now on in this loop. `do(verb, name)` is what it may ask for."""
        self._models = models
        asyncio.get_running_loop().add_reader(self._link.fileno(), self._hear, do)

    def ready(self, lines: list[str]) -> None:
        """Tell that this worker answers."""
        self._link.send(("ready", lines, self._models.known()))

    def failed(self, error: JaxpropError) -> None:
        """Tell why it never will."""
        self._link.send(("failed", error))

    async def load(self, name: str) -> None:
        """Load or reload a model in every worker. ServeError as `Models.load`; 503, naming them, if some fail."""
        await self._ask("load", name)

    async def unload(self, name: str) -> None:
        """Unload a model in every worker. ServeError as `Models.unload`; 503, naming them, if some fail."""
        await self._ask("unload", name)

    async def _ask(self, verb: str, name: str) -> None:
        self._number += 1
        number, answer = self._number, asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._link.send(("ask", number, verb, name))
            refusal = await answer
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                self._link.send(("gone", number))
            raise
        except OSError:
            refusal = _ALONE
        finally:
            del self._asked[number]
        if refusal is not None:
            status, text = refusal
            raise ServeError(status, text)

    def _hear(self, do: Callable[[str, str], Awaitable[None]]) -> None:
        try:
            while self._link.poll():
                kind, number, *said = self._link.recv()
                if kind == "do":
                    task = asyncio.create_task(self._do(do, number, *said))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                elif (asked := self._asked.get(number)) is not None and not asked.done():
                    asked.set_result(said[0])
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_result(_ALONE)

    async def _do(self, do: Callable[[str, str], Awaitable[None]], number: int, verb: str, name: str) -> None:
        refusal = None
        try:
            await do(verb, name)
        except ServeError as error:
            refusal = error.status, error.text
        except Exception as error:
            refusal = 500, f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):  # the parent has gone, and we go too
            self._link.send(("done", number, refusal, self._models.known()))


_ALONE: Refusal = (503, "the parent of this worker has gone: this server is stopping")
