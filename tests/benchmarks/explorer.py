"""The explorer while it trains: updates a second that a page gets, and training with a page ÷ training without.

    python tests/benchmarks/explorer.py

A network of about 1,000 edges, and 784-100-10 on made-up rows of MNIST's size. A page is a reader of the event stream
that decodes every frame. Steps are counted by CPU second of this process, which hardly changes when others compute on
the same machine; updates by second on the clock, so that the machine should be quiet.
"""

import asyncio
import json
import time
from typing import NamedTuple

import jax
import numpy as np

import jaxprop as jp
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.frame import frame
from jaxprop_explorer.experiments.problems import Problem
from jaxprop_explorer.experiments.settings import Settings
from jaxprop_explorer.panels.network import Play, play
from jaxprop_explorer.sessions import Session

SECONDS = 4.0


def mnist_sized() -> Experiment:
    """784-100-10 on rows as many and as large as a mini-batch run of MNIST has."""
    rng = np.random.default_rng(0)
    x, targets = rng.random((5000, 784), np.float32), rng.integers(0, 10, 5000).astype(np.int32)
    rows = Problem(x, targets, tuple(f"pixel {i}" for i in range(784)), tuple("0123456789"), label="made up")
    net = jp.Chain(jp.Linear(100), jp.Sigmoid(), jp.Linear(10))
    params = net.init(jax.random.key(0), x[:1])
    return Experiment(net, jp.SoftmaxCrossEntropy(), rows, params, Settings(learning_rate=0.01, batch_size=10))


def thousand_edges() -> Experiment:
    """2-30-30-1 on two moons, every unit a heat map."""
    return Experiment.of(Settings(data="moons", layers=(30, 30), learning_rate=0.01))


class Watched(NamedTuple):
    """What a page saw while training went on."""

    updates: int
    seconds: float
    steps: int
    cpu: float
    size: int


async def watched(experiment: Experiment) -> Watched:
    """Play for some seconds before a page that reads every event."""
    session = Session(experiment, asyncio.get_running_loop())
    session.listeners, seen, size = 1, 0, 0
    steps, began, cpu = experiment.step, time.monotonic(), time.process_time()
    play(session, Play())
    async for event in session.listen():
        if event is not None and event[0] == "frame":
            text = json.dumps(event[1])
            json.loads(text)
            seen, size = seen + 1, len(text)
        if time.monotonic() - began > SECONDS:
            break
    await asyncio.to_thread(session.pause)
    return Watched(seen, time.monotonic() - began, experiment.step - steps, time.process_time() - cpu, size)


def alone(experiment: Experiment) -> float:
    """Return the steps a CPU second without any page."""
    steps, cpu, ends = experiment.step, time.process_time(), time.monotonic() + SECONDS
    while time.monotonic() < ends:
        experiment.advance(2000)
    return (experiment.step - steps) / (time.process_time() - cpu)


def main() -> None:
    """Print two lines for each network."""
    for name, make in (("2-30-30-1", thousand_edges), ("784-100-10", mnist_sized)):
        experiment = make()
        experiment.advance(1)
        frame(experiment)
        before, seen, after = alone(experiment), asyncio.run(watched(experiment)), alone(experiment)
        began = time.process_time()
        for _ in range(20):
            experiment.version += 1
            frame(experiment)
        each = f"each {1e3 * (time.process_time() - began) / 20:.1f} ms and {seen.size / 1e3:.0f} kB"
        print(f"{name:11} {seen.updates / seen.seconds:5.1f} updates a second, {each}")
        ratio = seen.steps / seen.cpu / ((before + after) / 2)
        print(f"{'':11} {seen.steps / seen.seconds:,.0f} steps a second, × {ratio:.2f} of training without a page")


if __name__ == "__main__":
    main()
