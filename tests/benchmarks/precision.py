"""What `fit(precision=)` costs in accuracy and gains in time, on MNIST: means over seeds, since one seed's is noise.

    python tests/benchmarks/precision.py [--seeds 10] [--epochs 5] [--data FOLDER] [--rounds 3] [--json FILE]

784-128-10 (ReLU, batch 64, Adam at 0.001), trained by hand and by `jax.grad` in each precision, from the same start
over the same order of rows as in float32, and measured on the 10,000 test images. The difference to float32 is taken
seed by seed; beside its mean stands the standard error of that mean.
Mark: every mean within 0.1 points of float32's. Times are of epochs, in turn, after compiling.
"""

import argparse
import functools
import pathlib
import statistics

import jax
import optax
from measure import in_turn, ratios, report

import jaxprop as jp
from jaxprop import data as datasets

PRECISIONS = ("float32", "bfloat16", "float16")
NET, COST = jp.Chain(jp.Linear(128), jp.ReLU(), jp.Linear(10)), jp.SoftmaxCrossEntropy()
OPTIMIZER = optax.adam(1e-3)


def mnist(folder):
    """Training rows and test rows."""
    data = datasets.mnist(folder)
    return (data.x, data.targets), data.test


def trained(rows, precision, grad, seed, epochs):
    """θ after some epochs."""
    key = jax.random.key(seed)
    return jp.fit(
        NET, COST, OPTIMIZER, rows, epochs=epochs, batch_size=64, key=key, precision=precision, grad=grad,
        progress=False,
    )  # fmt: skip


def accuracies(rows, test, seeds, epochs, ways=("auto", "manual"), precisions=PRECISIONS):
    """Accuracy on the test rows in %, by precision and way, one a seed."""
    evaluate = jp.evaluate(NET, COST)
    return {
        (precision, grad): [
            100 * evaluate(test[0], trained(rows, precision, grad, seed, epochs).params, test[1])["accuracy"]
            for seed in range(seeds)
        ]
        for precision in precisions
        for grad in ways
    }


def row(found, precision, grad):
    """A line of the table."""
    differences = [a - b for a, b in zip(found[precision, grad], found["float32", "auto"], strict=True)]
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
    return {
        "precision": precision,
        "grad": grad,
        "accuracy %": round(statistics.mean(found[precision, grad]), 3),
        "− float32 auto": round(statistics.mean(differences), 3),
        "standard error": round(error, 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data", default="../shared/data/mnist", help="a folder with MNIST's IDX files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    rows, test = mnist(options.data)
    found = accuracies(rows, test, options.seeds, options.epochs)
    table = [row(found, *what) for what in found]
    if options.rounds:
        runs = {what: functools.partial(trained, rows, *what, 0, 1) for what in found}
        seconds = in_turn({" ".join(what): lambda run=run: run().params for what, run in runs.items()}, options.rounds)
        for line, what in zip(table, found, strict=True):
            line["epoch ÷ float32"] = round(ratios(seconds, " ".join(what), "float32 auto")["of_minima"], 2)
    report(options, f"precision, MNIST, {options.seeds} seeds, {options.epochs} epochs", table)
