"""`--workers N`: N whole servers on one port (SO_REUSEPORT), each a process with its own everything.

The parent answers no request: it starts, watches, and passes on what concerns all: signals, loads and unloads. A worker
that dies before it was ever ready stops the whole, since the next would die of the same; later deaths are answered with
a new worker, at first at once, then ever more slowly, with the models that the others have. A worker whose parent is
gone drains and goes too.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from jaxprop_serve.jobs import MOST_JOBS, Job, Refusal
from jaxprop_serve.models.lifecycle import Known
from jaxprop_serve.seen.logs import Log
from jaxprop_serve.systemd import TERMINAL, notify

SLOWEST_S = 30.0


class Supervisor:
    """Keep `count` processes running `target(*arguments, number, known, link)`, where `link` is a Connection.

    Args:
        target: a module's function, called in a fresh interpreter; its return value is the process's exit code.
        arguments: passed on before the worker's number, the models it is to have (None: all) and its `link`.
        count: how many.
        said: called once all are ready with what the last one sent; a JaxpropError that one sends is raised instead.
        log: for deaths and replacements.
        patience: seconds that stopping may take before workers are killed.
        release: called when stopping begins: lets go of a socket that all share, which would listen on otherwise.
    """

    def __init__(
        self,
        target: Callable[..., int],
        arguments: tuple[Any, ...],
        count: int,
        said: Callable[[Any], None],
        log: Log,
        patience: float,
        release: Callable[[], object] = lambda: None,
    ):
        self.context = multiprocessing.get_context("spawn")
        self.target, self.arguments, self.count, self.said, self.log = target, arguments, count, said, log
        self.patience, self.release = patience, release
        self.processes: dict[int, SpawnProcess] = {}
        self.links: dict[int, Connection] = {}
        self.waiting: set[int] = set()  # workers that are not ready yet
        self.due: dict[int, float] = {}  # when a dead worker is replaced
        self.known: Known | None = None  # what every worker has, and the next one is to have
        self.jobs: list[Job] = []
        self.begun = 0
        self.deaths = 0
        self.announced = False
        self.stopping = 0

    def run(self) -> int:
        """Run until a signal comes, and return the exit code."""
        wake, waker = self.context.Pipe(duplex=False)
        hangups: list[int] = []

        def hear(number: int, _: object) -> None:
            if number == signal.SIGHUP and not TERMINAL.gone():
                hangups.append(number)
            else:
                self.stopping = self.stopping or number
            if not wake.poll():
                waker.send(number)

        before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            for number in range(self.count):
                self.start(number)
            while not self.stopping:
                seconds = max(0.0, min(self.due.values()) - time.monotonic()) if self.due else None
                wait([wake, *self.links.values(), *(p.sentinel for p in self.processes.values())], seconds)
                if wake.poll():
                    wake.recv()
                self.hear()
                if (code := self.replace()) is not None:
                    return code
                if hangups and self.announced:
                    hangups.clear()
                    notify("RELOADING=1")
                    self.add("reload", "", None)
            return 130 if self.stopping == signal.SIGINT else 0
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, number: int) -> None:
        """Start a worker. What is under way in the others, it does as soon as it can."""
        self.due.pop(number, None)
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=enter, args=(self.target, *self.arguments, number, self.known, theirs))
        process.start()
        theirs.close()
        self.processes[number], self.links[number] = process, ours
        self.waiting.add(number)
        for job in self.jobs:
            if job.number:
                self.tell(number, job)

    def hear(self) -> None:
        """Take in what workers say."""
        for number, link in list(self.links.items()):
            try:
                while link.poll():
                    self.take(number, *link.recv())
            except (EOFError, OSError):
                del self.links[number]  # it has gone or is going: see replace

    def take(self, number: int, kind: str, *said: Any) -> None:
        """Do what one message of a worker asks for."""
        if kind == "failed":
            (error,) = said
            if not self.announced and not self.stopping:
                raise error
            self.log("error", "a worker cannot serve", worker=number, reason=str(error))
        elif kind == "ready":
            lines, known = said
            self.waiting.discard(number)
            others = self.known or known
            for name in known:
                if known[name] != others.get(name):  # saved anew since the others loaded it: now all do
                    self.add("load", name, None)
            if not self.waiting and not self.announced and len(self.processes) == self.count:
                self.announced, self.known = True, known
                self.said(lines)
                notify("READY=1")
        elif kind == "ask":
            question, verb, name = said
            self.add(verb, name, (number, question))
        elif kind == "gone":
            self.drop((number, *said))
        elif kind == "done":
            self.note(number, *said)

    def add(self, verb: str, name: str, asker: tuple[int, int] | None) -> None:
        """Take on a job. One like the last that waits for this model is that one: it has not looked at the disk yet."""
        askers = [asker] if asker else []
        last = next((job for job in reversed(self.jobs) if job.name in (name, "")), None)
        if last is not None and not last.number and (last.verb, last.name) == (verb, name):
            last.askers += askers
        elif asker and len(self.jobs) >= MOST_JOBS:
            self.send(asker[0], "answer", asker[1], (429, f"{MOST_JOBS} loads and unloads wait already"))
        else:
            self.jobs.append(Job(verb, name, askers))
            self.advance()

    def drop(self, asker: tuple[int, int]) -> None:
        """Wait no longer for an answer on behalf of a client that has gone.

        A job that nobody waits for is not begun, unless it decides whether the model answers in the end: see turns.py.
        """
        for job in [job for job in self.jobs if asker in job.askers]:
            job.askers.remove(asker)
            *before, last = [other for other in self.jobs if other.name == job.name]
            decides = last is job and "unload" in (job.verb, *(other.verb for other in before[-1:]))
            if not job.askers and not job.number and not decides:
                self.jobs.remove(job)
                self.advance()

    def advance(self) -> None:
        """Answer what every worker has done, and begin what waits for no other: of one model, one job at a time."""
        for job in [job for job in self.jobs if not job.busy and (job.number or self.stopping)]:
            self.jobs.remove(job)
            answer = job.answer() if job.number else (503, "this server is stopping")
            for number, question in job.askers:
                self.send(number, "answer", question, answer)
            if job.verb == "reload" and not self.stopping:
                notify("READY=1")
        for i, job in enumerate(self.jobs):
            if not job.number and all(job.name and o.name and job.name != o.name for o in self.jobs[:i]):
                self.begun += 1
                job.number = self.begun
                for number in self.links:
                    self.tell(number, job)

    def tell(self, number: int, job: Job) -> None:
        """Let one worker do a job."""
        if self.send(number, "do", job.number, job.verb, job.name):
            job.busy.add(number)

    def note(self, number: int, job_number: int, refusal: Refusal | None, known: Known) -> None:
        """Note that a worker has done a job."""
        for job in self.jobs:
            if job.number == job_number and number in job.busy:
                job.busy.remove(number)
                if refusal is None or not job.done:
                    self.known = known
                if refusal is None:
                    job.done.add(number)
                else:
                    job.refused[number] = refusal
        self.advance()

    def send(self, number: int, *message: object) -> bool:
        """Send a worker a message, if it is there."""
        try:
            self.links[number].send(message)
        except (KeyError, OSError):
            return False
        return True

    def left(self, number: int) -> None:
        """Wait no longer for a worker that has died."""
        self.hear()  # its last words
        self.links.pop(number, None)
        for job in self.jobs:
            job.busy.discard(number)
        self.advance()

    def replace(self) -> int | None:
        """Replace workers that have died; return an exit code if one of them was never ready."""
        for number, process in list(self.processes.items()):
            if process.exitcode is None or self.stopping:
                continue
            self.left(number)
            del self.processes[number]
            never_ready = number in self.waiting
            self.waiting.discard(number)
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
        """Tell all to drain, answer what they ask meanwhile, and kill whoever does not end."""
        notify("STOPPING=1")
        self.stopping = self.stopping or signal.SIGTERM
        self.advance()
        self.release()
        for process in self.processes.values():
            if process.exitcode is None:
                process.terminate()
        end = time.monotonic() + self.patience
        while self.processes and time.monotonic() < end:
            wait([*self.links.values(), *(p.sentinel for p in self.processes.values())], end - time.monotonic())
            self.hear()
            for number, process in list(self.processes.items()):
                if process.exitcode is not None:
                    self.left(number)
                    del self.processes[number]
        for process in self.processes.values():
            process.kill()
            process.join()


def enter(target: Callable[..., int], *arguments: object) -> None:
    """Run a worker: this is its first function."""
    raise SystemExit(target(*arguments))
