"""`jaxprop check`: three witnesses for every gradient of a saved model, on real rows."""

import sys
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Examples: `jaxprop check runs/digits` · `jaxprop check runs/digits --rows 0:8 --json`"


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    rows: Annotated[str, typer.Option(help="Which of the held-out rows.")] = "0:32",
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check every gradient of the model in RUN: by hand, by jax.grad and by central differences.

    Exit code 1 when they disagree, with the guilty layer and the factor that is wrong.
    """
    from jaxprop.check.compare import compare
    from jaxprop.cli.runs import open_run, print_json, rows_of, with_targets

    saved = open_run(run)
    chosen = rows_of(saved, data, rows)
    x, targets = with_targets(saved, chosen)
    report = compare(saved.net, saved.cost)(x, saved.params, targets)
    if json:
        print_json({"model": str(run), "data": chosen.source, **report.as_dict()})
    else:
        print(f"{run} on {chosen.source}")
        print(report)
    sys.exit(0 if report.ok else 1)
