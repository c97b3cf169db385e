"""`jaxprop xray`: values, errors and the first NaN inside any function of JAX."""

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = (
    "Examples: `jaxprop xray model.py:loss --args batch.npz` · `jaxprop xray project.model:loss --args batch.npz "
    "--json > here.json` · `jaxprop xray model.py:loss --args batch.npz --against here.json`"
)


def command(
    function: Annotated[str, typer.Argument(help="Where it is: module:function, or a file as in model.py:loss.")],
    args: Annotated[
        Path | None,
        typer.Option(
            help="Its arguments: a .npz with keys arg0, arg1, ... or its parameters' names; params/Dense_0/kernel "
            "makes a dict."
        ),
    ] = None,
    argnums: Annotated[str, typer.Option(help="The arguments to differentiate, such as 0 or 0,1.")] = "0",
    forward: Annotated[bool, typer.Option("--forward", help="Look at values only; it may return anything.")] = False,
    has_aux: Annotated[bool, typer.Option("--has-aux", help="It returns a pair: the cost, and anything.")] = False,
    light: Annotated[bool, typer.Option("--light", help="Measure the RMS and the largest only.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="What --json wrote before, here or elsewhere: the first place where they part.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: RMS through depth, .png, .svg or .pdf.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for --against.")] = False,
) -> None:
    """Run FUNCTION once with its gradient, and show every value and error inside, by source line.

    Where something is not finite: which equation made it, on which line, and why. Exit code 1 then, and where it parts
    from the run that --against names.
    """
    from jaxprop.cli.runs import print_json
    from jaxprop.cli.xray import arguments, function_of, measured, numbers, read_report, save_picture
    from jaxprop.xray import diff

    asked = None if forward else numbers(argnums)
    other = None if against is None else read_report(against)
    with redirect_stdout(sys.stderr) if json else nullcontext():  # what f prints is not of the JSON
        f = function_of(function)
        report = measured(f, function, asked, has_aux, light, arguments(args, f, function))
        findings = report.nonfinite() if other is None else None
    if plot is not None:
        save_picture(report, plot)
    if other is not None:
        found = diff(report, other)
        print_json(found.json()) if json else print(found, found.table(), sep="\n\n")
        sys.exit(0 if found.first is None else 1)
    if json:
        print_json(report.json())
    else:
        print(report, report.table(), *([findings] if findings else []), sep="\n\n")
    sys.exit(1 if findings else 0)
