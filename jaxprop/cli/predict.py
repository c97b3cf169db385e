"""`jaxprop predict`: what a saved model answers for some rows, here or on a server (`--url`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import ArrayLike

from jaxprop import tables
from jaxprop.cli import remote
from jaxprop.cli.runs import Rows, SavedRun, open_run, print_json, rows_of
from jaxprop.cli.written import writer
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, pick
from jaxprop.train import predict

EXAMPLE = (
    "Examples: `jaxprop predict runs/digits --data digits --rows 0:5` · "
    "`jaxprop predict runs/my --data new.csv --out answers.csv` · "
    "`jaxprop predict runs/my --data new.csv --json` · "
    "`jaxprop predict runs/digits --url http://127.0.0.1:8000` (ask `jaxprop serve runs/digits`)"
)


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a saved model; with --url and --data also just its name.")],
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    rows: Annotated[
        str | None, typer.Option(help="Which rows: 0:5, 7 or 1,4,7; 0:10 by default, with --out every row.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the rows with their predictions: .csv, .json, .jsonl or .parquet.")
    ] = None,
    part: Annotated[str, typer.Option(help="validation (held-out rows) or training.")] = "validation",
    url: Annotated[str | None, typer.Option(help="Ask this server instead, e.g. http://127.0.0.1:8000.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name on the server; RUN's by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Predict rows with the model in RUN. Raw rows go in: preprocessing is part of the network."""
    pick(part, ("validation", "training"), "--part")
    if model is not None and url is None:
        raise JaxpropError("--model names a model on a server: pass --url too")
    rows = rows if rows is not None else "0:10" if out is None else ":"
    write = None if out is None else writer(out)
    if url is not None and out is not None:
        raise JaxpropError("--out: writes what a saved model answers here; leave --url out")
    saved = None if url is not None and data is not None and not run.exists() else open_run(run)
    if saved is None:
        chosen, classes = remote.rows_without_a_run(data or "", rows, part)
    else:
        chosen, classes = rows_of(saved, data, rows, part), saved.about.info.classes
    target = None if saved is None else saved.about.info.target
    if write is not None and saved is not None:
        count = len(chosen.numbers)
        write(columns_with(chosen, outputs_of(saved, chosen), classes, target))
        said = {"model": str(run), "data": chosen.source, "out": str(out), "rows": count}
        print_json(said) if json else print(f"{run} on {chosen.source}: {count:,} rows with predictions in {out}")
        return
    if url is not None:
        name = remote.model_name(url, model, run.resolve().name)
        found = remote.predict(url, name, chosen.x)
        if saved is not None:
            found["rows"] = numbers_of(saved.about.cost, np.asarray(found["rows"], np.float32))
        answers = beside_truth(found, chosen, classes)
        run = Path(name)
    else:
        assert saved is not None
        answers = predictions(saved, chosen)
    if json:
        print_json({"model": str(run), "data": chosen.source, "predictions": answers})
    else:
        print(f"{run} on {chosen.source}")
        print(table(answers, target))


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
