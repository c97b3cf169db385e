"""`jp.fit` against the plainest raw-JAX scan on four MNIST-sized workloads, and against idiomatic loops of peers.

    python tests/benchmarks/training.py [--rounds 5] [--json FILE] [--peers]

The raw scan takes rows in the order they lie in: no shuffling, no history but the costs, no progress, its data on the
device. `fit` shuffles and gathers every epoch, keeps a history, looks for NaN, and shows progress (to a buffer).
Limits of a step: 6 Σ N I O operations; at the least every W read twice and written once (12 Σ I O bytes).
Mark (benchmarks.md, section 2): fit ≤ 1.10 × raw scan, minimum over alternating runs.
Rows are made here, of MNIST's shape: the time of a step does not depend on the pixels.
"""

import contextlib
import functools
import io
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measure import arguments, in_turn, ratios, report

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


if __name__ == "__main__":
    peers = "--peers" in sys.argv and bool(sys.argv.pop(sys.argv.index("--peers")))
    options = arguments(__doc__.splitlines()[0], rounds=5)
    table = []
    for name, (units, batch_size, rows, rate, epochs) in WORKLOADS.items():
        runs, steps, (x, targets, plain) = candidates(units, batch_size, rows, rate, epochs)
        if peers:
            from peers import loops

            runs |= loops(x, targets, plain, batch_size, rate, epochs)
        seconds = in_turn(runs, options.rounds)
        row = {"workload": name, "batch": batch_size, "operations a step": 6 * batch_size * sum(
            i * o for i, o in zip([784, *units], units, strict=False)
        )}  # fmt: skip
        for run, taken in seconds.items():
            row[f"{run} µs"] = round(1e6 * min(taken) / steps, 1)
        for run in runs:
            if run != "raw":
                ratio = ratios(seconds, run, "raw")
                row[f"{run} ÷ raw"] = f"{ratio['of_minima']:.3f} ({ratio['low']:.2f}–{ratio['high']:.2f})"
        table.append(row)
    report(options, "training", table)
