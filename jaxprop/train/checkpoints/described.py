"""What can be told of a function and its settings, the same in every process: for optimizers, and f and C of one's own.

An optimizer of optax is a pair of functions, and its settings are what these have closed over: so they are found.
"""

import functools
import types
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import jax
import numpy as np

from jaxprop.arrays.paths import join

LIBRARIES = ("optax", "jax", "jaxprop", "flax", "chex", "numpy")  # known by name; of others the code is told too


def described(value: Any) -> dict[str, str]:
    """Return settings by dotted path: numbers, names of functions, sums of arrays.

    >>> import optax
    >>> described(optax.scale(-0.5))["update.scale.step_size"]
    '-0.5'
    """
    found: dict[str, str] = {}
    for path, said in _told(value, "", {}):
        while path in found and found[path] != said:
            path += "'"
        found[path] = said
    return found


def array_sum(array: Any) -> str:
    """Return what tells an array from another: dtype, shape and a sum over its bytes.

    >>> array_sum(np.arange(3, dtype=np.int32))
    'int32[3] 1d760e7a'
    """
    if isinstance(array, jax.Array) and jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        return f"{array.dtype} {array_sum(np.asarray(jax.random.key_data(array)))}"
    array = np.asarray(array)
    data = (
        np.ascontiguousarray(array).view(np.uint8).data if array.dtype != object and array.size else str(array).encode()
    )
    return f"{array.dtype}{list(array.shape)} {zlib.crc32(data):08x}"


def _told(value: Any, path: str, seen: dict[int, Any]) -> Iterator[tuple[str, str]]:
    """Settings below a value; each object is gone into once, `seen` keeps them so that no id is used again."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | Enum | np.generic):
        yield path, repr(value.item() if isinstance(value, np.generic) else value)
    elif isinstance(value, np.ndarray | jax.Array):
        yield path, array_sum(value)
    elif id(value) not in seen:
        seen[id(value)] = value
        for child, below in _parts(value):
            yield from _told(below, join(path, child) if child else path, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, by name, beginning with what it is called."""
    if isinstance(value, functools.partial):
        yield from [("", value.func), *((str(i), a) for i, a in enumerate(value.args)), *value.keywords.items()]
    elif isinstance(value, types.MethodType):
        yield from [("", value.__func__), ("self", value.__self__)]
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType | np.dtype):
        yield "", getattr(value, "__qualname__", getattr(value, "__name__", str(value)))
    elif callable(inner := getattr(value, "__wrapped__", None)):  # jax.jit and others of its kind
        yield "", inner
    elif is_dataclass(value):
        yield from [("", type(value).__qualname__), *((f.name, getattr(value, f.name)) for f in fields(value))]
        yield from () if _known(type(value)) else _methods(type(value))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)  # pyright: ignore[reportAttributeAccessIssue]
    elif isinstance(value, Mapping):
        yield from ((str(name), value[name]) for name in value)
    elif isinstance(value, set | frozenset):
        yield "", ", ".join(sorted(map(str, value)))
    elif isinstance(value, tuple | list):
        yield from ((str(i), item) for i, item in enumerate(value))
    else:
        yield from [("", type(value).__qualname__), *sorted(getattr(value, "__dict__", {}).items())]


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """A function's name, its code if it is a user's own, its defaults and what it has closed over."""
    short = function.__qualname__.split(".<locals>")[0]
    code = "" if _known(function) else f" {_code(function.__code__):08x}"
    yield short, f"{function.__qualname__}{code}"
    yield from ((join(short, f"default{i}"), value) for i, value in enumerate(function.__defaults__ or ()))
    yield from ((join(short, name), value) for name, value in (function.__kwdefaults__ or {}).items())
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield join(short, name), cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _known(value: Any) -> bool:
    """Whether a function or class is a library's."""
    return str(value.__module__).split(".")[0] in LIBRARIES


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The methods of a class by name, but for those that Python wrote."""
    for name, part in sorted(vars(cls).items()):
        if isinstance(part, types.FunctionType) and (not name.startswith("__") or name == "__call__"):
            yield f"code of {name}", part


def _code(code: types.CodeType) -> int:
    """A sum over what a function does: its operations, names and constants, and those of functions inside."""
    constants = [_code(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]
    return zlib.crc32(code.co_code + repr((code.co_names, constants)).encode())


def _constant(constant: Any) -> str:
    return ", ".join(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)
