"""Clients that keep a server busy: many connections in one thread; what became of each request, after how long."""

import asyncio
import json
import re
import threading
import time
from collections import Counter, defaultdict

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def post(path, body):
    """One whole HTTP request; the body is JSON or bytes."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body


def rows_request(x, **parameters):
    """The protocol's request for rows `x`, as JSON says it."""
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return {"inputs": [tensor]} | ({"parameters": parameters} if parameters else {})


class Load:
    """A keep-alive connection for each of `payloads`, which sends it again as soon as it is answered.

    Args:
        check: `check(i, status, head, body)` for the answers of connection i; what it raises is a failure.
        rate: requests a second over all connections, on time whether the server keeps up or not; a request for which
            no connection is free is `unsent`.
    """

    def __init__(self, port, payloads, check=None, rate=None):
        self.port, self.payloads, self.check, self.rate = port, list(payloads), check, rate
        self.statuses, self.seconds = Counter(), defaultdict(list)  # by status
        self.failed, self.closed, self.sent, self.unsent = [], 0, 0, 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._connected = threading.Event()

    @property
    def answered(self):
        """How many requests were answered with 200."""
        return self.statuses[200]

    def __enter__(self):
        self._thread.start()
        assert self._connected.wait(30), "the server takes no connections"
        return self

    def __exit__(self, *_):
        """Send no more, wait for the answers to what was sent."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "requests without an answer"

    async def _main(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        made = [self._loop.create_connection(lambda i=i: _Client(self, i), "127.0.0.1", self.port)
                for i in range(len(self.payloads))]  # fmt: skip
        clients = [client for _, client in await asyncio.gather(*made)]
        self._connected.set()
        if self.rate is None:
            for client in clients:
                client.send()
            await self._stop.wait()
        else:
            await self._paced(clients)
        while any(client.since for client in clients):
            await asyncio.sleep(0.005)
        for client in clients:
            client.transport.close()

    async def _paced(self, clients):
        began, due = time.perf_counter(), 0
        while not self._stop.is_set():
            free = [client for client in clients if not client.since and not client.transport.is_closing()]
            missing = int((time.perf_counter() - began) * self.rate) - due
            for client in free[:missing]:
                client.send()
                clients.append(clients.pop(clients.index(client)))  # the next time it is the others' turn
            self.unsent += max(0, missing - len(free))
            due += missing
            await asyncio.sleep(0.001)

    def done(self, i, status, head, body, seconds):
        """Note an answer."""
        self.statuses[status] += 1
        self.seconds[status].append(seconds)
        if self.check is not None:
            try:
                self.check(i, status, head, body)
            except Exception as error:
                self.failed.append((i, status, repr(error)[:300]))


class _Client(asyncio.Protocol):
    """One connection of a Load; `since` is when the request was sent that is not answered yet."""

    def __init__(self, load, i):
        self.load, self.i, self.since, self.data = load, i, 0.0, b""

    def connection_made(self, transport):
        self.transport = transport

    def send(self):
        self.data, self.since = b"", time.perf_counter()
        self.load.sent += 1
        self.transport.write(self.load.payloads[self.i])

    def data_received(self, data):
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found or len(body) < int(LENGTH.search(head)[1]):
            return
        seconds, self.since = time.perf_counter() - self.since, 0.0
        self.load.done(self.i, int(head.split(b" ", 2)[1]), head.lower(), body, seconds)
        if b"connection: close" in head.lower():  # as a balancer does: no more to this server
            self.load.closed += 1
            self.transport.close()
        elif self.load.rate is None and not self.load._stop.is_set():
            self.send()

    def connection_lost(self, error):
        if self.since:
            self.load.failed.append((self.i, 0, f"no answer: {error!r}, {self.data[:200]!r}"))
            self.since = 0.0


def percentile(seconds, percent):
    """The value below which `percent` of them lie; 0 if there are none."""
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * percent / 100))] if seconds else 0.0
