"""`jaxprop demo`: the whole path once, on real handwritten digits, in under a minute."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: `jaxprop demo --out runs/demo`"


def command(
    out: Annotated[Path, typer.Option(help="Folder for the saved model and the picture.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the first weights and the order of rows.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="The figures as JSON on stdout.")] = False,
) -> None:
    """Train on real digits, check the gradients by hand, save, reload, predict unseen rows, draw.

    Exit code 1 if fewer than 95 % of held-out digits are right, or if the gradients disagree.
    """

    from jaxprop.cli.demo import demonstrate

    demonstrate(out, seed, json)
