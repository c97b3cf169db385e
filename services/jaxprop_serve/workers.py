"""`--workers N`: N whole servers on one port (SO_REUSEPORT), each a process with its own everything.

The parent answers nothing: it starts, watches, forwards SIGTERM and SIGINT. A worker that dies before it was ever ready
stops the whole, since the next would die of the same; later deaths are answered with a new worker, at first at once,
then ever more slowly. A worker whose parent is gone drains and goes too.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from jaxprop.errors import JaxpropError
from jaxprop_serve.seen.logs import Log

SLOWEST_S = 30.0


class Supervisor:
    """Keep `count` processes running `target(number, ready)`, where `ready` is a Connection to say so on.

    Args:
        target: a module's function, called in a fresh interpreter; its return value is the process's exit code.
        arguments: passed on before the number.
        count: how many.
        said: called once all are ready with what the last one sent; a JaxpropError that one sends is raised instead.
        log: for deaths and replacements.
        patience: seconds that stopping may take before workers are killed.
    """

    def __init__(
        self,
        target: Callable[..., int],
        arguments: tuple[Any, ...],
        count: int,
        said: Callable[[Any], None],
        log: Log,
        patience: float,
    ):
        self.context = multiprocessing.get_context("spawn")
        self.target, self.arguments, self.count, self.said, self.log = target, arguments, count, said, log
        self.patience = patience
        self.processes: dict[int, SpawnProcess] = {}
        self.waiting: dict[int, Connection] = {}  # workers that are not ready yet
        self.due: dict[int, float] = {}  # when a dead worker is replaced
        self.deaths = 0
        self.announced = False
        self.stopping = 0

    def run(self) -> int:
        """Run until a signal comes, and return the exit code."""
        wake, waker = self.context.Pipe(duplex=False)

        def stop(number: int, _: object) -> None:
            self.stopping = self.stopping or number
            waker.send(number)

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for number in range(self.count):
                self.start(number)
            while not self.stopping:
                seconds = max(0.0, min(self.due.values()) - time.monotonic()) if self.due else None
                wait([wake, *self.waiting.values(), *(p.sentinel for p in self.processes.values())], seconds)
                self.hear()
                if (code := self.replace()) is not None:
                    return code
            return 130 if self.stopping == signal.SIGINT else 0
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, number: int) -> None:
        """Start a worker."""
        self.due.pop(number, None)
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=enter, args=(self.target, *self.arguments, number, theirs))
        process.start()
        theirs.close()
        self.processes[number], self.waiting[number] = process, ours

    def hear(self) -> None:
        """Note who has become ready."""
        for number, connection in list(self.waiting.items()):
            try:
                if not connection.poll():
                    continue
                said = connection.recv()
            except (EOFError, OSError):
                continue  # it died: see replace
            if isinstance(said, JaxpropError):
                if not self.announced:
                    raise said
                self.log("error", "a worker cannot serve", worker=number, reason=str(said))
                continue
            del self.waiting[number]
            if not self.waiting and not self.announced and len(self.processes) == self.count:
                self.announced = True
                self.said(said)

    def replace(self) -> int | None:
        """Replace workers that have died; return an exit code if one of them was never ready."""
        for number, process in list(self.processes.items()):
            if process.exitcode is None or self.stopping:
                continue
            del self.processes[number]
            never_ready = self.waiting.pop(number, None) is not None
            if never_ready and not self.announced:
                return process.exitcode if process.exitcode > 0 else 1
            self.deaths += 1
            pause = min(SLOWEST_S, 0.25 * 2 ** (self.deaths - 1)) if never_ready else 0.0
            if not never_ready:
                self.deaths = 0
            self.log("error", "a worker died and is replaced", worker=number, exit_code=process.exitcode, pause=pause)
            self.due[number] = time.monotonic() + pause
        for number, moment in list(self.due.items()):
            if time.monotonic() >= moment:
                self.start(number)
        return None

    def stop(self) -> None:
        """Tell all to drain, wait, and kill whoever does not."""
        for process in self.processes.values():
            if process.exitcode is None:
                process.terminate()
        end = time.monotonic() + self.patience
        for process in self.processes.values():
            process.join(max(0.1, end - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()


def enter(target: Callable[..., int], *arguments: object) -> None:
    """Run a worker: this is its first function."""
    raise SystemExit(target(*arguments))
