"""What the page draws of an experiment at one moment, as JSON: weights, activations, errors, heat maps."""

from functools import lru_cache
from typing import Any

import jax
import numpy as np

from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.layers import Layer, Linear
from jaxprop.network import by_path, leaves
from jaxprop_explorer.experiment import Experiment

MOST_EDGES = 1000


def frame(experiment: Experiment) -> dict[str, Any]:
    """Return the frame of this moment; errors and gradients only if a backward pass ran."""
    x, targets = experiment.row
    tape, grads = _seen(experiment.net, experiment.cost)(x, experiment.params, targets)
    known, slopes = by_path(experiment.params), by_path(grads)
    found, everything = [], list(leaves(experiment.net))
    for leaf, after in zip(everything, [*everything[1:], None], strict=True):
        if not isinstance(leaf.layer, Linear):
            continue
        out = tape[after.path if after is not None and not isinstance(after.layer, Linear) else leaf.path]
        prefix = f"{leaf.path}." if leaf.path else ""
        pulled = experiment.pulled
        found.append(
            {
                "path": leaf.path, "kind": "Linear", "label": f"layer {len(found) + 1}",
                "units": leaf.layer.features,
                "activation": type(after.layer).__name__ if after is not None else "Identity",
                "W": _matrix(known[prefix + "W"]), "b": _numbers(known.get(prefix + "b")),
                "z": _numbers(tape[leaf.path].y[0]), "a": _numbers(out.y[0]),
                "delta": _numbers(tape[leaf.path].dy[0]) if pulled else None,
                "dW": _matrix(slopes[prefix + "W"]) if pulled else None,
                "db": _numbers(slopes.get(prefix + "b")) if pulled else None,
            }
        )  # fmt: skip
    costs = experiment.costs[-200:]
    return {
        "version": experiment.version, "step": experiment.step, "epoch": 0, "phase": None, "diverged": None,
        "cost": costs[-1][1] if costs else None, "validation": None,
        "history": {"step": [s for s, _ in costs], "cost": [c for _, c in costs], "validation": []},
        "example": {"index": experiment.example, "of": len(experiment.rows.x)},
        "inputs": {"names": list(experiment.rows.names), "values": _numbers(x[0])},
        "target": _numbers(targets[0]), "output": found[-1]["a"] if found else [],
        "layers": found, "heat": None, "surface": None,
    }  # fmt: skip


@lru_cache(8)
def _seen(net: Layer, cost: Cost) -> Any:
    def run(x: Any, params: Any, targets: Any) -> Any:
        return manual.trace(net, cost)(x, params, targets), manual.value_and_grad(net, cost)(x, params, targets)[1]

    return jax.jit(run)


def _numbers(values: Any) -> list[float] | None:
    return None if values is None else [float(v) for v in np.ravel(np.asarray(values))]


def _matrix(W: Any) -> dict[str, Any]:
    W = np.asarray(W)
    if W.size <= MOST_EDGES:
        return {"shape": list(W.shape), "values": _numbers(W), "largest": None}
    at = np.argsort(-np.abs(W), axis=None)[:MOST_EDGES]
    rows, columns = np.unravel_index(at, W.shape)
    largest = [[int(i), int(j), float(W[i, j])] for i, j in zip(rows, columns, strict=True)]
    return {"shape": list(W.shape), "values": None, "largest": largest}
