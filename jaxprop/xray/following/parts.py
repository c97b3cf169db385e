"""What an array inside a program holds of θ: parts, each a leaf seen through a view, and where it lies in the array.

Layout moves parts about. `moved` says for an equation what its outputs hold, or raises `Lost` with the reason why a
parameter cannot be followed through it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxprop.uses.view import Numbers, View
from jaxprop.xray.versions import Equation, is_literal

Level = tuple[str, tuple[int, ...], int]  # "over" or "closed over", the scan's path, and its length


class Lost(Exception):  # noqa: N818
    """A parameter cannot be followed any further."""


@dataclass(frozen=True)
class Part:
    """A leaf of θ in an array.

    leaf: its number among the inputs.
    view: how the leaf is seen; without the axes that scans took.
    axes: the axis of the array that each axis of what is seen lies along; along all others it is repeated.
    starts: where on that axis it begins.
    levels: the scans that it has entered, from the outside in, "over" its first axis or "closed over".
    factor: the number that it was multiplied by.
    """

    leaf: int
    view: View
    axes: Numbers
    starts: Numbers
    levels: tuple[Level, ...] = ()
    factor: float = 1.0

    @classmethod
    def whole(cls, leaf: int, shape: Numbers) -> "Part":
        """A leaf as it is."""
        return cls(leaf, View(shape), tuple(range(len(shape))), (0,) * len(shape))

    @property
    def is_plain(self) -> bool:
        """Whether this is a leaf, or what a scan left of it, as it is."""
        return not self.view.steps and self.axes == tuple(range(len(self.axes)))

    def covers(self, shape: Numbers) -> bool:
        """Whether an array of that shape holds this and nothing else, once."""
        seen = dict(zip(self.axes, self.view.seen, strict=True))
        return all(seen.get(axis, 1) == size for axis, size in enumerate(shape))

    def full(self, shape: Numbers) -> "Part | None":
        """Return the part with an axis for each of the array's; None where it is repeated along one."""
        order = sorted(range(len(self.axes)), key=lambda i: self.axes[i])
        view = self.view.transposed(tuple(order))
        axes, starts = [self.axes[i] for i in order], [self.starts[i] for i in order]
        if any(size > 1 for axis, size in enumerate(shape) if axis not in axes):
            return None
        sizes, at = dict(zip(axes, view.seen, strict=True)), dict(zip(axes, starts, strict=True))
        every = tuple(range(len(shape)))
        view = view.reshaped(tuple(sizes.get(axis, 1) for axis in every))
        return replace(self, view=view, axes=every, starts=tuple(at.get(axis, 0) for axis in every))

    def without(self, axes: Sequence[int]) -> "Part":
        """Drop axes of the array along which what is seen has one entry, or is repeated."""
        kept = [i for i, axis in enumerate(self.axes) if axis not in axes]
        left = [axis for axis in range(1 + max([*self.axes, *axes], default=0)) if axis not in axes]
        return replace(
            self,
            view=self.view.reshaped(tuple(self.view.seen[i] for i in kept)),
            axes=tuple(left.index(self.axes[i]) for i in kept),
            starts=tuple(self.starts[i] for i in kept),
        )

    def at(self, axes: Numbers) -> "Part":
        """Lay each axis of the array along another one."""
        return replace(self, axes=tuple(axes[axis] for axis in self.axes))

    def times(self, factor: float) -> "Part":
        """Multiply by a number."""
        return replace(self, factor=self.factor * factor)

    def spread(self, before: Numbers, after: Numbers) -> "Part":
        """Say it of an array whose axes of one entry are repeated, as arithmetic does."""
        repeated = [axis for axis, size in enumerate(before) if size == 1 and after[axis] > 1]
        kept = tuple(axis for axis in range(len(before)) if axis not in repeated)
        return self.without(repeated).at(kept)


Parts = tuple[Part, ...]


def moved(equation: Equation, held: Sequence[Parts]) -> list[Parts] | None:
    """Return what the outputs of an equation hold that only moves numbers; None for any other equation."""
    move = _MOVES.get(equation.primitive.name)
    return None if move is None else move(equation, held)


def _same(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    return [tuple(parts) for parts in held[: len(equation.outvars)]]


def _nothing(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    return [()] * len(equation.outvars)


def _negative(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    return [tuple(part.times(-1.0) for part in held[0])]


def _multiplied(equation: Equation, held: Sequence[Parts]) -> list[Parts] | None:
    """By a number that stands in the program."""
    for parts, other in zip(held, reversed(equation.invars), strict=True):
        if parts and is_literal(other) and np.ndim(other.val) == 0:
            return [tuple(part.times(float(other.val)) for part in parts)]
    return None


def _divided(equation: Equation, held: Sequence[Parts]) -> list[Parts] | None:
    other = equation.invars[1]
    if not is_literal(other) or np.ndim(other.val) or not other.val:
        return None
    return [tuple(part.times(1 / float(other.val)) for part in held[0])]


def _reversed(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    turned = equation.params["dimensions"]
    found = []
    for part in held[0]:
        own = tuple(i for i, axis in enumerate(part.axes) if axis in turned)
        each = zip(part.axes, part.starts, part.view.seen, strict=True)
        shape = equation.invars[0].aval.shape
        starts = tuple(shape[axis] - start - size if axis in turned else start for axis, start, size in each)
        found.append(replace(part, view=part.view.reversed(own), starts=starts))
    return [tuple(found)]


def _transpose(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    inverse = tuple(int(i) for i in np.argsort(equation.params["permutation"]))
    return [tuple(part.at(inverse) for part in held[0])]


def _squeeze(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    return [tuple(part.without(equation.params["dimensions"]) for part in held[0])]


def _reshape(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    if equation.params.get("dimensions") is not None:
        raise Lost("a reshape that turns axes as well")
    return [tuple(_reshaped(part, before, after) for part in held[0])]


def _reshaped(part: Part, before: Numbers, after: Numbers) -> Part:
    full = part.full(before) if part.covers(before) else None
    if full is not None:
        return replace(part, view=full.view.reshaped(after), axes=tuple(range(len(after))), starts=(0,) * len(after))
    if [size for size in before if size > 1] != [size for size in after if size > 1]:
        raise Lost("a reshape of an array in which the parameter is repeated, or beside others")
    part = part.without([axis for axis, size in enumerate(before) if size == 1])
    return part.at(tuple(axis for axis, size in enumerate(after) if size > 1))


def _broadcast(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    to = equation.params["broadcast_dimensions"]
    sizes = tuple(after[axis] for axis in to)
    return [tuple(part.spread(before, sizes).at(to) for part in held[0])]


def _slice(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    params = equation.params
    start, limit = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or (1,) * len(start)
    return [_cut(held[0], equation.invars[0].aval.shape, start, limit, strides)]


def _cut(parts: Parts, shape: Numbers, start: Numbers, limit: Numbers, strides: Numbers) -> Parts:
    found = []
    for part in parts:
        low, high, steps, starts = [], [], [], []
        for axis, begin, size in zip(part.axes, part.starts, part.view.seen, strict=True):
            if strides[axis] > 1 and size != shape[axis]:
                raise Lost("a slice with a stride of an array in which the parameter lies beside others")
            low.append(max(start[axis] - begin, 0))
            high.append(min(limit[axis] - begin, size))
            steps.append(strides[axis])
            starts.append(max(begin - start[axis], 0))
        if all(a < b for a, b in zip(low, high, strict=True)):
            view = part.view.sliced(tuple(low), tuple(high), tuple(steps))
            found.append(replace(part, view=view, starts=tuple(starts)))
    return tuple(found)


def _split(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    shape, axis = equation.invars[0].aval.shape, equation.params["axis"]
    ends = np.cumsum(equation.params["sizes"]).tolist()
    found = []
    for begin, end in zip([0, *ends], ends, strict=False):
        start, limit = [0] * len(shape), list(shape)
        start[axis], limit[axis] = begin, end
        found.append(_cut(held[0], shape, tuple(start), tuple(limit), (1,) * len(shape)))
    return found


def _concatenate(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    axis, begin, found = equation.params["dimension"], 0, []
    for variable, parts in zip(equation.invars, held, strict=True):
        found += [_shifted(part, {axis: begin}, variable.aval.shape) for part in parts]
        begin += variable.aval.shape[axis]
    return [tuple(found)]


def _stack(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    axis, shape = equation.params["axis"], list(equation.outvars[0].aval.shape)
    shape[axis] = 1
    places = tuple(i for i in range(len(shape)) if i != axis)
    return [tuple(_shifted(part.at(places), {axis: i}, tuple(shape)) for i, parts in enumerate(held) for part in parts)]


def _pad(equation: Equation, held: Sequence[Parts]) -> list[Parts]:
    if held[1]:
        raise Lost("padding with the parameter")
    pads = equation.params["padding_config"]
    if any(low < 0 or high < 0 or between for low, high, between in pads):
        raise Lost("padding that cuts off, or lies between the entries")
    shape = equation.invars[0].aval.shape
    by = {axis: low for axis, (low, high, _) in enumerate(pads) if low or high}
    return [tuple(_shifted(part, by, shape) for part in held[0])]


def _shifted(part: Part, by: dict[int, int], shape: Numbers) -> Part:
    if any(axis not in part.axes and shape[axis] > 1 for axis in by):
        raise Lost("a concatenation of an array in which the parameter is repeated")
    missing = [axis for axis in by if axis not in part.axes]
    part = replace(
        part,
        view=part.view.reshaped((*part.view.seen, *(1 for _ in missing))),
        axes=(*part.axes, *missing),
        starts=(*part.starts, *(0 for _ in missing)),
    )
    starts = tuple(start + by.get(axis, 0) for axis, start in zip(part.axes, part.starts, strict=True))
    return replace(part, starts=starts)


_MOVES: dict[str, Callable[[Equation, Sequence[Parts]], list[Parts] | None]] = {
    **dict.fromkeys(
        ("convert_element_type", "copy", "optimization_barrier", "sharding_constraint", "pvary", "name"), _same
    ),
    "stop_gradient": _nothing,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "split": _split,
    "concatenate": _concatenate,
    "stack": _stack,
    "neg": _negative,
    "mul": _multiplied,
    "div": _divided,
    "rev": _reversed,
    "pad": _pad,
}  # fmt: skip
