"""Where a parameter meets its errors: the last step of the chain rule, told by the kind of its use.

A use holds what came in and the errors of what came out, at every place where the parameter was used: positions,
windows of a convolution, ids, steps in time, rows of a batch. The derivative is the sum over these places.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxprop.arrays.paths import by_path, join
from jaxprop.derivations.formula import Formula, Product, Symbol
from jaxprop.derivations.passing import Node
from jaxprop.derivations.places import Entry, Name, View, input_of
from jaxprop.layers import GRU, MultiHeadAttention
from jaxprop.layers.recurrent import Recurrent
from jaxprop.network import Combinator, Repeat, Shared
from jaxprop.uses import Leading, Lookup, Outer, Patch, Scale, Several, Shift, is_use

Index = tuple[int, ...]


class Spot(NamedTuple):
    """One use of the parameter: at this layer, under this name of the layer's θ, with this index into its array."""

    node: Node
    leaf: str
    use: Any
    index: Index


class Meeting(NamedTuple):
    """One place where the parameter met an error: its index, and the factors of its term with their numbers.

    `error` is the entry whose error is the first factor.
    """

    place: Index
    factors: tuple[tuple[Formula, float], ...]
    error: Entry

    @property
    def term(self) -> Formula:
        """The product of the factors."""
        factors = tuple(factor for factor, _ in self.factors)
        return factors[0] if len(factors) == 1 else Product(factors)


class Meetings(NamedTuple):
    """Every place of one use: `terms` has the number of each, `met` whether the parameter was used there at all.

    `tell(i)` says what is written of place number i, `where` what a place is called.
    """

    terms: np.ndarray
    met: np.ndarray
    tell: Callable[[int], Meeting]
    where: str

    @property
    def count(self) -> int:
        """How many places have a term that is not 0, and where all are 0, one of them."""
        return int(np.count_nonzero(self.terms)) or int(np.any(self.met))

    def first(self, most: int) -> np.ndarray:
        """Return the numbers of the places with the largest terms, the largest first."""
        order = np.argsort(-np.abs(self.terms.ravel()), kind="stable")
        return order[: min(most, self.count)] if np.any(self.terms) else np.flatnonzero(self.met)[:1]


def spots(root: Node, uses: Any, path: str, index: Index) -> list[Spot]:
    """Return every use of one number of θ: one, or one a place where weights are tied."""
    return list(_spots(root, by_path(uses, is_use)[path], path, index))


def _spots(node: Node, use: Any, path: str, index: Index) -> Iterator[Spot]:
    """Go down to the layer, and take off what the combinators on the way have put around its use."""
    layer, inner = node.layer, join(node.path, "inner")
    if isinstance(layer, Repeat):
        step, rest = index[0], index[1:]
        yield from _spots(node.child(step), jax.tree.map(lambda a: a[step], use.use), path, rest)
        return
    own = path.removeprefix(inner).lstrip(".")
    if isinstance(layer, Shared) and isinstance(use, Several) and own in [owner for owner, _, _ in layer.ties]:
        places = [(own, False), *((user, turned) for owner, user, turned in layer.ties if owner == own)]
        for each, (place, turned) in zip(use.uses, places, strict=True):
            yield from _spots(node.child(0), each, join(inner, place), index[::-1] if turned else index)
    elif isinstance(layer, Combinator) and (below := node.toward(path)) is not None:
        yield from _spots(below, use, path, index)
    else:
        yield Spot(node, path.removeprefix(node.path).lstrip("."), use, index)


def meetings(spot: Spot, view: View) -> Meetings | None:
    """Return every place where the parameter met an error, None where its use is of no kind known here."""
    use, index = spot.use, spot.index
    if isinstance(use, Patch):
        return _windows(spot, view)
    if not isinstance(use, Outer | Scale | Shift | Lookup | Leading):
        return None
    errors = np.asarray(use.delta)[..., index[-1]]
    met = np.ones(errors.shape, bool)
    if isinstance(use, Lookup):
        met = np.asarray(use.ids) == index[0]
    elif isinstance(use, Leading):
        met[:] = np.arange(errors.shape[1]) == index[0]
    if not isinstance(use, Outer | Scale):
        return _meetings(spot, view, met, errors, lambda at: (*at, index[-1]))
    came, channel = (use.a, index[0]) if isinstance(use, Outer) else (use.normalized, index[-1])
    name, back = _came_in(spot, came)

    def symbol(at: Index) -> Symbol:
        moved = (*at, channel)
        return name.symbol(view.shown((moved[0], moved[1] - back, *moved[2:])))

    return _meetings(spot, view, met, errors, lambda at: (*at, index[-1]), np.asarray(came)[..., channel], symbol)


def _meetings(
    spot: Spot, view: View, met: np.ndarray, errors: np.ndarray, error_at: Callable[[Index], Index],
    numbers: np.ndarray | None = None, symbol: Callable[[Index], Symbol] | None = None,
) -> Meetings:  # fmt: skip
    """The meetings of errors `[N, (T...)]` with numbers that came in at the same places, which `symbol` names."""
    met = view.only(met)
    terms = np.where(met, errors if numbers is None else errors * numbers, 0)

    def tell(i: int) -> Meeting:
        at = tuple(int(k) for k in np.unravel_index(i, terms.shape))
        error = error_of(spot, view, error_at(at))
        factors = [(error.delta, error.error)]
        if numbers is not None and symbol is not None:
            factors.append((symbol(at), float(numbers[at])))
        return Meeting(view.shown(at), tuple(factors), error)

    return Meetings(terms, met, tell, _where(spot, view, terms.ndim - 1))


def _windows(spot: Spot, view: View) -> Meetings:
    """The meetings of a number of a kernel: it stands on one number of every window."""
    use, index, window = spot.use, spot.index, spot.use.window
    k, i, unit = index[:-2], index[-2], index[-1]
    flip = window.flipped
    channel = i + (unit // (use.shape[-1] // window.groups)) * use.shape[-2]
    offset = [size - 1 - at if flip else at for at, size in zip(k, window.kernel, strict=True)]
    along = [
        s * np.arange(T) + d * at - low
        for s, T, d, at, low in zip(window.strides, window.coarse, window.dilation, offset, window.low, strict=True)
    ]
    fine, coarse = np.asarray(use.delta if flip else use.a), np.asarray(use.a if flip else use.delta)
    slid, still = fine[..., unit if flip else channel], coarse[..., channel if flip else unit]
    met = np.ones(still.shape, bool)
    for axis, q in enumerate(along, start=1):
        slid = np.take(slid, np.clip(q, 0, window.fine[axis - 1] - 1), axis=axis)
        inside = (q >= 0) & (q < window.fine[axis - 1])
        met &= inside.reshape([-1 if each == axis else 1 for each in range(met.ndim)])

    def of_fine(at: Index) -> Index:
        return (at[0], *(int(q[t]) for q, t in zip(along, at[1:], strict=True)))

    name, _ = _came_in(spot, use.a)
    if flip:
        return _meetings(
            spot, view, met, slid, lambda at: (*of_fine(at), unit), still,
            lambda at: name.symbol(view.shown((*at, channel))),
        )  # fmt: skip
    return _meetings(
        spot,
        view,
        met,
        still,
        lambda at: (*at, unit),
        slid,
        lambda at: name.symbol(view.shown((*of_fine(at), channel))),
    )


def error_of(spot: Spot, view: View, at: Index) -> Entry:
    """Return the error at an index of the use's δ: of what the layer answers, or of a number inside of it."""
    if is_answer(spot):
        return view.answer(spot.node, at)
    letter, _ = _inner(spot)
    name = Name(letter, spot.node.path, spot.node.steps)
    behind = 2 * spot.use.shape[0] if spot.leaf == "b_hidden" else 0  # which is of the last third alone
    return view.entry(name, at, None, spot.use.delta)._replace(shown=view.shown((*at[:-1], at[-1] + behind)))


def is_answer(spot: Spot) -> bool:
    """Whether the errors of a use are those of what the layer answers."""
    return _same(spot.use.delta, spot.node.passed.dy)


def _came_in(spot: Spot, numbers: Any) -> tuple[Name, int]:
    """What came in is called, and how far back in time it is: what goes into the layer, or something made of it."""
    x = spot.node.passed.x
    if isinstance(x, tuple):  # queries and memory
        letter = next((name for name, part in zip("xm", x, strict=False) if _same(numbers, part)), "u")
        return Name(letter, spot.node.path, spot.node.steps), 0
    if _same(numbers, x):
        return input_of(spot.node), 0
    _, letter = _inner(spot)
    return Name(letter, spot.node.path, spot.node.steps), int(letter == "h")


def _same(one: Any, other: Any) -> bool:
    return np.shape(one) == np.shape(other) and bool(np.array_equal(one, other))


def _inner(spot: Spot) -> tuple[str, str]:
    """The letters of what is inside a layer: of the sum that the parameter is part of, and of what goes into it."""
    layer, leaf = spot.node.layer, spot.leaf
    if isinstance(spot.use, Scale):
        return "z", "x̂"
    if isinstance(layer, MultiHeadAttention):
        return leaf.partition("_")[2][0].replace("o", "z"), "u" if leaf == "W_output" else "m"
    if isinstance(layer, GRU) and leaf.endswith("hidden"):
        return "m", "h"
    return "z", "h" if isinstance(layer, Recurrent) else "u"


def _where(spot: Spot, view: View, axes: int) -> str:
    """What a place is called, with the index of it in braces."""
    if isinstance(spot.use, Patch):
        name = "window"
    elif isinstance(spot.node.layer, Recurrent):
        name = "step"
    else:
        name = "position"
    if view.whole:
        return "row {}" if axes == 0 else f"row and {name} {{}}"
    return f"{name} {{}}" if axes else ""
