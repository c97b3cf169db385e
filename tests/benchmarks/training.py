"""`jp.fit` against the plainest raw-JAX scan on four MNIST-sized workloads, and the first epoch against loops of peers.

    python tests/benchmarks/training.py [--rounds 5] [--json FILE] [--only NAME] [--peers] [--processor] [--first N]

The raw scan takes rows in the order they lie in: no shuffling, no history but the costs, no progress, its data on the
device. `fit` shuffles and gathers every epoch, keeps a history, looks for NaN, and shows progress (to a buffer).
Limits of a step: 6 Σ N I O operations; at the least every W read twice and written once, and rows read once
(12 Σ I O + 4 N (784 + 10) bytes). Gathering reads and writes the rows once more, on another core.
Mark (benchmarks.md, section 2): fit ≤ 1.05 × raw scan, minimum over alternating runs.

First epoch: seconds from after the import to the end of one epoch over shuffled rows, compile time counted, each in a
fresh process without a compilation cache: `fit`, a jitted step called from a Python loop, a jitted scan over rows
shuffled before, Equinox. --first: how many processes of each (default 2; 0
leaves the table out). The mark: `fit` is not behind.
--processor: seconds of the processor, for a busy machine; they count the thread that gathers too.
Rows are made here, of MNIST's shape: the time of a step does not depend on the pixels.
"""

import argparse
import contextlib
import functools
import io
import json
import pathlib
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measure import in_turn, ratios, report

import jaxprop as jp

WORKLOADS = {  # hidden and output units, batch size, rows, rate, epochs (a run takes about two seconds)
    "784-30-10": ([30, 10], 10, 50_000, 3.0, 10),
    "784-128-10": ([128, 10], 64, 50_000, 0.5, 10),
    "784-512-512-10": ([512, 512, 10], 256, 12_800, 0.5, 12),
    "784-2048-2048-10": ([2048, 2048, 10], 512, 5_120, 0.1, 4),
}


def raw_scan(params, x, targets, rate):
    """As plain as it gets."""

    def C(params, x, targets):
        for W, b in params:
            x = jax.nn.sigmoid(x @ W + b)
        return 0.5 * jnp.mean(jnp.sum((x - targets) ** 2, axis=1))

    def step(params, batch):
        value, grads = jax.value_and_grad(C)(params, *batch)
        return jax.tree.map(lambda p, g: p - rate * g, params, grads), value

    return jax.lax.scan(step, params, (x, targets))


def candidates(units, batch_size, rows, rate, epochs):
    """Runs of some epochs from the same start over the same rows."""
    rng = np.random.default_rng(0)
    rows -= rows % batch_size
    x = rng.random((rows, 784), dtype=np.float32)
    targets = np.eye(10, dtype=np.float32)[rng.integers(0, 10, rows)]
    net = jp.Chain(*(layer for size in units for layer in (jp.Linear(size), jp.Sigmoid())))
    start = net.init(jax.random.key(0), x[:1])
    plain = [(p.W, p.b) for p in start if p]
    batches = [jnp.asarray(a.reshape(-1, batch_size, a.shape[-1])) for a in (x, targets)]
    scan = jax.jit(functools.partial(raw_scan, rate=rate), donate_argnums=0)
    optimizer = optax.sgd(rate)

    def raw():
        params = jax.tree.map(jnp.array, plain)
        for _ in range(epochs):
            params, costs = scan(params, *batches)
        return params, costs

    def fit(grad):
        with contextlib.redirect_stderr(io.StringIO()):
            cost = jp.HalfSquaredError()
            result = jp.fit(
                net, cost, optimizer, (x, targets), params=start, epochs=epochs, batch_size=batch_size, grad=grad
            )
        return result.params

    runs = {"raw": raw, "auto": functools.partial(fit, "auto"), "manual": functools.partial(fit, "manual")}
    return runs, rows // batch_size * epochs, (x, targets, plain)


def first(who, name):
    """In a process of its own: seconds, and those of the processor, of a first epoch."""
    units, batch_size, rows, rate, _ = WORKLOADS[name]
    rng = np.random.default_rng(0)
    rows -= rows % batch_size
    x, targets = rng.random((rows, 784), dtype=np.float32), np.eye(10, dtype=np.float32)[rng.integers(0, 10, rows)]
    clocks = time.perf_counter, time.process_time
    if who == "Equinox":
        import equinox as eqx
    elif who == "fit":
        jp.fit  # noqa: B018 (the names of jaxprop are imported when the first is asked for)
    began = [clock() for clock in clocks]
    order = np.random.default_rng(1).permutation(rows).reshape(-1, batch_size)
    shapes = list(zip([784, *units], units, strict=False))
    keys = [jax.random.key(i) for i in range(len(units))]

    def C(params, x, targets):
        for layer in params:
            x = jax.nn.sigmoid(x @ layer[0] + layer[1] if isinstance(layer, tuple) else jax.vmap(layer)(x))
        return 0.5 * jnp.mean(jnp.sum((x - targets) ** 2, axis=1))

    if who == "fit":
        net = jp.Chain(*(layer for size in units for layer in (jp.Linear(size), jp.Sigmoid())))
        cost, optimizer = jp.HalfSquaredError(), optax.sgd(rate)
        with contextlib.redirect_stderr(io.StringIO()):
            jp.fit(net, cost, optimizer, (x, targets), epochs=1, batch_size=batch_size)
    elif who == "Equinox":
        optimizer = optax.sgd(rate)
        model = [eqx.nn.Linear(i, o, key=key) for (i, o), key in zip(shapes, keys, strict=True)]
        state = optimizer.init(eqx.filter(model, eqx.is_array))

        @eqx.filter_jit
        def step(model, state, x, targets):
            value, grads = eqx.filter_value_and_grad(C)(model, x, targets)
            updates, state = optimizer.update(grads, state, model)
            return eqx.apply_updates(model, updates), state, value

        costs = []
        for chosen in order:
            model, state, value = step(model, state, x[chosen], targets[chosen])
            costs.append(value)
        np.mean(jax.device_get(costs))
    else:
        params = [
            (jax.random.normal(key, (i, o)) / np.sqrt(i), jnp.zeros(o))
            for (i, o), key in zip(shapes, keys, strict=True)
        ]

        def plain(params, rows):
            value, grads = jax.value_and_grad(C)(params, *rows)
            return jax.tree.map(lambda p, g: p - rate * g, params, grads), value

        if who == "raw scan":
            scan = jax.jit(lambda params, *rows: jax.lax.scan(plain, params, rows), donate_argnums=0)
            params, costs = scan(params, x[order], targets[order])
        else:
            step, costs = jax.jit(plain, donate_argnums=0), []
            for chosen in order:
                params, value = step(params, (x[chosen], targets[chosen]))
                costs.append(value)
        np.mean(jax.device_get(costs))
    return [clock() - start for clock, start in zip(clocks, began, strict=True)]


def first_epochs(options):
    """The table of first epochs: median seconds of fresh processes, taken in turn."""
    table = []
    for name in WORKLOADS:
        if options.only not in name:
            continue
        found = {who: [] for who in ("fit", "raw loop", "raw scan", "Equinox")}
        for _ in range(options.first):
            for who in found:
                command = [sys.executable, __file__, "--process", who, name]
                ran = subprocess.run(command, capture_output=True, text=True, check=True)
                found[who].append(json.loads(ran.stdout.splitlines()[-1]))
        row = {"workload": name}
        for who, runs in found.items():
            row[f"{who} s"] = round(statistics.median(run[options.processor] for run in runs), 2)
        least = min(value for key, value in row.items() if key not in ("workload", "fit s"))
        table.append(row | {"fit ÷ the best": round(row["fit s"] / least, 3)})
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--first", type=int, default=2, help="processes of each for the first epoch")
    parser.add_argument("--only", default="", help="the workloads that have this in their name")
    parser.add_argument("--peers", action="store_true", help="measure other libraries' epochs beside ours")
    parser.add_argument("--processor", action="store_true", help="seconds of the processor, for a busy machine")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there")
    options = parser.parse_args()
    table = []
    for name, (units, batch_size, rows, rate, epochs) in WORKLOADS.items():
        if options.only not in name or not options.rounds:
            continue
        runs, steps, (x, targets, plain) = candidates(units, batch_size, rows, rate, epochs)
        if options.peers:
            from peers import loops

            runs |= loops(x, targets, plain, batch_size, rate, epochs)
        seconds = in_turn(runs, options.rounds, time.process_time if options.processor else time.perf_counter)
        weights = sum(i * o for i, o in zip([784, *units], units, strict=False))
        row = {"workload": name, "batch": batch_size, "operations a step": 6 * batch_size * weights}
        row["bytes a step"] = 12 * weights + 4 * batch_size * 794
        for run, taken in seconds.items():
            row[f"{run} µs"] = round(1e6 * min(taken) / steps, 1)
        for run in runs:
            if run != "raw":
                ratio = ratios(seconds, run, "raw")
                row[f"{run} ÷ raw"] = f"{ratio['of_minima']:.3f} ({ratio['low']:.2f}–{ratio['high']:.2f})"
        table.append(row)
    if table:
        report(options, "training", table)
    if options.first:
        options.rounds, options.json = options.first, options.json and options.json.with_suffix(".first.json")
        report(
            options, f"first epoch, seconds{' of the processor' if options.processor else ''}", first_epochs(options)
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        print(json.dumps(first(*sys.argv[2:])))
    else:
        main()
