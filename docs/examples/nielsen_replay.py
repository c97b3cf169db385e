"""Replay the book's own runs, random number by random number: the published figures to the last digit.

    python nielsen_replay.py ../shared/data/mnist

The programs behind the figures of chapter 3 (`fig/` in the book's repository) seed everything with 12345678. Its draws
(numpy's legacy `randn`, Python 2's `random.shuffle`), its images (bytes / 256) and its update, with jaxprop's network,
cost, gradient and optimizer in float64, end on the book's numbers: what `nielsen.py` finds beyond them is another seed.
"""

import functools
import random
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import nielsen
import numpy as np
import optax

import jaxprop as jp

SEED = 12345678


class Draws:
    """The book's random numbers, in the order in which its programs draw them."""

    def __init__(self) -> None:
        self.numpy, self.python = np.random.RandomState(SEED), random.Random(SEED)
        self.start(scaled=True)  # network2.Network(...) draws a start, used or not

    def start(self, scaled: bool) -> Any:
        """θ of a 784-30-10 network; the book draws all biases first, and has W as [out, in]."""
        inputs, outputs = (784, 30), (30, 10)
        b = [self.numpy.randn(o, 1)[:, 0] for o in outputs]
        W = [self.numpy.randn(o, i) / (i**0.5 if scaled else 1) for i, o in zip(inputs, outputs, strict=True)]
        first, last = (jp.LinearParams(jnp.array(w.T), jnp.array(v)) for w, v in zip(W, b, strict=True))
        return (first, (), last)

    def shuffle(self, order: list[int]) -> None:
        """Python 2's random.shuffle."""
        for i in reversed(range(1, len(order))):
            j = int(self.python.random() * (i + 1))
            order[i], order[j] = order[j], order[i]


@functools.partial(jax.jit, static_argnames=("net", "cost", "optimizer"))
def epoch(net: jp.Chain, cost: jp.Cost, optimizer: Any, state: Any, batches: Any) -> Any:
    """One epoch in the order given."""

    def step(state: Any, batch: Any) -> tuple[Any, None]:
        params, memory = state
        _, grads = jp.auto.value_and_grad(net, cost)(batch[0], params, batch[1])
        updates, memory = optimizer.update(grads, memory, params)
        return (optax.apply_updates(params, updates), memory), None

    return jax.lax.scan(step, state, batches)[0]


def replay(run: nielsen.Run, params: Any, draws: Draws, order: list[int], rows: Any, held: Any) -> Iterator[float]:
    """Yield the accuracy in percent after every epoch (the last alone if the run is not watched)."""
    net, cost = nielsen.network(run)
    optimizer = nielsen.optimizer(run.eta, run.decay / len(order))
    state = (params, optimizer.init(params))
    for number in range(1, run.epochs + 1):
        draws.shuffle(order)
        batches = jax.tree.map(lambda a: a[np.array(order).reshape(-1, 10)], rows)
        state = epoch(net, cost, optimizer, state, batches)
        if run.watched or number == run.epochs:
            yield 100 * jp.evaluate(net, cost)(held[0], state[0], held[1])["accuracy"]


def say(name: str, found: list[float], published: str) -> None:
    print(
        f"{name}: first {found[0]:.2f}, best {max(found):.2f}, last {found[-1]:.2f} | the book: {published}", flush=True
    )


def main(folder: str) -> None:
    jax.config.update("jax_enable_x64", True)
    data = {}
    for name, (x, labels) in nielsen.load(folder).items():
        data[name] = (np.round(x * 255).astype(np.float64) / 256, np.eye(10)[labels])  # bytes / 256, exact
    rows = data["training"]

    for size, epochs, decay, published in (
        (1000, 400, 0.0, "best 82.27"),
        (1000, 400, 0.1, "best 87.10"),
        (50_000, 30, 5.0, "best 96.49"),
    ):
        draws, run = Draws(), nielsen.Run((30,), 0.5, decay, epochs, size)
        found = list(replay(run, draws.start(scaled=False), draws, list(range(size)), rows, data["test"]))
        say(f"overfitting.py, {size:,} images, λ={decay:g}", found, published)

    draws = Draws()  # one stream of random numbers through all sizes
    for row in nielsen.ROWS:
        if isinstance(row.by, nielsen.Run) and not row.by.watched:
            start, order = draws.start(scaled=False), list(range(row.by.size))
            say(
                f"more_data.py, {row.by.size:,} images",
                list(replay(row.by, start, draws, order, rows, data["validation"])),
                f"last {row.published:.2f}",
            )

    draws, order = Draws.__new__(Draws), list(range(50_000))  # here the first start is the one that is used
    draws.numpy, draws.python = np.random.RandomState(SEED), random.Random(SEED)
    for scaled, published in ((True, "first 92.70, last 96.50"), (False, "first 86.43, last 96.37")):
        run = nielsen.Run((30,), 0.1, 5.0, held="validation")
        found = list(replay(run, draws.start(scaled), draws, order, rows, data["validation"]))
        say(f"weight_initialization.py, {'scaled' if scaled else 'large'} start", found, published)


if __name__ == "__main__":
    main(sys.argv[1])
