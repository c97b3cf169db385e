"""`jaxprop plot`: pictures of a saved run, and of what needs none."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from jaxprop.errors import JaxpropError, pick

EXAMPLE = (
    "Examples: `jaxprop plot surface` · `jaxprop plot surface runs/digits --param 1.W --index 20,3 --index 36,7` · "
    "`jaxprop plot backward runs/xor --parameter 0.W --index 1,2` · `jaxprop plot backward runs/xor --out step.gif` · "
    "`jaxprop plot boundary runs/moons` · `jaxprop plot network runs/digits --row 0` · "
    "`jaxprop plot saliency runs/digits --row 3 --target 8` · `jaxprop plot history runs/digits` · "
    "`jaxprop plot fit runs/square` · `jaxprop plot activation gelu --at 0.5`"
)

WITHOUT_RUN = ("surface", "neuron", "article", "activation")
WITH_RUN = ("network", "backward", "saliency", "boundary", "history", "gradients", "fit", "cost", "nudge", "surface")


def command(
    what: Annotated[
        str, typer.Argument(help=f"Of a run: {', '.join(WITH_RUN)}; without one: {', '.join(WITHOUT_RUN)}.")
    ],
    run: Annotated[str | None, typer.Argument(help="Folder of a saved model (for activation: its name).")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write: .png, .svg, .pdf; .gif: backward as a film.")] = None,
    row: Annotated[int, typer.Option(help="The held-out row that is drawn.")] = 0,
    rows: Annotated[str, typer.Option(help="The held-out rows that C and gradients are taken over.")] = "0:64",
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    param: Annotated[
        str | None,
        typer.Option("--param", "--parameter", help="Path of a parameter, e.g. 1.W."),
    ] = None,
    index: Annotated[list[str] | None, typer.Option(help="Entry of it, e.g. 20,3; two for a surface.")] = None,
    prune: Annotated[float | None, typer.Option(help="network: hide weights smaller than this.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="surface, cost, film: the rate η of the steps.")] = None,
    target: Annotated[str | None, typer.Option(help="saliency: the class, or the number of the output.")] = None,
    at: Annotated[float | None, typer.Option(help="activation: where the dot is.")] = None,
) -> None:
    """Draw WHAT, and write the picture to a file."""
    from jaxprop import plot
    from jaxprop.cli.plot import Picture, activation_named, frames_told
    from jaxprop.cli.runs import open_run

    pick(what, {*WITHOUT_RUN, *WITH_RUN}, "picture")
    if what == "activation":
        picture = plot.activation(activation_named(run or "sigmoid"), at)
    elif what == "neuron":
        picture = plot.neuron_and_perceptron()
    elif what == "article":
        picture = plot.article_network()
    elif run is not None:
        asked = Picture(
            open_run(Path(run)), data=data, rows=rows, row=row, param=param, index=index or [], prune=prune,
            learning_rate=learning_rate, film=out is not None and out.suffix.lower() == ".gif", target=target,
        )  # fmt: skip
        picture = getattr(asked, what)()
    elif what == "surface":
        picture = plot.cost_surface() if learning_rate is None else plot.cost_surface(learning_rate=learning_rate)
    else:
        raise JaxpropError(f"plot {what}: needs the folder of a saved model, as in jaxprop plot {what} runs/digits")
    print(plot.save(picture, out or Path(f"{what}.png"), frames_told if sys.stderr.isatty() else None))
