"""`jaxprop summary`: what a saved model is made of."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: `jaxprop summary runs/digits --batch-size 32`"


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    batch_size: Annotated[int, typer.Option(min=1, help="N, for which operations and bytes are counted.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show shapes, parameters, operations and bytes kept for the backward pass, and how it was trained."""
    import jax

    from jaxprop.cli.runs import open_run, print_json
    from jaxprop.network.summary import summary
    from jaxprop.tables import terminal_room

    saved = open_run(run)
    inputs = saved.about.one_input
    found = summary(saved.net, jax.ShapeDtypeStruct((batch_size, *inputs.shape[1:]), inputs.dtype))
    training = {name: value for name, value in saved.training.items() if name != "history"}
    if json:
        print_json({"model": str(run), **found.as_dict(), "cost": repr(saved.about.cost), "training": training})
        return
    print(f"{run} · x {inputs} → y {saved.about.outputs} · {saved.about.cost!r}")
    print(found.text(terminal_room()))
    if training:
        told = ("data", "optimizer", "learning_rate", "batch_size", "epochs", "steps", "seconds", "grad", "seed")
        print("trained: " + " · ".join(f"{key.replace('_', ' ')} {training[key]}" for key in told if key in training))
