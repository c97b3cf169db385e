"""What `/metrics` says, in Prometheus' text format, from a registry of this server alone.

Requests are counted here, once each, at either door. All else is read when somebody asks: from the models' own
statistics (`/v2/models/.../stats` and `/metrics` show the same counts, and the hot path counts once), from the gauges
that the server registers, and from the process.

Every series has the label `worker`: with `--workers N` each process answers for itself; a scrape reaches one of them.
"""

import asyncio
import platform
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version as installed
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from jaxprop_serve.models.lifecycle import Models

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STATES = ("UNAVAILABLE", "LOADING", "WARMING", "READY", "DRAINING", "UNLOADED")
BEAT_S = 0.1  # how often the event loop's lag is measured


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
        self.worker = str(worker)
        self._edges = [*(1 << i for i in range((max_batch - 1).bit_length())), max_batch]
        self._requests: defaultdict[tuple[str, str, str, str, int | str], Times] = defaultdict(Times)
        self._rejected: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._lag = Times()
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._process = CollectorRegistry(auto_describe=False)
        for kind in (ProcessCollector, PlatformCollector, GCCollector):
            kind(registry=self._process)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)  # pyright: ignore[reportArgumentType] (all that a registry calls is collect)

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

    def render(self) -> bytes:
        """Return all counts as they are now."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what the registry asks for."""
        labels = ("model", "version", "protocol", "route", "code")
        answered = list(self._requests.items())
        yield self._counter(
            "requests",
            "Requests, by HTTP status (499: the client went away) or gRPC code.",
            labels,
            ((key, sum(times.counts)) for key, times in answered),
        )
        by_route: dict[tuple[str, ...], list[Times]] = {}
        for (*key, _), times in answered:
            by_route.setdefault(tuple(key), []).append(times)
        seconds = HistogramMetricFamily(
            "jaxprop_request_seconds", "From a request's arrival to its answer.", labels=(*labels[:-1], "worker")
        )
        for key, several in by_route.items():
            counts = [sum(column) for column in zip(*(times.counts for times in several), strict=True)]
            seconds.add_metric((*key, self.worker), _buckets(SECONDS, counts), sum(times.total for times in several))
        yield seconds
        reasons = ("reason", "protocol", "route")
        yield self._counter("rejected", "Requests refused for a limit, by which.", reasons, self._rejected.items())
        if self.models is not None:
            yield from self._of_models(self.models)
        yield from self._of_the_process()

    def _of_models(self, models: Models) -> Iterator[Metric]:
        """Yield the models' states, and what the statistics of those that are ready say."""
        by = ("model", "version")
        state = GaugeMetricFamily(
            "jaxprop_model_state", "1 for the state a model is in.", labels=(*by, "state", "worker")
        )
        for entry in models.index():
            for name in STATES:
                state.add_metric((entry["name"], entry["version"], name, self.worker), entry["state"] == name)
        yield state
        # Those that drain or were unloaded too: what they answered stays counted.
        found = {key: (one.describe(*key), one) for key, one in list(models.statistics.items())}

        for name, text, field in (
            ("queue", "Waiting in the queue, by request.", "queue"),
            ("compute", "Computing, by batch.", "compute_infer"),
        ):
            seconds = SummaryMetricFamily(f"jaxprop_{name}_seconds", text, labels=(*by, "worker"))
            for key, (described, _) in found.items():
                spent = described["inference_stats"][field]
                seconds.add_metric((*key, self.worker), spent["count"], spent["ns"] * 1e-9)
            yield seconds
        rows = HistogramMetricFamily(
            "jaxprop_batch_rows", "Rows of each batch, without padding.", labels=(*by, "worker")
        )
        for key, (described, _) in found.items():
            sizes = {batch["batch_size"]: batch["compute_infer"]["count"] for batch in described["batch_stats"]}
            counts = [0] * (len(self._edges) + 1)
            for size, n in sizes.items():
                counts[bisect_left(self._edges, size)] += n
            rows.add_metric((*key, self.worker), _buckets(self._edges, counts), described["inference_count"])
        yield rows

        for name, text, field in (
            ("padded_rows", "Rows computed only to fill a bucket.", "padded_rows"),
            ("compile", "Executables compiled; flat once the model is ready.", "compile_count"),
            ("explain_compile", "Executables compiled for explanations, when first asked.", "explain_compile_count"),
            ("expired", "Requests dropped before they were computed: their time was over.", "expired"),
            ("cancelled", "Requests dropped before they were answered: the client had left.", "cancelled"),
        ):
            yield self._counter(name, text, by, ((key, getattr(one, field)) for key, (_, one) in found.items()))
        queued = GaugeMetricFamily("jaxprop_queue_rows", "Rows waiting now.", labels=(*by, "worker"))
        for key, (_, statistics) in found.items():
            queued.add_metric((*key, self.worker), statistics.queue_rows)
        yield queued

    def _of_the_process(self) -> Iterator[Metric]:
        """Yield what the server registered, its loop's lag, versions, and the process's memory, CPU and files."""
        for name, text, read in self._gauges:
            gauge = GaugeMetricFamily(f"jaxprop_{name}", text, labels=("worker",))
            gauge.add_metric((self.worker,), read())
            yield gauge
        lag = HistogramMetricFamily(
            "jaxprop_loop_lag_seconds", "How late the event loop came, ten times a second.", labels=("worker",)
        )
        lag.add_metric((self.worker,), _buckets(SECONDS, self._lag.counts), self._lag.total)
        yield lag
        build = InfoMetricFamily("jaxprop_build", "Versions of what runs.", labels=("worker",))
        build.add_metric((self.worker,), _versions())
        yield build
        for family in self._process.collect():
            family.samples = [one._replace(labels={**one.labels, "worker": self.worker}) for one in family.samples]
            yield family

    def _counter(
        self, name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[Any, ...], float]]
    ) -> CounterMetricFamily:
        family = CounterMetricFamily(f"jaxprop_{name}", text, labels=(*labels, "worker"))
        for key, value in list(values):
            family.add_metric((*map(str, key), self.worker), value)
        return family


def _buckets(edges: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """Return the counts as Prometheus has them, each up to its edge; the last one given is beyond all edges."""
    names = [*(str(edge) for edge in edges), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name, package in (("jaxprop", "jaxprop-nn"), ("jax", "jax"), ("jaxlib", "jaxlib")):
        try:
            found[name] = installed(package)
        except PackageNotFoundError:
            found[name] = ""
    return found
