"""The deep autoencoder of the K-FAC literature on MNIST: K-FAC against SGD with momentum and Adam, step by step.

    python docs/examples/autoencoder.py ../shared/data/mnist            the three, and docs/images/autoencoder.png
    python docs/examples/autoencoder.py ../shared/data/mnist --short    a small one; exit code 1 if K-FAC is not ahead

784-1000-500-250-30-250-500-1000-784 with tanh and the cross entropy of every pixel, as in Hinton and Salakhutdinov
(2006) and Martens and Grosse (arXiv 1503.05671, section 13), but on 5,120 images for 160 steps, so that it takes
minutes on two cores. SGD and Adam have the best of three learning rates, by the cost at the end, and K-FAC the one that
its page begins with, which was found on a smaller autoencoder; all other settings are the libraries' own. The folder
holds MNIST's IDX files.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads that wait for each other cost more than they save

import numpy as np
import optax

import jaxprop as jp

IMAGE = Path(__file__).parents[1] / "images" / "autoencoder.png"
DEEP, SMALL = (1000, 500, 250, 30, 250, 500, 1000), (64, 16, 64)
RATES = {"SGD": (0.001, 0.003, 0.01), "Adam": (0.0003, 0.001, 0.003), "K-FAC": (0.1,)}
SHORT = {"SGD": (0.003,), "Adam": (0.003,), "K-FAC": (0.1,)}


def optimizer(name: str, rate: float, net: jp.Layer, cost: jp.Cost, rows: Any) -> optax.GradientTransformation:
    """Return one of the three, with momentum 0.9."""
    if name == "SGD":
        return optax.sgd(rate, momentum=0.9, nesterov=True)
    return optax.adam(rate) if name == "Adam" else jp.stats.precondition(net, cost, rows, rate)


def train(name: str, rate: float, net: jp.Layer, x: np.ndarray, epochs: int, batch: int) -> list[dict[str, float]]:
    """Train once, always from the same start; return a row an epoch: steps, mean cost and seconds until then.

    Seconds are the processor's, of all cores, since others may use it too. The first epoch compiles: it is taken to
    need what the later ones did.
    """
    clock, cost = [time.process_time()], jp.SigmoidCrossEntropy()
    try:
        result = jp.fit(
            net, cost, optimizer(name, rate, net, cost, (x, x)), (x, x), epochs=epochs, batch_size=batch,
            progress=False, on_epoch=lambda row, state: clock.append(time.process_time()),
        )  # fmt: skip
    except jp.TrainingError:
        return []  # this rate is too high
    steps, seconds = len(x) // batch, float(np.median(np.diff(clock)[1:]))
    return [
        {"steps": e * steps, "cost": row["cost"], "seconds": e * seconds} for e, row in enumerate(result.history, 1)
    ]


def compare(
    rates: dict[str, tuple[float, ...]], net: jp.Layer, x: np.ndarray, epochs: int, batch: int
) -> dict[str, Any]:
    """Return {optimizer: its best rate, that run, and where every rate ended}."""
    found = {}
    for name, tried in rates.items():
        runs = {rate: train(name, rate, net, x, epochs, batch) for rate in tried}
        ends = {rate: run[-1]["cost"] if run else float("inf") for rate, run in runs.items()}
        best = min(ends, key=lambda rate: ends[rate])
        found[name] = {"rate": best, "run": runs[best], "ends": ends}
        print(f"{name}: cost at the end by learning rate: {', '.join(f'{r:g} {end:.1f}' for r, end in ends.items())}")
    return found


def report(found: dict[str, Any]) -> None:
    """Print when each was where the worst of them ended, and where it ended itself."""
    aim = max(one["run"][-1]["cost"] for one in found.values())
    for name, one in found.items():
        there, last = next(row for row in one["run"] if row["cost"] <= aim), one["run"][-1]
        print(
            f"{name:<6} η = {one['rate']:<6g} cost {aim:.1f} by step {there['steps']} ({there['seconds']:.1f} s), "
            f"{last['cost']:.1f} at step {last['steps']} ({last['seconds']:.1f} s)"
        )


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw the cost over steps and over seconds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (over, label) in zip(axes, {"steps": "steps", "seconds": "processor seconds"}.items(), strict=True):
        for name, one in found.items():
            x, costs = [row[over] for row in one["run"]], [row["cost"] for row in one["run"]]
            axis.plot(x, costs, marker=".", label=f"{name}, η = {one['rate']:g}")
        axis.set(xlabel=label, yscale="log")
        axis.yaxis.set_minor_formatter(ScalarFormatter())
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("cost of an image, mean of an epoch")
    axes[0].legend()
    jp.plot.save(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="K-FAC against SGD and Adam on a deep autoencoder for MNIST.")
    parser.add_argument("data", metavar="FOLDER", help="the folder that holds MNIST's IDX files")
    parser.add_argument("--short", action="store_true", help="a small network, one learning rate each, no picture")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to this file")
    parser.add_argument("--image", type=Path, metavar="FILE", default=IMAGE, help="where the picture goes")
    options = parser.parse_args(arguments)
    rates, hidden, rows, epochs, batch = (SHORT, SMALL, 1024, 10, 128) if options.short else (RATES, DEEP, 5120, 8, 256)
    x = jp.data.mnist(options.data).x[:rows]
    found = compare(rates, jp.models.mlp((784, *hidden, 784), jp.Tanh()), x, epochs, batch)
    report(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if not options.short:
        draw(found, options.image)
    ends = {name: one["run"][-1]["cost"] for name, one in found.items()}
    return 0 if ends["K-FAC"] == min(ends.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
