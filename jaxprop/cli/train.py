"""`jaxprop train`: rows in, a saved model out."""

import contextlib
import math
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxprop import data as datasets
from jaxprop.arrays.dtypes import enough_bits
from jaxprop.arrays.paths import by_path
from jaxprop.cli import build
from jaxprop.cli.commands.train import DEFAULT_STEPS, Plan
from jaxprop.cli.runs import open_run, targets_for
from jaxprop.columns import Category, Table
from jaxprop.costs import Cost
from jaxprop.data import Data
from jaxprop.data.rows import Rows
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import Unstandardize
from jaxprop.network import Chain
from jaxprop.saved.folder import check_writable
from jaxprop.saved.model import save
from jaxprop.train import FitResult, TrainingInterrupted, fit
from jaxprop.train.precision import kept as as_kept, read_precision
from jaxprop.train.progress import describe_row
from jaxprop.train.together import is_first


@dataclass(frozen=True)
class Outcome:
    """What became of it: the figures, and the same in words."""

    summary: dict[str, Any]
    text: str
    interrupted: int = 0  # the signal that ended it, if one did
    speaks: bool = True  # of several processes, the first


def run(plan: Plan) -> Outcome:
    """Load the rows, build the network, train it, and save it in the plan's folder."""
    precision = read_precision(plan.precision, "--precision")
    with enough_bits(precision) if precision == "float64" else contextlib.nullcontext():
        return _run(plan)


def _run(plan: Plan) -> Outcome:
    if plan.report and find_spec("matplotlib") is None:  # found before training, not after
        raise JaxpropError('--report draws with matplotlib, which is not installed: pip install ".[plot]"')
    data = datasets.load(plan.data, **plan.options)
    net, cost = network(plan, data)
    for note in [*data.notes, *as_read(data.table if plan.progress else None)] if is_first() else []:
        print(f"jaxprop: {note}", file=sys.stderr)
    scale = build.target_scale(plan.data, data, cost, plan.output_activation)
    result, stopped_by = train(plan, data, net, cost, scale)
    summary, net, params = kept(plan, data, net, cost, scale, result)
    if not is_first():
        return Outcome(summary, "", stopped_by, speaks=False)
    records = plan.out / "monitor.csv"
    if result.monitor is not None:
        result.monitor.to_csv(records)
    else:
        records.unlink(missing_ok=True)  # one of an earlier run would be taken for this one's
    text = describe(summary, net, params, plan.out)
    if stopped_by and plan.checkpoints is not None:
        text += f"\n{plan.checkpoints} keeps the run: the same command with --resume goes on"
    if plan.report:
        text += f"\n{pictured(plan, result)}"
    return Outcome(summary, text, stopped_by)


def kept(
    plan: Plan, data: Data, net: Chain, cost: Cost, scale: Unstandardize | None, result: FitResult
) -> tuple[dict[str, Any], Chain, PyTree]:
    """Save what training gave in the plan's folder; return the figures, and the network and θ as they are saved."""
    params = result.params
    if scale is not None:  # trained on standardised numbers, answers in their own unit
        net, params = Chain(*net.layers, scale), (*params, ())
    summary = summarise(plan, data, net, cost, result)
    if not is_first():  # one process of a job writes
        return summary, net, params
    source = {"name": plan.data, "options": plan.options, "source": data.source, "seen": datasets.seen(data)}
    info = {
        "classes": data.classes, "columns": data.columns, "target": data.target, "table": data.table,
        "data": source,
        "training": {**summary, "history": [of_epoch(row) for row in thinned(result.history)]},
    }  # fmt: skip
    save(plan.out, net, params, inputs=as_kept(data.x[:1], read_precision(plan.precision)), cost=cost, info=info)
    return summary, net, params


def pictured(plan: Plan, result: FitResult) -> str:
    """Write the report and the picture of a run that is saved; say where they are."""
    from jaxprop import plot
    from jaxprop.cli.report import written

    paths = [written(open_run(plan.out), None, plan.out / "report.html", result)]
    if any(math.isfinite(row["cost"]) for row in result.history):
        paths.append(plot.save(plot.history(result.history), plan.out / "training.png"))
    return " · ".join(map(str, paths))


def network(plan: Plan, data: Data) -> tuple[Chain, Cost]:
    """Build the network (raw rows go in) and its cost as far as the plan says; the rows decide the rest."""
    usual = build.suggested(plan.data)
    cost = build.choose_cost(plan.cost, data, plan.output_activation)
    units = build.sizes(plan.layers, data, cost, usual.hidden)
    bias = plan.data != "line" if plan.bias is None else plan.bias
    standardize = build.input_scale(plan.data, data, plan.standardize)
    net = build.network(
        units, data, standardize, plan.activation or usual.activation, plan.output_activation, bias=bias, init=plan.init
    )
    return net, cost


def train(plan: Plan, data: Data, net: Chain, cost: Cost, scale: Unstandardize | None) -> tuple[FitResult, int]:
    """Train on targets that `scale`, if any, standardises; return the result, and the signal that ended it or 0.

    After Ctrl-C or SIGTERM it is what there is, if there is anything.
    """

    def prepared(rows: Rows) -> Rows:
        return as_trained(rows, data, cost, scale)

    usual = build.suggested(plan.data)
    optimizer = build.optimizer(plan.optimizer, plan.rate)
    pick(plan.grad, ("auto", "manual"), "--grad")
    epochs = epochs_of(plan, data)
    patience = plan.patience or (usual.patience if data.validation is not None else None)
    if is_first():
        check_writable(plan.out)  # found before training, not after
    try:
        result = fit(
            net, cost, optimizer, prepared((data.x, data.targets)), epochs=epochs, batch_size=plan.batch_size,
            key=jax.random.key(plan.seed), patience=patience, grad=plan.grad, progress=plan.progress,  # pyright: ignore
            precision=plan.precision,
            validation=None if data.validation is None else prepared(data.validation),
            monitor=None if plan.monitor is None else build.monitored(plan.monitor), every=plan.every,
            explore=plan.explore, log=plan.log, checkpoints=plan.checkpoints, resume=plan.resume,
            mesh=plan.mesh,
        )  # fmt: skip
        return result, 0
    except TrainingInterrupted as stop:
        if not stop.result.steps:
            if is_first():
                print(f"jaxprop: {stop}: nothing is saved", file=sys.stderr)
            sys.exit(128 + stop.signal)
        return stop.result, stop.signal


def as_trained(rows: Rows, data: Data, cost: Cost, scale: Unstandardize | None) -> Rows:
    """Rows as they are trained on: labels as the cost takes them, numbers standardised by `scale`, if there is one."""
    x, targets = rows
    targets = targets_for(cost, targets, len(data.classes or ()))
    return x, targets if scale is None else ((targets - scale.mean) / scale.std).astype(targets.dtype)


def epochs_of(plan: Plan, data: Data) -> int:
    """How often all rows are gone through: as the plan says, by default for about 3,000 steps."""
    steps = math.ceil(len(data.x) / plan.batch_size)
    return plan.epochs if plan.epochs is not None else max(10, min(1000, math.ceil(DEFAULT_STEPS / steps)))


def summarise(plan: Plan, data: Data, net: Chain, cost: Cost, result: FitResult) -> dict[str, Any]:
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
        "learning_rate": plan.rate,
        "batch_size": plan.batch_size,
        "seed": plan.seed,
        "grad": plan.grad,
        "precision": plan.precision,
        "final": of_epoch(result.row or {}),
    }


def of_epoch(row: dict[str, float]) -> dict[str, float]:
    """A row of the history without what monitored quantities say by layer: monitor.csv has that.

    >>> of_epoch({"cost": 0.5, "dead.1": 0.1})
    {'cost': 0.5}
    """
    return {name: value for name, value in row.items() if "." not in name}


def as_read(table: Table | None) -> list[str]:
    """How the columns of a table were read.

    >>> as_read(Table((Category("quarter", ("north", "south")),)))
    ['columns: quarter (2 values); choose others with --features']
    """
    if table is None:
        return []
    kinds = []
    for column in table.columns:
        kind = f"{len(column.values)} values" if isinstance(column, Category) else type(column).__name__.lower()
        kinds.append(f"{column.name} ({kind})")
    shown = ", ".join(kinds[:12]) + (f" and {len(kinds) - 12} more" if len(kinds) > 12 else "")
    return [f"columns: {shown}; choose others with --features"]


def thinned(history: tuple[dict[str, float], ...], most: int = 500) -> list[dict[str, float]]:
    """At most about `most` epochs of a history, evenly spread; the last is always kept."""
    every = max(1, math.ceil(len(history) / most))
    return [row for i, row in enumerate(history) if i % every == 0 or i == len(history) - 1]


def describe(summary: dict[str, Any], net: Chain, params: PyTree, out: Path) -> str:
    """What a person wants to know after training."""
    lines = [f"{summary['data']} → {net!r}"]
    if summary["stopped"] == "interrupted":
        best = f"epoch {summary['best_epoch']}" if summary["best_epoch"] else "within the first epoch"
        steps = f"training interrupted after {summary['steps']:,} steps"
        lines.append(f"{steps}: the best parameters so far ({best}) are saved")
    elif summary["stopped"] == "early":
        lines.append(f"stopped early: the parameters of epoch {summary['best_epoch']} are kept, the best")
    if summary["final"]:
        rate = summary["steps"] / max(summary["seconds"], 1e-9)
        lines.append(f"{describe_row(summary['final'])} · {summary['seconds']:.1f} s, {rate:,.0f} steps/s")
    arrays = by_path(params)
    if sum(np.size(a) for a in arrays.values()) <= 4:
        lines += [f"{path} = {np.array2string(np.asarray(a), precision=4)}" for path, a in arrays.items()]
    lines.append(f"saved in {out}; try: jaxprop predict {out} --rows 0:5 · jaxprop check {out}")
    return "\n".join(lines)
