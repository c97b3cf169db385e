"""Which parameter or input is asked about: a path, an index and a row, checked before anything is computed."""

import difflib
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, SupportsIndex

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Key, PyTree

from jaxprop.arrays.index import check_index, read_index
from jaxprop.checks import check_whole
from jaxprop.costs import Cost
from jaxprop.costs.cost import CostOf
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers import Layer, Linear
from jaxprop.network import Chain, Leaf, leaves

X = "x"  # the path of the inputs


class Given(NamedTuple):
    """What the network is asked with, in float64; the row is example `at` of x."""

    x: PyTree
    params: PyTree
    targets: PyTree
    rng: Key[Array, ""] | None
    at: int


@dataclass(frozen=True)
class Question:
    """One number of one parameter, or of x, and the example whose cost it changes; `most` terms of a sum are written.

    `picked` says why it is this one, if nobody asked for it.
    """

    net: Layer
    cost: Cost
    most: int
    path: str
    index: tuple[int, ...]
    row: int
    layer: Layer
    layer_path: str
    before: tuple[Leaf, ...]
    after: tuple[Leaf, ...]
    picked: str = ""
    shape: tuple[int, ...] = ()

    @property
    def is_input(self) -> bool:
        """Whether a number of x is asked about."""
        return self.path == X

    @property
    def is_chain(self) -> bool:
        """Whether the network is made of Chains alone."""
        return all(type(around) is Chain for leaf in leaves(self.net) for _, around in leaf.inside)


def ask(
    net: Layer, cost: Cost, most: int, known: Mapping[str, ArrayLike], path: object, index: object,
    row: int, picked: str,
) -> Question:  # fmt: skip
    """Return the question; raise `JaxpropError` for a path, an index or a row that is not there.

    known: the parameters by path, and x without its first axis.
    """
    everything = tuple(leaves(net))
    path = _known_path(path, everything, known)
    owners = (i for i, leaf in enumerate(everything) if not leaf.path or (path + ".").startswith(leaf.path + "."))
    if path == X:
        owners = (i for i, leaf in enumerate(everything) if type(leaf.layer) is Linear or i == len(everything) - 1)
    place = next(owners)
    layer = everything[place]
    found = check_index(index, path, tuple(jnp.shape(known[path])))
    return Question(
        net, cost, most, path, found, row, layer=layer.layer, layer_path=layer.path,
        before=everything[:place], after=everything[place + 1 :], picked=picked,
        shape=tuple(jnp.shape(known[path])),
    )  # fmt: skip


def read_place(
    asked: object, index: object, names: Mapping[str, str], columns: tuple[str, ...] | None
) -> tuple[object, object]:
    """Return the path and the index of what is asked: a path, "0.W[12,3]", a name of one's own, or a column of x.

    >>> read_place("w5", None, {"w5": "1.W[0,0]"}, None), read_place("age", None, {}, ("size", "age"))
    (('1.W', (0, 0)), ('x', (1,)))
    """
    if columns and asked in columns and index is None:
        return X, (columns.index(str(asked)),)
    asked = names.get(asked, asked) if isinstance(asked, str) else asked
    written = re.fullmatch(r"(.+)\[([\d ,]+)\]", asked) if isinstance(asked, str) and index is None else None
    return (written[1], read_index(written[2])) if written else (asked, index)


def listed(known: Mapping[str, ArrayLike]) -> str:
    """Return the paths with their shapes: '0.W [3, 1], 0.b [1]'."""
    return ", ".join(f"{path} {list(jnp.shape(leaf))}" for path, leaf in known.items())


def _known_path(path: object, everything: tuple[Leaf, ...], known: Mapping[str, ArrayLike]) -> str:
    if set(known) <= {X} and path != X:
        raise JaxpropError("explain: this network has no parameters, so there is nothing to change")
    if not isinstance(path, str):
        raise JaxpropError(f"path must be a text such as {next(iter(known))!r}, found {path!r}")
    if path in known:
        return path
    for name, layer in ((leaf.path, leaf.layer) for leaf in everything if leaf.path):
        own = [parameter for parameter in known if parameter.startswith(name + ".")]
        if not own and (path + ".").startswith(name + "."):
            raise JaxpropError(f"path {path!r}: layer {name}, {layer!r}, has no parameters; known: {listed(known)}")
        if path == name and own:
            raise JaxpropError(f"path {path!r} is a layer, {layer!r}; its parameters are {', '.join(own)}")
    same = {name.lower(): name for name in known}
    near = difflib.get_close_matches(path.lower(), same, n=1)
    hint = f" (did you mean {same[near[0]]!r}?)" if near else ""
    raise JaxpropError(f"unknown path {path!r}{hint}; known: {listed(known)}")


def check_row(row: SupportsIndex, examples: int) -> int:
    """Return the number of a row; raise `JaxpropError` for one that is not there."""
    try:
        found = operator.index(row)
    except TypeError:
        raise JaxpropError(f"row must be a whole number, found {row!r}") from None
    if not 0 <= found < examples:
        raise JaxpropError(f"row {found}: there are {examples} rows (0 to {examples - 1})")
    return found


def check_settings(cost: object, learning_rate: object, most: object) -> None:
    """Raise `JaxpropError` for what `explain(net, cost, learning_rate, most)` cannot use."""
    if not isinstance(cost, Cost):
        raise JaxpropError(f"explain: needs a cost such as HalfSquaredError(), found {cost!r}")
    if not isinstance(learning_rate, int | float) or not 0 < learning_rate < math.inf:
        raise JaxpropError(f"learning_rate must be a positive number, found {learning_rate!r}")
    check_whole(most, "most")


def examples_of(x: ArrayLike, targets: ArrayLike) -> int:
    """Return N; raise `ShapeError` unless x and targets both have N rows."""
    each = x if isinstance(x, tuple) else (x,)
    if not jnp.ndim(targets) or any(jnp.shape(part)[:1] != jnp.shape(targets)[:1] for part in each):
        shapes = ", ".join(str(list(jnp.shape(part))) for part in each)
        raise ShapeError(
            f"explain: x {shapes} and targets {list(jnp.shape(targets))} must have one row per example; "
            "one example is x[None], targets[None]"
        )
    if not jnp.shape(targets)[0]:
        raise JaxpropError("explain: x and targets have no rows, expected at least one example")
    return jnp.shape(targets)[0]


def rows_of(x: Any, rows: slice) -> Any:
    """Return some rows of x, and of each of its arrays where x is a tuple of them.

    >>> rows_of([[1, 2], [3, 4]], slice(1, 2)).tolist()
    [[3, 4]]
    """
    return tuple(np.asarray(part)[rows] for part in x) if isinstance(x, tuple) else np.asarray(x)[rows]


def is_ours(thing: object) -> bool:
    """Whether a layer or a cost is jaxprop's own, and no user's.

    >>> from jaxprop import HalfSquaredError
    >>> is_ours(HalfSquaredError()), is_ours(Cost.of(lambda y, t: (y - t) ** 2))
    (True, False)
    """
    return type(thing).__module__.split(".")[0] == "jaxprop" and not isinstance(thing, CostOf)
