"""Loads and unloads: those of one model in the order they came, and no more of them than somebody waits for."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Operation:
    """A load or an unload, for all who asked for it before it began."""

    def __init__(self, kind: str, work: Callable[[], Awaitable[None]]):
        self.kind, self.work = kind, work
        self.waiting = 0  # how many wait for its end
        self.begun = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda one: one.cancelled() or one.exception())  # heard, if only here


class Turns:
    """Who may load or unload which model now. One load runs at a time, whichever model it is of.

    What has begun is ended, though nobody waits for it any more. Of what has not begun, neighbours of one kind are one
    operation, and one that nobody waits for is dropped: clients with a timeout ask again and again. Kept is the last
    one if it decides whether the model answers in the end: an unload, or a load after an unload.
    """

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._queues: dict[str, tuple[list[Operation], asyncio.Task[None]]] = {}  # no name stays longer than its queue
        self._loading = asyncio.Lock()

    async def take(self, name: str, kind: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`, a "load" or an "unload", when it is its turn, and wait for its end. Its failure is raised."""
        if name not in self._queues:
            queue: list[Operation] = []
            self._queues[name] = queue, self._start(name, queue)
        queue, task = self._queues[name]
        if not queue or queue[-1].begun or queue[-1].kind != kind:
            queue.append(Operation(kind, work))
        one = queue[-1]
        one.waiting += 1
        try:
            await asyncio.shield(one.done)
        finally:
            one.waiting -= 1
            _drop_abandoned(queue)
            if not queue:
                task.cancel()
                self._forget(name, queue)

    def _start(self, name: str, queue: list[Operation]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(name, queue))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _run(self, name: str, queue: list[Operation]) -> None:
        """Do what is in the queue until it is empty."""
        try:
            while queue:
                kind = queue[0].kind
                async with self._loading if kind == "load" else contextlib.nullcontext():
                    if queue and queue[0].kind == kind:
                        await _do(queue)
        finally:
            self._forget(name, queue)
            for one in queue:  # the server is stopping
                one.done.cancel()

    def _forget(self, name: str, queue: list[Operation]) -> None:
        if name in self._queues and self._queues[name][0] is queue:
            del self._queues[name]


async def _do(queue: list[Operation]) -> None:
    """Do the first operation; all who wait for it hear how it ended."""
    one = queue[0]
    one.begun = True
    try:
        await one.work()
    except asyncio.CancelledError:
        one.done.cancel()
        raise
    except BaseException as error:
        one.done.set_exception(error)
    else:
        one.done.set_result(None)
    finally:
        del queue[0]


def _drop_abandoned(queue: list[Operation]) -> None:
    kept = [one for one in queue if one.begun or one.waiting]
    if queue and queue[-1] not in kept and (queue[-1].kind == "unload" or (kept and kept[-1].kind == "unload")):
        kept.append(queue[-1])
    queue[:] = kept
