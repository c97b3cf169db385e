"""A polite client beside a greedy one: what fair turns give and cost.

    python -m tests.benchmarks.greedy [--seconds 5]

The model takes 5 ms for a batch, of 16 rows at most, and no CPU. The greedy client asks from 127.0.0.1 over many
connections, each as fast as it is answered; the polite one asks for one row from 127.0.0.2, then pauses for 5 ms.
Prints the polite client's latency, what both were answered, and the rows a second that the greedy one got.
"""

import argparse
import asyncio
import collections
import pathlib
import tempfile
import time

import numpy as np

from tests.serve import slow
from tests.serve.load import percentile, post, rows_request
from tests.serve.oracle import X, publish
from tests.serve.process import Process

CASES = ((0, 1), (100, 1), (100, 16), (3, 2000))  # connections of the greedy client, and rows of its requests


class Client:
    """Asks from an address, over some connections, until a time; notes latencies and statuses."""

    def __init__(self, port: int, address: str, rows: int, pause: float):
        self.port, self.address, self.pause = port, address, pause
        self.request = post("/v2/models/m/infer", rows_request(np.resize(X, (rows, X.shape[1]))))
        self.seconds: list[float] = []
        self.codes: collections.Counter[int] = collections.Counter()

    async def ask(self, until: float) -> None:
        """Ask over one connection, again and again."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.address, 0))
        while (began := time.monotonic()) < until:
            writer.write(self.request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            self.seconds.append(time.monotonic() - began)
            self.codes[int(head[9:12])] += 1
            await asyncio.sleep(self.pause if head[9:12] == b"200" else 0.02)
        writer.close()


async def side_by_side(port: int, connections: int, rows: int, seconds: float) -> str:
    """Let both ask; what they met, in one line."""
    polite, greedy = Client(port, "127.0.0.2", 1, 0.005), Client(port, "127.0.0.1", rows, 0.0)
    began = time.monotonic()
    until = began + seconds
    await asyncio.gather(*(greedy.ask(until) for _ in range(connections)), polite.ask(until))
    rate = greedy.codes[200] * rows / (time.monotonic() - began)
    p50, p99 = (1e3 * percentile(polite.seconds, q) for q in (50, 99))
    return (
        f"{connections:4} connections of {rows:5} rows: polite p50 {p50:7.1f} ms, p99 {p99:7.1f} ms, "
        f"{dict(polite.codes)}; greedy {rate:5.0f} rows/s, {dict(greedy.codes)}"
    )


def main() -> None:
    """Run every case on one server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        folder = place / "models/m"
        publish(folder)
        slow.takes(folder, 0.005)
        with Process(folder, "--set", "max_batch=16", **slow.installed(place / "plugin")) as server:
            for connections, rows in CASES:
                print(asyncio.run(side_by_side(server.port, connections, rows, seconds)), flush=True)


if __name__ == "__main__":
    main()
