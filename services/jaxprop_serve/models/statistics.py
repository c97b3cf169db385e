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
    """Batches of one size: how often, the rows that only filled them, and what gathering, computing and handing out
    took. One is counted for every batch, so these are plain numbers."""

    __slots__ = ("computed", "count", "gathered", "handed", "padded")

    def __init__(self) -> None:
        self.count = self.padded = self.gathered = self.computed = self.handed = 0

    def describe(self) -> dict[str, Any]:
        """Return them as the protocol has them."""
        spent = {"compute_input": self.gathered, "compute_infer": self.computed, "compute_output": self.handed}
        return {name: {"count": self.count, "ns": ns} for name, ns in spent.items()}


class Statistics:
    """Counts of one version of one model. Requests: `success`, `fail`, `queue`; batches: `by_size`; else rows.

    >>> statistics = Statistics()
    >>> statistics.batch(3, 4, 10, 20, 30)
    >>> statistics.inference_count, statistics.execution_count, statistics.padded_rows
    (3, 1, 1)
    """

    def __init__(self) -> None:
        self.success, self.fail, self.queue = Spent(), Spent(), Spent()
        self.by_size: defaultdict[int, Batches] = defaultdict(Batches)
        self.compile_count = self.explain_compile_count = 0
        self.queue_rows = self.expired = self.cancelled = 0
        self.last = 0.0  # seconds since the epoch, of the last batch

    def batch(self, rows: int, bucket: int, gathered: int, computed: int, handed: int) -> None:
        """Count one execution of `rows` rows, padded to `bucket`, and the nanoseconds that each part of it took."""
        one = self.by_size[rows]
        one.count += 1
        one.padded += bucket - rows
        one.gathered += gathered
        one.computed += computed
        one.handed += handed
        self.last = time.time()

    @property
    def inference_count(self) -> int:
        """The number of rows computed."""
        return sum(rows * one.count for rows, one in list(self.by_size.items()))

    @property
    def execution_count(self) -> int:
        """The number of batches."""
        return self._all().count

    @property
    def padded_rows(self) -> int:
        """The number of rows computed only to fill a bucket."""
        return self._all().padded

    def _all(self) -> Batches:
        found = Batches()
        for one in list(self.by_size.values()):
            for name in Batches.__slots__:
                setattr(found, name, getattr(found, name) + getattr(one, name))
        return found

    def describe(self, name: str, version: str) -> dict[str, Any]:
        """Return the protocol's entry in `model_stats`."""
        return {
            "name": name,
            "version": version,
            "last_inference": int(self.last * 1000),  # milliseconds
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {
                "success": self.success.describe(),
                "fail": self.fail.describe(),
                "queue": self.queue.describe(),
                **self._all().describe(),
            },
            "batch_stats": [{"batch_size": size, **self.by_size[size].describe()} for size in sorted(self.by_size)],
        }
