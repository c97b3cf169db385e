"""`fit(..., checkpoints=)` ÷ `fit` without, on [784, 30, 10] with batches of 10: by the clock, and in CPU seconds.

    python tests/benchmarks/checkpoints.py [--rounds 3] [--json FILE]

A run takes about twenty seconds, so its checkpoints are the first, those after epochs that take a hundredth of the
time, and the last; in a longer run they are fewer. The last line says what one takes, of a run that writes one
after another. Importing Orbax (a second) is done before: a program does it once. Mark: ≤ 1.02 by the clock.
"""

import pathlib
import tempfile
import time

import jax
import numpy as np
import optax
from measure import arguments, in_turn, ratios, report

import jaxprop as jp
from jaxprop.train.checkpoints import folder

ROWS, EPOCHS = 50_000, 100


def main() -> None:
    """Print the ratios."""
    options = arguments(__doc__.splitlines()[0], rounds=3)
    rng = np.random.default_rng(0)
    data = rng.random((ROWS, 784), dtype=np.float32), np.eye(10, dtype=np.float32)[rng.integers(0, 10, ROWS)]
    net = jp.Chain(jp.Linear(30), jp.Sigmoid(), jp.Linear(10), jp.Sigmoid())
    params, optimizer = net.init(jax.random.key(0), data[0][:1]), optax.sgd(3.0)

    def fit(checkpoints=None, epochs=EPOCHS):
        given = {"params": params, "epochs": epochs, "batch_size": 10, "progress": False, "checkpoints": checkpoints}
        return jp.fit(net, jp.HalfSquaredError(), optimizer, data, **given).params

    def kept():
        with tempfile.TemporaryDirectory() as path:
            return fit(path)

    def one_after_another():
        with tempfile.TemporaryDirectory() as path:
            start = time.process_time(), time.perf_counter()
            fit(jp.train.Checkpoints(path, every_seconds=0), epochs=5)
            spent = time.process_time() - start[0], time.perf_counter() - start[1]
            return [*spent, max(folder.numbers(pathlib.Path(path))) + 1]

    runs, rows = {"without": fit, "kept": kept}, []
    for name, clock in {"the clock": time.perf_counter, "CPU seconds": time.process_time}.items():
        rows.append({"fit": name, **ratios(in_turn(runs, options.rounds, clock), "kept", "without")})
    report(options, "fit with checkpoints ÷ fit without", rows)
    before = time.process_time()
    fit(epochs=5)
    alone = time.process_time() - before
    cpu, _, count = one_after_another()
    print(f"a checkpoint takes {1e3 * (cpu - alone) / count:.0f} ms of CPU ({count} of them one after another)")


if __name__ == "__main__":
    main()
