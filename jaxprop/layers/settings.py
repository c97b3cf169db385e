"""The settings of layers and costs: every one checked by the type it is annotated with, and kept as plain Python.

A setting is a number, True or False, a name, a layer, a cost, or a tuple of them. What numpy and JAX have for a number
is taken and kept as Python's own, so that a description is hashable and can be written as JSON.
"""

import dataclasses
import functools
import inspect
import operator
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np
from jax.core import Tracer

from jaxprop.errors import JaxpropError
from jaxprop.layers.initializers import name_of

KEPT_AS = {"init": "weight_init"}  # `init` is also the method that makes θ, so the setting has a longer name
SHOWN_AS = {kept: shown for shown, kept in KEPT_AS.items()}


class UnfitError(Exception):
    """A setting, or an item of it, is not what its type says."""

    def __init__(self, expected: str, given: Any, kind: Any, items: tuple[int, ...] = ()) -> None:
        super().__init__(expected)
        self.expected, self.given, self.kind, self.items = expected, given, kind, items


def settle(described: Any) -> None:
    """Check every field of a layer or cost by its type, and keep it as plain Python.

    Raises JaxpropError, which names the setting, what was found and what was expected; the class's `instead` says by
    setting what to write where other libraries take something else in that place.

    >>> from jaxprop.layers import Linear
    >>> Linear(np.int64(3)), Linear(3, bias=np.bool_(False))
    (Linear(3), Linear(3, bias=False))
    >>> Linear(3, bias="no")
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: Linear: bias must be True or False, found 'no'; ...
    """
    for name, kind in _kinds(type(described)).items():
        try:
            object.__setattr__(described, name, settled(getattr(described, name), kind))
        except UnfitError as unfit:
            what = f"{type(described).__name__}: {SHOWN_AS.get(name, name)}"
            where = "".join(f", item {i}," for i in unfit.items)
            hint = instead_of(unfit.given, unfit.kind) or described.instead.get(name)
            more = f"; {hint}" if hint else ""
            raise JaxpropError(f"{what}{where} must be {unfit.expected}, found {shortly(unfit.given)}{more}") from None


def settled(given: Any, kind: Any) -> Any:
    """Return `given` as plain Python of a type, or raise UnfitError; for a type that is not known here, as it is.

    >>> settled(np.float32(0.5), float), settled([np.int64(1), 2], tuple[int, ...]), settled(None, int | None)
    (0.5, (1, 2), None)
    """
    origin, arms = typing.get_origin(kind), typing.get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind](given)
    if origin is tuple and arms:
        return _tuple(given, arms)
    if origin in (types.UnionType, typing.Union):
        return _first_fit(given, arms)
    if origin is Literal and not any(type(given) is type(arm) and given == arm for arm in arms):
        raise UnfitError(" or ".join(map(repr, arms)), given, kind)
    if _is_described(kind) and not isinstance(given, kind):
        raise UnfitError(f"a {kind.__name__}", given, kind)
    return given


def shortly(given: Any) -> str:
    """Return what an error shows of a setting.

    >>> shortly(3), shortly(np.ones((2, 3))), shortly(print), shortly(dict)
    ('3', 'an array float64[2, 3]', 'the function print', 'the class dict')
    """
    if isinstance(given, Tracer):
        return "a value that JAX traces"
    if isinstance(given, jax.Array | np.ndarray):
        return f"an array {given.dtype}{list(given.shape)}"
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if callable(given) and hasattr(given, "__name__"):
        return f"the function {given.__name__}"
    text = repr(given.item() if isinstance(given, np.generic) else given)
    text = f"a value of type {type(given).__name__}" if " at 0x" in text else text
    return text if len(text) <= 80 else f"{text[:77]}..."


def instead_of(given: Any, kind: Any) -> str | None:
    """Return what to write instead, where that can be told: a class's instance, a function's name.

    >>> from jaxprop.layers import Layer, ReLU
    >>> instead_of(ReLU, Layer), instead_of(jax.nn.relu, Layer), instead_of(jax.nn.initializers.zeros, str)
    ('write ReLU()', 'write ReLU()', "write 'zeros'")
    """
    if isinstance(given, Tracer):
        return "settings are static: make it outside of jit, from Python's numbers"
    if _is_described(kind):
        called = given if isinstance(given, str) else getattr(given, "__name__", "")
        meant = next((d for d in _below(kind) if d.__name__.lower() == called.lower().replace("_", "")), None)
        return f"write {_call(meant)}" if meant else None
    if kind is str and callable(given):
        name = name_of(given)
        return f"write {name!r}" if name else "settings are names: draw θ with one of them, and replace W in it"
    if isinstance(given, float | np.floating) and kind is int and float(given).is_integer():
        return f"write int({given})"
    return None


def _is_described(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "instead")


def _call(described: type) -> str:
    needed = [p for p in inspect.signature(described).parameters.values() if p.default is p.empty]
    return f"{described.__name__}({'...' if needed else ''})"


def _below(kind: type) -> Iterator[type]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _below(sub)


@functools.cache
def _kinds(described: type) -> dict[str, Any]:
    """The type of every field, as the constructor takes it."""
    try:
        kinds, taken = typing.get_type_hints(described), typing.get_type_hints(described.__init__)
    except (NameError, TypeError, AttributeError):  # a type that only a type checker can find
        return {}
    single = [p.name for p in inspect.signature(described).parameters.values() if p.kind is not p.VAR_POSITIONAL]
    kinds |= {KEPT_AS.get(name, name): taken[name] for name in single if name in taken}
    return {field.name: kinds[field.name] for field in dataclasses.fields(described)}


def _none(given: Any) -> None:
    if given is not None:
        raise UnfitError("None", given, type(None))


def _bool(given: Any) -> bool:
    if not isinstance(given, bool | np.bool_):
        raise UnfitError("True or False", given, bool)
    return bool(given)


def _whole(given: Any) -> int:
    try:
        if isinstance(given, bool | np.bool_ | Tracer):
            raise TypeError
        return operator.index(given)
    except TypeError:
        raise UnfitError("a whole number", given, int) from None


def _number(given: Any) -> float:
    scalar = isinstance(given, jax.Array | np.ndarray) and not given.ndim and not isinstance(given, Tracer)
    plain = given.item() if scalar else given
    if isinstance(plain, bool | np.bool_) or not isinstance(plain, int | float | np.integer | np.floating):
        raise UnfitError("a number", given, float)
    return float(plain)


def _name(given: Any) -> str:
    if not isinstance(given, str):
        raise UnfitError("a name", given, str)
    return str(given)


PLAIN = {type(None): _none, bool: _bool, int: _whole, float: _number, str: _name}


def _first_fit(given: Any, kinds: tuple[Any, ...]) -> Any:
    unfit = []
    for kind in kinds:
        try:
            return settled(given, kind)
        except UnfitError as found:
            unfit.append(found)
    inside = next((found for found in unfit if found.items), None)  # a tuple it is, but for one item
    kind = next((found.kind for found in unfit if found.kind is not type(None)), None)
    raise inside or UnfitError(" or ".join(found.expected for found in unfit), given, kind)


def _tuple(given: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list, a range, an array or a dict {0: ..., 1: ...} as a tuple."""
    any_number = kinds[-1] is Ellipsis
    expected = f"a tuple of {_many(kinds[0])}" if any_number else f"a tuple of {len(kinds)}"
    items = given
    if isinstance(given, Mapping):
        lacking = next((i for i in range(max([len(given), *_wholes(given)])) if i not in given), None)
        if lacking is not None:
            raise UnfitError(f"{expected}, or a dict that names every one from 0 ({lacking} is missing)", given, tuple)
        items = [given[i] for i in range(len(given))]
    if isinstance(given, jax.Array | np.ndarray) and not isinstance(given, Tracer) and given.ndim:
        items = given.tolist()
    if not isinstance(items, tuple | list | range) or not (any_number or len(items) == len(kinds)):
        raise UnfitError(expected, given, tuple)
    found = []
    for i, item in enumerate(items):
        try:
            found.append(settled(item, kinds[0] if any_number else kinds[i]))
        except UnfitError as unfit:
            raise UnfitError(unfit.expected, unfit.given, unfit.kind, (i, *unfit.items)) from None
    return tuple(found)


def _wholes(given: Mapping[Any, Any]) -> list[int]:
    """One more than each whole key."""
    return [int(key) + 1 for key in given if isinstance(key, int | np.integer) and not isinstance(key, bool)]


def _many(kind: Any) -> str:
    """What several of a kind are called."""
    names = {int: "whole numbers", float: "numbers", str: "names", bool: "True and False"}
    return names.get(kind, f"{kind.__name__}s" if _is_described(kind) else "tuples")
