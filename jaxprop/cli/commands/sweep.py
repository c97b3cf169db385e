"""`jaxprop sweep`: many trainings at once, the best of them saved."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxprop.cli import choices
from jaxprop.cli.commands.train import NETWORK, ROWS, STEPS
from jaxprop.errors import JaxpropError

EXAMPLE = (
    "Examples: `jaxprop sweep digits --learning-rate 0.1,0.3,1,3 --optimizer sgd --seeds 8` · "
    '`jaxprop sweep digits --layers "64,32,10 64,128,10" --activation tanh,relu` · '
    "`jaxprop sweep my.csv --target price --batch-size 16,64 --seeds 4`"
)

SWEPT = "What is gone through: one value or several"  # a group of options

Option = typer.Option


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is trained on what, and with which settings; the first of several values is what `jaxprop train` has."""

    data: str
    options: dict[str, Any] = field(default_factory=dict)  # of the data's source
    layers: tuple[str | None, ...] = (None,)
    activations: tuple[str | None, ...] = (None,)
    optimizers: tuple[str, ...] = ("adam",)
    rates: tuple[float | None, ...] = (None,)
    batch_sizes: tuple[int, ...] = (32,)
    seeds: int | tuple[int, ...] = 8
    output_activation: str | None = None
    cost: str | None = None
    epochs: int | None = None
    grad: str = "auto"
    init: str = "glorot_uniform"
    bias: bool | None = None
    standardize: bool | None = None
    at_once: int | None = None
    out: Path
    progress: bool = True


def several(text: str, option: str, kind: type[Any] = str, separator: str | None = ",") -> tuple[Any, ...]:
    """The values of an option, between commas or, without a separator, between spaces; each once.

    >>> several("0.1, 0.3", "--learning-rate", float), several("64,32,10 64,10", "--layers", separator=None)
    ((0.1, 0.3), ('64,32,10', '64,10'))
    """
    parts = [part.strip() for part in text.split(separator)]
    try:
        found = tuple(kind(part) for part in parts)
    except ValueError:
        what = "numbers" if kind is float else "whole numbers"
        raise JaxpropError(f"{option}: found {text!r}, expected {what} between commas") from None
    if not parts or not all(parts):
        raise JaxpropError(f"{option}: found {text!r}, expected one value or more")
    twice = [part for part in found if found.count(part) > 1]
    if twice:
        raise JaxpropError(f"{option}: found {twice[0]} twice: name each value once")
    return found


def command(
    data: Annotated[
        str,
        typer.Argument(
            help=f"{', '.join(choices.SOURCES)}; a .csv, .parquet or .npz file; a folder with MNIST's IDX files"
        ),
    ],
    learning_rate: Annotated[
        str | None, Option(rich_help_panel=SWEPT, help="Step sizes η, such as 0.1,0.3,1,3.")
    ] = None,
    seeds: Annotated[str, Option(rich_help_panel=SWEPT, help="How many seeds; or which, such as 3,5.")] = "8",
    layers: Annotated[
        str | None,
        Option(
            rich_help_panel=SWEPT,
            help='Units of networks, between spaces, such as "64,32,10 64,128,10"; each one program.',
        ),
    ] = None,
    activation: Annotated[
        str | None, Option(rich_help_panel=SWEPT, help="Of the hidden layers, such as tanh,relu; each one program.")
    ] = None,
    optimizer: Annotated[
        str,
        Option(rich_help_panel=SWEPT, help=f"Such as sgd,adam, each one program. Of {', '.join(choices.OPTIMIZERS)}."),
    ] = "adam",
    batch_size: Annotated[
        str, Option(rich_help_panel=SWEPT, help="Rows a step, such as 16,64; each one program.")
    ] = "32",
    epochs: Annotated[
        int | None, Option(min=1, rich_help_panel=STEPS, help="Times through the rows; by default about 3,000 steps.")
    ] = None,
    output_activation: Annotated[
        str | None, Option(rich_help_panel=NETWORK, help="Of the output; none unless given.")
    ] = None,
    cost: Annotated[
        str | None, Option(rich_help_panel=NETWORK, help="Labels: softmax_cross_entropy; numbers: half_squared_error.")
    ] = None,
    grad: Annotated[
        str, Option(rich_help_panel=STEPS, help="auto (jax.grad) or manual (the chain rule by hand).")
    ] = Sweep.grad,
    init: Annotated[
        str, Option(rich_help_panel=NETWORK, help=f"Initialiser of W: {', '.join(choices.INITIALIZERS)}.")
    ] = Sweep.init,
    bias: Annotated[
        bool | None, Option("--bias/--no-bias", rich_help_panel=NETWORK, help="On, except for `line`.")
    ] = None,
    standardize: Annotated[
        bool | None,
        Option(
            "--standardize/--raw", rich_help_panel=NETWORK, help="A Standardize layer first; on for tables and digits."
        ),
    ] = None,
    target: Annotated[str | None, Option(rich_help_panel=ROWS, help="CSV: the column to predict.")] = None,
    features: Annotated[
        str | None,
        Option(
            rich_help_panel=ROWS, help="CSV: the columns to predict from, separated by commas; all others by default."
        ),
    ] = None,
    labels: Annotated[
        bool | None,
        Option("--labels/--numbers", rich_help_panel=ROWS, help="CSV: whether the target's values are classes."),
    ] = None,
    slope: Annotated[float | None, Option(rich_help_panel=ROWS, help="line: k in y = kx.")] = None,
    noise: Annotated[float | None, Option(rich_help_panel=ROWS, help="xor, moons, spirals, ball: how noisy.")] = None,
    validation: Annotated[
        float | None,
        Option(rich_help_panel=ROWS, help="Share of rows held out, or from 1 on their number; a fifth by default."),
    ] = None,
    at_once: Annotated[
        int | None,
        Option(
            min=1,
            rich_help_panel=STEPS,
            help="Runs in one program; by default as many as half of the free memory holds.",
        ),
    ] = None,
    out: Annotated[Path | None, Option(help="Folder of the best model; runs/DATA-sweep by default.")] = None,
    json: Annotated[bool, Option("--json", help="The result as JSON on stdout; progress stays on stderr.")] = False,
    quiet: Annotated[bool, Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train from many seeds and with many settings at once; print a table, and save the best."""
    from jaxprop.cli.runs import print_json
    from jaxprop.cli.sweep import run

    columns = None if features is None else [name.strip() for name in features.split(",")]
    held = int(validation) if validation and validation >= 1 and validation.is_integer() else validation
    asked = dict(target=target, features=columns, labels=labels, slope=slope, noise=noise, validation=held)
    which = several(seeds, "--seeds", int)
    outcome = run(Sweep(
        data=data, options={name: value for name, value in asked.items() if value is not None},
        layers=(None,) if layers is None else several(layers, "--layers", separator=None),
        activations=(None,) if activation is None else several(activation, "--activation"),
        optimizers=several(optimizer, "--optimizer"),
        rates=(None,) if learning_rate is None else several(learning_rate, "--learning-rate", float),
        batch_sizes=several(batch_size, "--batch-size", int), seeds=which[0] if len(which) == 1 else which,
        output_activation=output_activation, cost=cost, epochs=epochs, grad=grad, init=init, bias=bias,
        standardize=standardize, at_once=at_once, out=out or Path("runs") / f"{Path(data).stem}-sweep",
        progress=not quiet,
    ))  # fmt: skip
    if json:
        print_json(outcome.summary)
    else:
        print(outcome.text)
    if outcome.interrupted:
        sys.exit(128 + outcome.interrupted)
