"""Layers and costs as plain data, and back: every kind is described by the fields of its own dataclass.

`Linear(30)` is `{"kind": "Linear", "features": 30, ...}`, and the pydantic model that validates it is made from the
dataclass, so fields and types are written down once. The kinds are what `jaxprop.layers`, `jaxprop.network` and
`jaxprop.costs` export, and those that a caller names.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, Field, create_model
from pydantic.errors import PydanticUserError

from jaxprop import costs, layers, network
from jaxprop.costs import Cost
from jaxprop.errors import ModelError
from jaxprop.layers.layer import Layer
from jaxprop.saved.weights import Strict

BASES = (layers.Layer, layers.Activation, network.Combinator, network.Wrapper, Cost)  # no kinds themselves
Kinds = dict[str, type]
create: Any = create_model  # its keywords are fields here, which no type checker can follow


def describe_settings(thing: object) -> Any:
    """Return a Layer or Cost, or a setting of one, as plain data.

    Raises ModelError for a layer that holds something which is no field of its dataclass, or a function.

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
    if inspect.isroutine(thing):
        raise ModelError(
            f"found the function {getattr(thing, '__name__', thing)!r}, which no file can hold: write a class that "
            "inherits Layer or Cost, with plain settings, and name it for load(path, kinds=(...))"
        )
    return [describe_settings(item) for item in thing] if isinstance(thing, tuple | list) else thing


def kinds_in(thing: object) -> set[type]:
    """Return the classes of all Layers and Costs that a description is made of.

    >>> sorted(kind.__name__ for kind in kinds_in(network.Chain(layers.Linear(2), layers.Tanh())))
    ['Chain', 'Linear', 'Tanh']
    """
    if isinstance(thing, tuple | list):
        return {kind for item in thing for kind in kinds_in(item)}
    if not isinstance(thing, Layer | Cost):
        return set()
    return {type(thing)} | kinds_in([getattr(thing, field.name) for field in dataclasses.fields(thing)])


def known_kinds(kinds: Iterable[type] = ()) -> Kinds:
    """Return the layers and costs by name: jaxprop's own and `kinds`, none of which may take another's name.

    >>> sorted(set(known_kinds()) & {"Linear", "Chain", "Huber", "Layer"})
    ['Chain', 'Huber', 'Linear']
    """
    own = [value for module in (layers, network, costs) for value in vars(module).values() if _is_kind(value)]
    known = {kind.__name__: kind for kind in own}
    for kind in kinds:
        if not _is_kind(kind):
            raise ModelError(f"kinds: found {kind!r}, expected dataclasses that are a Layer or a Cost")
        if known.setdefault(kind.__name__, kind) is not kind:
            taken = known[kind.__name__].__module__
            raise ModelError(f"kinds: the name {kind.__name__!r} is taken, by {taken}; rename your class")
    return known


def _is_kind(value: object) -> bool:
    a_kind = isinstance(value, type) and issubclass(value, Layer | Cost) and dataclasses.is_dataclass(value)
    return a_kind and value not in BASES


@functools.lru_cache(maxsize=8)
def model_with(base: type[BaseModel], kinds: tuple[type, ...]) -> type[BaseModel]:
    """Return `base` with the fields `net` and `cost`, each one of `kinds`, told apart by what stands in "kind"."""
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
    return create("Model", __base__=base, net=(one_of["AnyLayer"], ...), cost=(one_of["AnyCost"] | None, ...))


def _model_of(kind: type) -> type[BaseModel]:
    """The pydantic model of one kind; what a class did not have when the description was written is its default."""
    try:
        hints = typing.get_type_hints(kind)
        fields = {f.name: (_annotation(hints[f.name]), _default(f)) for f in dataclasses.fields(kind)}
        return create(kind.__name__, __base__=Strict, kind=(Literal[kind.__name__], ...), **fields)
    except (PydanticUserError, NameError, TypeError) as error:
        raise ModelError(
            f"{kind.__name__}: its fields cannot be described ({str(error).splitlines()[0]}); expected numbers, text, "
            "layers, costs and tuples of them"
        ) from None


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return Field(default_factory=field.default_factory)
    return ... if field.default is dataclasses.MISSING else field.default


def _annotation(hint: Any) -> Any:
    """A field's type, with every Layer or Cost in it standing for the union of kinds."""
    if isinstance(hint, type) and issubclass(hint, Layer | Cost):
        return typing.ForwardRef("AnyLayer" if issubclass(hint, Layer) else "AnyCost")
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is None:
        return hint
    swapped = tuple(_annotation(arg) for arg in args)
    return Union[swapped] if origin is types.UnionType else origin[swapped]  # noqa: UP007


def build(part: object, kinds: Kinds) -> Any:
    """Return a validated description as the Layer or Cost it describes, whatever arguments its constructor takes."""
    if isinstance(part, tuple | list):
        return tuple(build(item, kinds) for item in part)
    if not isinstance(part, BaseModel):
        return part
    kind = kinds[type(part).__name__]
    thing = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(thing, field.name, build(getattr(part, field.name), kinds))
    if hasattr(thing, "__post_init__"):
        thing.__post_init__()
    return thing
