"""What the model server does under overload, reloads, kills and scrapes: figures for what the tests only count.

    python -m tests.benchmarks.operations [--only NAME] [--json FILE]

    overload  a model that computes for 10 s at twice what it can do: p99 of the accepted against the time that a full
              queue holds, p99 of the refusals, accepted rows a second ÷ the most it ever did
    reload    the 784-128-10 MLP under 64 connections: p99 during 20 reloads ÷ p99 before
    churn     ten clients that load and unload it for 30 s while others ask
    kill      a writer killed 200 times while it saves (no torn model), the server killed under load (seconds to ready)
    scrape    /metrics and health 100 times a second each, under half of the load it can take; health during a forward
              of a second

Clients are threads of this one process, on the machine's cores together with the server: times include their waiting.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import tempfile
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from tests.saved.test_killed_writer import outcomes
from tests.serve.load import Load, percentile, post, rows_request
from tests.serve.process import Process

RELOAD, UNLOAD = "/v2/repository/models/mlp/load", "/v2/repository/models/mlp/unload"
Figures = dict[str, Any]


def get(path: str) -> bytes:
    """A whole request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def infer(model: str, width: int) -> bytes:
    """A whole request for one row."""
    x = np.random.default_rng(0).random((1, width), dtype=np.float32)
    return post(f"/v2/models/{model}/infer", rows_request(x))


def save(folder: pathlib.Path, inputs: int, *hidden: int) -> pathlib.Path:
    """An MLP with ten outputs."""
    layers = [layer for width in hidden for layer in (jp.Linear(width), jp.Sigmoid())]
    net, x = jp.Chain(*layers, jp.Linear(10)), np.ones((1, inputs), np.float32)
    return jp.save(folder, net, net.init(jax.random.key(0), x), inputs=x)


def during(load: Load, seconds: float) -> tuple[float, float]:
    """(answers a second, p99 of their seconds) over a while."""
    before, began = len(load.seconds[200]), time.perf_counter()
    time.sleep(seconds)
    found = load.seconds[200][before:]
    return len(found) / (time.perf_counter() - began), percentile(found, 99)


def changed(folder: pathlib.Path, i: int) -> None:
    """Make it another folder than the one that was loaded: what has not changed is not loaded again."""
    (folder / "release").write_text(str(i))


def overload(place: pathlib.Path) -> Figures:
    """Item 11."""
    batch, waiting = 8, 64
    limits = ("--set", f"max_batch={batch}", "--set", f"max_queue_rows={waiting}")
    with Process(save(place / "wide", 64, 4096, 4096), *limits) as server:
        with Load(server.port, [infer("wide", 64)] * 2 * batch) as load:
            time.sleep(1)
            peak, steady = during(load, 5)
        with Load(server.port, [infer("wide", 64)] * 256, rate=2 * peak) as load:
            time.sleep(10)
        goodput = load.statuses[200] / 10
        return {
            "peak rows/s": peak, "sent/s": load.sent / 10, "accepted/s": goodput, "goodput ÷ peak": goodput / peak,
            "a full queue s": waiting / peak, "accepted p99 s": percentile(load.seconds[200], 99),
            "p99 ÷ a full queue": percentile(load.seconds[200], 99) * peak / waiting, "p99 at peak s": steady,
            "429": load.statuses[429], "429 p50 s": percentile(load.seconds[429], 50),
            "429 p99 s": percentile(load.seconds[429], 99), "not sent": load.unsent, "failed": len(load.failed),
            "other statuses": load.statuses.total() - load.statuses[200] - load.statuses[429],
        }  # fmt: skip


def reload(place: pathlib.Path) -> Figures:
    """Item 14."""
    with Process(save(place / "mlp", 784, 128)) as server, Load(server.port, [infer("mlp", 784)] * 64) as load:
        time.sleep(1)
        rate, steady = during(load, 5)
        before, began = len(load.seconds[200]), time.perf_counter()
        for i in range(20):
            changed(place / "mlp", i)
            assert server.call("POST", RELOAD)[0] == 200
        seconds = time.perf_counter() - began
        found = load.seconds[200][before:]
    p99 = percentile(found, 99)
    return {
        "steady rps": rate, "rps during": len(found) / seconds, "steady p99 s": steady, "p99 during s": p99,
        "p99 ratio": p99 / steady, "seconds a reload": seconds / 20, "answered": load.answered,
        "failed": len(load.failed) + load.statuses.total() - load.answered,
    }  # fmt: skip


def churn(place: pathlib.Path) -> Figures:
    """Item 15."""
    stop, said, rng = threading.Event(), [], random.Random(0)

    def operate(server: Process) -> None:
        while not stop.is_set():
            path = rng.choice((RELOAD, UNLOAD))
            said.append((path, server.call("POST", path)[0]))

    flags = ("--set", "max_batch=4", "--log-level", "debug")
    with Process(save(place / "mlp", 784, 128), *flags) as server:
        with Load(server.port, [infer("mlp", 784)] * 8, rate=500) as load:
            threads = [threading.Thread(target=operate, args=(server,)) for _ in range(10)]
            for thread in threads:
                thread.start()
            time.sleep(30)
            stop.set()
            for thread in threads:
                thread.join()
        done = [event["path"] for event in server.events("request") if event["path"] in (RELOAD, UNLOAD)]
        (entry,) = server.call("POST", "/v2/repository/index")[1]
        return {
            "operations": len(said), "refused": sum(status != 200 for _, status in said),
            "last operation": done[-1].split("/")[-1],
            "state": entry["state"], "answers 200": load.statuses[200], "answers 503": load.statuses[503],
            "other": load.statuses.total() - load.statuses[200] - load.statuses[503] + len(load.failed),
        }  # fmt: skip


def kill(place: pathlib.Path) -> Figures:
    """Items 17 and 18."""
    found = list(outcomes(200, place / "writer"))
    with Process(place / "writer/target") as server:
        after_writer = server.seconds
    folder, seconds = save(place / "mlp", 784, 128), []
    for _ in range(3):
        with Process(folder) as server, Load(server.port, [infer("mlp", 784)] * 16) as load:
            server.wait_for(lambda load=load: load.answered > 200)
            server.signal(signal.SIGKILL)
            server.ended()
        with Process(folder, ports=(server.port, server.grpc_port)) as server:
            seconds.append(server.seconds)
    return {
        "writers killed, each model whole": len(found), "in the middle of a save": sum(cut for _, cut in found),
        "ready after that s": after_writer, "ready after kill -9 under load s": max(seconds),
    }  # fmt: skip


def long_forward(place: pathlib.Path) -> pathlib.Path:
    """An exported function that computes for about a second."""

    def f(x: Any, steps: Any) -> Any:
        return jax.lax.fori_loop(0, steps, lambda i, y: jnp.sin(y), x)

    x, steps = np.ones((1, 4), np.float32), np.int32(1_000_000)
    run = jax.jit(f)
    jax.block_until_ready(run(x, steps))
    began = time.perf_counter()
    jax.block_until_ready(run(x, steps))
    return jp.export(place / "long", f, np.int32(1_000_000 / (time.perf_counter() - began)), inputs=x)


def scrape(place: pathlib.Path) -> Figures:
    """Item 29."""
    with Process(save(place / "mlp", 784, 128)) as server:
        with Load(server.port, [infer("mlp", 784)] * 16) as load:
            time.sleep(1)
            peak, _ = during(load, 3)
        with (
            Load(server.port, [infer("mlp", 784)] * 16, rate=peak / 2) as load,
            Load(server.port, [get("/metrics")] * 4, rate=100) as scrapes,
            Load(server.port, [get("/v2/health/live")] * 4, rate=100) as health,
        ):
            time.sleep(10)
    with Process(long_forward(place), "--set", "max_batch=1") as server:
        body = post("/v2/models/long/infer", rows_request(np.ones((1, 4), np.float32)))
        with (
            Load(server.port, [body]) as forwards,
            Load(server.port, [get("/v2/health/ready")] * 4, rate=100) as beside,
        ):
            time.sleep(5)
    return {
        "load rps": len(load.seconds[200]) / 10, "scrapes": scrapes.answered,
        "scrape p99 s": percentile(scrapes.seconds[200], 99), "health p50 s": percentile(health.seconds[200], 50),
        "health p99 s (≥ loop lag)": percentile(health.seconds[200], 99),
        "a forward s": percentile(forwards.seconds[200], 50), "health beside it": beside.answered,
        "health beside it p99 s": percentile(beside.seconds[200], 99),
        "health beside it max s": max(beside.seconds[200]),
    }  # fmt: skip


MEASURED = {"overload": overload, "reload": reload, "churn": churn, "kill": kill, "scrape": scrape}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MEASURED, nargs="*", default=list(MEASURED))
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there")
    options = parser.parse_args()
    found = {}
    for name in options.only:
        with tempfile.TemporaryDirectory() as place:
            found[name] = MEASURED[name](pathlib.Path(place))
        print(f"{name} · {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        for key, value in found[name].items():
            print(f"  {key:36}{value:.4g}" if isinstance(value, float) else f"  {key:36}{value}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"title": "operations", "cores": os.cpu_count()} | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
