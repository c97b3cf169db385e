"""`jaxprop train`: rows in, a saved model out."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLE = (
    "Examples: `jaxprop train digits --layers 64,32,10 --activation sigmoid --out runs/digits` · "
    "`jaxprop train square --layers 1,16,1 --activation tanh` · `jaxprop train line --slope 2` · "
    "`jaxprop train my.csv --target price`"
)
DEFAULT_STEPS = 3000

Option = typer.Option


def command(
    data: Annotated[
        str,
        typer.Argument(
            help="digits, line, square, xor, moons, spirals, ball; a .csv or .npz file; a folder with MNIST's IDX files"
        ),
    ],
    layers: Annotated[str | None, Option(help="Units: inputs, hidden layers, outputs, e.g. 64,32,10.")] = None,
    activation: Annotated[str, Option(help="Of the hidden layers.")] = "tanh",
    output_activation: Annotated[str | None, Option(help="Of the output; none unless given.")] = None,
    cost: Annotated[str | None, Option(help="Labels: softmax_cross_entropy; numbers: half_squared_error.")] = None,
    optimizer: Annotated[str, Option(help="sgd, momentum, adam, adamw, rmsprop, adagrad, lion.")] = "adam",
    learning_rate: Annotated[float, Option(help="Step size η.")] = 0.01,
    epochs: Annotated[int | None, Option(min=1, help="Times through the rows; by default about 3,000 steps.")] = None,
    batch_size: Annotated[int, Option(min=1, help="Rows a step.")] = 32,
    seed: Annotated[
        int, Option(min=0, max=2**32 - 1, help="Of the first weights and the order of rows; the rows stay the same.")
    ] = 0,
    grad: Annotated[str, Option(help="auto (jax.grad) or manual (the chain rule by hand).")] = "auto",
    init: Annotated[
        str, Option(help="Initialiser of W, a name in jax.nn.initializers, or standard_normal.")
    ] = "glorot_uniform",
    bias: Annotated[bool | None, Option("--bias/--no-bias", help="On, except for `line`.")] = None,
    standardize: Annotated[
        bool | None, Option("--standardize/--raw", help="A Standardize layer first; on for tables and digits.")
    ] = None,
    target: Annotated[str | None, Option(help="CSV: the column to predict.")] = None,
    features: Annotated[
        str | None, Option(help="CSV: the columns to predict from, separated by commas; all others by default.")
    ] = None,
    labels: Annotated[
        bool | None, Option("--labels/--numbers", help="CSV: whether the target's values are classes.")
    ] = None,
    slope: Annotated[float | None, Option(help="line: k in y = kx.")] = None,
    noise: Annotated[float | None, Option(help="xor, moons, spirals, ball: how noisy.")] = None,
    validation: Annotated[
        float | None, Option(help="Share of rows held out, or from 1 on their number; a fifth by default.")
    ] = None,
    patience: Annotated[
        int | None, Option(min=1, help="Stop after so many epochs without a better validation cost.")
    ] = None,
    out: Annotated[Path | None, Option(help="Folder of the saved model; runs/DATA by default.")] = None,
    json: Annotated[bool, Option("--json", help="The result as JSON on stdout; progress stays on stderr.")] = False,
    quiet: Annotated[bool, Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train a network on DATA and save it."""
    columns = None if features is None else [name.strip() for name in features.split(",")]
    held = int(validation) if validation and validation >= 1 and validation.is_integer() else validation
    asked = dict(target=target, features=columns, labels=labels, slope=slope, noise=noise, validation=held)
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    plan = Plan(
        data, options, layers, activation, output_activation, cost, optimizer, learning_rate, epochs, batch_size, seed,
        grad, init, bias, standardize, patience, out or Path("runs") / Path(data).stem, not quiet,
    )  # fmt: skip
    from jaxprop.cli.runs import print_json

    outcome = run(plan)
    if json:
        print_json({"out": str(plan.out), **outcome.summary})
    else:
        print(outcome.text)
    if outcome.interrupted:
        sys.exit(130)


@dataclass(frozen=True)
class Plan:
    """What the command line asked for."""

    data: str
    options: dict[str, Any]
    layers: str | None
    activation: str
    output_activation: str | None
    cost: str | None
    optimizer: str
    learning_rate: float
    epochs: int | None
    batch_size: int
    seed: int
    grad: str
    init: str
    bias: bool | None
    standardize: bool | None
    patience: int | None
    out: Path
    progress: bool


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    summary: dict[str, Any]
    text: str
    interrupted: bool


def run(plan: Plan) -> Outcome:
    """Load the rows, build the network, train, save."""
    from jaxprop import data as datasets
    from jaxprop.cli import build
    from jaxprop.network import Chain
    from jaxprop.saved.model import save

    data = datasets.load(plan.data, **plan.options)
    net, cost = network(plan, data)
    scale = build.target_scale(plan.data, data, cost, plan.output_activation)
    result, interrupted = train(plan, data, net, cost, scale)
    if interrupted is not None and not result.steps:
        print(f"jaxprop: {interrupted}: nothing is saved", file=sys.stderr)
        sys.exit(130)
    params = result.params
    if scale is not None:  # trained on standardised numbers, answers in their own unit
        net, params = Chain(*net.layers, scale), (*params, ())
    summary = summarise(plan, data, net, cost, result)
    source = {"name": plan.data, "options": plan.options, "source": data.source}
    info = {
        "classes": data.classes, "columns": data.columns, "target": data.target, "data": source,
        "training": {**summary, "history": thinned(result.history)},
    }  # fmt: skip
    save(plan.out, net, params, inputs=data.x[:1], cost=cost, info=info)
    return Outcome(summary, describe(summary, net, params, plan.out, interrupted), interrupted is not None)


def network(plan: Plan, data: Any) -> tuple[Any, Any]:
    """The network (raw rows in) and its cost, as far as the plan says; the rows decide the rest."""
    from jaxprop.cli import build

    is_line = plan.data == "line"
    units = build.sizes(plan.layers, data, hidden=0 if is_line else 32)
    cost = build.choose_cost(plan.cost, data, plan.output_activation)
    bias = not is_line if plan.bias is None else plan.bias
    standardize = build.input_scale(plan.data, data, plan.standardize)
    net = build.network(
        units, data, standardize, plan.activation, plan.output_activation, bias=bias, init=plan.init
    )  # fmt: skip
    return net, cost


def train(plan: Plan, data: Any, net: Any, cost: Any, scale: Any) -> tuple[Any, Any]:
    """(what `fit` gave, the interruption if there was one); targets are standardised by `scale`, if any."""
    import jax

    from jaxprop.cli import build
    from jaxprop.cli.runs import targets_for
    from jaxprop.errors import pick
    from jaxprop.saved.folder import writing
    from jaxprop.train import TrainingInterrupted, fit

    def prepared(rows: Any) -> Any:
        x, targets = rows
        targets = targets_for(cost, targets, len(data.classes or ()))
        return x, targets if scale is None else ((targets - scale.mean) / scale.std).astype(targets.dtype)

    optimizer = build.optimizer(plan.optimizer, plan.learning_rate)
    pick(plan.grad, ("auto", "manual"), "--grad")
    steps = math.ceil(len(data.x) / plan.batch_size)
    epochs = plan.epochs if plan.epochs is not None else max(10, min(1000, math.ceil(DEFAULT_STEPS / steps)))
    with writing(plan.out):  # an unwritable folder is found before training, not after
        pass
    try:
        return fit(
            net, cost, optimizer, prepared((data.x, data.targets)), epochs=epochs, batch_size=plan.batch_size,
            key=jax.random.key(plan.seed), patience=plan.patience, grad=plan.grad, progress=plan.progress,  # pyright: ignore
            validation=None if data.validation is None else prepared(data.validation),
        ), None  # fmt: skip
    except TrainingInterrupted as stop:
        return stop.result, stop


def summarise(plan: Plan, data: Any, net: Any, cost: Any, result: Any) -> dict[str, Any]:
    """What is kept of a training run, beside its history."""
    return {
        "data": data.source,
        "network": repr(net),
        "cost": repr(cost),
        "stopped": result.stopped,
        "epochs": len(result.history),
        "steps": result.steps,
        "seconds": round(result.seconds, 3),
        "best_epoch": result.best.epoch,
        "optimizer": plan.optimizer,
        "learning_rate": plan.learning_rate,
        "batch_size": plan.batch_size,
        "seed": plan.seed,
        "grad": plan.grad,
        "final": result.history[-1] if result.history else {},
    }


def thinned(history: tuple[dict[str, float], ...], most: int = 500) -> list[dict[str, float]]:
    """At most about `most` epochs of a history, evenly spread, the last always kept."""
    every = max(1, math.ceil(len(history) / most))
    return [row for i, row in enumerate(history) if i % every == 0 or i == len(history) - 1]


def describe(summary: dict[str, Any], net: Any, params: Any, out: Path, interrupted: Any) -> str:
    """What a person wants to know after training."""
    import jax
    import numpy as np

    from jaxprop.network import by_path
    from jaxprop.train.progress import describe_row

    lines = [f"{summary['data']} → {net!r}"]
    if interrupted is not None:
        best = f"epoch {summary['best_epoch']}" if summary["best_epoch"] else "within the first epoch"
        lines.append(f"{interrupted}: the best parameters so far ({best}) are saved")
    elif summary["stopped"] == "early":
        lines.append(f"stopped early: the parameters of epoch {summary['best_epoch']} are kept, the best")
    if summary["final"]:
        rate = summary["steps"] / max(summary["seconds"], 1e-9)
        lines.append(f"{describe_row(summary['final'])} · {summary['seconds']:.1f} s, {rate:,.0f} steps/s")
    arrays = by_path(params)
    if sum(np.size(a) for a in jax.tree.leaves(params)) <= 4:
        lines += [f"{path} = {np.array2string(np.asarray(a), precision=4)}" for path, a in arrays.items()]
    lines.append(f"saved in {out}; try: jaxprop predict {out} --rows 0:5 · jaxprop check {out}")
    return "\n".join(lines)
