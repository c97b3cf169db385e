"""What is kept of a run: arrays, and what is said about them; and a run put where a kept one was."""

import time
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.train.result import Best
from jaxprop.train.steps import copied
from jaxprop.train.streamed import Streamed

if TYPE_CHECKING:
    from jaxprop.train.run import Run

Arrays = dict[str, Any]


def contents(run: "Run") -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of a run by path, and the rest as what JSON can hold."""
    # most often the best parameters are those of this very moment: kept once
    now = run.best.epoch == run.epochs and not run.place and bool(run.history)
    arrays = by_path({"state": run.state, "best": () if now else run.best.params, "costs": _costs(run)})
    arrays["sizes"] = np.asarray(run.batches.sizes(run.place), np.int64)
    about = {
        "epochs": run.epochs,
        "steps": run.steps,
        "began": run.began,
        "stopped": run.stopped,
        "seconds": time.monotonic() - run.started,
        "best": {"epoch": run.best.epoch, "cost": run.best.cost, "now": now},
        "history": list(run.history),
    }
    if run.monitor is not None:
        arrays |= by_path({"monitor": run.monitor.kept()})
        about["monitor"] = list(run.monitor.steps)
    return arrays, about


def put(run: "Run", arrays: Arrays, about: dict[str, Any]) -> None:
    """Put a run, one that has taken no step, where the kept one was."""
    run.state = _tree(run.state, arrays, "state")
    run.latest = copied(run.state)
    run.epochs, run.steps, run.began = about["epochs"], about["steps"], about["began"]
    run.history = about["history"]
    run.stopped = about["stopped"] if about["stopped"] == "callback" else run.stopped
    run.epoch_costs = [costs] if len(costs := arrays["costs"]) else []
    if isinstance(run.batches, Streamed):
        run.batches.seen = arrays["sizes"].tolist()
    run.started = time.monotonic() - about["seconds"]
    best = about["best"]
    params = copied(run.latest.for_use()) if best["now"] else _tree(run.best.params, arrays, "best")
    run.best = Best(params, best["epoch"], best["cost"])
    if run.monitor is not None:
        run.monitor.put(about["monitor"], *_of_monitor(run, arrays))


def targets(run: "Run", table: dict[str, Any]) -> Arrays:
    """Return what each kept array becomes: one on devices, where the run has its own, or one of numpy.

    table: dtype and shape of every kept array by path.
    """
    placed = by_path({"state": run.state, "best": run.best.params})
    like = {path: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding) for path, a in placed.items()}
    return {path: like[path] if path in like else np.empty(shape, dtype) for path, (dtype, shape) in table.items()}


def _of_monitor(run: "Run", arrays: Arrays) -> tuple[list[PyTree], dict[str, PyTree]]:
    """The records that a monitor had made, and what its next ones go on from."""
    monitor, batches = run.monitor, run.batches
    assert monitor is not None
    if "monitor.records.0" not in arrays:
        return [], monitor.before
    count = min(batches.batch_size, batches.rows)
    rows = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, count, *a.shape[1:]), a.dtype), run.data)
    record, before = monitor.like(run.state, rows, run.layer_key)
    stacked = _tree({"records": record}, arrays, "monitor")["records"]
    records = [jax.tree.map(lambda a, i=i: np.asarray(a[i]), stacked) for i in range(len(arrays["monitor.records.0"]))]
    return records, jax.tree.map(jnp.asarray, _tree({"before": before}, arrays, "monitor")["before"])


def _costs(run: "Run") -> np.ndarray:
    return np.concatenate([*run.epoch_costs, np.zeros(0)])


def _tree(tree: PyTree, arrays: Arrays, name: str) -> PyTree:
    """A tree's arrays replaced by the kept ones of a name."""
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[path] for path in by_path({name: tree})])
