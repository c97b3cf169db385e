"""A training run killed with -9 at random moments and gone on each time: `python -m tests.train.killed FOLDER KILLS`.

This process imports all that is slow and forks: each attempt is a process of its own that begins JAX anew, goes on from
the folder, and is killed before long. Printed as JSON at last: how many were killed, at what, and whether the run that
came to its end has the same bits as one left alone.
"""

import json
import os
import pathlib
import pickle
import random
import signal
import sys
import time

import jax
import numpy as np
import optax
import orbax.checkpoint  # noqa: F401  (imported once, not in every attempt)

import jaxprop as jp
import jaxprop.train.run
from jaxprop.train.checkpoints import folder as kept

STARTING, GOING = 1.0, 0.4  # seconds: of a quarter of the kills since the start, of the others since it writes
EPOCHS = 15  # a kill: more than an attempt takes
MOST = 4  # times as many kills as asked for, until one has come amid the writing of a checkpoint
jp.fit  # noqa: B018  (loads the rest of the library)


def fit(epochs, **options):
    """A small network whose layers draw, on weighted rows, measured and watched."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    targets = np.sum(x**2, axis=1, keepdims=True)
    net = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Dropout(0.2), jp.Linear(1))
    return jp.fit(
        *(net, jp.HalfSquaredError(), optax.adam(0.01), (x, targets)),
        **{"epochs": epochs, "batch_size": 16, "key": jax.random.key(3), "progress": False},
        **{"weights": rng.uniform(0.5, 1.5, size=200).astype(np.float32), "validation": (x[:50], targets[:50])},
        **{"monitor": {"noise": jp.stats.NoiseScale()}, "every": 7},
        **options,
    )


def bits(result):
    """All that a run has learnt, and its history but for the seconds."""
    history = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]
    arrays = jax.tree.leaves((result.params, result.state, result.best.params, result.monitor.found))
    return [np.asarray(a).tobytes() for a in arrays], history, result.best.epoch, result.stopped


def attempt(file, cache, epochs, every_step=False, **options):
    """In a process of its own: train, and write what came of it."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        if every_step:
            jaxprop.train.run.SECONDS_A_CHUNK = 0.0  # one step a call: many moments to be killed at
        file.write_bytes(pickle.dumps(bits(fit(epochs, **options))))
        status = 0
    finally:
        os._exit(status)


def latest(run):
    """The number of the latest checkpoint, whole or not."""
    return max(kept.numbers(run), default=-1)


def kill(pid, run, moment, since_it_writes):
    """Kill a process so many seconds after its start, or after it has begun to write; whether there was time to."""
    before, end = latest(run), None
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if end is None and (not since_it_writes or latest(run) > before):
            end = time.monotonic() + moment
        if end is not None and time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return True
        time.sleep(0.002)
    return False


def half_written(run, before):
    """Whether a checkpoint that was begun since that number is not whole."""
    return latest(run) > before and not (run / kept.name_of(latest(run)) / kept.SEAL).exists()


def main(folder, kills):
    """Kill so often, then let it come to its end."""
    given = folder / "cache", EPOCHS * MOST * kills
    draw, run, alone, gone_on = random.Random(), folder / "run", folder / "alone", folder / "gone_on"
    assert os.waitpid(attempt(alone, *given), 0)[1] == 0
    killed, writing, started = 0, 0, time.monotonic()
    often = {"checkpoints": jp.train.Checkpoints(run, every_seconds=0), "resume": True, "every_step": True}
    while killed < kills or (not writing and killed < MOST * kills):
        before = latest(run)
        pid, early = attempt(gone_on, *given, **often), draw.random() < 0.25
        if not kill(pid, run, draw.uniform(0, STARTING if early else GOING), not early):
            break
        killed, writing = killed + 1, writing + half_written(run, before)
    assert os.waitpid(attempt(gone_on, *given, checkpoints=run, resume=True), 0)[1] == 0
    same = pickle.loads(alone.read_bytes()) == pickle.loads(gone_on.read_bytes())
    seconds = time.monotonic() - started
    print(json.dumps({"same": same, "killed": killed, "writing": writing, "seconds": seconds}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
