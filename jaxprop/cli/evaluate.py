"""`jaxprop evaluate`: how good a saved model is on rows: held out, or of a file."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from jaxprop.cli.runs import SavedRun, open_run, print_json, rows_of, with_targets
from jaxprop.errors import pick
from jaxprop.tables import shown, table
from jaxprop.train import evaluate, predict

EXAMPLE = "Examples: `jaxprop evaluate runs/digits` · `jaxprop evaluate runs/my --data new.csv --json`"


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    rows: Annotated[str, typer.Option(help="Which rows, such as 0:50; all by default.")] = ":",
    part: Annotated[str, typer.Option(help="validation (held-out rows) or training.")] = "validation",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure the model in RUN: a confusion matrix with precision and recall for classes, errors for numbers."""
    pick(part, ("validation", "training"), "--part")
    saved = open_run(run)
    chosen = rows_of(saved, data, rows, part)
    x, targets = with_targets(saved, chosen, "measuring it")
    found = evaluate(saved.net, saved.cost)(x, saved.params, targets)
    y = predict(saved.net, x, saved.params)
    classes = saved.about.info.classes
    if classes and chosen.targets is not None:
        more = by_class(np.argmax(y, axis=-1), np.asarray(chosen.targets), classes)
    else:
        more = errors(np.asarray(saved.cost.expected(y), np.float64), np.asarray(targets, np.float64))
    if json:
        print_json({"model": str(run), "data": chosen.source, "rows": len(x), **found, **more})
        return
    print(f"{run} on {len(x):,} rows of {chosen.source}")
    print(in_words(saved, found, more))


def by_class(answers: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """The confusion matrix (a row a true class, a column a predicted one), and what follows from it by class.

    >>> found = by_class(np.array([0, 0, 1]), np.array([0, 1, 1]), ("no", "yes"))
    >>> found["confusion"], found["by_class"][1]
    ([[1, 0], [1, 1]], {'class': 'yes', 'precision': 1.0, 'recall': 0.5, 'f1': 0.6666666666666666, 'rows': 2})
    """
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (labels, answers), 1)
    rows = []
    for i, name in enumerate(classes):
        right, predicted, true = (int(n) for n in (confusion[i, i], confusion[:, i].sum(), confusion[i].sum()))
        precision, recall, f1 = (
            right / of if of else None for of in (predicted, true, (predicted + true) / 2)
        )  # None: nothing to take a share of
        rows.append({"class": name, "precision": precision, "recall": recall, "f1": f1, "rows": true})
    return {"classes": list(classes), "confusion": confusion.tolist(), "by_class": rows}


def errors(y: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """How far the answers are off, in the target's own unit."""
    off = y - targets
    return {"rmse": float(np.sqrt(np.mean(off**2))), "mae": float(np.mean(np.abs(off)))}


def in_words(saved: SavedRun, found: dict[str, float], more: dict[str, Any]) -> str:
    """The same for people."""
    if "confusion" not in more:
        name = saved.about.info.target or "the target"
        r2 = f"R² {found['r2']:.4f} · " if "r2" in found else ""
        unit = f"RMSE {shown(more['rmse'])} · MAE {shown(more['mae'])}, in the unit of {name}"
        return f"{r2}{unit} · cost {shown(found['cost'])}"
    head = f"accuracy {100 * found['accuracy']:.2f} % · " if "accuracy" in found else ""
    matrix = [["true ↓ predicted →", *more["classes"]]]
    matrix += [[name, *map(str, row)] for name, row in zip(more["classes"], more["confusion"], strict=True)]
    share = lambda value: "–" if value is None else f"{100 * value:.1f} %"  # noqa: E731
    figures = [["class", "precision", "recall", "F1", "rows"]]
    for row in more["by_class"]:
        figures.append([row["class"], *(share(row[key]) for key in ("precision", "recall", "f1")), str(row["rows"])])
    right = range(1, len(matrix[0]))
    return "\n\n".join([f"{head}cost {shown(found['cost'])}", table(matrix, right), table(figures, range(1, 5))])
