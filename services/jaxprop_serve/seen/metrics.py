"""What `/metrics` says, in Prometheus' text format, from a registry of this server alone.

Requests are counted here, once each, at either door. All else is read from the models' own statistics when
somebody asks: `/v2/models/.../stats` and `/metrics` show the same counts, and the hot path counts once.

Every series has the label `worker`: with `--workers N` each process answers for itself; a scrape reaches one of them.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from jaxprop_serve.errors import ServeError
from jaxprop_serve.models.lifecycle import Models
from jaxprop_serve.models.statistics import Statistics

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STATES = ("UNAVAILABLE", "LOADING", "WARMING", "READY", "DRAINING", "UNLOADED")


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
    """Counts of one server process; `models` is a `models.Models`.

    >>> metrics = Metrics(models=None)
    >>> metrics.request("digits", "1", "http", 200, 0.003)
    >>> 'jaxprop_requests_total{code="200",model="digits",protocol="http",version="1",worker="0"} 1.0' in (
    ...     metrics.render().decode())
    True
    """

    def __init__(self, models: Models | None, worker: int = 0):
        self.models = models
        self.worker = str(worker)
        self._requests: defaultdict[tuple[str, str, str, int | str], int] = defaultdict(int)
        self._times: defaultdict[tuple[str, str, str], Times] = defaultdict(Times)
        self._rejected: defaultdict[str, int] = defaultdict(int)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)  # pyright: ignore[reportArgumentType] (all that a registry calls is collect)

    def request(self, model: str, version: str, protocol: str, code: int | str, seconds: float) -> None:
        """Count an answer. `model` and `version` are "" if the request reached no model."""
        self._requests[model, version, protocol, code] += 1
        self._times[model, version, protocol].add(seconds)

    def rejected(self, reason: str) -> None:
        """Count a request that was refused for one of the server's own limits."""
        self._rejected[reason] += 1

    def render(self) -> bytes:
        """Return all counts as they are now."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what the registry asks for."""
        labels = ("model", "version", "protocol", "code")
        yield self._counter(
            "requests",
            "Requests, by HTTP status (499: the client went away) or gRPC code.",
            labels,
            self._requests.items(),
        )
        seconds = HistogramMetricFamily(
            "jaxprop_request_seconds", "From a request's arrival to its answer.", labels=(*labels[:3], "worker")
        )
        for key, times in list(self._times.items()):
            seconds.add_metric((*key, self.worker), _buckets(SECONDS, times.counts), times.total)
        yield seconds
        reasons = [((reason,), n) for reason, n in self._rejected.items()]
        yield self._counter("rejected", "Requests refused for a limit, by which.", ("reason",), reasons)
        if self.models is not None:
            yield from self._of_models(self.models)

    def _of_models(self, models: Models) -> Iterator[Metric]:
        """Yield the models' states, and what the statistics of those that are ready say."""
        by = ("model", "version")
        state = GaugeMetricFamily(
            "jaxprop_model_state", "1 for the state a model is in.", labels=(*by, "state", "worker")
        )
        found: dict[tuple[str, str], tuple[dict[str, Any], Statistics]] = {}
        for entry in models.index():
            key = entry["name"], entry["version"]
            for name in STATES:
                state.add_metric((*key, name, self.worker), entry["state"] == name)
            if entry["state"] == "READY":
                try:
                    with models.pin(*key) as served:
                        found[key] = served.statistics.describe(*key), served.statistics
                except ServeError:
                    continue  # it has gone since
        yield state

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
            edges = [1 << i for i in range(max([64, *sizes]).bit_length())]
            counts = [sum(n for size, n in sizes.items() if low < size <= edge) for low, edge in pairwise([0, *edges])]
            rows.add_metric((*key, self.worker), _buckets(edges, [*counts, 0]), described["inference_count"])
        yield rows

        for name, text, field in (
            ("padded_rows", "Rows computed only to fill a bucket.", "padded_rows"),
            ("compile", "Executables compiled; flat once the model is ready.", "compile_count"),
            ("explain_compile", "Executables compiled for explanations, when first asked.", "explain_compile_count"),
        ):
            yield self._counter(name, text, by, ((key, getattr(one, field)) for key, (_, one) in found.items()))
        queued = GaugeMetricFamily("jaxprop_queue_rows", "Rows waiting now.", labels=(*by, "worker"))
        for key, (_, statistics) in found.items():
            queued.add_metric((*key, self.worker), statistics.queue_rows)
        yield queued

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
