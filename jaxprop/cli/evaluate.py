"""`jaxprop evaluate`: how good a saved model is on rows whose targets are known."""

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxprop import tables
from jaxprop.cli.runs import Rows, SavedRun, with_targets
from jaxprop.train import evaluate, predict
from jaxprop.train.confusion import confusion, most_confused as pairs_confused, per_class
from jaxprop.train.metrics import decided

MOST_CLASSES = 12  # of a matrix that can be read at a glance


def measures(run: SavedRun, rows: Rows) -> dict[str, Any]:
    """The cost of these rows, and what else is said of classes or of numbers."""
    x, targets = with_targets(run, rows, "measuring it")
    y = predict(run.net, x, run.params)
    run.cost.check(y, targets)
    run.cost.check_values(y, targets)
    found = {"rows": len(x), **evaluate(run.net, run.cost)(x, run.params, targets)}
    decisions = decided(run.cost, y, targets)
    if decisions is None:
        error = np.asarray(run.cost.expected(y), np.float64) - targets
        return found | {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.mean(np.abs(error)))}
    truth, predicted, counted = decisions
    yes_or_no = predicted.shape == y.shape
    if yes_or_no and y.shape[-1] > 1:  # several questions: classes of none
        return found
    classes = list(run.about.info.classes or map(str, range(2 if yes_or_no else y.shape[-1])))
    counts = confusion(truth[counted], predicted[counted], len(classes))
    scores = per_class(counts)
    by_class = [
        {"class": name, **{key: float(values[i]) for key, values in scores.items()}, "rows": int(counts[i].sum())}
        for i, name in enumerate(classes)
    ]
    return found | {"classes": classes, "confusion": counts.tolist(), "by_class": by_class}


def report(found: dict[str, Any], target: str | None = None) -> str:
    """The same for people."""
    words = {"r2": "R²", "rmse": "RMSE", "mae": "MAE"}
    told = [f"{word} {tables.shown(found[key])}" for key, word in words.items() if key in found]
    if "accuracy" in found:
        told = [f"accuracy {100 * found['accuracy']:.2f} %"]
    elif told:
        told[-1] += f", in the unit of {target or 'the target'}"
    line = " · ".join([*told, f"cost {tables.shown(found['cost'])}"])
    if "classes" not in found:
        return line
    classes, counts = found["classes"], np.array(found["confusion"])
    matrix = crossed(counts, classes) if len(classes) <= MOST_CLASSES else most_confused(counts, classes)
    head = ("class", "precision", "recall", "F1", "rows")
    figures = [
        (row["class"], *(_share(row[key]) for key in ("precision", "recall", "f1")), str(row["rows"]))
        for row in found["by_class"]
    ]
    return "\n\n".join([line, matrix, tables.table([head, *figures], right=range(1, 5))])


def crossed(counts: np.ndarray, classes: Sequence[str]) -> str:
    """The confusion matrix; where its head would be too long, classes have numbers there."""
    right = range(1, len(classes) + 1)

    def lined(names: Sequence[str], head: Sequence[str]) -> str:
        rows = [[name, *map(str, row)] for name, row in zip(names, counts, strict=True)]
        return tables.table([["true ↓ predicted →", *head], *rows], right)

    text = lined(classes, classes)
    if max(map(len, text.splitlines())) <= shutil.get_terminal_size().columns:
        return text
    return lined([f"{i} {name}" for i, name in zip(right, classes, strict=True)], list(map(str, right)))


def most_confused(counts: np.ndarray, classes: Sequence[str]) -> str:
    """The pairs of classes that are confused most, where a matrix would be too large."""
    rows = pairs_confused(counts, classes)
    if not rows:
        return f"confusion: none of the {len(classes)} classes is taken for another"
    return "most confused\n" + tables.table([("truth", "prediction", "rows"), *rows], right=[2])


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if np.isfinite(value) else "–"
