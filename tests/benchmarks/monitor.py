"""`fit(..., monitor=, every=20)` ÷ `fit` without: CPU seconds of an epoch of [784, 128, 10] with batches of 64.

    python tests/benchmarks/monitor.py

CPU seconds, for they hardly change when others compute on the same machine. The least of some epochs, in turn.
"""

import time

import jax
import numpy as np
import optax

import jaxprop as jp

STATS = jp.stats
WATCHED = {
    "nothing": None,
    "noise scale": {"noise": STATS.NoiseScale()},
    "update ÷ weight": {"updates": STATS.UpdateToWeight()},
    "flow": {"flow": STATS.Flow()},
    "dead units": {"dead": STATS.DeadUnits()},
    "histograms": {"gradients": STATS.GradientHistogram(), "activations": STATS.ActivationHistogram()},
}
WATCHED["all of them"] = {name: quantity for one in WATCHED.values() if one for name, quantity in one.items()}


def main() -> None:
    """Print a line for each monitor."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(5120, 784)).astype(np.float32), rng.integers(0, 10, 5120)
    net = jp.Chain(jp.Linear(128), jp.ReLU(), jp.Linear(10))
    params, optimizer = net.init(jax.random.key(0), data[0][:1]), optax.sgd(0.01)
    least: dict[str, float] = {}
    for _ in range(3):
        for name, watched in WATCHED.items():
            ends: list[float] = []
            jp.fit(
                net, jp.SoftmaxCrossEntropy(), optimizer, data, params=params, epochs=10, batch_size=64, every=20,
                monitor=watched, progress=False, on_epoch=lambda row, state, e=ends: e.append(time.process_time()),
            )  # fmt: skip
            least[name] = min(least.get(name, np.inf), *np.diff(ends))
    for name, seconds in least.items():
        print(f"{name:16} {1e3 * seconds:6.1f} ms an epoch of 80 steps, × {seconds / least['nothing']:.2f}")


if __name__ == "__main__":
    main()
