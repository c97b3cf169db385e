"""What one version of a model has done since the server started, reloads included: plain numbers, which the protocol's
statistics call and `/metrics` both read. All are written in the event loop's thread.
"""

import time
from collections import defaultdict
from contextvars import ContextVar
from typing import Any, NamedTuple


class Step(NamedTuple):
    """What became of a request, or of a part of one: nanoseconds of time.perf_counter, and its batch's rows."""

    arrived: int
    started: int
    ended: int
    rows: int


# Where a request's steps are written down, if somebody wants to know of this one (see traces.py).
account: ContextVar[list[Step] | None] = ContextVar("account", default=None)


class Spent:
    """How often, and how many nanoseconds in all."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = self.ns = 0

    def add(self, ns: int) -> None:
        """Count once more."""
        self.count += 1
        self.ns += ns

    def describe(self) -> dict[str, int]:
        """Return them as the protocol has them."""
        return {"count": self.count, "ns": self.ns}


class Batches:
    """Batches of one size: what gathering, computing and handing out took."""

    __slots__ = ("compute_infer", "compute_input", "compute_output")

    def __init__(self) -> None:
        self.compute_input, self.compute_infer, self.compute_output = Spent(), Spent(), Spent()

    def add(self, gathered: int, computed: int, handed: int) -> None:
        """Count one batch."""
        self.compute_input.add(gathered)
        self.compute_infer.add(computed)
        self.compute_output.add(handed)

    def describe(self) -> dict[str, Any]:
        """Return them as the protocol has them."""
        return {name: getattr(self, name).describe() for name in ("compute_input", "compute_infer", "compute_output")}


class Statistics:
    """Counts of one version of one model. Requests: `success`, `fail`, `queue`; batches: `compute_...`; else rows.

    >>> statistics = Statistics()
    >>> statistics.batch(3, 4, 10, 20, 30)
    >>> statistics.inference_count, statistics.execution_count, statistics.padded_rows
    (3, 1, 1)
    """

    def __init__(self) -> None:
        self.success, self.fail, self.queue = Spent(), Spent(), Spent()
        self.batches = Batches()
        self.by_size: defaultdict[int, Batches] = defaultdict(Batches)
        self.inference_count = self.execution_count = self.padded_rows = 0
        self.compile_count = self.explain_compile_count = 0
        self.queue_rows = self.expired = self.cancelled = 0
        self.last_inference = 0  # milliseconds since the epoch

    def batch(self, rows: int, bucket: int, gathered: int, computed: int, handed: int) -> None:
        """Count one execution of `rows` rows, padded to `bucket`, and the nanoseconds that each part of it took."""
        self.inference_count += rows
        self.execution_count += 1
        self.padded_rows += bucket - rows
        self.batches.add(gathered, computed, handed)
        self.by_size[rows].add(gathered, computed, handed)
        self.last_inference = int(time.time() * 1000)

    def describe(self, name: str, version: str) -> dict[str, Any]:
        """Return the protocol's entry in `model_stats`."""
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {
                "success": self.success.describe(),
                "fail": self.fail.describe(),
                "queue": self.queue.describe(),
                **self.batches.describe(),
            },
            "batch_stats": [{"batch_size": size, **self.by_size[size].describe()} for size in sorted(self.by_size)],
        }
