"""`jaxprop explain`: the chain rule written out, for one parameter of a saved model or for an expression."""

from pathlib import Path
from typing import Annotated

import typer
from jax import Array

from jaxprop.arrays.index import read_index
from jaxprop.arrays.paths import by_path
from jaxprop.cli.runs import open_run, parameter_path, print_json, rows_of, with_targets
from jaxprop.derivations import derive, explain, to_json, to_latex, to_text
from jaxprop.derivations.derivation import Derivation
from jaxprop.derivations.parse import parse
from jaxprop.derivations.question import listed
from jaxprop.errors import JaxpropError, ModelError

EXAMPLE = (
    "Examples: `jaxprop explain runs/digits --param 1.W --index 12,3` · "
    "`jaxprop explain runs/digits --param 3.b --index 7 --row 5 --json` · `jaxprop explain '3*(x**2+1)' --at 2`"
)


def command(
    target: Annotated[str, typer.Argument(help="Folder of a saved model, or an expression such as '3*(x**2+1)'.")],
    param: Annotated[str | None, typer.Option(help="A parameter of the model by its path, e.g. 1.W or 1.b.")] = None,
    index: Annotated[str | None, typer.Option(help="Which number of it: input,unit of a W, unit of a b.")] = None,
    row: Annotated[int, typer.Option(min=0, help="Which of the held-out rows.")] = 0,
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Step size η of the update; 0.1, over std² where y is unstandardised.")
    ] = None,
    at: Annotated[float | None, typer.Option(help="Expression: where the derivative is taken.")] = None,
    latex: Annotated[bool, typer.Option("--latex", help="As LaTeX.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Write out the chain rule for one weight or bias of the model in TARGET, or for the expression TARGET.

    Every path back from the cost with its numbers, jax.grad beside it, and what the update changes.
    """
    if latex and json:
        raise JaxpropError("--latex and --json: choose one of them")
    head: dict[str, str] = {}
    if Path(target).is_dir():
        if at is not None:
            raise JaxpropError(f"--at is for an expression, and {target} is a folder; leave one of the two out")
        derivation, source = of_run(Path(target), param, index, row, data, learning_rate)
        head = {"model": target, "data": source}
    else:
        derivation = of_expression(target, param or index, at)
    if json:
        print_json({**head, **to_json(derivation)})
    elif latex:
        print(to_latex(derivation))
    else:
        print(*([f"{target} on {head['data']}"] if head else []), to_text(derivation), sep="\n")


def of_run(
    path: Path, param: str | None, index: str | None, row: int, data: str | None, learning_rate: float | None
) -> tuple[Derivation, str]:
    """Return the derivation for one parameter of a saved run, and where the row comes from."""
    saved = open_run(path)
    known = by_path(saved.params)
    if param is None:
        raise JaxpropError(f"{path}: choose a parameter with --param: {listed(known)}")
    param = parameter_path(saved, param)
    if index is None and param in known and known[param].ndim:
        raise JaxpropError(
            f"choose a number of {listed({param: known[param]})} with --index, e.g. {_first(known[param])}"
        )
    rows = rows_of(saved, data, ":")
    x, targets = with_targets(saved, rows)
    run = explain(saved.net, saved.cost, saved.rate(0.1) if learning_rate is None else learning_rate)
    return run(x, saved.params, targets, param, read_index(index or ""), row=row), rows.source


def of_expression(text: str, asked: str | None, at: float | None) -> Derivation:
    """Return the derivation of an expression; raise `JaxpropError` for what is neither that nor a folder."""
    if asked is not None:
        raise ModelError(f"{text}: no such folder; expected one that jaxprop.save or `jaxprop train --out` wrote")
    if at is not None:
        return derive(text, at)
    try:
        parse(text)
    except JaxpropError as error:
        raise JaxpropError(f"{text}: no such folder, and as an expression: {error}") from None
    raise JaxpropError(f"{text}: no such folder; for the derivative of an expression say where with --at, e.g. --at 2")


def _first(array: Array) -> str:
    return "--index " + ",".join("0" for _ in array.shape)
