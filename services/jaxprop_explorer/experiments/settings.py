"""What a page can set of an experiment: plain values, checked, which the page's address can hold."""

from dataclasses import replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
import optax
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from jaxprop.backward import rules
from jaxprop.backward.rules import Rule
from jaxprop.cli import choices
from jaxprop.cli.build import activations, cost_kinds
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import Layer
from jaxprop_explorer.experiments.problems import GIVEN, NAMES, NOISE, OWN, TABLES, Problem, Source, source

MOST_LAYERS, MOST_UNITS = 6, 512
RULES: dict[str, Rule | None] = {
    "backpropagation": None,
    "feedback_alignment": rules.FeedbackAlignment(),
    "direct_feedback_alignment": rules.DirectFeedbackAlignment(),
    "sign_symmetry": rules.SignSymmetry(),
    "kolen_pollack": rules.KolenPollack(),
    "guided_backprop": rules.GuidedBackprop(),
    "deconvnet": rules.Deconvnet(),
    "straight_through": rules.StraightThrough(),
}
NOT_ELEMENTWISE = ("softmax", "quantize")  # a softmax compares units; a quantize only rounds
KEPT = ("learning_rate", "batch_size", "optimizer", "rule")
"""What can change without starting anew: θ stays as it is."""


class Settings(BaseModel):
    """The settings of an experiment: the problem, the network, the cost, and how it is trained.

    None stands for what is usual for the data; `complete` puts it in. Names are those of `jaxprop train`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "xor"
    table: str | None = Field(None, max_length=64)  # of a table of one's own: the name that it is kept by
    target: str | None = Field(None, max_length=200)  # and the column to predict, the last one if None
    labels: bool | None = None  # whether its values are classes; None: they decide
    noise: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    validation: float = Field(0.2, ge=0, le=0.9, allow_inf_nan=False)
    layers: tuple[int, ...] | None = None  # the widths of the hidden layers
    activation: str | None = None
    output_activation: str | None = None
    bias: bool | None = None
    cost: str | None = None
    learning_rate: float | None = Field(None, gt=0, le=1e6, allow_inf_nan=False)
    optimizer: str | None = None
    batch_size: int | None = Field(None, ge=1, le=10_000)
    seed: int = Field(0, ge=0, lt=2**31)
    rule: str = "backpropagation"

    @field_validator("layers")
    @classmethod
    def _widths(cls, found: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if found is not None and (len(found) > MOST_LAYERS or not all(1 <= width <= MOST_UNITS for width in found)):
            raise JaxpropError(
                f"layers: found {list(found)}, expected up to {MOST_LAYERS} hidden layers of 1 to {MOST_UNITS} units"
            )
        return found

    @field_validator("data", "activation", "output_activation", "cost", "optimizer", "rule")
    @classmethod
    def _known(cls, found: str | None, info: Any) -> str | None:
        if found is None:
            return None
        name = found.replace("-", "_")
        name = "identity" if name == "linear" else name
        return pick(name, _KNOWN[info.field_name], info.field_name.replace("_", " "))

    def complete(self, source: Source) -> Self:
        """Return the settings with what is usual for a source in the place of every None."""
        usual = source.usual
        cost = self.cost or usual.cost or _usual_cost(source)
        output = self.output_activation
        if output is None:
            output = usual.output_activation if cost_kinds()[cost].applies is None else None
        found = {
            "noise": self.noise if source.name not in NOISE or self.noise is not None else NOISE[source.name],
            "layers": usual.layers if self.layers is None else self.layers,
            "activation": self.activation or usual.activation,
            "output_activation": output or "identity",
            "bias": usual.bias if self.bias is None else self.bias,
            "cost": cost,
            "learning_rate": self.learning_rate or usual.learning_rate,
            "optimizer": self.optimizer or usual.optimizer,
            "batch_size": self.batch_size or usual.batch_size,
        }
        return self.model_copy(update=found)

    def given(self) -> dict[str, Any]:
        """Return what differs from a page without settings: what an address needs to hold."""
        return self.model_dump(exclude_defaults=True, mode="json")

    def source(self) -> Source:
        """Return what is to be learned; a table of one's own is found by the name that it is kept by."""
        table = None
        if self.data == OWN and self.table is not None:
            table = replace(TABLES.find(self.table), target=self.target, labels=self.labels)
        return source(self.data, self.noise, self.validation, table)


_KNOWN = {
    "data": (*NAMES, GIVEN),
    "activation": tuple(name for name in choices.ACTIVATIONS if name not in NOT_ELEMENTWISE),
    "output_activation": tuple(name for name in choices.ACTIVATIONS if name not in ("quantize",)),
    "cost": choices.COSTS,
    "optimizer": choices.OPTIMIZERS,
    "rule": tuple(RULES),
}


def known() -> dict[str, tuple[str, ...]]:
    """Return what each setting that is a name can be."""
    return dict(_KNOWN)


def read(given: dict[str, Any]) -> Settings:
    """Return settings from plain values; raise JaxpropError, in words, for one that is not known or out of range."""
    try:
        return Settings(**given)
    except ValidationError as error:
        raise JaxpropError("; ".join(_told(one) for one in error.errors())) from None
    except TypeError:
        raise JaxpropError(f"settings: found {str(given)[:60]!r}, expected an object of names and values") from None


def _told(error: Any) -> str:
    name, told = ".".join(map(str, error["loc"])) or "settings", error["msg"]
    if error["type"] == "value_error":
        return told.removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"there is no setting {name!r}; known: {', '.join(Settings.model_fields)}"
    return f"{name}: found {str(error['input'])[:60]!r}, expected: {told[0].lower()}{told[1:]}"


def changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Return settings with some of them changed and checked; a change of the data lets go of what belongs to it."""
    kept = settings.model_dump()
    if changes.get("data", settings.data) != settings.data or "table" in changes:
        kept = {name: kept[name] for name in ("seed", "rule", "validation")}
    if "cost" in changes:
        kept.pop("output_activation", None)  # some costs apply one themselves
    return read({**kept, **changes})


def _usual_cost(source: Source) -> str:
    """Labels mean cross-entropy, numbers half squared error, as for `jaxprop train`; one output tells two classes."""
    if source.classes is None:
        return "half_squared_error"
    return "sigmoid_cross_entropy" if len(source.classes) == 2 else "softmax_cross_entropy"


@lru_cache(64)
def activation(name: str) -> Layer:
    """Return the activation of that name, as `jaxprop train` makes it."""
    return activations()[name]()


def made_cost(settings: Settings, source: Source) -> tuple[Cost, Problem]:
    """Return the cost and the rows as it wants them; raise JaxpropError where cost, output and rows do not fit."""
    cost: Cost = cost_kinds()[settings.cost or _usual_cost(source)]()
    if cost.applies is not None and settings.output_activation != "identity":
        raise JaxpropError(
            f"cost {settings.cost} applies {cost.applies} itself: found the output activation "
            f"{settings.output_activation}, expected linear; choose that, or the cost half_squared_error"
        )
    if not fits(cost, source):
        found = "classes" if source.classes else "numbers"
        expected = ", ".join(fitting_costs(source))
        raise JaxpropError(
            f"cost {settings.cost} does not fit {source.label}, whose targets are {found}: choose {expected}"
        )
    return cost, source.problem(cost)


@lru_cache(256)
def fits(cost: Cost, source: Source) -> bool:
    """Return whether a cost can be taken of a source's targets."""
    if source.classes is None and (cost.outputs in ("class logits", "scores")):
        return False
    if source.classes is not None and (cost.outputs_per_target > 1 or cost.outputs == "log-rates"):
        return False
    rows = source.problem(cost)
    try:
        cost.check_values(np.zeros((len(rows.x), source.outputs(cost)), np.float32), rows.targets)
    except JaxpropError:
        return False
    return True


def fitting_costs(source: Source) -> list[str]:
    """Return the names of the costs that fit a source."""
    return [name for name, kind in cost_kinds().items() if fits(kind(), source)]


@lru_cache(16)
def optimizer(name: str) -> optax.GradientTransformation:
    """Return an optimizer whose learning rate is a number in its state: changing it compiles nothing."""
    kind = optax.sgd if name == "momentum" else getattr(optax, name)
    settings = {"momentum": 0.9} if name == "momentum" else {}
    return optax.inject_hyperparams(kind, hyperparam_dtype=np.dtype("float32"))(learning_rate=0.0, **settings)
