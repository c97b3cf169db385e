"""`jaxprop sweep`: rows in, a table of many trainings out, and the best of them as a saved model."""

import dataclasses
import math
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import jax
import optax

from jaxprop import data as datasets
from jaxprop.cli import build, choices
from jaxprop.cli.commands.sweep import Sweep
from jaxprop.cli.commands.train import Plan
from jaxprop.cli.train import Outcome, as_read, as_trained, epochs_of, kept, network
from jaxprop.data import Data
from jaxprop.data.rows import Rows
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import Layer, Unstandardize
from jaxprop.saved.folder import check_writable
from jaxprop.tables import terminal_room
from jaxprop.train import Best, FitResult, SweepInterrupted, SweepResult, sweep

FIELDS = ("layers", "activation", "optimizer", "learning_rate", "batch_size")  # of a plan, that a sweep may vary


def run(asked: Sweep) -> Outcome:
    """Load the rows, train with every setting, and save the table, its picture and the best model."""
    use_all_cores()
    plan = plan_of(asked, {})
    check(asked, plan.rate)
    data = datasets.load(plan.data, **plan.options)
    for note in [*data.notes, *as_read(data.table if plan.progress else None)]:
        print(f"jaxprop: {note}", file=sys.stderr)
    check_writable(plan.out)  # found before training, not after
    result, stopped_by = train(asked, plan, data)
    if result.found is None:
        print(f"{result.as_table().text(room=terminal_room())}\njaxprop: nothing is saved", file=sys.stderr)
        if stopped_by:
            sys.exit(128 + stopped_by)
        _ = result.best  # says why there is none
    return saved(asked, data, result, stopped_by)


def use_all_cores() -> None:
    """Make a device of each core of a CPU, unless somebody has said how many there are or JAX has started."""
    said = jax.config.jax_num_cpu_devices > 0 or "device_count" in os.environ.get("XLA_FLAGS", "")  # pyright: ignore
    if not said:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            jax.config.update("jax_num_cpu_devices", cores)
        except RuntimeError:  # it has
            pass


def plan_of(asked: Sweep, setting: Mapping[str, Any]) -> Plan:
    """What `jaxprop train` would be asked for a setting; what no setting says is the first value of its option."""
    first = Plan(
        data=asked.data, options=asked.options, layers=asked.layers[0], activation=asked.activations[0],
        output_activation=asked.output_activation, cost=asked.cost, optimizer=asked.optimizers[0],
        learning_rate=asked.rates[0], epochs=asked.epochs, batch_size=asked.batch_sizes[0], grad=asked.grad,
        init=asked.init, bias=asked.bias, standardize=asked.standardize, out=asked.out, progress=asked.progress,
    )  # fmt: skip
    return dataclasses.replace(first, **setting)


def check(asked: Sweep, usual: float) -> None:
    """Find what is no optimizer, no rate or no number of rows before anything is loaded."""
    for name in asked.optimizers:
        for rate in asked.rates:
            build.optimizer(name, usual if rate is None else rate)
    pick(asked.grad, ("auto", "manual"), "--grad")
    count = isinstance(asked.seeds, int)
    seeds = (asked.seeds,) if isinstance(asked.seeds, int) else asked.seeds
    for option, least, values in (("--batch-size", 1, asked.batch_sizes), ("--seeds", 1 if count else 0, seeds)):
        if min(values) < least:
            raise JaxpropError(f"{option}: found {min(values)}, expected whole numbers ≥ {least}")
    for name in (name for name in asked.activations if name is not None):
        pick(name.replace("-", "_"), choices.ACTIVATIONS, "--activation")


def train(asked: Sweep, plan: Plan, data: Data) -> tuple[SweepResult, int]:
    """Train with every setting; return the result, and the signal that ended it or 0."""
    net, cost = network(plan, data)
    scale = build.target_scale(plan.data, data, cost, plan.output_activation)
    values = (asked.layers, asked.activations, asked.optimizers, asked.rates, asked.batch_sizes)
    settings = {name: list(found) for name, found in zip(FIELDS, values, strict=True) if len(found) > 1}

    def make_net(layers: str | None = plan.layers, activation: str | None = plan.activation) -> Layer:
        return network(dataclasses.replace(plan, layers=layers, activation=activation), data)[0]

    def make_optimizer(optimizer: str = plan.optimizer, learning_rate: Any = plan.rate) -> optax.GradientTransformation:
        return build.of_optax(optimizer, learning_rate)

    varied = "layers" in settings or "activation" in settings

    def read(part: Rows) -> Rows:
        return as_trained((part[0][:], part[1]), data, cost, scale)  # x may lie in files

    held = None if data.validation is None else read(data.validation)
    try:
        result = sweep(
            make_net if varied else net, cost, make_optimizer, read((data.x, data.targets)),
            settings=settings or None, seeds=asked.seeds, epochs=epochs_of(plan, data), batch_size=plan.batch_size,
            validation=held, grad=plan.grad, progress=plan.progress, at_once=asked.at_once,  # pyright: ignore
        )  # fmt: skip
        return result, 0
    except SweepInterrupted as stop:
        return stop.result, stop.signal


def saved(asked: Sweep, data: Data, result: SweepResult, stopped_by: int) -> Outcome:
    """Save the best model, the table and its picture; say what there is."""
    best = result.best
    plan = dataclasses.replace(plan_of(asked, best.setting), seed=best.seed)
    net, cost = network(plan, data)
    scale: Unstandardize | None = build.target_scale(plan.data, data, cost, plan.output_activation)
    kept(plan, data, net, cost, scale, of_one_run(result, plan, len(data.x)))
    files = [result.to_csv(plan.out / "sweep.csv")]
    picture = plan.out / "sweep.png"
    picture.unlink(missing_ok=True)
    if find_spec("matplotlib") is not None:
        from jaxprop import plot

        files.append(plot.save(plot.sweep(result), picture))
    summary = {
        "out": str(plan.out), "data": data.source, "stopped": result.stopped, "programs": result.programs,
        "in_turn": result.in_turn, "at_once": result.at_once, "steps": result.steps,
        "seconds": round(result.seconds, 3), "by": result.by,
        "best": {"setting": best.setting, "seed": best.seed, **best.row},
        "settings": result.by_setting(), "runs": result.records,
    }  # fmt: skip
    rate = result.steps / max(result.seconds, 1e-9)
    programs = f"{result.programs} program{'s' if result.programs > 1 else ''}"
    lines = [
        f"{data.source} → {net!r}",
        result.as_table().text(room=terminal_room()),
        f"{len(result.records)} runs in {programs} · {result.seconds:.1f} s, {rate:,.0f} steps/s",
        f"{' · '.join(map(str, files))}",
        f"the best is saved in {plan.out}; try: jaxprop predict {plan.out} --rows 0:5 · jaxprop evaluate {plan.out}",
    ]
    return Outcome(summary, "\n".join(lines), stopped_by)


def of_one_run(result: SweepResult, plan: Plan, rows: int) -> FitResult:
    """The best run as `fit` would have given it back, at its best epoch."""
    best = result.best
    k = next(k for k, setting in enumerate(result.settings) if setting is best.setting)
    s = result.seeds.index(best.seed)
    history = tuple(
        {"epoch": epoch + 1} | {name: float(values[k, s, epoch]) for name, values in result.histories.items()}
        for epoch in range(int(result.epochs[k, s]))
    )
    epoch, steps = int(best.row["epoch"]), math.ceil(rows / plan.batch_size)
    judged = best.row.get("validation_cost", best.row["cost"])
    return FitResult(
        best.params, history, Best(best.params, epoch, judged), len(history) * steps, result.seconds, result.stopped,
        best.row,
    )  # fmt: skip
