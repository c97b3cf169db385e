"""One process of a training job: `python -m tests.train.job WHAT PROCESS PROCESSES PORT FOLDER`.

What it found is written as FOLDER/PROCESS.json. `learn` is the training that all of them do, and that the tests do
alone in their own process.
"""

import json
import os
import pathlib
import signal
import sys
import time

import jax
import numpy as np
import optax

import jaxprop as jp
from jaxprop.train.checkpoints import folder as kept
from jaxprop.train.sources import Source

RNG = np.random.default_rng(0)
X = RNG.normal(size=(205, 6)).astype(np.float32)
TARGETS = (X.sum(axis=1) > 0).astype(np.int32)
NET = jp.Chain(jp.Linear(16), jp.Tanh(), jp.Dropout(0.1), jp.Linear(2))
BATCH, FULL, REST = 20, 10, 5


class Counted(Source):
    """Rows that know how many of them were read."""

    def __init__(self, x=X, targets=TARGETS):
        self.x, self.targets, self.read_rows = x, targets, []

    @property
    def rows(self):
        return len(self.x)

    def read(self, numbers, out=None):
        from jaxprop.train.rows import Rows
        from jaxprop.train.sources.source import filled

        self.read_rows.append(len(numbers))
        return filled(Rows(self.x[numbers], self.targets[numbers]), out)


def learn(data=None, rate=0.01, **options):
    """Four epochs of a network with dropout, measured on some rows after each."""
    given = {"epochs": 4, "batch_size": BATCH, "key": jax.random.key(3), "progress": False}
    given |= {"validation": (X[:50], TARGETS[:50])} | options
    return jp.fit(NET, jp.SoftmaxCrossEntropy(), optax.adam(rate), (X, TARGETS) if data is None else data, **given)


def plain(result):
    """A result as JSON holds it."""
    history = [
        {name: value for name, value in row.items() if "cost" in name or name == "epoch"} for row in result.history
    ]
    params = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(result.params)]
    return {"params": params, "history": history, "stopped": result.stopped, "steps": result.steps}


def numbers(process):
    """θ after some epochs, spread in each way, and how many rows this process read."""
    source = Counted()
    found = {"data": plain(learn(source)), "read": source.read_rows}
    if jax.process_count() == 2:
        spread = learn(mesh="fsdp=2", monitor={"norms": jp.stats.ExampleNorms()}, every=5)
        found |= {"fsdp": plain(spread), "records": len(spread.monitor)}
    return found


def turns(process):
    """What ends all of them alike, though only one of them knows of it."""
    found = {"callback": plain(learn(on_epoch=lambda row, state: process == 1 and row["epoch"] == 2))}
    found["early"] = plain(learn(epochs=30, patience=1, key=jax.random.key(process * 0)))
    for name, change in {
        "data": {"data": (X + (process == 1), TARGETS)},
        "key": {"key": jax.random.key(process)},
        "params": {"params": NET.init(jax.random.key(process), X)},
        "nan": {"rate": 1e38},
        "batch_size": {"batch_size": 25},
    }.items():
        try:
            learn(**change)
        except jp.JaxpropError as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def numbers_and_turns(process):
    return {"numbers": numbers(process), "turns": turns(process)}


def killed(process, epoch, who):
    """A run that is kept; one of its processes dies, or the run comes to its end."""

    def on_epoch(row, state):
        if process == who and row["epoch"] == epoch:
            while not list(folder.glob(f"run/checkpoint-*/{kept.SEAL}")):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)

    return plain(learn(checkpoints=jp.train.Checkpoints(folder / "run", 0), resume=True, epochs=8, on_epoch=on_epoch))


def asked(process):
    """A run whose last process alone is told to stop, and then fails."""

    def on_epoch(row, state):
        if process == jax.process_count() - 1 and row["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        learn(checkpoints=folder / "run", epochs=8, on_epoch=on_epoch)
    except jp.TrainingInterrupted as stop:
        write(process, {"interrupted": plain(stop.result)})
    if process:
        while not (folder / "0.json").exists():
            time.sleep(0.05)
        raise ZeroDivisionError("of its own\nin two lines")
    time.sleep(60)


def write(process, found):
    (folder / f"{process}.part").write_text(json.dumps(found))
    (folder / f"{process}.part").rename(folder / f"{process}.json")


if __name__ == "__main__":
    what, process, processes, port = sys.argv[1], *map(int, sys.argv[2:5])
    folder = pathlib.Path(sys.argv[5])
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jp.train.distributed(f"127.0.0.1:{port}", processes, process, seconds=60)
    name, *given = what.split(":")
    write(process, globals()[name](process, *map(int, given)))
