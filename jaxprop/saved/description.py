"""`model.json`: what a saved model says of itself, validated by pydantic on the way in.

Unknown fields and unknown kinds of layers are refused; `kinds.py` says how layers and costs are described.
"""

import json
import math
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from pydantic import JsonValue, ValidationError

from jaxprop.columns import Table
from jaxprop.costs import Cost
from jaxprop.errors import ModelError
from jaxprop.layers.layer import Layer
from jaxprop.saved.kinds import build, describe_settings, known_kinds, model_with
from jaxprop.saved.weights import ArraySpec, Specs, Strict, Weights

NAME = "model.json"
FORMAT = 1
DAMAGED = "the file is damaged or was altered: save the model again"
InputSpec = ArraySpec | tuple[ArraySpec, ...]  # a tuple where x is one: (queries, memory)


class Inputs(Strict):
    """What goes in."""

    x: InputSpec


class Outputs(Strict):
    """What comes out."""

    y: ArraySpec


class Info(Strict):
    """What is known beside the network: label and column names, where the rows came from, how training went."""

    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    target: str | None = None
    table: Table | None = None
    data: dict[str, JsonValue] | None = None
    training: dict[str, JsonValue] | None = None


def plain(value: Any) -> Any:
    """Return what training gave as JSON has it: lists for tuples and arrays, numbers of Python, null for NaN.

    >>> plain({"history": ({"cost": np.float32(0.5), "validation_cost": float("inf")},)})
    {'history': [{'cost': 0.5, 'validation_cost': None}]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Beside(Strict):
    """The fields of `model.json` beside the network and its cost."""

    format: Literal[1]
    inputs: Inputs
    outputs: Outputs
    params: Specs
    weights: Weights
    versions: dict[str, str]
    info: Info


class Description(NamedTuple):
    """A saved model without its arrays: `jp.describe(path)`."""

    net: Layer
    cost: Cost | None
    inputs: InputSpec
    outputs: ArraySpec
    params: Specs
    weights: Weights
    versions: dict[str, str]
    info: Info

    @property
    def one_input(self) -> ArraySpec:
        """The input, for those that take rows of one array; ModelError where x is several."""
        if isinstance(self.inputs, ArraySpec):
            return self.inputs
        raise ModelError(
            f"this network takes {len(self.inputs)} arrays as x, expected one here: call it from Python, after "
            "jp.load, or export f(x, params) with a dict of named arrays as x"
        )

    @property
    def all_inputs(self) -> tuple[ArraySpec, ...]:
        """The input or the inputs."""
        return (self.inputs,) if isinstance(self.inputs, ArraySpec) else self.inputs

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of all arrays that it names."""
        return [spec.dtype for spec in (*self.all_inputs, self.outputs, *self.params.values())]


def to_json(description: Description) -> str:
    """Return the text of `model.json`."""
    plain = {
        "format": FORMAT,
        "net": describe_settings(description.net),
        "cost": describe_settings(description.cost),
        "inputs": Inputs(x=description.inputs).model_dump(),
        "outputs": Outputs(y=description.outputs).model_dump(),
        "params": {path: spec.model_dump() for path, spec in description.params.items()},
        "weights": description.weights.model_dump(),
        "versions": description.versions,
        "info": description.info.model_dump(exclude_none=True),
    }
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def from_json(text: str | bytes, where: str | Path, kinds: Iterable[type] = (), hint: str = DAMAGED) -> Description:
    """Validate the text of `model.json` and build what it describes; ModelError names the field that is wrong."""
    known = known_kinds(kinds)
    schema: Any = model_with(_Beside, tuple(known.values()))
    try:
        model = schema.model_validate_json(text)
        net, cost = build(model.net, known), build(model.cost, known)
    except ValidationError as error:
        raise ModelError(f"{where}: {first_of(error, hint)}") from None
    except (ValueError, RecursionError) as error:  # a setting that the layer itself refuses
        raise ModelError(f"{where}: {error}; {hint}") from None
    spec = (model.inputs.x, model.outputs.y, model.params, model.weights, model.versions, model.info)
    return Description(net, cost, *spec)


def versions() -> dict[str, str]:
    """Return the versions of what writes a model."""
    return {name: metadata.version(name) for name in ("jaxprop-nn", "jax", "numpy")}


def first_of(error: ValidationError, hint: str = "") -> str:
    """Return the first thing that pydantic found wrong, in our words; a newer format comes before all others."""
    errors = error.errors()
    for found in (one["input"] for one in errors if one["loc"] == ("format",)):
        if isinstance(found, int) and found > FORMAT:
            return f"format {found} is newer than this jaxprop reads ({FORMAT}); upgrade jaxprop"
    first = errors[0]
    place = ".".join(part for part in map(str, first["loc"]) if "ArraySpec" not in part) or "the top"
    if first["type"] == "json_invalid":
        text = f"not JSON that can be read ({first['msg']})"
    elif first["type"] == "union_tag_invalid":
        tag = _short(first["ctx"]["tag"])  # pyright: ignore[reportTypedDictNotRequiredAccess]
        return f"{place}: kind {tag} is not known; name your own in kinds=, or in the entry points jaxprop.layers"
    else:
        found = "" if first["type"] == "missing" else f", found {_short(first['input'])}"
        text = f"{place}: {first['msg']}{found}"
    return f"{text}; {hint}" if hint else text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
