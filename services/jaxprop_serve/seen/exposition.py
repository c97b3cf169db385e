"""Counts as Prometheus' text. Nothing here belongs to the event loop: `/metrics` is written in a thread.

Every series has the label `worker`: with `--workers N` each process answers for itself; a scrape reaches one of them.
"""

import platform
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version as installed
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from jaxprop_serve.protocol.aside import begin, breathe

T = TypeVar("T")

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STATES = ("UNAVAILABLE", "LOADING", "WARMING", "READY", "DRAINING", "UNLOADED")
LABELS = ("model", "version", "protocol", "route")
COUNTERS = {
    "compile_count": "Executables compiled; flat once the model is ready.",
    "explain_compile_count": "Executables compiled for explanations, when first asked.",
    "expired": "Requests dropped before they were computed: their time was over.",
    "cancelled": "Requests dropped before they were answered: the client had left.",
}

Spread = tuple[list[int], float]  # of seconds: how many fell into each bucket, and their sum


class ModelCounts(NamedTuple):
    """What one version of a model has done: (count, nanoseconds) of waiting and computing, rows, batches by size."""

    queue: tuple[int, int]
    compute: tuple[int, int]
    rows: int
    padded: int
    sizes: dict[int, int]
    queued: int
    counters: dict[str, int]


class Counts(NamedTuple):
    """All counts of one process at one moment."""

    worker: str
    largest: int  # rows of the largest batch
    requests: list[tuple[tuple[Any, ...], Spread]]  # by LABELS and code
    rejected: dict[tuple[str, ...], int]
    states: list[dict[str, str]]
    models: dict[tuple[str, str], ModelCounts]
    gauges: list[tuple[str, str, float]]
    lag: Spread


class Exposition:
    """Writes counts as text, together with what there is to say of the process."""

    def __init__(self) -> None:
        self._process = CollectorRegistry(auto_describe=False)
        for kind in (ProcessCollector, PlatformCollector, GCCollector):
            kind(registry=self._process)

    def beside(self, counts: Counts) -> bytes:
        """Return the text from a thread, in short steps: it lets the event loop run between them."""
        begin(threading.Event())
        return self.text(counts)

    def text(self, counts: Counts) -> bytes:
        """Return them in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once([*_of_requests(counts), *_of_models(counts), *self._of_the_process(counts)]))  # pyright: ignore[reportArgumentType]
        return generate_latest(registry)

    def _of_the_process(self, counts: Counts) -> Iterator[Metric]:
        """Yield gauges, the loop's lag, versions, and the process's memory, CPU and files."""
        for name, text, value in counts.gauges:
            yield _gauge(name, text, ("worker",), [((counts.worker,), value)])
        lag = HistogramMetricFamily(
            "jaxprop_loop_lag_seconds", "How late the event loop came, ten times a second.", labels=("worker",)
        )
        lag.add_metric((counts.worker,), _buckets(SECONDS, counts.lag[0]), counts.lag[1])
        yield lag
        build = InfoMetricFamily("jaxprop_build", "Versions of what runs.", labels=("worker",))
        build.add_metric((counts.worker,), _versions())
        yield build
        try:
            families = list(self._process.collect())
        except (OSError, ValueError):  # a /proc without what is expected of it
            return
        for family in families:
            family.samples = [one._replace(labels={**one.labels, "worker": counts.worker}) for one in family.samples]
            yield family


class _Once:
    """What a registry calls a collector."""

    def __init__(self, families: list[Metric]):
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            family.samples = _paced(family.samples, 64)  # pyright: ignore[reportAttributeAccessIssue] (read once)
            yield family


def _of_requests(counts: Counts) -> Iterator[Metric]:
    worker = counts.worker
    yield _counter(
        "requests",
        "Requests, by HTTP status (499: the client went away) or gRPC code.",
        (*LABELS, "code", "worker"),
        [((*key, worker), sum(buckets)) for key, (buckets, _) in counts.requests],
    )
    by_route: dict[tuple[str, ...], list[Spread]] = {}
    for (*key, _), spread in counts.requests:
        by_route.setdefault(tuple(key), []).append(spread)
    seconds = HistogramMetricFamily(
        "jaxprop_request_seconds", "From a request's arrival to its answer.", labels=(*LABELS, "worker")
    )
    for key, spreads in _paced(by_route.items(), 16):
        buckets = [sum(column) for column in zip(*(buckets for buckets, _ in spreads), strict=True)]
        seconds.add_metric((*key, worker), _buckets(SECONDS, buckets), sum(total for _, total in spreads))
    yield seconds
    yield _counter(
        "rejected",
        "Requests refused for a limit, by which.",
        ("reason", "protocol", "route", "worker"),
        [((*key, worker), n) for key, n in counts.rejected.items()],
    )


def _of_models(counts: Counts) -> Iterator[Metric]:
    """Yield the models' states, and what all have done: those that drain or were unloaded too."""
    worker, models, by = counts.worker, counts.models, ("model", "version", "worker")
    states = [
        ((entry["name"], entry["version"], state, worker), entry["state"] == state)
        for entry in counts.states
        for state in STATES
    ]
    labels = ("model", "version", "state", "worker")
    yield _gauge("model_state", "1 for the state a model is in.", labels, states)
    for name, text in (("queue", "Waiting in the queue, by request."), ("compute", "Computing, by batch.")):
        seconds = SummaryMetricFamily(f"jaxprop_{name}_seconds", text, labels=by)
        for key, model in models.items():
            count, ns = getattr(model, name)
            seconds.add_metric((*key, worker), count, ns * 1e-9)
        yield seconds
    edges = [*(1 << i for i in range((counts.largest - 1).bit_length())), counts.largest]
    rows = HistogramMetricFamily("jaxprop_batch_rows", "Rows of each batch, without padding.", labels=by)
    for key, model in _paced(models.items(), 16):
        buckets = [0] * (len(edges) + 1)
        for size, n in model.sizes.items():
            buckets[bisect_left(edges, size)] += n
        rows.add_metric((*key, worker), _buckets(edges, buckets), model.rows)
    yield rows
    padded = [((*key, worker), model.padded) for key, model in models.items()]
    yield _counter("padded_rows", "Rows computed only to fill a bucket.", by, padded)
    for field, text in COUNTERS.items():
        values = [((*key, worker), model.counters[field]) for key, model in models.items()]
        yield _counter(field.removesuffix("_count"), text, by, values)
    queued = [((*key, worker), model.queued) for key, model in models.items()]
    yield _gauge("queue_rows", "Rows waiting now.", by, queued)


def _paced(values: Iterable[T], step: int) -> Iterator[T]:
    """Yield the values, with a breath after each `step` of them."""
    for i, value in enumerate(values, 1):
        yield value
        if i % step == 0:
            breathe()


def _counter(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[Any, ...], float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"jaxprop_{name}", text, labels=labels)
    for key, value in values:
        family.add_metric([str(part) for part in key], value)
    return family


def _gauge(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"jaxprop_{name}", text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
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
