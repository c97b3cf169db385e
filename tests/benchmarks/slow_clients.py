"""Checklist 12: 300 clients whose headers never end and 300 whose bodies never end, beside one that asks and is served.

    python tests/benchmarks/slow_clients.py [--clients 300]

`jaxprop serve` with its own settings (header_timeout_s 10, body_timeout_s 30); each slow client sends a byte a second.
Prints when the slow ones were closed and with what, the latency of the good one before and meanwhile, and the server's
file descriptors. Bars: headers are over by 10 s and a sweep, bodies by 30 s and a sweep, p99 of the good at most 3
times what it was, no descriptor left.
"""

import argparse
import asyncio
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
from serving import free_port, process, request, save_model

UNFINISHED = {
    "header": b"POST /v2/models/mlp/infer HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "body": b"POST /v2/models/mlp/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
}


async def slow(port: int, kind: str) -> tuple[float, bytes]:
    """Drip until closed; after how many seconds, and the status line that came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    writer.write(UNFINISHED[kind])
    answer = asyncio.create_task(reader.read())
    while not answer.done():
        writer.write(b"a")
        await asyncio.wait([answer], timeout=1.0)
    writer.close()
    try:
        line = (await answer).partition(b"\r\n")[0]
    except ConnectionResetError:
        line = b"reset"
    return time.monotonic() - began, line


async def good(port: int, until: asyncio.Event) -> list[float]:
    """One request after the other on a connection of its own each tenth time; seconds of each."""
    payload, taken = request("json"), []
    while not until.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(10):
            began = time.perf_counter()
            writer.write(payload)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            taken.append(time.perf_counter() - began)
            await asyncio.sleep(0.005)
        writer.close()
    return taken


def told(name: str, seconds: list[float]) -> float:
    """Print and return the 99th percentile, in milliseconds."""
    p50, p99, worst = np.percentile(seconds, [50, 99, 100]) * 1e3
    print(f"{name}: {len(seconds)} requests, p50 {p50:.2f} ms, p99 {p99:.2f} ms, worst {worst:.2f} ms")
    return p99


async def measure(port: int, clients: int, server: int) -> None:
    """All phases against a running server."""

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{server}/fd"))

    before, stop = descriptors(), asyncio.Event()
    asyncio.get_running_loop().call_later(8, stop.set)
    alone = told("alone", await good(port, stop))
    everybody = [asyncio.create_task(slow(port, kind)) for kind in UNFINISHED for _ in range(clients)]
    await asyncio.sleep(1)
    print(f"descriptors of the server: {before} before, {descriptors()} with {2 * clients} slow clients")
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(9, stop.set)
    beside = told(f"beside {2 * clients} slow clients", await good(port, stop))
    print(f"p99 ratio {beside / alone:.2f} (bar 3)")
    results = await asyncio.gather(*everybody)
    for i, kind in enumerate(UNFINISHED):
        part = results[i * clients : (i + 1) * clients]
        seconds, lines = [second for second, _ in part], {line.decode() for _, line in part}
        print(f"{kind}: {len(part)} closed after {min(seconds):.1f} to {max(seconds):.1f} s with {lines}")
    await asyncio.sleep(1)
    print(f"descriptors of the server afterwards: {descriptors()}")


def main() -> None:
    """Start a server and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=300)
    options, port = parser.parse_args(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(pathlib.Path(folder))
        command = [sys.executable, "-m", "jaxprop_serve", f"mlp={model}", "--port", str(port)]
        with process(*command, port=port) as child:
            asyncio.run(measure(port, options.clients, child.pid))


if __name__ == "__main__":
    main()
