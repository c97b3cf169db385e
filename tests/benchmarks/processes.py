"""Two processes on one machine against one: the same θ, the bytes that a step exchanges, and the rate. float32.

    python tests/benchmarks/processes.py [--processes 2] [--rounds 3] [--json FILE]

A round trains the same network on the same rows with one process and with several, in turn. Each process is pinned to
as many cores as there are for each, so the rate of several is not that of one with more threads. The fewest bytes that
a step can exchange are those of θ: each process sends the gradient that it made, and gets the sum. The units are tanh:
of one that stands at ReLU's kink, two roundings of the same number may say that it is on or off.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile

NETWORKS = {"784-512-512-10, batch 256": (512, 256), "784-2048-2048-10, batch 512": (2048, 512)}
ROWS, EPOCHS = 10240, 3


def work(process: int, processes: int, port: int, cores: int, name: str, out: pathlib.Path) -> None:
    """Train in one process of a job, and write what it saw."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[process * cores : (process + 1) * cores])
    import jax
    import numpy as np
    import optax
    from devices import collectives, compiled

    import jaxprop as jp

    if processes > 1:
        jp.train.distributed(f"127.0.0.1:{port}", processes, process, seconds=120)
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(ROWS, 784)).astype(np.float32), rng.integers(0, 10, ROWS).astype(np.int32)
    (wide, batch), optimizer = NETWORKS[name], optax.sgd(0.01)
    net = jp.models.mlp((784, wide, wide, 10), jp.Tanh())
    result = jp.fit(
        *(net, jp.SoftmaxCrossEntropy(), optimizer, (x, targets)), epochs=EPOCHS, batch_size=batch, progress=False
    )
    seconds = [row["seconds"] for row in result.history]
    program = compiled(net, (x[:batch], targets[:batch]), f"data={jax.device_count()}", "auto", optimizer)[0]
    if process == 0:
        theta = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(result.params)])
        np.save(out / f"{name}-{processes}.npy", theta)
        found = {
            "steps_a_second": (EPOCHS - 1) * (ROWS // batch) / (seconds[-1] - seconds[0]),
            "collectives": collectives(program.as_text()),
            "theta_bytes": theta.nbytes,
        }
        (out / f"{name}-{processes}.json").write_text(json.dumps(found))


def job(processes: int, cores: int, name: str, out: pathlib.Path) -> dict:
    """Run a job to its end; return what its first process saw."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--work", name, str(processes), str(port), str(cores), str(out)]
    running = [subprocess.Popen([*command, str(i)], stdout=subprocess.DEVNULL) for i in range(processes)]
    try:
        codes = [process.wait(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    if any(codes):
        raise SystemExit(f"a process of {processes} ended with {codes}")
    return json.loads((out / f"{name}-{processes}.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    import numpy as np

    cores = max(1, len(os.sched_getaffinity(0)) // options.processes)
    rows = []
    print(f"{options.processes} processes of {cores} core(s) each, against one of {cores}; float32\n")
    print(f"{'network':30} max|Δθ|/max|θ|   exchanged a step   ÷ bytes of θ   rate ÷ one process   (of each round)")
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder)
        for name in NETWORKS:
            rates = []
            for _ in range(options.rounds):
                one, several = job(1, cores, name, out), job(options.processes, cores, name, out)
                rates.append(several["steps_a_second"] / one["steps_a_second"])
            a, b = (np.load(out / f"{name}-{n}.npy") for n in (options.processes, 1))
            sent = sum(size for _, size in several["collectives"].values())
            error = float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
            rows.append({"network": name, "error": error, "bytes": sent, "rates": rates, **several})
            said = ", ".join(f"{rate:.2f}" for rate in rates)
            print(
                f"{name:30} {error:14.1e} {sent:18,} {sent / several['theta_bytes']:14.3f} "
                f"{statistics.median(rates):20.2f}   ({said})"
            )
    if options.json:
        options.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        name, processes, port, cores, out, process = sys.argv[2:]
        work(int(process), int(processes), int(port), int(cores), name, pathlib.Path(out))
    else:
        main()
