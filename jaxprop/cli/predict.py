"""`jaxprop predict`: what a saved model answers for some rows, here or on a server (`--url`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxprop import tables
from jaxprop.cli.runs import Rows, SavedRun
from jaxprop.costs import Cost
from jaxprop.train import predict


def outputs_of(saved: SavedRun, chosen: Rows) -> dict[str, list[Any]]:
    """The columns that the model adds: the class and the probability of each, or the numbers."""
    y = predict(saved.net, chosen.x, saved.params)
    classes, cost = saved.about.info.classes, saved.about.cost
    labels = labels_of(y, cost, classes)
    if labels is None or classes is None:
        answers = numbers_of(cost, y).reshape(len(y), -1)
        names = ["prediction"] if answers.shape[1] == 1 else [f"prediction {i}" for i in range(answers.shape[1])]
        return {name: [_plain(value) for value in column] for name, column in zip(names, answers.T, strict=True)}
    found: dict[str, list[Any]] = {"prediction": [classes[label] for label in labels]}
    if cost is not None and cost.outputs in ("class logits", "logits"):
        p = numbers_of(cost, y)
        p = np.concatenate([1 - p, p], 1) if p.shape[1] < len(classes) else p
        for name, column in zip(classes, p.T, strict=True):
            found[f"probability {name}"] = [_plain(value) for value in column]
    return found


def columns_with(
    chosen: Rows, added: dict[str, list[Any]], classes: Sequence[str] | None, target: str | None
) -> dict[str, list[Any]]:
    """A file's own columns, and behind them those of the model; of other rows their numbers and targets."""
    own: dict[str, Any] = dict(chosen.columns) or {"row": chosen.numbers}
    found = own | {f"{name} (jaxprop)" if name in own else name: column for name, column in added.items()}
    if not chosen.columns and chosen.targets is not None:
        truth = np.asarray(chosen.targets)
        one = target if target and target not in found else "target"
        if classes and truth.ndim == 1:
            found[one] = [classes[int(label)] for label in truth]
        else:
            flat = truth.reshape(len(truth), -1).T
            names = [one] if len(flat) == 1 else [f"target {i}" for i in range(len(flat))]
            found |= {name: [_plain(value) for value in column] for name, column in zip(names, flat, strict=True)}
    return found


def numbers_of(cost: Cost | None, y: np.ndarray) -> np.ndarray:
    """What y says of the target, in its own unit: a rate where y is its logarithm, a probability for a logit."""
    return y if cost is None else np.asarray(cost.expected(y))


def labels_of(y: np.ndarray, cost: Cost | None, classes: Sequence[str] | None) -> np.ndarray | None:
    """The class `[N]` that every row decides for; None where outputs are no classes.

    >>> labels_of(np.array([[0.2, 0.8], [0.9, 0.1]]), None, ("no", "yes")).tolist()
    [1, 0]
    """
    if not classes or y.ndim != 2:
        return None
    if y.shape[1] == 1 and len(classes) == 2 and cost is not None and cost.outputs == "logits":
        return (y[:, 0] > 0).astype(int)
    return np.argmax(y, axis=1) if y.shape[1] == len(classes) else None


def predictions(saved: SavedRun, chosen: Rows) -> list[dict[str, Any]]:
    """One dict a row: the label with its probability, or the numbers; and the truth, where it is known."""
    y = predict(saved.net, chosen.x, saved.params)
    classes, cost = saved.about.info.classes, saved.about.cost
    labels = labels_of(y, cost, classes)
    found: dict[str, Any] = {}
    if labels is None or classes is None:
        found["rows"] = numbers_of(cost, y)
    else:
        found["labels"] = [classes[label] for label in labels]
        if cost is not None and cost.outputs == "class logits":
            probabilities = numbers_of(cost, y)
            found["probabilities"] = [round(float(p[label]), 6) for p, label in zip(probabilities, labels, strict=True)]
    return beside_truth(found, chosen, classes)


def beside_truth(found: dict[str, Any], chosen: Rows, classes: Sequence[str] | None) -> list[dict[str, Any]]:
    """What was found (`rows`, or `labels` and perhaps `probabilities`), row by row, beside the targets if any."""
    answers = []
    for i, number in enumerate(chosen.numbers):
        answer: dict[str, Any] = {"row": number}
        truth = None if chosen.targets is None else chosen.targets[i]
        if "labels" in found:
            answer["prediction"] = found["labels"][i]
            if "probabilities" in found:
                answer["probability"] = found["probabilities"][i]
            if truth is not None and classes:
                target = classes[int(truth)]
                answer |= {"target": target, "right": target == answer["prediction"]}
        else:
            answer["prediction"] = _plain(found["rows"][i])
            if truth is not None:
                answer["target"] = _plain(truth)
        answers.append(answer)
    return answers


def table(answers: list[dict[str, Any]], target: str | None = None) -> str:
    """Predictions for people; the truth stands under the target's own name."""
    columns = [key for key in ("row", "prediction", "probability", "target") if key in answers[0]]
    rows = [[target or "target" if key == "target" else key for key in columns]]
    for answer in answers:
        cells = [_cell(answer[key]) for key in columns]
        rows.append([*cells, "← wrong"] if answer.get("right") is False else cells)
    return tables.table(rows)


def _cell(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_cell, value))}]"
    return tables.shown(value) if isinstance(value, float) else str(value)


def _plain(values: ArrayLike) -> float | list[float]:
    flat = [float(str(v)) for v in np.ravel(values)]  # the shortest digits that say the same float32
    return flat[0] if len(flat) == 1 else flat
