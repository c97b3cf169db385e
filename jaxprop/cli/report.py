"""`jaxprop report`: a saved run as a subject of `jaxprop.reports`."""

from pathlib import Path
from typing import Any

from jaxprop.cli.runs import SavedRun, rows_of, with_targets
from jaxprop.reports import Subject, write
from jaxprop.train import FitResult
from jaxprop.train.rows import Rows

SETTINGS = (
    *("data", "optimizer", "learning_rate", "batch_size", "seed", "grad", "precision", "mesh"),
    *("stopped", "epochs"),
)


def written(run: SavedRun, data: str | None, path: Path, result: FitResult | None = None) -> Path:
    """Write the report on a saved run, and return its path; `result` is that of a training that has just ended."""
    rows = rows_of(run, data, ":")
    x, targets = with_targets(run, rows, "a report")
    info, training = run.about.info, run.training
    facts: dict[str, Any] = {
        name.replace("_", " "): training[name] for name in SETTINGS if training.get(name) is not None
    }
    if "best_epoch" in training:
        facts["best epoch"] = training["best_epoch"] or "the start"
        facts["steps"] = f"{training['steps']:,} in {training['seconds']:.1f} s"
    if info.target:
        facts["target"] = info.target
    columns = info.columns if info.table is None else info.table.features
    subject = Subject(
        run.net, run.cost, run.params, Rows(x, targets), training.get("history", ()), str(run.path), rows.source, facts,
        info.classes, columns, rows.numbers, result,
    )  # fmt: skip
    return write(subject, path)
