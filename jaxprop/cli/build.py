"""From the words of the command line to a network, a cost and an optimizer."""

import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import optax

from jaxprop import costs, layers, stats
from jaxprop.cli import choices
from jaxprop.costs import Cost, HalfSquaredError, SoftmaxCrossEntropy
from jaxprop.data import Data, is_table_file
from jaxprop.data.stored import is_stored
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import Flatten, Layer, Linear, Softmax, Standardize, Unstandardize
from jaxprop.network import Chain
from jaxprop.train.sources.files import ArrayElsewhere

ROWS_MEASURED = 20_000  # of rows that are not in memory, for their mean and standard deviation


def snake(name: str) -> str:
    """A class's name as an option's value; capitals with at most one small letter after them are one word.

    >>> snake("HalfSquaredError"), snake("LeakyReLU"), snake("SiLU"), snake("KLDivergence"), snake("ReLU6")
    ('half_squared_error', 'leaky_relu', 'silu', 'kl_divergence', 'relu6')
    """
    return "_".join(re.findall(r"(?:[A-Z][a-z]?)+[0-9]*(?![a-z])|[A-Z][a-z]+[0-9]*", name)).lower()


def activations() -> dict[str, type]:
    """Activations by name."""
    kinds = [v for v in vars(layers).values() if isinstance(v, type) and issubclass(v, layers.Activation)]
    return {snake(kind.__name__): kind for kind in [*kinds, Softmax] if kind is not layers.Activation}


def cost_kinds() -> dict[str, type]:
    """Costs by name."""
    kinds = [v for v in vars(costs).values() if isinstance(v, type) and issubclass(v, Cost) and v is not Cost]
    return {snake(kind.__name__): kind for kind in kinds}


def made(kinds: dict[str, type], name: str, option: str) -> Any:
    """Make the kind of that name, with its default settings."""
    kind = kinds[pick(name.replace("-", "_"), kinds, option)]
    unset = [f.name for f in fields(kind) if f.init and f.default is MISSING and f.default_factory is MISSING]
    if unset:
        raise JaxpropError(
            f"{option} {name}: {kind.__name__} has no default for {', '.join(unset)}, and the command sets none: give "
            "it one in its class, or train with jp.fit"
        )
    return kind()


def optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
    """An optax optimizer by name ('momentum' is SGD with momentum 0.9)."""
    if not 0 < learning_rate < float("inf"):
        raise JaxpropError(f"--learning-rate: found {learning_rate}, expected a positive number")
    return of_optax(pick(name, choices.OPTIMIZERS, "--optimizer"), learning_rate)


def of_optax(name: str, learning_rate: Any) -> optax.GradientTransformation:
    """An optax optimizer by a name that is known, with a learning rate that may be a tracer."""
    return optax.sgd(learning_rate, 0.9) if name == "momentum" else getattr(optax, name)(learning_rate)


MONITORED: dict[str, stats.Quantity] = {
    "noise": stats.NoiseScale(),
    "norms": stats.ExampleNorms(),
    "updates": stats.UpdateToWeight(),
    "flow": stats.Flow(),
    "dead": stats.DeadUnits(),
    "saturated": stats.SaturatedUnits(),
    "tests": stats.GradientTests(),
}


def monitored(text: str) -> dict[str, stats.Quantity]:
    """Quantities by name, of 'noise,flow'.

    >>> monitored("dead, flow")
    {'dead': DeadUnits(), 'flow': Flow()}
    """
    names = [name.strip() for name in text.split(",")]
    return {name: MONITORED[pick(name, MONITORED, "--monitor")] for name in names}


def choose_cost(name: str | None, data: Data, output_activation: str | None) -> Cost:
    """Labels mean softmax cross-entropy, numbers half squared error, unless named otherwise."""
    if name is None:
        cost = SoftmaxCrossEntropy() if data.classes else HalfSquaredError()
    else:
        cost = made(cost_kinds(), name, "--cost")
    chosen = snake(type(cost).__name__)
    if cost.outputs == "class logits" and cost.takes_labels and not data.classes:
        raise JaxpropError(f"--cost {chosen} needs labels, found numbers; use half_squared_error")
    if cost.outputs_per_target > 1 and data.classes:
        raise JaxpropError(f"--cost {chosen} needs numbers, found labels; use softmax_cross_entropy")
    if cost.applies is not None and output_activation is not None:
        raise JaxpropError(
            f"--output-activation {output_activation}: {chosen} applies {cost.applies} itself; leave it out, or use "
            "--cost half_squared_error"
        )
    return cost


def sizes(text: str | None, data: Data, cost: Cost, hidden: tuple[int, ...]) -> list[int]:
    """'64,32,10' as numbers, checked against the rows; without it, the hidden layers suggested."""
    inputs = int(np.prod(data.x.shape[1:]))
    targets = len(data.classes) if data.classes else int(np.prod(data.targets.shape[1:]))
    outputs = targets * cost.outputs_per_target
    if text is None:
        return [inputs, *hidden, outputs]
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise JaxpropError(
            f"--layers: found {text!r}, expected numbers of units such as {inputs},32,{outputs}"
        ) from None
    if len(found) < 2 or min(found) < 1:
        raise JaxpropError(f"--layers: found {text!r}, expected inputs, any hidden layers and outputs, all ≥ 1")
    for what, at, expected in (("starts", 0, inputs), ("ends", -1, outputs)):
        if found[at] != expected:
            unit = "inputs" if at == 0 else ("classes" if data.classes else "outputs")
            raise JaxpropError(
                f"--layers: {text!r} {what} with {found[at]}, but {data.source} has {expected} {unit}: "
                f"write {','.join(map(str, [inputs, *found[1:-1], outputs]))}"
            )
    return found


def network(
    units: list[int], data: Data, standardize: Standardize | None, activation: str, output: str | None, **linear: Any
) -> Chain:
    """Preprocessing if any (raw rows in), Linear layers with activations between, and the output's, if any."""
    known = activations()
    hidden = made(known, activation, "--activation")
    chain: list[Layer] = [Flatten()] if data.x.ndim > 2 else []
    chain += [] if standardize is None else [standardize]
    for i, size in enumerate(units[1:]):
        chain += ([hidden] if i else []) + [Linear(size, **linear)]
    if output is not None:
        chain.append(made(known, output, "--output-activation"))
    return Chain(*chain)


@dataclass(frozen=True)
class Suggested:
    """What is trained where nothing is said: by the source, for no one choice learns all of them."""

    hidden: tuple[int, ...] = (32,)
    activation: str = "tanh"
    learning_rate: float = 0.01
    patience: int | None = None
    standardize: bool = False


def suggested(name: str) -> Suggested:
    """The settings for a source, measured: tests/benchmarks/tables.py for files of tables.

    >>> suggested("line").hidden, suggested("houses.csv").patience
    ((), 20)
    """
    if is_table_file(name):  # soon learned by heart: the rows held out say when to stop
        return Suggested(activation="gelu", learning_rate=0.003, patience=20)
    return {
        "line": Suggested(hidden=()),
        "digits": Suggested(standardize=True),
        "spirals": Suggested((64, 64, 64), "gelu", standardize=True),
    }.get(name, Suggested())


def is_table(name: str) -> bool:
    """Whether rows come from a file or a measurement, in units of their own; rows of formulas are of order 1.

    >>> is_table("houses.csv"), is_table("square")
    (True, False)
    """
    return name == "ball" or is_stored(name) or Path(name).suffix.lower() in (".npz",) or is_table_file(name)


def input_scale(name: str, data: Data, wanted: bool | None) -> Standardize | None:
    """Standardised columns for tables; one scale for all pixels, so that one that hardly varies is not blown up."""
    if not (is_table(name) or suggested(name).standardize if wanted is None else wanted):
        return None
    x = data.x
    if isinstance(x, ArrayElsewhere):  # rows from all over it say enough of their mean
        x = x[np.unique(np.linspace(0, len(x) - 1, ROWS_MEASURED).astype(int))]
    scale = Standardize.of(x.reshape(len(x), -1), per_feature=is_table(name))
    if data.table is None:
        return scale
    kept = np.array(data.table.scaled)  # what is 0 or 1 stays so
    mean, std = np.where(kept, scale.mean, 0.0), np.where(kept, scale.std, 1.0)
    return Standardize(tuple(mean.tolist()), tuple(std.tolist()))


def target_scale(name: str, data: Data, cost: Cost, output: str | None) -> Unstandardize | None:
    """The layer that gives a table's numbers back in their own unit; none where cost or output bind their range."""
    free = cost.outputs == "values" and output is None
    return Unstandardize.of(data.targets) if is_table(name) and not data.classes and free else None
