"""Who waits for a model, and whose turn it is.

Clients take turns by rows, however many requests or connections each has: every client that waits gets an equal share
of the rows that are computed, and one that asks seldom comes with the next batch. A request of more rows than the
largest batch gives a batch of them at a time, in a line of its client's own, so its other requests pass it too.

The queue is bounded in rows and bytes. A client may hold up to nine times what would still be free beside it: alone
that is nine tenths of the queue, so a tenth stays open for others, and the more clients crowd, the less each may hold.

The order is self-clocked fair queueing (Golestani, 1994): each line's next rows have a tag, the line's last tag or the
clock plus their number, the least tag is next, and the clock is the tag that was taken last. A line that was empty
has nothing saved up and nothing to pay back, so nothing is kept of clients that do not wait.
"""

import time
from collections import deque
from heapq import heappop, heappush, heapreplace
from ipaddress import IPv6Address, ip_address
from itertools import count
from typing import Any

import numpy as np

from jaxprop_serve.models.statistics import Statistics, account

Arrays = dict[str, np.ndarray]
clock = time.perf_counter_ns

OTHERS = 9  # a client may hold so many times what is still free: nine tenths where nobody else waits


class Request:
    """Rows that are computed in one batch: a client's request, or a part of a large one (`whole`, from `start`).

    `turn` is how many rows it gives at its next turn, `waiting` how many are not taken yet.
    """

    __slots__ = (
        "account", "arrived", "counted", "deadline", "future", "inputs", "rows", "start", "started", "turn", "waiting",
        "whole",
    )  # fmt: skip

    def __init__(
        self, inputs: Arrays, rows: int, deadline: float | None, future: Any, whole: "Large | None" = None,
        start: int = 0,
    ):  # fmt: skip
        self.inputs, self.deadline, self.future, self.whole, self.start = inputs, deadline, future, whole, start
        self.rows = self.turn = self.waiting = rows
        self.counted: tuple[int, int] = (rows, 0)  # rows and bytes, as the queue counts them
        self.arrived = self.started = clock()
        self.account = account.get()


class Large(Request):
    """A client's request of more rows than the largest batch."""

    __slots__ = ("answers", "left")

    def __init__(self, inputs: Arrays, rows: int, deadline: float | None, future: Any, largest: int):
        super().__init__(inputs, rows, deadline, future)
        self.turn, self.left = largest, rows  # left: not computed yet
        self.answers: Arrays = {}

    def part(self) -> Request:
        """Take the next part."""
        start = self.rows - self.waiting
        inputs = {name: array[start : start + self.turn] for name, array in self.inputs.items()}
        part = Request(inputs, self.turn, None, self.future, self, start)
        part.arrived, part.account = self.arrived, self.account
        self.waiting -= self.turn
        self.turn = min(self.turn, self.waiting)
        return part

    def keep(self, start: int, outputs: Arrays) -> Arrays:
        """Put a part's answers where they belong, and return those of all. It may run in any thread."""
        for name, y in outputs.items():
            if name not in self.answers:
                self.answers[name] = np.empty((self.rows, *y.shape[1:]), y.dtype)
            self.answers[name][start : start + len(y)] = y
        return self.answers


class Client:
    """What one client has waiting: `rows` and `nbytes` as the queue counts them, small and large requests."""

    __slots__ = ("large", "name", "nbytes", "rows", "small")

    def __init__(self, name: str | None):
        self.name, self.rows, self.nbytes = name, 0, 0
        self.small: deque[Request] = deque()
        self.large: deque[Request] = deque()


class Queue:
    """The requests that wait for one version of one model.

    Args:
        statistics: its `queue_rows` is kept.
        most_rows, most_bytes: how much may wait. A large request counts for the rows of one batch, which is what others
            wait for, and for all its bytes. None counts for more than nine tenths, and one is always taken if nothing
            else waits: the doors bound its size.
    """

    def __init__(self, statistics: Statistics, most_rows: int, most_bytes: int):
        self.statistics = statistics
        self.most_rows, self.most_bytes = most_rows, most_bytes
        self.share = (max(1, most_rows * OTHERS // (OTHERS + 1)), max(1, most_bytes * OTHERS // (OTHERS + 1)))
        self.half = most_rows // 2, most_bytes // 2  # below these anybody may wait, whoever holds the rest
        self.rows = self.nbytes = 0  # as they are counted
        self.turns: list[tuple[int, int, Client, deque[Request]]] = []  # a heap by tag; empty if nothing waits
        self.clients: dict[str | None, Client] = {}
        self.clock = 0
        self.numbers = count()

    def has_plenty(self, rows: int, nbytes: int) -> bool:
        """Return whether there is room for so much more, whoever asks."""
        return self.rows + rows <= self.half[0] and self.nbytes + nbytes <= self.half[1]

    def has_room(self, rows: int, nbytes: int, name: str | None) -> bool:
        """Return whether so much more of this client may wait. None is no client, and held to the bounds alone."""
        if not self.turns or self.has_plenty(rows, nbytes):
            return True
        rows, nbytes = min(rows, self.share[0]), min(nbytes, self.share[1])
        free_rows, free_bytes = self.most_rows - self.rows - rows, self.most_bytes - self.nbytes - nbytes
        if free_rows < 0 or free_bytes < 0:
            return False
        if name is None:
            return True
        client = self.clients.get(name)
        if client is not None:
            rows, nbytes = rows + client.rows, nbytes + client.nbytes
        return rows <= OTHERS * free_rows and nbytes <= OTHERS * free_bytes

    def put(self, request: Request, nbytes: int, name: str | None) -> None:
        """Let a request wait, whether there is room or not."""
        client = self.clients.get(name)
        if client is None:
            client = self.clients[name] = Client(name)
        line = client.large if isinstance(request, Large) else client.small
        if not line:
            heappush(self.turns, (self.clock + request.turn, next(self.numbers), client, line))
        line.append(request)
        request.counted = rows, nbytes = min(request.turn, self.share[0]), min(nbytes, self.share[1])
        client.rows += rows
        client.nbytes += nbytes
        self.rows += rows
        self.nbytes += nbytes
        self.statistics.queue_rows += request.rows

    def first(self) -> Request:
        """Return the request whose turn it is, and leave it there."""
        return self.turns[0][3][0]

    def take(self) -> Request:
        """Take the rows whose turn it is: a whole request, or a part of a large one."""
        tag, _, _, line = self.turns[0]
        self.clock, request = tag, line[0]
        if not isinstance(request, Large):
            self._remove(tag)
            return request
        if request.turn == request.waiting:
            self._remove(tag)
            return request.part()
        self.statistics.queue_rows -= request.turn
        part = request.part()
        line.rotate(-1)
        self._next(tag)
        return part

    def drop(self) -> None:
        """Take away the request whose turn it is: it costs its client nothing."""
        self._remove(max(self.clock, self.turns[0][0] - self.first().turn))

    def _remove(self, tag: int) -> None:
        """Remove the request whose turn it is; the next of its line is that much behind `tag`."""
        _, _, client, line = self.turns[0]
        request = line.popleft()
        rows, nbytes = request.counted
        client.rows -= rows
        client.nbytes -= nbytes
        self.rows -= rows
        self.nbytes -= nbytes
        self.statistics.queue_rows -= request.waiting
        if line:
            self._next(tag)
            return
        heappop(self.turns)
        if not client.small and not client.large:
            del self.clients[client.name]

    def _next(self, tag: int) -> None:
        """Give the line whose turn it was its next tag."""
        _, _, client, line = self.turns[0]
        heapreplace(self.turns, (tag + line[0].turn, next(self.numbers), client, line))


def who(address: str) -> str:
    """Return the name under which the queue knows a client: its address, or of IPv6 the network, since whoever has one
    address there has all 2⁶⁴ of its network.

    >>> who("192.0.2.7"), who("::ffff:192.0.2.7"), who("2001:db8::7") == who("2001:db8::8")
    ('192.0.2.7', '192.0.2.7', True)
    """
    if ":" not in address:
        return address
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return found.packed[:8].hex()
