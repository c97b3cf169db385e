"""What `/metrics` shows: how it is counted, and how it is asked for.

Requests are counted here, once each, at either door. All else is read when somebody asks: from the models' own
statistics (`/v2/models/.../stats` and `/metrics` show the same counts, and the hot path counts once), from the gauges
that the server registers, and from the process (exposition.py).

A scrape copies the counts in the event loop, so that they are of one moment and add up, and writes the text in a
thread. Those who ask while another text is being written get the next one together, and it rests between two texts:
however often it is asked, writing takes a quarter of one core at most.
"""

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

from jaxprop_serve.models.lifecycle import Models
from jaxprop_serve.models.statistics import Statistics
from jaxprop_serve.seen.exposition import COUNTERS, SECONDS, Counts, Exposition, ModelCounts, Spread

BEAT_S = 0.1  # how often the event loop's lag is measured
_RESTS = 3  # times as long as the last text took


class Times:
    """A histogram of seconds in plain numbers: how many fell into each bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def copy(self) -> Spread:
        """Return the numbers as they are now."""
        return self.counts.copy(), self.total


class Metrics:
    """Counts of one server process.

    Args:
        models: a `models.Models`.
        worker: this process's number among several.
        max_batch: rows of the largest batch, the last edge of the histogram of batches.

    >>> metrics = Metrics(models=None)
    >>> metrics.request("digits", "1", "http", "/v2/models/{model}/infer", 200, 0.003)
    >>> 'jaxprop_requests_total{code="200",model="digits",protocol="http",' in metrics.render().decode()
    True
    """

    def __init__(self, models: Models | None, worker: int = 0, max_batch: int = 64):
        self.models = models
        self._worker, self._largest = str(worker), max_batch
        self._requests: defaultdict[tuple[str, str, str, str, int | str], Times] = defaultdict(Times)
        self._rejected: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._lag = Times()
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._exposition = Exposition()
        self._writing: asyncio.Task[bytes] | None = None
        self._next: asyncio.Task[bytes] | None = None
        self._rested = 0.0  # when the next text may be begun

    def request(self, model: str, version: str, protocol: str, route: str, code: int | str, seconds: float) -> None:
        """Count an answer.

        `model` and `version` are "" if the request reached no model, and `route`, which is the pattern of its path or
        the gRPC method, if it has none. What a client makes up is never a label.
        """
        self._requests[model, version, protocol, route, code].add(seconds)

    def rejected(self, reason: str, protocol: str, route: str) -> None:
        """Count a request that was refused for one of the server's own limits."""
        self._rejected[reason, protocol, route] += 1

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show what `read` returns whenever somebody asks."""
        self._gauges.append((name, text, read))

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Measure from now on how late this event loop comes to what is due."""
        due = time.monotonic() + BEAT_S

        def once() -> None:
            nonlocal due
            now = time.monotonic()
            self._lag.add(max(0.0, now - due))
            due = now + BEAT_S
            loop.call_later(BEAT_S, once)

        loop.call_later(BEAT_S, once)

    async def scrape(self) -> bytes:
        """Return all counts as they are now, or a moment later; they are written in a thread."""
        if self._next is None:
            self._next = asyncio.create_task(self._write(self._writing))
        return await asyncio.shield(self._next)

    async def _write(self, before: asyncio.Task[bytes] | None) -> bytes:
        if before is not None:
            await asyncio.wait([before])
        await asyncio.sleep(max(0.0, self._rested - time.monotonic()))
        self._writing, self._next = self._next, None  # who asks from here on gets the next one
        began = time.monotonic()
        try:
            return await asyncio.to_thread(self._exposition.beside, self._counts())
        finally:
            self._rested = time.monotonic() + _RESTS * (time.monotonic() - began)

    def render(self) -> bytes:
        """Return all counts as they are now, and wait for it."""
        return self._exposition.text(self._counts())

    def _counts(self) -> Counts:
        return Counts(
            worker=self._worker,
            largest=self._largest,
            requests=[(key, times.copy()) for key, times in self._requests.items()],
            rejected=self._rejected.copy(),
            states=self.models.index() if self.models is not None else [],
            models={key: _of(one) for key, one in self.models.statistics.copy().items()} if self.models else {},
            gauges=[(name, text, read()) for name, text, read in self._gauges],
            lag=self._lag.copy(),
        )


def _of(statistics: Statistics) -> ModelCounts:
    batches = statistics.by_size
    sizes = {size: one.count for size, one in batches.items()}
    return ModelCounts(
        queue=(statistics.queue.count, statistics.queue.ns),
        compute=(sum(sizes.values()), sum(one.computed for one in batches.values())),
        rows=sum(size * n for size, n in sizes.items()),
        sizes=sizes,
        queued=statistics.queue_rows,
        padded=sum(one.padded for one in batches.values()),
        counters={name: getattr(statistics, name) for name in COUNTERS},
    )
