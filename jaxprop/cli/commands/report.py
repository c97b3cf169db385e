"""`jaxprop report`: what a training run was and what came of it, as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Examples: `jaxprop report runs/digits` · `jaxprop report runs/my --data new.csv --out new.html`"


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file; report.html in the folder of RUN by default.")] = None,
) -> None:
    """Write what became of RUN as one HTML file: settings, curves, gradients, the classes confused, the worst rows."""
    from jaxprop.cli.report import written
    from jaxprop.cli.runs import open_run

    print(f"saved in {written(open_run(run), data, out or run / 'report.html')}")
