"""`jaxprop explain`: the chain rule written out, for one parameter of a saved model or for an expression."""

import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from jax import Array
from typer import Context
from typer.core import TyperCommand

from jaxprop.arrays.index import read_index
from jaxprop.arrays.paths import by_path
from jaxprop.cli.runs import open_run, parameter_path, print_json, rows_of, with_targets
from jaxprop.derivations import derive, explain, to_json, to_latex, to_text
from jaxprop.derivations.derivation import Derivation
from jaxprop.derivations.formula import evaluate
from jaxprop.derivations.glyphs import WIDTH
from jaxprop.derivations.parse import parse
from jaxprop.derivations.question import listed
from jaxprop.errors import JaxpropError, ModelError

EXAMPLE = (
    "Examples: `jaxprop explain runs/digits --param 1.W --index 12,3` · "
    "`jaxprop explain runs/digits --param 3.b --index 7 --row 5 --json` · `jaxprop explain '3*(x**2+1)' --at 2`"
)


class Command(TyperCommand):
    """A command whose first argument may be an expression that begins with a minus sign."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Move an expression such as -x^2 behind the options, where it is none."""
        taking = {name for each in self.params if not getattr(each, "is_flag", True) for name in each.opts}
        for i, (before, word) in enumerate(pairwise(("", *args))):
            if before not in taking and re.match(r"-[^-]", word):
                args = [*args[:i], *args[i + 1 :], "--", word]
                break
        return super().parse_args(ctx, args)


def command(
    target: Annotated[str, typer.Argument(help="Folder of a saved model, or an expression such as '3*(x**2+1)'.")],
    param: Annotated[str | None, typer.Option(help="A parameter of the model by its path, e.g. 1.W or 1.b.")] = None,
    index: Annotated[str | None, typer.Option(help="Which number of it: input,unit of a W, unit of a b.")] = None,
    row: Annotated[int, typer.Option(min=0, help="Which of the held-out rows.")] = 0,
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Step size η of the update; 0.1, over std² where y is unstandardised.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Expression: where the derivative is taken, e.g. 2, pi/2 or x=-2,y=5.")
    ] = None,
    digits: Annotated[
        int | None, typer.Option(min=1, max=17, help="How many digits numbers have: 6 by default, all in JSON.")
    ] = None,
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
        print_json({**head, **to_json(derivation, digits)})
    elif latex:
        print(to_latex(derivation, digits or 6))
    else:
        written = to_text(derivation, digits or 6, columns())
        print(*([f"{target} on {head['data']}"] if head else []), written, sep="\n")


def columns() -> int:
    """Return how wide lines may be: as wide as the terminal, 100 at most."""
    return min(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH


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


def of_expression(text: str, asked: str | None, at: str | None) -> Derivation:
    """Return the derivation of an expression; raise `JaxpropError` for what is neither that nor a folder."""
    if asked is not None:
        raise ModelError(f"{text}: no such folder; expected one that jaxprop.save or `jaxprop train --out` wrote")
    if at is not None:
        return derive(text, point(at))
    try:
        parse(text)
    except JaxpropError as error:
        raise JaxpropError(f"{text}: no such folder, and as an expression: {error}") from None
    raise JaxpropError(f"{text}: no such folder; for the derivative of an expression say where with --at, e.g. --at 2")


def point(text: str) -> float | dict[str, float]:
    """Return the number that --at writes, or one for every variable.

    >>> point("pi/2"), point("x=-2, y=5")
    (1.5707963267948966, {'x': -2.0, 'y': 5.0})
    """
    if "=" not in text:
        return number(text)
    pairs = [pair.partition("=") for pair in re.split(r"[,;\s]+(?=[^\W\d]\w*\s*=)", text.strip())]
    values = {name.strip(): number(value) for name, _, value in pairs}
    if len(values) < len(pairs) or "" in values:
        raise JaxpropError(f"--at: found {text!r}, expected one number for every variable, e.g. x=-2,y=5")
    return values


def number(text: str) -> float:
    """Return the number that a text without variables stands for; raise `JaxpropError` for anything else."""
    try:
        return float(evaluate(parse(text.strip(), ()).formula))
    except JaxpropError:
        raise JaxpropError(f"--at: found {text!r}, expected a number such as 2, -0.5 or pi/2") from None


def _first(array: Array) -> str:
    return "--index " + ",".join("0" for _ in array.shape)
