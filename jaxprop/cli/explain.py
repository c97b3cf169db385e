"""`jaxprop explain`: the chain rule written out, for one parameter of a saved model or for an expression."""

import re
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from jaxprop.arrays.index import read_index
from jaxprop.arrays.paths import by_path
from jaxprop.cli.runs import open_run, parameter_path, rows_of, with_targets
from jaxprop.derivations import derive, explain
from jaxprop.derivations.derivation import Derivation
from jaxprop.derivations.formula import evaluate
from jaxprop.derivations.glyphs import WIDTH
from jaxprop.derivations.parse import parse
from jaxprop.derivations.question import listed
from jaxprop.errors import JaxpropError, ModelError, pick
from jaxprop.stats import NoiseScale, SecondMoment, SignalToNoise, Variance

QUANTITIES = {
    "second-moment": SecondMoment,
    "variance": Variance,
    "signal-to-noise": SignalToNoise,
    "noise-scale": NoiseScale,
}


def columns() -> int:
    """Return how wide lines may be: as wide as the terminal, 100 at most."""
    return min(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH


def of_run(
    path: Path, number: str | None, param: str | None, index: str | None, row: int, data: str | None,
    learning_rate: float | None, names: dict[str, str], quantity: str | None = None,
) -> tuple[Derivation, str]:  # fmt: skip
    """Return the derivation for one parameter or input of a saved run, and where the row comes from."""
    saved = open_run(path)
    if number is not None and param is not None:
        raise JaxpropError(f"{number} and --param {param}: choose one of them")
    asked = number if param is None else parameter_path(saved, param)
    if asked is None and index is not None:
        raise JaxpropError(
            f"--index {index}: of which parameter? Say so with --param, one of {listed(by_path(saved.params))}"
        )
    rows = rows_of(saved, data, ":")
    x, targets = with_targets(saved, rows)
    rate = saved.rate(0.1) if learning_rate is None else learning_rate
    asked_for = None if quantity is None else QUANTITIES[pick(quantity, QUANTITIES, "--quantity")]()
    columns = saved.about.info.columns
    run = explain(saved.net, saved.cost, rate, names=names, columns=columns, quantity=asked_for)
    where = None if index is None else read_index(index)
    return run(x, saved.params, targets, asked, where, row=row), rows.source


def with_references(markup: str, encoding: str | None) -> str:
    """Return HTML in which the letters that an encoding lacks are written by their numbers, as HTML has it.

    >>> with_references("<mi>∂</mi>", "ascii"), with_references("<mi>∂</mi>", "utf-8")
    ('<mi>&#8706;</mi>', '<mi>∂</mi>')
    """
    encoding = encoding or "utf-8"
    return markup.encode(encoding, "xmlcharrefreplace").decode(encoding)


def names_of(text: str) -> dict[str, str]:
    """Return the names that --names gives.

    >>> names_of("w5=2.W[0,0], i1=x[0]")
    {'w5': '2.W[0,0]', 'i1': 'x[0]'}
    """
    pairs = [pair.partition("=") for pair in re.split(r"[,\s]+(?=[^\[\],]+=)", text.strip()) if pair]
    names = {name.strip(): entry.strip() for name, _, entry in pairs}
    if len(names) < len(pairs) or not all(names) or not all(names.values()):
        raise JaxpropError(f"--names: found {text!r}, expected something like w5=2.W[0,0],w6=2.W[1,0], each name once")
    return names


def unasked(number: str) -> NoReturn:
    """Raise the error for an expression with something behind it."""
    raise JaxpropError(f"{number!r} is not understood beside an expression; where the derivative is taken is --at")


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
