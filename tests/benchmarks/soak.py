"""Ten minutes at half of what the server can do, with a reload each minute: does anything grow?

    python -m tests.benchmarks.soak [--minutes 10] [--json FILE]

The 784-128-10 MLP over 16 connections. Each second: resident memory (RSS), open files, threads of the server process,
and `jaxprop_compile_total`. Marks: RSS grows by less than 1 MiB a minute (least squares, after the first minute), files
and threads stay, each reload compiles its buckets and nothing else ever compiles, no request fails.
"""

import argparse
import json
import os
import pathlib
import re
import tempfile
import time

import numpy as np

from tests.benchmarks.operations import RELOAD, changed, during, infer, save
from tests.serve.load import Load, percentile
from tests.serve.process import Process

WARM_S = 60.0


def sample(server: Process) -> tuple[float, int, int, float]:
    """(RSS in MiB, open files, threads, executables compiled since the start)."""
    process = pathlib.Path(f"/proc/{server.process.pid}")
    pages = int((process / "statm").read_text().split()[1])
    compiled = re.findall(r"^jaxprop_compile_total\S* (\S+)", server.call("GET", "/metrics")[1], re.MULTILINE)
    threads = len(list((process / "task").iterdir()))
    return (
        pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(list((process / "fd").iterdir())),
        threads,
        float(compiled[0]),
    )


def soak(server: Process, folder: pathlib.Path, minutes: float) -> tuple[list[tuple[float, ...]], Load, int]:
    """[(seconds, *sample)], the load, and the number of reloads."""
    with Load(server.port, [infer("mlp", 784)] * 16) as load:
        time.sleep(1)
        peak, _ = during(load, 3)
    samples, reloads, began = [], 0, time.monotonic()
    with Load(server.port, [infer("mlp", 784)] * 16, rate=peak / 2) as load:
        while (now := time.monotonic() - began) < minutes * 60:
            if now >= 60 * (reloads + 1):
                reloads += 1
                changed(folder, reloads)
                assert server.call("POST", RELOAD)[0] == 200
            samples.append((now, *sample(server)))
            if len(samples) % 60 == 1:
                print("  ".join(f"{value:.1f}" for value in samples[-1]), flush=True)
            time.sleep(1)
    return samples, load, reloads


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there")
    options = parser.parse_args()
    print("seconds  RSS MiB  files  threads  compiled")
    with tempfile.TemporaryDirectory() as place, Process(save(pathlib.Path(place) / "mlp", 784, 128)) as server:
        samples, load, reloads = soak(server, pathlib.Path(place) / "mlp", options.minutes)
    seconds, rss, files, threads, _ = np.array([one for one in samples if one[0] >= WARM_S] or samples).T
    figures = {
        "minutes": options.minutes, "reloads": reloads, "requests a second": load.answered / (60 * options.minutes),
        "failed": len(load.failed) + load.statuses.total() - load.answered, "p99 s": percentile(load.seconds[200], 99),
        "RSS MiB": [rss.min(), rss.max()], "RSS slope MiB/min": np.polyfit(seconds / 60, rss, 1)[0],
        "open files": [files.min(), files.max()], "threads": [threads.min(), threads.max()],
        "compiled beside the reloads": samples[-1][4] - samples[0][4] * (reloads + 1),
        "load average": os.getloadavg()[0],
    }  # fmt: skip
    for key, value in figures.items():
        print(f"{key:30}{' to '.join(f'{v:.5g}' for v in value) if isinstance(value, list) else f'{value:.4g}'}")
    if options.json:
        options.json.write_text(json.dumps({"title": "soak", "cores": os.cpu_count()} | figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
