"""What the page draws of an experiment at one moment, as JSON: weights, activations, errors, heat maps."""

import base64
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from jaxprop.cli.build import snake
from jaxprop.layers import Activation, Flatten, Layer, Linear, Softmax, Standardize, Unstandardize
from jaxprop.network import Chain, by_path, leaves
from jaxprop_explorer.experiments import programs
from jaxprop_explorer.experiments.experiment import Experiment, Passed
from jaxprop_explorer.experiments.measuring import Measured
from jaxprop_explorer.experiments.problems import Problem

MOST_EDGES = 1000  # of one layer that are all sent
LARGEST_EDGES = 300  # of a larger one
MOST_POINTS = 300
BENDS, NOT_DRAWN = (Activation, Softmax), (Flatten, Standardize, Unstandardize)
INPUTS = -1  # the layer of the inputs themselves among heat maps


def frame(experiment: Experiment) -> dict[str, Any]:
    """Return the frame of this moment; errors and gradients only if a backward pass ran."""
    passed = experiment.passed()
    training, validation = experiment.measured()
    layers = _layers(experiment, passed)
    costs = experiment.costs
    heat, surface, curve = _drawn(experiment)
    return {
        "version": experiment.version, "step": experiment.step, "epoch": experiment.epoch,
        "phase": experiment.phase, "diverged": experiment.diverged, "steerable": experiment.steerable,
        "cost": finite(training.cost), "accuracy": training.accuracy, "validation": _told(validation),
        "history": {
            "step": [s for s, _, _ in costs], "cost": [finite(c) for _, c, _ in costs],
            "validation": [finite(v) for _, _, v in costs],
        },
        "example": {
            "index": experiment.example, "of": len(experiment.rows.x), "cost": finite(float(passed.cost)),
        },
        "inputs": {"names": list(experiment.rows.names), "values": numbers(passed.x[0])},
        "target": numbers(passed.targets[0]), "output": layers[-1]["a"] if layers else [],
        "classes": list(experiment.rows.classes),
        "output_names": list(experiment.rows.answers), "layers": layers,
        "heat": heat, "surface": surface, "curve": curve,
        "settings": experiment.settings.model_dump(mode="json"), "state": experiment.given(),
    }  # fmt: skip


def finite(value: float | None) -> float | None:
    """Return a number as JSON can hold it: None for NaN and infinity."""
    return None if value is None or not np.isfinite(value) else value


def numbers(values: Any) -> list[float | None] | None:
    """Return an array as a flat list that JSON can hold."""
    if values is None:
        return None
    found = np.ravel(np.asarray(values))
    return found.tolist() if np.all(np.isfinite(found)) else [finite(v) for v in found.tolist()]


def _told(measured: Measured | None) -> dict[str, Any] | None:
    return None if measured is None else {"cost": finite(measured.cost), "accuracy": measured.accuracy}


def _layers(experiment: Experiment, passed: Passed) -> list[dict[str, Any]]:
    """Every layer in order; an activation stands with the layer before it, what only scales or flattens is left out."""
    theta, slopes, gone = by_path(experiment.params), by_path(passed.grads), experiment.pruned
    found: list[dict[str, Any]] = []
    everything = [leaf for leaf in leaves(experiment.net) if not isinstance(leaf.layer, NOT_DRAWN)]
    bends = {
        before.path: leaf
        for before, leaf in pairwise(everything)
        if isinstance(leaf.layer, BENDS) and isinstance(before.layer, Linear)
    }
    taken = {leaf.path for leaf in bends.values()}
    for leaf in everything:
        if leaf.path in taken:
            continue
        bend, own = bends.get(leaf.path), isinstance(leaf.layer, Linear) and _has_edges(leaf.path, theta)
        record, last = passed.tape.get(leaf.path), passed.tape.get((bend or leaf).path)
        answers = 0 if last is None else int(np.prod(np.shape(last.y)[1:]))
        found.append(
            {
                "path": leaf.path, "label": _label(leaf.layer, found), "kind": type(leaf.layer).__name__,
                "units": answers,
                "activation": "linear" if bend is None else _named(bend.layer),
                **_of_leaf(leaf.path, theta, slopes, gone, own, experiment.pulled, experiment.chosen),
                "z": None if record is None else _few(record.y), "a": None if last is None else _few(last.y),
                "delta": _few(record.dy) if record is not None and experiment.pulled else None,
            }
        )  # fmt: skip
    return found


def _has_edges(path: str, theta: Any) -> bool:
    """Whether a Linear has a matrix of its own: one in a Repeat has a stack of them, one that is tied has none."""
    return np.ndim(theta.get(f"{path}.W" if path else "W")) == 2


def _of_leaf(
    path: str, theta: Any, slopes: Any, gone: Any, own: bool, pulled: bool, chosen: tuple[str, tuple[int, ...]] | None
) -> dict[str, Any]:
    """The weights of one layer, and their gradients at the same edges."""
    prefix = f"{path}." if path else ""
    W, b = theta.get(prefix + "W"), theta.get(prefix + "b")
    W = np.asarray(W) if own else None
    at = None if W is None or W.size <= MOST_EDGES else _largest(W)
    if W is not None and at is not None and chosen is not None and chosen[0] == prefix + "W":
        if all(i < n for i, n in zip(chosen[1], W.shape, strict=True)):
            at = np.union1d(at, np.ravel_multi_index(chosen[1], W.shape))
    return {
        "W": None if W is None else _matrix(W, at),
        "b": numbers(b) if own else None,
        "dW": _matrix(np.asarray(slopes[prefix + "W"]), at) if W is not None and pulled else None,
        "db": numbers(slopes.get(prefix + "b")) if own and pulled else None,
        "pruned": gone.get(prefix + "W", []),
        "parameters": {
            name[len(prefix) :]: list(np.shape(value)) for name, value in theta.items() if name.startswith(prefix)
        },
    }


def _label(layer: Layer, before: list[dict[str, Any]]) -> str:
    if not isinstance(layer, Linear):
        return type(layer).__name__
    return f"layer {1 + sum(found['kind'] == 'Linear' for found in before)}"


def _named(layer: Layer) -> str:
    name = snake(type(layer).__name__)
    return "linear" if name == "identity" else name


def _few(values: Any) -> list[float | None] | None:
    """The numbers of one example, if they are few enough to be drawn."""
    found = np.asarray(values)[0]
    return numbers(found) if found.size <= MOST_EDGES else None


def _largest(W: np.ndarray) -> np.ndarray:
    """Where the largest numbers are, in order of size."""
    flat = np.abs(W).ravel()
    some = np.argpartition(flat, -LARGEST_EDGES)[-LARGEST_EDGES:]
    return some[np.argsort(-flat[some], kind="stable")]


def _matrix(W: np.ndarray, at: np.ndarray | None) -> dict[str, Any]:
    """All numbers of a matrix, or those at some places."""
    if at is None:
        return {"shape": list(W.shape), "values": numbers(W), "largest": None}
    rows, columns = np.unravel_index(at, W.shape)
    values = numbers(W.ravel()[at]) or []
    largest = [list(edge) for edge in zip(rows.tolist(), columns.tolist(), values, strict=True)]
    return {"shape": list(W.shape), "values": None, "largest": largest}


def _drawn(experiment: Experiment) -> tuple[dict[str, Any] | None, dict[str, Any] | None, dict[str, Any] | None]:
    """Heat maps of the units, and the surface or the curve of the output; None where inputs are more than two."""
    rows, net = experiment.rows, experiment.net
    if not isinstance(net, Chain) or not rows.bounds or not programs.drawn(net, rows.inputs):
        return None, None, None
    count = rows.inputs + sum(layer.features for layer in net.layers if isinstance(layer, Linear))
    side = next((side for most, side in programs.UNIT_SIDES if count <= most), programs.UNIT_SIDES[-1][1])
    two = rows.inputs == 2
    run = programs.drawing(net, experiment.cost, rows.middle if rows.classes else None, side if two else None)
    grid = _grid(rows.bounds)
    drawing = run(experiment.params, grid)
    units = [[INPUTS, i, _bytes(row)] for i, row in enumerate(_inputs(rows.bounds, side))]
    for layer, part in enumerate(drawing.units):
        room = max(0, programs.MOST_HEAT - len(units))
        units += [[layer, i, _bytes(row)] for i, row in enumerate(np.asarray(part)[:room])]
    width, height = (side, side) if two else (programs.CURVE, 1)
    heat = {"width": width, "height": height, "units": units}
    if two:
        return heat, _surface(rows, drawing), None
    target = None if rows.function is None else numbers(rows.function(grid[:, 0]))
    curve = {"x": numbers(grid), "y": numbers(drawing.answers[:, 0]), "target": target, "points": _points(rows)}
    return heat, None, curve


def _surface(rows: Problem, drawing: programs.Drawing) -> dict[str, Any]:
    (x, y), scale = rows.bounds, finite(float(drawing.scale))
    values = _bytes(np.asarray(drawing.surface))
    return {
        "width": programs.SIDE, "height": programs.SIDE, "x": list(x), "y": list(y), "scale": scale,
        "values": values, "points": _points(rows),
    }  # fmt: skip


@lru_cache(16)
def _grid(bounds: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Points over the inputs, row after row from the top (the largest y) down."""
    if len(bounds) == 1:
        return _along(bounds[0], programs.CURVE)[:, None]
    across = _along(bounds[0], programs.SIDE)
    down = _along(bounds[1], programs.SIDE)[::-1]
    return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)


def _along(ends: tuple[float, float], points: int) -> np.ndarray:
    return np.linspace(ends[0], ends[1], points, dtype=np.float32)


@lru_cache(16)
def _inputs(bounds: tuple[tuple[float, float], ...], side: int) -> np.ndarray:
    """Each input as a heat map of itself."""
    grid = _grid(bounds)
    grid = programs.thinned(grid, side) if len(bounds) == 2 else grid
    return np.round(127 * grid / np.max(np.abs(grid), axis=0)).astype(np.int8).T


def _points(rows: Problem) -> dict[str, Any]:
    """Some of the rows, first those trained on, then those held out; middle is between two classes."""
    x, targets, held = rows.x[:MOST_POINTS], rows.targets[:MOST_POINTS], np.zeros(len(rows.x[:MOST_POINTS]), bool)
    if rows.held_out is not None:
        x = np.concatenate([x, rows.held_out[0][:MOST_POINTS]])
        targets = np.concatenate([targets, rows.held_out[1][:MOST_POINTS]])
        held = np.arange(len(x)) >= len(held)
    at = targets.reshape(len(targets), -1)
    value = at[:, 0] if at.shape[1] == 1 else np.argmax(at, axis=1)
    shown = np.round(x if x.shape[1] > 1 else x[:, 0], 4)
    return {
        "key": f"{rows.label} {id(rows)}", "x": shown.tolist(), "target": np.round(value, 4).tolist(),
        "middle": (rows.middle if at.shape[1] == 1 and at.dtype.kind == "f" else (len(rows.classes) - 1) / 2)
        if rows.classes else 0.0,
        "validation": held.tolist(),
    }  # fmt: skip


def _bytes(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
