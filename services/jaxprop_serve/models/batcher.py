"""Requests that wait at the same time are computed together; a request that meets an idle server waits for nothing.

    1  what is queued was validated before, so it can fail only for the model's own reasons; if a batch fails, its
       halves are tried, until only the guilty fail
    2  work-conserving: whenever the device is idle, what is waiting is computed
    3  batches are padded (with row 0) to a bucket for which an executable exists; nothing is ever compiled here
    4  rows do not depend on their neighbours: checked when a model is loaded (lifecycle.py)
    5  the queue is bounded in rows and bytes, and clients take turns (queue.py); what expired or was cancelled is
       dropped when its turn comes
    6  whatever happens in a batch, its requests are answered and the next batch runs
    7  quick models are computed in the event loop, slow ones in one thread beside it, but for as few rows as are quick,
       if nothing else runs
    8  models take turns

One lane is the loop, the other the thread. A quick request that meets an idle lane is computed at once, and the lane
counts as busy until the loop has come round: what arrives by then is computed together. Where the last batch was of
several requests, the next one waits for the loop to come round too: others are likely to come with it. So one client
waits for no task switch, and many make batches.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from sys import getsizeof
from typing import NamedTuple

import numpy as np

from jaxprop_serve.errors import ServeError
from jaxprop_serve.models.queue import Arrays, Large, Queue, Request
from jaxprop_serve.models.statistics import Statistics, Step

clock, monotonic = time.perf_counter_ns, time.monotonic

Client = Callable[[], str]  # who asks, as the queue tells clients apart

INLINE_ONE_S, INLINE_BATCH_S = 200e-6, 2e-3  # a model is quick if one row and the largest batch take less


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
            if batcher.queue.turns:
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
    """Computes the requests for one version of one model.

    Args:
        model: its name, for messages.
        executables: {rows: executable}, one for each bucket.
        seconds: {rows: what its forward takes}, as measured.
        lane: where it is computed.
        statistics: what is counted.
        max_queue_rows, max_queue_bytes: how much may wait, see `Queue`.
        max_delay: seconds for which a batch that is not full may wait for more, while requests come that often.
        answer_bytes: of one row. A large request counts for its answer too, which is kept until all of it is there.
    """

    def __init__(
        self, model: str, executables: Mapping[int, Callable[[Arrays], Arrays]], seconds: Mapping[int, float],
        lane: Lane, statistics: Statistics, *, max_queue_rows: int, max_queue_bytes: int, max_delay: float = 0.0,
        answer_bytes: int = 0,
    ):  # fmt: skip
        self.model, self.executables, self.lane, self.statistics = model, executables, lane, statistics
        self.queue, self.max_delay = Queue(statistics, max_queue_rows, max_queue_bytes), max_delay
        self.largest, self.answer_bytes = max(executables), answer_bytes
        self.seconds = seconds[self.largest]
        quick = [rows for rows, took in seconds.items() if lane.thread is None or took < INLINE_ONE_S]
        self.inline = 0 if max_delay else max(quick, default=0)  # rows that meet an idle lane are computed at once
        self.covering = {rows: min(b for b in executables if b >= rows) for rows in range(1, self.largest + 1)}
        self.targets = {rows: self._target(rows, seconds) for rows in self.covering}
        self.gap, self.last_arrival = 1.0, 0.0  # seconds between requests, lately

    def _target(self, rows: int, seconds: Mapping[int, float]) -> int:
        """The bucket for `rows` waiting rows: the smallest that covers them, or the largest that they fill, if that
        and one more batch for the rest are quicker."""
        cover = self.covering[rows]
        filled = max((bucket for bucket in seconds if bucket <= rows), default=cover)
        rest = rows - filled
        return filled if rest > 0 and seconds[filled] + seconds[self.covering[rest]] < seconds[cover] else cover

    def admit(self, client: Client | None = None) -> None:
        """Raise ServeError 429 if not one row of this client could wait."""
        queue = self.queue
        if not queue.has_plenty(1, 1) and not queue.has_room(1, 1, name := client and client()):
            raise self._full(name)

    async def infer(self, inputs: Arrays, deadline: float | None = None, client: Client | None = None) -> Arrays:
        """Outputs for validated inputs, arrays `[k, ...]`. ServeError 429 if too much waits, 504 after the deadline
        (of time.monotonic), 500 if the model fails on these rows. `client()` is called if they have to wait."""
        rows = len(next(iter(inputs.values())))
        if deadline is not None and monotonic() >= deadline:
            raise self._expired()
        lane = self.lane
        if rows > self.inline or lane.busy or lane.crowded:
            return await self._enqueue(inputs, rows, deadline, client and client())
        lane.wake()
        (done,) = self.compute([Request(inputs, rows, deadline, None)])
        self._count(done)
        if done.failure is not None:
            raise self._failed(done.failure)
        return done.answers[0]

    def _enqueue(self, inputs: Arrays, rows: int, deadline: float | None, name: str | None) -> asyncio.Future[Arrays]:
        """Queue a request of the client `name` and return its future; ServeError 429 where too much would wait."""
        queue, future = self.queue, asyncio.get_running_loop().create_future()
        nbytes, large = sum(map(_size, inputs.values())), rows > self.largest
        if large:
            nbytes += rows * self.answer_bytes
        if not queue.has_room(self.largest if large else rows, nbytes, name):
            raise self._full(name)
        if not queue.turns:
            self.lane.turns.append(self)
        request = (
            Large(inputs, rows, deadline, future, self.largest) if large else Request(inputs, rows, deadline, future)
        )
        queue.put(request, nbytes, name)
        self.lane.wake(self._delay())
        return future

    def _delay(self) -> float:
        """Return how long to wait for more rows: only if they are likely to fill the bucket meanwhile."""
        if not self.max_delay:
            return 0.0
        now = monotonic()
        self.gap += 0.2 * (min(now - self.last_arrival, 1.0) - self.gap)
        self.last_arrival = now
        waiting = self.queue.rows
        missing = self.covering[min(waiting, self.largest)] - waiting
        return self.max_delay if 0 < missing * self.gap < self.max_delay else 0.0

    def take(self) -> list[Request]:
        """Take the next batch: whole requests and parts of large ones, in turn, up to the best bucket.

        What was given up or has expired is dropped, and so is what is left of a large request that has failed.
        """
        queue, now = self.queue, 0.0
        target = self.targets[min(max(queue.rows, 1), self.largest)]
        batch, rows = [], 0
        while queue.turns:
            request = queue.first()
            if request.future.done():
                self.statistics.cancelled += request.future.cancelled()
                queue.drop()
            elif request.deadline is not None and (now := now or monotonic()) >= request.deadline:
                request.future.set_exception(self._expired())
                queue.drop()
            elif batch and rows + request.turn > target:
                break
            else:
                request = queue.take()
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
            answer = outputs if request.rows == bucket else {n: y[start:end] for n, y in outputs.items()}
            if request.whole is not None:
                answer = request.whole.keep(request.start, answer)
            answers.append(answer)
            start = end
        return Done(batch, None, answers, rows, bucket, (gathered - began, computed - gathered, clock() - computed))

    def deliver(self, results: "list[Done]") -> None:
        """Answer the clients; this runs in the loop's thread."""
        for done in results:
            self._count(done)
            for i, request in enumerate(done.requests):
                future, whole = request.future, request.whole
                if future.done():  # cancelled meanwhile; what is left of a large request is dropped in its turn
                    self.statistics.cancelled += whole is None or not whole.waiting
                elif done.failure is not None:
                    future.set_exception(self._failed(done.failure))
                elif whole is None or not whole.left:
                    future.set_result(done.answers[i])

    def _count(self, done: "Done") -> None:
        statistics, now, failed = self.statistics, clock(), done.failure is not None
        ended_as = statistics.fail if failed else statistics.success
        if not failed:
            statistics.batch(done.rows, done.bucket, *done.times)
        for request in done.requests:
            if request.account is not None:
                ended = now if failed else request.started + sum(done.times)
                request.account.append(Step(request.arrived, request.started, ended, done.rows))
            whole = request.whole
            if whole is not None:  # counted once: with the last part, or the first that fails
                whole.left -= request.rows
                if whole.left and not failed:
                    continue
            statistics.queue.add(request.started - request.arrived)
            ended_as.add(now - request.arrived)

    def _full(self, name: str | None) -> ServeError:
        queue, client = self.queue, self.queue.clients.get(name)
        text = (
            f"model '{self.model}': {queue.rows} rows ({queue.nbytes:,} bytes) are waiting, the most are "
            f"{queue.most_rows} ({queue.most_bytes:,} bytes)"
        )
        if name is not None and client is not None:
            text += (
                f"; {client.rows} of them ({client.nbytes:,} bytes) are this client's, and a part is kept for others"
            )
        waiting = self.statistics.queue_rows
        return ServeError(429, f"{text}; try again later", max(0.01, waiting / self.largest * self.seconds))

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


def _size(array: np.ndarray) -> int:
    return array.nbytes if array.dtype != object else array.nbytes + sum(map(getsizeof, array.flat))


def _gathered(arrays: list[np.ndarray], bucket: int) -> np.ndarray:
    """Return all rows, then row 0 again until there are `bucket`: the model meets no rows unlike those it is asked
    about."""
    rows = sum([len(array) for array in arrays])
    if rows < bucket:
        arrays = [*arrays, np.broadcast_to(arrays[0][:1], (bucket - rows, *arrays[0].shape[1:]))]
    return np.concatenate(arrays)
