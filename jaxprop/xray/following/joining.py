"""All that landed for a leaf of θ, joined to its one use."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses import Leading, Several, Stacked, Use
from jaxprop.uses.view import View
from jaxprop.uses.viewed import Viewed
from jaxprop.xray.following.follow import Place
from jaxprop.xray.following.meetings import Met
from jaxprop.xray.following.parts import Part


class Landed(NamedTuple):
    """What landed at a place, with the axes [N, *scans, ...] before those of the equation's own arrays."""

    a: Array | None
    delta: Array
    ids: Array | None


def use_of(
    leaf: int,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    places: Sequence[Place],
    landed: Sequence[Landed],
    within: int = 0,
) -> Use:
    """Return the use of one leaf, of everything that landed where it is used.

    shape: the leaf's; without the axes of the scans that are entered already, whose number is `within`.
    """
    meetings = [
        (part, place, of) for place, of in zip(places, landed, strict=True) for part in place.parts if part.leaf == leaf
    ]
    kinds = [tuple(level[0] == "over" for level in part.levels[within:]) for part, _, _ in meetings]
    over = sum(kinds[0])
    arrays = [_arranged(of, kind) for (_, _, of), kind in zip(meetings, kinds, strict=True)]
    views: list[View] = []

    def block(arrays: list[Met]) -> Use:
        found = []
        for (part, place, _), met in zip(meetings, arrays, strict=True):
            use, view = _met(place, part, met, dtype)
            found.append(use)
            views.append(view)
        return joined(found, views[-len(found) :], shape[over:], dtype)

    make = block
    for _ in range(over):
        make = jax.vmap(make)
    use = make(arrays)
    for axes in range(over - 1, -1, -1):
        use = Stacked(use, shape[axes:], dtype)
    return use


def _met(place: Place, part: Part, met: Met, dtype: DTypeLike) -> tuple[Use, View]:
    if part.factor != 1:  # gradients are linear in the error
        met = met._replace(delta=met.delta * part.factor)
    return place.meeting.use(part, met, dtype)


def _arranged(landed: Landed, kind: tuple[bool, ...]) -> Met:
    """`[N, *scans, ...]` as `[*over, N, C, ...]`: scans that a leaf is closed over in are C steps of one."""
    over = [1 + i for i, is_over in enumerate(kind) if is_over]
    closed = [1 + i for i, is_over in enumerate(kind) if not is_over]

    def one(array: Array) -> Array:
        rest = range(1 + len(kind), array.ndim)
        steps = math.prod(array.shape[axis] for axis in closed)
        array = jnp.transpose(array, (*over, 0, *closed, *rest))
        return array.reshape(*array.shape[: len(over) + 1], steps, *array.shape[1 + len(kind) :])

    a, delta, ids = (None if array is None else one(array) for array in landed)
    assert delta is not None
    return Met(a, delta, ids)


def joined(uses: list[Use], views: list[View], shape: tuple[int, ...], dtype: DTypeLike) -> Use:
    """Return one use of several of one array, each of a view of it."""
    if len(uses) == 1:
        return viewed(uses[0], views[0], shape, dtype)
    first = views[0]
    turned = [view != first for view in views]
    if all(view == first or (len(first.seen) == 2 and _turned(view) == first) for view in views):
        return viewed(Several(tuple(uses), tuple(turned), first.seen, dtype), first, shape, dtype)
    each = [viewed(use, view, shape, dtype) for use, view in zip(uses, views, strict=True)]
    return Several(tuple(each), (False,) * len(each), shape, dtype)


def _turned(view: View) -> View:
    return view.transposed((1, 0)) if len(view.seen) == 2 else view


def unreached(shape: tuple[int, ...], dtype: DTypeLike, zeros: Array) -> Use:
    """Return the use of a leaf to which no error comes back: a number 0 for every example, `zeros`, and no more."""
    size = math.prod(shape)
    delta = zeros.astype(dtype).reshape(-1, 1, 1)[:, : min(size, 1)]
    return Viewed(Leading(delta, (size, 1), dtype), View(shape).reshaped((size, 1)), shape, dtype)


def viewed(use: Use, view: View, shape: tuple[int, ...], dtype: DTypeLike) -> Use:
    """Return the use of an array through a view of it."""
    return use if not view.steps else Viewed(use, view, shape, dtype)
