"""`jaxprop evaluate`: how good a saved model is on rows whose targets are known."""

from pathlib import Path
from typing import Annotated

import typer

from jaxprop.errors import pick

EXAMPLE = (
    "Examples: `jaxprop evaluate runs/digits` · `jaxprop evaluate runs/my --data new.csv` · "
    "`jaxprop evaluate runs/digits --part training --json`"
)


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    rows: Annotated[str, typer.Option(help="Which rows, such as 0:100; all by default.")] = ":",
    part: Annotated[str, typer.Option(help="validation (held-out rows) or training.")] = "validation",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure the model in RUN: accuracy and a confusion matrix for classes, R² and errors for numbers."""
    from jaxprop.cli.evaluate import measures, report
    from jaxprop.cli.runs import open_run, print_json, rows_of

    pick(part, ("validation", "training"), "--part")
    saved = open_run(run)
    chosen = rows_of(saved, data, rows, part)
    found = measures(saved, chosen)
    if json:
        print_json({"model": str(run), "data": chosen.source, **found})
    else:
        count = "1 row" if found["rows"] == 1 else f"{found['rows']} rows"
        print(f"{run} on {count} of {chosen.source}")
        print(report(found, saved.about.info.target))
