"""`model.json`: what a saved model says of itself, validated by pydantic on the way in.

Every Layer and Cost is a dataclass of plain settings, so its description is `{"kind": "Linear", "features": 30, ...}`
and the model that validates it is made from the dataclass: fields and types are written down once. The union of kinds
is discriminated on `kind`; unknown fields and unknown kinds are refused.
"""

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Iterable
from importlib import metadata
from typing import Annotated, Any, Literal, NamedTuple, Union

from pydantic import BaseModel, Field, JsonValue, ValidationError, create_model
from pydantic.errors import PydanticUserError

from jaxprop import costs, layers, network
from jaxprop.costs import Cost
from jaxprop.errors import ModelError
from jaxprop.layers import Activation
from jaxprop.layers.layer import Layer
from jaxprop.network import Combinator, Wrapper
from jaxprop.saved.weights import ArraySpec, Strict, Weights

FORMAT = 1
NAME = "model.json"
DAMAGED = "the file is damaged or was altered: save the model again"
BASES = (Layer, Activation, Combinator, Wrapper, Cost)  # what kinds are made from, no kinds themselves


class _Inputs(Strict):
    x: ArraySpec | tuple[ArraySpec, ...]


class _Outputs(Strict):
    y: ArraySpec


class Info(Strict):
    """What is known beside the network: label and column names, where the rows came from, how training went."""

    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    target: str | None = None
    data: dict[str, JsonValue] | None = None
    training: dict[str, JsonValue] | None = None


class Description(NamedTuple):
    """A saved model without its arrays: `jp.describe(path)`."""

    net: Layer
    cost: Cost | None
    inputs: ArraySpec | tuple[ArraySpec, ...]  # a tuple where x is one: (queries, memory)
    outputs: ArraySpec
    params: dict[str, ArraySpec]
    weights: Weights
    versions: dict[str, str]
    info: Info

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of all arrays that it names."""
        inputs = [self.inputs] if isinstance(self.inputs, ArraySpec) else self.inputs
        return [spec.dtype for spec in (*inputs, self.outputs, *self.params.values())]

    @property
    def one_input(self) -> ArraySpec:
        """The input, for those that take rows of one array; ModelError where x is several."""
        if isinstance(self.inputs, ArraySpec):
            return self.inputs
        raise ModelError(
            f"this network takes {len(self.inputs)} arrays as x, expected one here: call it from Python, after "
            "jp.load, or export f(x, params) with a dict of named arrays as x"
        )


def describe_settings(thing: Any) -> Any:
    """A Layer or Cost as plain data.

    >>> describe_settings(layers.LeakyReLU(0.1))
    {'kind': 'LeakyReLU', 'negative_slope': 0.1}
    """
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {f.name: describe_settings(getattr(thing, f.name)) for f in dataclasses.fields(thing)}
        more = [name for name in vars(thing) if name not in fields and not hasattr(type(thing), name)]
        if more:
            raise ModelError(
                f"{type(thing).__name__} holds {more[0]!r}, which is no field of the dataclass and would be lost; "
                "declare it in the class body, under @dataclass(frozen=True)"
            )
        return {"kind": type(thing).__name__, **fields}
    return [describe_settings(item) for item in thing] if isinstance(thing, tuple | list) else thing


def to_json(description: Description) -> str:
    """The text of `model.json`."""
    plain = {
        "format": FORMAT,
        "net": describe_settings(description.net),
        "cost": describe_settings(description.cost),
        "inputs": _Inputs(x=description.inputs).model_dump(),
        "outputs": {"y": description.outputs.model_dump()},
        "params": {path: spec.model_dump() for path, spec in description.params.items()},
        "weights": description.weights.model_dump(),
        "versions": description.versions,
        "info": description.info.model_dump(exclude_none=True),
    }
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def from_json(text: str | bytes, where: Any, kinds: Iterable[type] = (), hint: str = DAMAGED) -> Description:
    """Validate the text of `model.json` and build what it describes; ModelError names the field that is wrong."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: not JSON that can be read ({error}); {hint}") from None
    found = plain.get("format") if isinstance(plain, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise ModelError(f"{where}: format {found} is newer than this jaxprop reads ({FORMAT}); upgrade jaxprop")
    classes = known_kinds(kinds)
    schema = _model(tuple(classes.values()))
    try:
        model = schema.model_validate_json(text)
        net, cost = (_build(part, classes) for part in (model.net, model.cost))
    except ValidationError as error:
        raise ModelError(f"{where}: {first_of(error, hint)}") from None
    except (ValueError, RecursionError) as error:  # a setting that the layer itself refuses
        raise ModelError(f"{where}: {error}; {hint}") from None
    spec = (model.inputs.x, model.outputs.y, model.params, model.weights, model.versions, model.info)
    return Description(net, cost, *spec)


def known_kinds(kinds: Iterable[type] = ()) -> dict[str, type]:
    """Layers and costs by name: jaxprop's own and `kinds`, none of which may take another's name."""
    own = [value for module in (layers, network, costs) for value in vars(module).values() if _is_kind(value)]
    known = {kind.__name__: kind for kind in own}
    for kind in kinds:
        if not _is_kind(kind):
            raise ModelError(f"kinds: found {kind!r}, expected dataclasses that are a Layer or a Cost")
        if known.get(kind.__name__, kind) is not kind:
            taken = known[kind.__name__].__module__
            raise ModelError(f"kinds: the name {kind.__name__!r} is taken, by {taken}; rename your class")
        known[kind.__name__] = kind
    return known


def kinds_in(thing: Any) -> set[type]:
    """The classes of all Layers and Costs that a description is made of.

    >>> sorted(kind.__name__ for kind in kinds_in(network.Chain(layers.Linear(2), layers.Tanh())))
    ['Chain', 'Linear', 'Tanh']
    """
    if isinstance(thing, tuple | list):
        return {kind for item in thing for kind in kinds_in(item)}
    if not isinstance(thing, Layer | Cost):
        return set()
    return {type(thing)} | kinds_in([getattr(thing, field.name) for field in dataclasses.fields(thing)])


def _is_kind(value: Any) -> bool:
    a_kind = isinstance(value, type) and issubclass(value, Layer | Cost) and dataclasses.is_dataclass(value)
    return a_kind and value not in BASES


def versions() -> dict[str, str]:
    """Versions of what wrote a model."""
    return {name: metadata.version(name) for name in ("jaxprop-nn", "jax", "numpy")}


make: Any = create_model  # its arguments are fields here, which no type checker can follow


@functools.lru_cache(maxsize=8)
def _model(kinds: tuple[type, ...]) -> Any:
    """The pydantic model of `model.json` for these kinds."""
    made = {kind: _model_of(kind) for kind in kinds}
    one_of: dict[str, Any] = {
        f"Any{base.__name__}": Annotated[
            Union[tuple(model for kind, model in made.items() if issubclass(kind, base))],  # noqa: UP007
            Field(discriminator="kind"),
        ]
        for base in (Layer, Cost)
    }
    for model in made.values():
        model.model_rebuild(_types_namespace=one_of)
    return make(
        "Model",
        __base__=Strict,
        format=(Literal[1], ...),
        net=(one_of["AnyLayer"], ...),
        cost=(one_of["AnyCost"] | None, ...),
        inputs=(_Inputs, ...),
        outputs=(_Outputs, ...),
        params=(dict[str, ArraySpec], ...),
        weights=(Weights, ...),
        versions=(dict[str, str], ...),
        info=(Info, ...),
    )


def _model_of(kind: type) -> Any:
    """The pydantic model of one kind."""
    try:
        fields: dict[str, Any] = {f.name: (_annotation(kind, f.name), _default(f)) for f in dataclasses.fields(kind)}
        return make(kind.__name__, __base__=Strict, kind=(Literal[kind.__name__], ...), **fields)
    except (PydanticUserError, NameError, TypeError) as error:
        raise ModelError(
            f"{kind.__name__}: its fields cannot be described ({str(error).splitlines()[0]}); expected numbers, text, "
            "layers, costs and tuples of them"
        ) from None


def _default(field: Any) -> Any:
    """What a setting is in a description that an older version wrote, before the class had it."""
    if field.default_factory is not dataclasses.MISSING:
        return Field(default_factory=field.default_factory)
    return ... if field.default is dataclasses.MISSING else field.default


def _annotation(kind: type, field: str) -> Any:
    """A dataclass field's type, with every Layer or Cost in it standing for the union of kinds."""

    def swap(hint: Any) -> Any:
        if isinstance(hint, type) and issubclass(hint, Layer | Cost):
            return typing.ForwardRef("AnyLayer" if issubclass(hint, Layer) else "AnyCost")
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is None:
            return hint
        swapped = tuple(swap(arg) for arg in args)
        return Union[swapped] if origin is types.UnionType else origin[swapped]  # noqa: UP007

    return swap(typing.get_type_hints(kind)[field])


def _build(part: Any, classes: dict[str, type]) -> Any:
    """A validated description as the Layer or Cost it describes, whatever arguments its constructor takes."""
    if isinstance(part, tuple | list):
        return tuple(_build(item, classes) for item in part)
    if not isinstance(part, BaseModel):
        return part
    kind = classes[part.kind]  # pyright: ignore
    thing = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(thing, field.name, _build(getattr(part, field.name), classes))
    if hasattr(thing, "__post_init__"):
        thing.__post_init__()
    return thing


def first_of(error: ValidationError, hint: str = "") -> str:
    """The first thing that pydantic found wrong, in our words."""
    first = error.errors()[0]
    place = ".".join(part for part in map(str, first["loc"]) if "ArraySpec" not in part) or "the top"
    if first["type"] == "union_tag_invalid":
        tag = first["ctx"]["tag"]  # pyright: ignore
        return (
            f"{place}: kind {_short(tag)} is not known; name your own in kinds=, or in the entry points jaxprop.layers"
        )
    found = "" if first["type"] in ("missing", "json_invalid") else f", found {_short(first['input'])}"
    return f"{place}: {first['msg']}{found}" + (f"; {hint}" if hint else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
