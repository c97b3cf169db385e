"""Requests that wait at the same time are computed together; a request that meets an idle server waits for nothing.

    1  what is queued was validated before, so it can fail only for the model's own reasons; if a batch fails, its
       halves are tried, until only the guilty fail
    2  work-conserving: whenever the device is idle, what is waiting is computed
    3  batches are padded (with row 0) to a bucket for which an executable exists; nothing is ever compiled here
    4  rows do not depend on their neighbours: checked when a model is loaded (lifecycle.py)
    5  the queue is bounded in rows and bytes; what expired or was cancelled is dropped when its turn comes
    6  whatever happens in a batch, its requests are answered and the next batch runs
    7  quick models are computed in the event loop, slow ones in one thread beside it
    8  models take turns

One lane is the loop, the other the thread. A request that meets an idle loop lane is computed at once, and the lane
counts as busy until the loop has come round: what arrives by then is computed together. Where the last batch was of
several requests, the next one waits for the loop to come round too: others are likely to come with it. So one client
waits for no task switch, and many make batches.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np

from jaxprop_serve.errors import ServeError
from jaxprop_serve.models.statistics import Statistics

Arrays = dict[str, np.ndarray]
clock, monotonic = time.perf_counter_ns, time.monotonic

INLINE_ONE_S, INLINE_BATCH_S = 200e-6, 2e-3  # a model is quick if one row and the largest batch take less


class Whole:
    """What the parts of a request that is larger than the largest batch share, to be counted as one."""

    __slots__ = ("failed", "parts")

    def __init__(self, parts: int):
        self.parts, self.failed = parts, False


class Request:
    """Rows that wait: a client's request, or a part of one."""

    __slots__ = ("arrived", "deadline", "future", "inputs", "nbytes", "rows", "started", "whole")

    def __init__(self, inputs: Arrays, rows: int, deadline: float | None, future: Any, whole: Whole | None = None):
        self.inputs, self.rows, self.deadline, self.future = inputs, rows, deadline, future
        self.whole = whole
        self.nbytes = sum([array.nbytes for array in inputs.values()])
        self.arrived = self.started = clock()

    def ended(self, failed: bool) -> bool | None:
        """Return whether the client's request has failed, once this was all or the last part of it; None before."""
        whole = self.whole
        if whole is None:
            return failed
        whole.parts, whole.failed = whole.parts - 1, whole.failed or failed
        return None if whole.parts else whole.failed


class Lane:
    """Where batches are computed one after another, the models in turn; in the event loop, or in `thread`."""

    def __init__(self, thread: Executor | None = None):
        self.thread = thread
        self.turns: deque[Batcher] = deque()
        self.busy = False
        self.crowded = False  # the last batch was of several requests
        self.timer: asyncio.TimerHandle | None = None

    def wake(self, delay: float = 0.0) -> None:
        """See to it that what waits is computed in `delay` seconds at the latest."""
        loop = asyncio.get_running_loop()
        if not self.busy:
            self.busy = True
            if delay:
                self.timer = loop.call_later(delay, self.step)
            else:
                loop.call_soon(self.step)
        elif self.timer is not None and not delay:
            self.timer.cancel()
            self.timer = None
            loop.call_soon(self.step)

    def step(self) -> None:
        """Compute the next batch, if any, since the device is idle."""
        self.timer = None
        while self.turns:
            batcher = self.turns.popleft()
            batch = batcher.take()
            if batcher.queue:
                self.turns.append(batcher)
            if not batch:
                continue
            self.crowded = len(batch) > 1
            loop = asyncio.get_running_loop()
            if self.thread is None:
                loop.call_soon(self.step)
                batcher.deliver(batcher.compute(batch))
                return
            try:
                work = loop.run_in_executor(self.thread, batcher.compute, batch)
            except RuntimeError as error:  # the server has stopped
                batcher.deliver([Done(batch, error)])
                continue
            work.add_done_callback(lambda done, one=(batcher, batch): self.computed(*one, done))
            return
        self.busy = False

    def computed(self, batcher: "Batcher", batch: list[Request], done: "asyncio.Future[list[Done]]") -> None:
        """Deliver what comes back from the thread."""
        failure = asyncio.CancelledError() if done.cancelled() else done.exception()
        try:
            batcher.deliver([Done(batch, failure)] if failure else done.result())
        finally:
            self.step()


class Batcher:
    """The queue of one version of one model.

    Args:
        model: its name, for messages.
        executables: {rows: executable}, one for each bucket.
        seconds: {rows: what its forward takes}, as measured.
        lane: where it is computed.
        statistics: what is counted.
        max_queue_rows, max_queue_bytes: how much may wait.
        max_delay: seconds for which a batch that is not full may wait for more, while requests come that often.
    """

    def __init__(
        self, model: str, executables: Mapping[int, Callable[[Arrays], Arrays]], seconds: Mapping[int, float],
        lane: Lane, statistics: Statistics, *, max_queue_rows: int, max_queue_bytes: int, max_delay: float = 0.0,
    ):  # fmt: skip
        self.model, self.executables, self.lane, self.statistics = model, executables, lane, statistics
        self.max_queue_rows, self.max_queue_bytes, self.max_delay = max_queue_rows, max_queue_bytes, max_delay
        self.largest = max(executables)
        self.seconds = seconds[self.largest]
        self.covering = {rows: min(b for b in executables if b >= rows) for rows in range(1, self.largest + 1)}
        self.targets = {rows: self._target(rows, seconds) for rows in self.covering}
        self.queue: deque[Request] = deque()
        self.queue_bytes = 0
        self.gap, self.last_arrival = 1.0, 0.0  # seconds between requests, lately

    def _target(self, rows: int, seconds: Mapping[int, float]) -> int:
        """The bucket for `rows` waiting rows: the smallest that covers them, or the largest that they fill, if that
        and one more batch for the rest are quicker."""
        cover = self.covering[rows]
        filled = max((bucket for bucket in seconds if bucket <= rows), default=cover)
        rest = rows - filled
        return filled if rest > 0 and seconds[filled] + seconds[self.covering[rest]] < seconds[cover] else cover

    def admit(self) -> None:
        """Raise ServeError 429 if the queue is full already."""
        if self.statistics.queue_rows >= self.max_queue_rows or self.queue_bytes >= self.max_queue_bytes:
            raise self._full()

    async def infer(self, inputs: Arrays, deadline: float | None = None) -> Arrays:
        """Outputs for validated inputs, arrays `[k, ...]`. ServeError 429 if too much waits, 504 after the deadline
        (of time.monotonic), 500 if the model fails on these rows."""
        rows = len(next(iter(inputs.values())))
        if deadline is not None and monotonic() >= deadline:
            raise self._expired()
        lane = self.lane
        if rows > self.largest:
            parts = [{name: array[i : i + self.largest] for name, array in inputs.items()}
                     for i in range(0, rows, self.largest)]  # fmt: skip
            answers = await asyncio.gather(*self._enqueue(parts, rows, deadline))
            return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        if lane.busy or lane.crowded or lane.thread is not None or self.max_delay:
            return await self._enqueue([inputs], rows, deadline)[0]
        lane.wake()
        (done,) = self.compute([Request(inputs, rows, deadline, None)])
        self._count(done)
        if done.failure is not None:
            raise self._failed(done.failure)
        return done.answers[0]

    def _enqueue(self, parts: list[Arrays], rows: int, deadline: float | None) -> list[Any]:
        """Queue a request's parts and return their futures; ServeError 429 where too many rows would wait."""
        loop, statistics = asyncio.get_running_loop(), self.statistics
        whole = Whole(len(parts)) if len(parts) > 1 else None
        requests = [Request(part, min(self.largest, rows - i * self.largest), deadline, loop.create_future(), whole)
                    for i, part in enumerate(parts)]  # fmt: skip
        nbytes = sum([request.nbytes for request in requests])
        # A request that no queue could ever hold is taken when nothing waits: the doors bound its size.
        if self.queue and (
            statistics.queue_rows + rows > self.max_queue_rows or self.queue_bytes + nbytes > self.max_queue_bytes
        ):
            raise self._full()
        if not self.queue:
            self.lane.turns.append(self)
        self.queue.extend(requests)
        statistics.queue_rows += rows
        self.queue_bytes += nbytes
        self.lane.wake(self._delay())
        return [request.future for request in requests]

    def _delay(self) -> float:
        """Return how long to wait for more rows: only if they are likely to fill the bucket meanwhile."""
        if not self.max_delay:
            return 0.0
        now = monotonic()
        self.gap += 0.2 * (min(now - self.last_arrival, 1.0) - self.gap)
        self.last_arrival = now
        missing = self.covering[min(self.statistics.queue_rows, self.largest)] - self.statistics.queue_rows
        return self.max_delay if 0 < missing * self.gap < self.max_delay else 0.0

    def take(self) -> list[Request]:
        """Take the next batch: whole requests, in order, up to the best bucket.

        What was given up or has expired is dropped.
        """
        statistics, now = self.statistics, 0.0
        target = self.targets[min(max(statistics.queue_rows, 1), self.largest)]
        batch, rows = [], 0
        while self.queue and (not batch or rows + self.queue[0].rows <= target):
            request = self.queue.popleft()
            statistics.queue_rows -= request.rows
            self.queue_bytes -= request.nbytes
            if request.future.done():
                statistics.cancelled += 1
            elif request.deadline is not None and (now := now or monotonic()) >= request.deadline:
                request.future.set_exception(self._expired())
            else:
                request.started = clock()
                batch.append(request)
                rows += request.rows
        return batch

    def compute(self, batch: list[Request]) -> "list[Done]":
        """Return what became of each request. Nothing is raised. It may run in any thread."""
        try:
            return [self._execute(batch)]
        except BaseException as error:  # whoever asked must hear of it, and the next batch must run
            if len(batch) == 1:
                return [Done(batch, error)]
            half = len(batch) // 2
            return self.compute(batch[:half]) + self.compute(batch[half:])

    def _execute(self, batch: list[Request]) -> "Done":
        began = clock()
        rows = sum([request.rows for request in batch])
        bucket = self.covering[rows]
        if len(batch) == 1 and rows == bucket:
            inputs = batch[0].inputs
        else:
            inputs = {name: _gathered([request.inputs[name] for request in batch], bucket) for name in batch[0].inputs}
        gathered = clock()
        outputs = self.executables[bucket](inputs)
        computed = clock()
        for name, array in outputs.items():
            if len(array) != bucket:
                raise ValueError(f"output {name!r} has {len(array)} rows, expected {bucket}")
        answers, start = [], 0
        for request in batch:
            end = start + request.rows
            answers.append(outputs if request.rows == bucket else {n: y[start:end] for n, y in outputs.items()})
            start = end
        return Done(batch, None, answers, rows, bucket, (gathered - began, computed - gathered, clock() - computed))

    def deliver(self, results: "list[Done]") -> None:
        """Answer the clients; this runs in the loop's thread."""
        for done in results:
            self._count(done)
            for i, request in enumerate(done.requests):
                if request.future.done():  # cancelled meanwhile
                    self.statistics.cancelled += 1
                elif done.failure is None:
                    request.future.set_result(done.answers[i])
                else:
                    request.future.set_exception(self._failed(done.failure))

    def _count(self, done: "Done") -> None:
        statistics, now = self.statistics, clock()
        if done.failure is None:
            statistics.batch(done.rows, done.bucket, *done.times)
        for request in done.requests:
            failed = request.ended(done.failure is not None)
            if failed is not None:
                statistics.queue.add(request.started - request.arrived)
                (statistics.fail if failed else statistics.success).add(now - request.arrived)

    def _full(self) -> ServeError:
        waiting = self.statistics.queue_rows
        text = (
            f"model '{self.model}': {waiting} rows ({self.queue_bytes:,} bytes) are waiting, the most are "
            f"{self.max_queue_rows} ({self.max_queue_bytes:,} bytes); try again later"
        )
        return ServeError(429, text, retry_after=max(0.01, waiting / self.largest * self.seconds))

    def _expired(self) -> ServeError:
        self.statistics.expired += 1
        return ServeError(504, f"model '{self.model}': the request's time was over before it was computed")

    def _failed(self, failure: BaseException) -> ServeError:
        return ServeError(500, f"model '{self.model}' failed: {type(failure).__name__}: {str(failure)[:300]}")


class Done(NamedTuple):
    """Requests that were computed together: their answers, or why there are none."""

    requests: list[Request]
    failure: BaseException | None
    answers: list[Arrays] = []
    rows: int = 0
    bucket: int = 0
    times: tuple[int, int, int] = (0, 0, 0)


def _gathered(arrays: list[np.ndarray], bucket: int) -> np.ndarray:
    """Return all rows, then row 0 again until there are `bucket`: the model meets no rows unlike those it is asked
    about."""
    rows = sum([len(array) for array in arrays])
    if rows < bucket:
        arrays = [*arrays, np.broadcast_to(arrays[0][:1], (bucket - rows, *arrays[0].shape[1:]))]
    return np.concatenate(arrays)
