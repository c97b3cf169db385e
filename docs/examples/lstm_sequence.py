"""An LSTM that adds: of 20 numbers two are marked, and their sum is asked for at the end.

    python docs/examples/lstm_sequence.py [epochs]

The task of Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), section 5.4: answering 1, always, leaves a mean
squared error of 1/6 = 0.167.
"""

import sys

import jax
import numpy as np
import optax
from character_gpt import difference

import jaxprop as jp


def rows(count, length=20, seed=0):
    """x `[N, T, 2]`: a number and whether it is marked; targets `[N, 1]`: the sum of the two marked."""
    rng = np.random.default_rng(seed)
    numbers, marks = rng.random((count, length)), np.zeros((count, length))
    for row in range(count):
        marks[row, rng.choice(length, 2, replace=False)] = 1
    x = np.stack([numbers, marks], axis=-1).astype(np.float32)
    return x, (numbers * marks).sum(axis=1, keepdims=True).astype(np.float32)


def main(epochs=40):
    """Train, and return the held-out mean squared error, and how far the two gradients are apart."""
    (x, targets), held_out = rows(4000), rows(500, seed=1)
    net = jp.models.rnn_classifier(cell="lstm", features=32, classes=1)
    cost = jp.MeanSquaredError()
    params = net.init(jax.random.key(0), x[:1])
    apart = difference(net, cost, params, x[:32], targets[:32])
    print(f"adding two of 20 numbers; max|manual − auto| / max|auto| = {apart:.1e}")
    result = jp.fit(
        net, cost, optax.adam(1e-2), (x, targets), params=params, epochs=epochs, batch_size=50, grad="manual",
        validation=held_out, progress=False,
    )  # fmt: skip
    for row in result.history[:: max(1, epochs // 5)]:
        print(f"epoch {row['epoch']}: held-out mean squared error {row['validation_cost']:.4f}")
    print(f"best: {result.best.cost:.4f} (always 1: 0.167)")
    return result.best.cost, apart


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
