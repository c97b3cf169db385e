"""Which parameter is asked about: a path, an index and a row, checked before anything is computed."""

import difflib
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Layer
from jaxprop.network import Chain, Combinator, by_path, join


class Given(NamedTuple):
    """What the network is asked with, in float64; the row is example `at` of x."""

    x: Any
    params: Any
    targets: Any
    rng: Any
    at: int


@dataclass(frozen=True)
class Question:
    """One number of one parameter, and the example whose cost it changes."""

    path: str
    index: tuple[int, ...]
    row: int
    layer: Layer
    layer_path: str
    before: tuple[tuple[str, Layer], ...]
    after: tuple[tuple[str, Layer], ...]


def leaves(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """Yield the layers of nested Chains with their paths, in the order of the forward pass.

    >>> from jaxprop import Linear, Sigmoid
    >>> [path for path, _ in leaves(Chain(Chain(Linear(2), Sigmoid()), Linear(1)))]
    ['0.0', '0.1', '1']
    """
    if type(layer) is Chain:
        for i, child in enumerate(layer.layers):
            yield from leaves(child, join(path, i))
    elif isinstance(layer, Combinator):
        where = f" at {path}" if path else ""
        raise JaxpropError(f"explain: follows Chains only, found {type(layer).__name__}{where}")
    else:
        yield path, layer


def ask(net: Layer, params: Any, path: str, index: Any, row: Any, examples: int) -> Question:
    """Return the question; raise `JaxpropError` for a path, an index or a row that is not there."""
    everything, known = list(leaves(net)), by_path(params)
    _check_path(path, everything, known)
    place = [i for i, (name, _) in enumerate(everything) if not name or path.startswith(name + ".")][-1]
    layer_path, layer = everything[place]
    before, after = tuple(everything[:place]), tuple(everything[place + 1 :])
    found = _index(path, index, tuple(jnp.shape(known[path])))
    return Question(path, found, _row(row, examples), layer, layer_path, before, after)


def listed(known: dict[str, Any]) -> str:
    """Return the paths with their shapes: '0.W [3, 1], 0.b [1]'."""
    return ", ".join(f"{path} {list(jnp.shape(leaf))}" for path, leaf in known.items())


def _check_path(path: Any, everything: list[tuple[str, Layer]], known: dict[str, Any]) -> None:
    if not known:
        raise JaxpropError("explain: this network has no parameters, so there is nothing to change")
    if path in known:
        return
    for name, layer in everything:
        if name and (path == name or str(path).startswith(name + ".")):
            own = [p for p in known if p.startswith(name + ".")]
            if not own:
                raise JaxpropError(f"path {path!r}: layer {name}, {layer!r}, has no parameters; known: {listed(known)}")
            if path == name:
                raise JaxpropError(f"path {path!r} is a layer, {layer!r}; its parameters are {', '.join(own)}")
    if not isinstance(path, str):
        raise JaxpropError(f"path must be a text such as {next(iter(known))!r}, found {path!r}")
    same = {name.lower(): name for name in known}
    near = difflib.get_close_matches(path.lower(), same, n=1)
    hint = f" (did you mean {same[near[0]]!r}?)" if near else ""
    raise JaxpropError(f"unknown path {path!r}{hint}; known: {listed(known)}")


def _index(path: str, index: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    given = index if isinstance(index, tuple | list) else (index,)
    try:
        found = tuple(operator.index(i) for i in given)
    except TypeError:
        raise JaxpropError(f"index must be whole numbers, found {index!r}; {path} has shape {list(shape)}") from None
    if len(found) != len(shape):
        needs = f"{len(shape)} number" + "s" * (len(shape) != 1)
        raise JaxpropError(f"index {list(found)}: {path} has shape {list(shape)}, so its index is {needs}")
    if not all(0 <= i < n for i, n in zip(found, shape, strict=True)):
        ranges = " and ".join(f"0 to {n - 1}" for n in shape)
        raise JaxpropError(f"index {list(found)}: {path} has shape {list(shape)}, so its index runs over {ranges}")
    return found


def _row(row: Any, examples: int) -> int:
    try:
        found = operator.index(row)
    except TypeError:
        raise JaxpropError(f"row must be a whole number, found {row!r}") from None
    if not 0 <= found < examples:
        raise JaxpropError(f"row {found}: there are {examples} rows (0 to {examples - 1})")
    return found


def check_settings(cost: Any, learning_rate: Any, most: Any) -> None:
    """Raise `JaxpropError` for what `explain(net, cost, learning_rate, most)` cannot use."""
    if not isinstance(cost, Cost):
        raise JaxpropError(f"explain: needs a cost such as HalfSquaredError(), found {cost!r}")
    if not isinstance(learning_rate, int | float) or not 0 < learning_rate < math.inf:
        raise JaxpropError(f"learning_rate must be a positive number, found {learning_rate!r}")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise JaxpropError(f"most must be a whole number of at least 1, found {most!r}")


def examples_of(x: Any, targets: Any) -> int:
    """Return N; raise `ShapeError` unless x and targets both have N rows."""
    if not jnp.ndim(x) or not jnp.ndim(targets) or jnp.shape(x)[0] != jnp.shape(targets)[0]:
        raise ShapeError(
            f"explain: x {list(jnp.shape(x))} and targets {list(jnp.shape(targets))} must have one row per example; "
            "one example is x[None], targets[None]"
        )
    return jnp.shape(x)[0]
