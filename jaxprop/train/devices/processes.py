"""How the processes of a job find each other, and how they end together."""

import atexit
import contextlib
import math
import os
import re
import socket
import sys
import threading
import time
from types import TracebackType
from typing import NoReturn

import jax

from jaxprop.checks import check_whole
from jaxprop.errors import JaxpropError, TrainingError
from jaxprop.train.devices.lifeline import Lifeline
from jaxprop.train.result import TrainingInterrupted

HEARTBEAT = 30  # seconds without one from a process until JAX itself ends the job
GRACE = 10.0  # seconds for news of another process, when a collective fails
LONG = 10**6  # seconds: JAX's own time-outs end the process in C++, so ours come first
LOST = re.compile("(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED): ")  # as XLA begins
WAYS = (
    "SLURM (srun), Open MPI (mpirun) and the TPUs of GKE are detected; elsewhere every process says where process 0 "
    "is, how many there are, and which it is: as in distributed('10.0.0.1:1234', 4, 0), by --coordinator, --processes "
    "and --process, or in JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
)


def distributed(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    seconds: float = 300.0,
) -> None:
    """Join this process to a job of several, so that `jax.devices()` are those of all; call it before anything else.

    It is `jax.distributed.initialize` with what a training needs beside it: on CPUs the processes talk through gloo,
    and one that fails or is killed ends the whole job within a minute, with a line that names it. Afterwards `fit`
    computes on all devices of all processes, each of which reads its part of every batch.

    SLURM, Open MPI and GKE are detected by JAX. In a job of one process, or called once more, it does nothing.

    Args:
        coordinator: "HOST:PORT" where all can reach process 0; by default JAX_COORDINATOR_ADDRESS or what is detected.
        processes: how many there are; by default JAX_NUM_PROCESSES or what is detected.
        process: which of them this is, from 0; by default JAX_PROCESS_ID or what is detected.
        seconds: how long it waits for the others.

    Raises:
        JaxpropError: nothing says which processes there are, they did not all come in time, or JAX has computed
            something already.

    >>> distributed(processes=1)
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    processes = _whole(processes, "processes", "JAX_NUM_PROCESSES", 1)
    process = _whole(process, "process", "JAX_PROCESS_ID", 0)
    _check(coordinator, processes, process)
    if processes == 1 and coordinator is None:
        return
    if not jax.distributed.is_initialized():
        # of a SIGTERM `fit` learns by itself; before and after it, the process ends as others do
        jax.config.update("jax_enable_preemption_service", False)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        _join(coordinator, processes, process, seconds)
    if jax.process_count() > 1 and _job.line is None:
        _job.line = Lifeline(jax.process_index(), jax.process_count(), _ended)
        _job.line.open(None if coordinator is None else _host(coordinator))
        _job.watch()


def failed(error: BaseException) -> None:
    """Tell the other processes that this one ends with an error, which ends them too, unless all have raised it."""
    _job.fail(error)


def await_news(error: BaseException) -> None:
    """Wait a little, if an error may come of another process's end: the news of that end this one, in plainer words."""
    of_xla = isinstance(error, jax.errors.JaxRuntimeError) or LOST.match(str(error))
    if _job.line is not None and of_xla and error is not _job.awaited:
        _job.awaited = error
        time.sleep(GRACE)


class _Job:
    """What this process knows of the job that it belongs to."""

    def __init__(self) -> None:
        self.line: Lifeline | None = None
        self.code = 0
        self.awaited: BaseException | None = None  # the error for whose cause it has waited

    def watch(self) -> None:
        """From now on tell the others if this process ends by an error."""
        before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            await_news(error)
            self.fail(error)
            before(kind, error, trace)

        sys.excepthook = hook
        atexit.register(self.end)

    def fail(self, error: BaseException) -> None:
        if self.line is None or self.code:
            return
        self.code = 130 if isinstance(error, KeyboardInterrupt) else 1
        if not (isinstance(error, TrainingError | TrainingInterrupted) or getattr(error, "everywhere", False)):
            said = " ".join(str(error).split())
            self.line.tell(f"{type(error).__name__}: {said[:500]}" if said else type(error).__name__)

    def end(self) -> None:
        """As Python ends: with an error at once, since JAX would wait for the others; else JAX waits for them."""
        if self.code:
            _leave(self.code)
        if self.line is not None:
            self.line.tell("done")


_job = _Job()


def _ended(why: str) -> NoReturn:
    """End this process with another one: no step can be taken any more, and what waits for it waits in C++."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"jaxprop: {why}\n")  # at once: JAX's own words may come in between
    _leave(1)


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _join(coordinator: str | None, processes: int | None, process: int | None, seconds: float) -> None:
    """Initialise `jax.distributed` in a thread: it waits in C++, where no Ctrl-C is heard and a time-out aborts."""
    errors: list[BaseException] = []
    known = None not in (coordinator, processes, process)

    def join() -> None:
        try:
            jax.distributed.initialize(
                *(coordinator, processes, process),
                cluster_detection_method="deactivate" if known else None,
                initialization_timeout=LONG if known else max(1, math.ceil(seconds)),
                heartbeat_timeout_seconds=HEARTBEAT,
            )
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _job.code = 1  # JAX would wait once more as Python ends
        atexit.register(_job.end)
        raise JaxpropError(_late(coordinator, processes, process, seconds))
    if errors:
        raise JaxpropError(_refused(errors[0], coordinator, processes, process)) from errors[0]


def _late(coordinator: str | None, processes: int | None, process: int | None, seconds: float) -> str:
    """Why the processes did not find each other in time."""
    if coordinator is None:
        return f"distributed: the processes did not find each other within {seconds:g} s; {WAYS}"
    if process != 0:
        try:
            socket.create_connection((_host(coordinator), _port(coordinator)), 2.0).close()
        except socket.gaierror:
            return (
                f"distributed: the coordinator's name {_host(coordinator)!r} is unknown here after {seconds:g} s: name "
                "the machine of process 0 as this one knows it, or give its address"
            )
        except OSError as error:
            return (
                f"distributed: the coordinator {coordinator} cannot be reached after {seconds:g} s "
                f"({error.strerror or error}): is process 0 running there, and is the port open?"
            )
    many = "" if processes is None else f" of {processes}"
    return (
        f"distributed: not all processes{many} came to {coordinator} within {seconds:g} s: start each of them once, "
        f"with a number of its own, from 0{'' if processes is None else f' to {processes - 1}'}"
    )


def _refused(error: BaseException, coordinator: str | None, processes: int | None, process: int | None) -> str:
    """What JAX refused, in words that say what to do."""
    text = " ".join(str(error).split())
    if "before any JAX calls" in text:
        return (
            "distributed: JAX has computed something already, with the devices of this process alone: call "
            "jp.train.distributed() first in the program"
        )
    if "RPC server" in text:
        port = "" if coordinator is None else f" {_port(coordinator)}"
        return f"distributed: process 0 cannot open the port{port} for the others: choose another that is free"
    missing = {"where process 0 is": coordinator, "how many processes there are": processes, "which it is": process}
    missing = [what for what, given in missing.items() if given is None]
    if isinstance(error, ValueError) and missing:
        return f"distributed: nothing says {', '.join(missing)}; {WAYS}"
    return f"distributed: {text}"


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    host, _, port = (coordinator or "localhost:1").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise JaxpropError(f"distributed: coordinator must be HOST:PORT, such as 10.0.0.1:1234, found {coordinator!r}")
    if process is not None and processes is not None and process >= processes:
        raise JaxpropError(
            f"distributed: process must be one of 0 to {processes - 1}, since there are {processes}, found {process}"
        )


def _whole(given: int | None, what: str, variable: str, least: int) -> int | None:
    """A number as it was given, or as the environment has it."""
    if given is None and (text := os.environ.get(variable)):
        what, given = variable, int(text) if text.strip().isdecimal() else text  # pyright: ignore[reportAssignmentType]
    if given is not None:
        check_whole(given, f"distributed: {what}", least)
    return given


def _host(coordinator: str) -> str:
    return coordinator.rpartition(":")[0].strip("[]")


def _port(coordinator: str) -> int:
    return int(coordinator.rpartition(":")[2])
