"""Requests a second of the model server against a bare uvicorn echo beside it, in turn, under the same client.

    python tests/benchmarks/serving.py [--rounds 5] [--seconds 1.5] [--json FILE] [--doors] [--sleeping]
                                       [--mlserver PYTHON] [--widths 128,10] [--max-batch 64]

784-128-10 MLP, one row a request, over keep-alive sockets, JSON (9 kB) and binary (3 kB); limits, metrics, checks and
the access log on. The echo reads the body and sends it back. Marks (benchmarks.md, section 4), as a ratio to the echo
of the same bytes, at 1, 16 and 64 connections: JSON 0.35, 0.50, 0.60; binary 0.45, 0.70, 0.90. `--widths
4096,4096,1216,10` is a network of 25 million parameters. Servers run on the first half of the
cores, clients on the second. `--doors` puts a matrix product in place of the model: what HTTP and the codec alone cost.
`--mlserver` takes a Python that has `mlserver` and `jax`, and measures MLServer too (JSON; mark at 16: ours ≥ 4 ×).
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np

MARKS = {(1, "json"): 0.35, (16, "json"): 0.50, (64, "json"): 0.60}
MARKS |= {(1, "binary"): 0.45, (16, "binary"): 0.70, (64, "binary"): 0.90}
ROW = np.random.default_rng(0).random(784, dtype=np.float32)


def request(kind: str) -> bytes:
    """One whole HTTP request for one row."""
    item = {"name": "x", "shape": [1, 784], "datatype": "FP32"}
    extra = ""
    if kind == "json":
        body = json.dumps({"inputs": [item | {"data": [float(str(value)) for value in ROW]}]}).encode()
    else:
        item["parameters"] = {"binary_data_size": ROW.nbytes}
        text = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode()
        body, extra = text + ROW.tobytes(), f"Inference-Header-Content-Length: {len(text)}\r\n"
    head = f"POST /v2/models/mlp/infer HTTP/1.1\r\nHost: localhost\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# The client: a process of its own.


class Client(asyncio.Protocol):
    """One connection: send, wait for the whole answer, send again. Answers differ in length: so do numbers in JSON."""

    def __init__(self, payload: bytes, tally: list[int]):
        self.payload, self.tally = payload, tally
        self.missing = 0  # bytes still to come of the answer

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.payload)

    def data_received(self, data):
        if not self.missing:
            assert data.startswith(b"HTTP/1.1 200"), data[:300]
            size = data.index(b"\r\ncontent-length: ") + 18
            body = data.index(b"\r\n\r\n") + 4
            self.missing = body + int(data[size : data.index(b"\r", size)])
        self.missing -= len(data)
        if not self.missing:
            self.tally[0] += 1
            self.transport.write(self.payload)


async def load(port: int, connections: int, kind: str, seconds: float, sleeping: bool) -> float:
    """Requests a second over `seconds`, after a warm-up of a quarter of that."""
    loop, tally = asyncio.get_running_loop(), [0]
    payload = request(kind)

    def spin() -> None:
        """Never sleep: on a virtual machine waking a client costs the server, the more the slower it is."""
        loop.call_soon(spin)

    if not sleeping:
        spin()
    made = [await loop.create_connection(lambda: Client(payload, tally), "127.0.0.1", port) for _ in range(connections)]
    await asyncio.sleep(seconds / 4)
    before, start = tally[0], time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (tally[0] - before) / (time.perf_counter() - start)
    for transport, _ in made:
        transport.abort()
    return rate


# The servers, each a process of its own.


async def echo(scope, receive, send):
    """Read the body, send it back."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message.get("more_body", False)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve_echo(port: int) -> None:
    """A bare uvicorn."""
    import uvicorn

    uvicorn.run(echo, port=port, lifespan="off", access_log=False, log_level="warning")


def serve_doors(port: int) -> None:
    """The door with a matrix product behind it."""
    import types

    import uvicorn

    from jaxprop_serve.http1.application import create_app
    from jaxprop_serve.http1.connections import connection
    from jaxprop_serve.protocol.tensors import Signature, TensorSpec
    from jaxprop_serve.settings import Settings

    W = np.random.default_rng(1).random((784, 10), dtype=np.float32)

    class Served:
        name, version = "mlp", "1"
        signature = Signature((TensorSpec("x", "FP32", (-1, 784)),), (TensorSpec("y", "FP32", (-1, 10)),), "numpy")

        def admit(self, client):
            pass

        async def infer(self, inputs, deadline, client):
            return {"y": inputs["x"] @ W}

    served = contextlib.nullcontext(Served())
    settings = Settings()
    models = types.SimpleNamespace(pin=lambda name, version=None: served, ready=lambda: True)
    app = create_app(models, settings)
    uvicorn.run(app, port=port, http=connection(settings), ws="none", access_log=False, log_level="warning",
                date_header=False, server_header=False, proxy_headers=False)  # fmt: skip


def save_model(folder: pathlib.Path, widths: str = "128,10") -> pathlib.Path:
    """The MLP, as `jp.save` writes it."""
    import jax

    import jaxprop as jp

    layers = [layer for width in widths.split(",") for layer in (jp.Linear(int(width)), jp.Sigmoid())]
    net, x = jp.Chain(*layers[:-1]), ROW[None]
    return jp.save(folder / "mlp", net, net.init(jax.random.key(0), x), inputs=x)


@contextlib.contextmanager
def process(*command: str, port: int):
    """A server process on the first half of the cores, once it is ready."""
    child = subprocess.Popen(
        command,
        preexec_fn=lambda: os.sched_setaffinity(0, _cores()[0]),
        env=os.environ | {"JAXPROP_GRPC_PORT": "off"},
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready"):
                break
            assert child.poll() is None, f"{command} ended"
            time.sleep(0.1)
        yield child
    finally:
        child.terminate()
        child.wait(20)


def measure(port: int, connections: int, kind: str, options: argparse.Namespace) -> float:
    """Requests a second as one client process sees them, on the second half of the cores."""
    command = [sys.executable, __file__, "--client", kind, "--port", str(port), "--connections", str(connections)]
    command += ["--seconds", str(options.seconds), *(["--sleeping"] if options.sleeping else [])]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, _cores()[1])
    )
    return float(done.stdout)


def _cores() -> tuple[set[int], set[int]]:
    cores = sorted(os.sched_getaffinity(0))
    half = max(1, len(cores) // 2)
    return set(cores[:half]), set(cores[half:] or cores)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def compare(ports: dict[str, int], options: argparse.Namespace) -> list[dict]:
    """Every load on every server, in turn and in shuffled order; the ratio round by round."""
    shuffled, rows = random.Random(0), []
    for connections in (1, 16, 64):
        for kind in ("json", "binary"):
            names = [name for name in ports if name != "mlserver" or kind == "json"]  # it takes no binary data
            rates: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(options.rounds):
                for name in shuffled.sample(names, len(names)):
                    rates[name].append(measure(ports[name], connections, kind, options))
            pairs = ratios(rates, "echo")
            rows.append({
                "connections": connections, "kind": kind, "echo rps": round(max(rates["echo"])),
                "server rps": round(max(rates["server"])), "ratio": round(statistics.median(pairs), 3),
                "low": round(pairs[0], 3), "high": round(pairs[-1], 3), "mark": MARKS[connections, kind],
            })  # fmt: skip
            if "mlserver" in rates:
                rows[-1] |= {"mlserver rps": round(max(rates["mlserver"])),
                             "÷ mlserver": [round(r, 1) for r in ratios(rates, "mlserver")]}  # fmt: skip
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def ratios(rates: dict[str, list[float]], other: str) -> list[float]:
    """Ours ÷ another's, round by round, sorted."""
    return sorted(a / b for a, b in zip(rates["server"], rates[other], strict=True))


def mlserver_command(python: str, folder: pathlib.Path, port: int) -> list[str]:
    """MLServer as it is after installing, its batching and its worker processes off: both cost it requests here."""
    folder.mkdir()
    shutil.copy(pathlib.Path(__file__).with_name("mlserver_mlp.py"), folder)
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps(settings | {"debug": False}))
    (folder / "model-settings.json").write_text(json.dumps({"name": "mlp", "implementation": "mlserver_mlp.MLP"}))
    return [python, "-c", "from mlserver.cli import main; main()", "start", str(folder)]


def main() -> None:
    """Start both servers, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--doors", action="store_true")
    parser.add_argument("--mlserver", metavar="PYTHON")
    parser.add_argument("--widths", default="128,10", help="of the network's layers")
    parser.add_argument("--max-batch", default="64")
    parser.add_argument("--sleeping", action="store_true", help="clients sleep until an answer comes, as wrk does")
    parser.add_argument("--client", choices=("json", "binary"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", choices=("echo", "doors"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--connections", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(
                runner.run(load(options.port, options.connections, options.client, options.seconds, options.sleeping))
            )
        return
    if options.serve:
        {"echo": serve_echo, "doors": serve_doors}[options.serve](options.port)
        return
    ports = {"echo": free_port(), "server": free_port()}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if options.doors:
            command = [sys.executable, __file__, "--serve", "doors", "--port", str(ports["server"])]
        else:
            model = save_model(pathlib.Path(folder), options.widths)
            command = [sys.executable, "-m", "jaxprop_serve", f"mlp={model}", "--port", str(ports["server"])]
            command += ["--max-batch", options.max_batch]
        stack.enter_context(process(*command, port=ports["server"]))
        echo_command = [sys.executable, __file__, "--serve", "echo", "--port", str(ports["echo"])]
        stack.enter_context(process(*echo_command, port=ports["echo"]))
        if options.mlserver:
            ports["mlserver"] = free_port()
            command = mlserver_command(options.mlserver, pathlib.Path(folder) / "mlserver", ports["mlserver"])
            stack.enter_context(process(*command, port=ports["mlserver"]))
        rows = compare(ports, options)
    if options.json:
        options.json.write_text(
            json.dumps({"title": "serving", "cores": os.cpu_count(), "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
