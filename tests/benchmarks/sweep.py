"""`jp.sweep` beside `jp.fit` one after another: 32 runs, 8 seeds × 4 learning rates, of [64,32,10] on the digits.

    python -m tests.benchmarks.sweep [--rounds 3] [--epochs 10] [--json FILE]

One after another is `fit` 32 times in one process, compiled once: the learning rate is in the optimizer's state, since
another `optax.sgd(rate)` would compile anew, as `fit` in a plain loop does (`--loop`: 32 compilations). The sweep is
measured on one device and with a device for each core; every way has a process of its own and makes the same runs,
histories and validation included. Seconds are those of the wall, and of the processor for a busy machine. The first
time compiles, and is given apart. A step needs 6·B·Σ(inputs·outputs) operations, less those of the first
layer's inputs, and moves θ twice: all of it stays in the cache.
"""

import argparse
import json
import os
import subprocess
import sys
import time

RATES = (0.03, 0.1, 0.3, 1.0)
SEEDS = 8


def timed(run):
    """Seconds of the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def measured(way, batch_size, epochs, rounds):
    """Seconds [(wall, processor), …] of 32 runs, the first with compiling."""
    import jax

    if way == "sweep, a device a core":
        jax.config.update("jax_num_cpu_devices", os.cpu_count())
    import jax.numpy as jnp
    import optax

    import jaxprop as jp

    digits = jp.data.load("digits")
    x, held = digits.x / 16, (digits.validation[0] / 16, digits.validation[1])
    net, cost = jp.Chain(jp.Linear(32), jp.Tanh(), jp.Linear(10)), jp.SoftmaxCrossEntropy()
    asked = {"epochs": epochs, "batch_size": batch_size, "validation": held, "progress": False}
    rate = [0.0]
    in_state = optax.GradientTransformation(
        lambda params: jnp.asarray(rate[0]), lambda g, eta, params=None: (jax.tree.map(lambda a: -eta * a, g), eta)
    )

    def one_after_another(optimizer):
        for rate[0] in RATES:
            for seed in range(SEEDS):
                jp.fit(net, cost, optimizer(rate[0]), (x, digits.targets), key=jax.random.key(seed), **asked)

    def together():
        rates = {"learning_rate": list(RATES)}
        jp.sweep(net, cost, optax.sgd, (x, digits.targets), settings=rates, seeds=SEEDS, **asked)

    if way == "loop":
        return [timed(lambda: one_after_another(optax.sgd))]
    if way == "fit":
        return [timed(lambda: one_after_another(lambda _: in_state)) for _ in range(rounds + 1)]
    return [timed(together) for _ in range(rounds + 1)]


def in_a_process(*asked):
    """`measured` in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.sweep", "--measure", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Print a line a batch size: seconds of each way, and how many times as fast as `fit` the sweep is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--loop", action="store_true", help="also fit in a plain loop, which compiles 32 times")
    parser.add_argument("--json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(*json.loads(options.measure))))
        return
    found = {}
    ways = ["fit", "sweep", "sweep, a device a core", *(["loop"] if options.loop else [])]
    print(f"32 runs of [64,32,10], {options.epochs} epochs of 1,438 rows; seconds: wall (processor), least of rounds")
    for batch_size in (10, 32):
        for way in ways:
            first, *rest = in_a_process(way, batch_size, options.epochs, options.rounds)
            rest = rest or [first]
            found[f"{batch_size} {way}"] = {
                "first": first[0], "wall": min(w for w, _ in rest), "processor": min(p for _, p in rest),
            }  # fmt: skip
            ours, base = found[f"{batch_size} {way}"], found[f"{batch_size} fit"]
            ratios = f"{base['wall'] / ours['wall']:5.2f} × ({base['processor'] / ours['processor']:.2f} ×)"
            print(
                f"batch {batch_size:2}  {way:24} {ours['wall']:6.2f} ({ours['processor']:.2f}), "
                f"with compiling {first[0]:6.2f}   {'' if way == 'fit' else ratios}",
                flush=True,
            )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
