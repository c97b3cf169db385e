"""Where a parameter meets an activation: the equations whose way back is a `Use`, and how each makes one.

A meeting knows its equation, which operand is the parameter, and which other one has to be kept. `use` then takes what
landed there, `[N, C, ...]` with N examples and C steps of the scans that the parameter is closed over in, and returns
the use of one part and the view of the leaf that it is the use of.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxprop.arrays.dtypes import wide
from jaxprop.uses import Leading, Lookup, Outer, Scale, Shift, Stacked, Use
from jaxprop.uses.view import Numbers, View
from jaxprop.xray.following.parts import Lost, Part
from jaxprop.xray.versions import Equation


class Met(NamedTuple):
    """What landed at a meeting: the other operand, the error, and whole numbers that were seen; `[N, C, ...]`."""

    a: Any  # None where nothing is kept
    delta: Array
    ids: Any


Found = tuple[Use, View]


@dataclass(frozen=True)
class Meeting(abc.ABC):
    """An equation, with the operand that holds parameters (`side`), or None where it is the result that does.

    kept: the operand that lands beside the error.
    counted: the operand of whole numbers that is seen on the way forward.
    """

    equation: Equation
    side: int | None
    kept: int | None = None
    counted: int | None = None

    by_number = False  # whether it is arithmetic number by number, and parts are said of the result

    @property
    def given(self) -> Numbers:
        """The shape of the array that holds parameters."""
        variable = self.equation.outvars[0] if self.side is None else self.equation.invars[self.side]
        return variable.aval.shape

    def full(self, part: Part) -> Part:
        """Return a part that `check` has found to have every axis of the array."""
        full = part.full(self.given)
        assert full is not None
        return full

    def check(self, part: Part) -> None:  # noqa: B027  most meetings take every part
        """Raise `Lost` where this part cannot meet anything here."""

    @abc.abstractmethod
    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Return the use of a part."""


class Product(Meeting):
    """A product `dot_general`: `Outer`, one for each group where it has batch axes."""

    def check(self, part: Part) -> None:
        """Every axis of the operand must be the parameter's own."""
        if part.full(self.given) is None:
            raise Lost("a product with an array in which the parameter is repeated")

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t a_t ⊗ δ_t, with T the other operand's free axes."""
        contracted, batched = self.equation.params["dimension_numbers"]
        W = self.side
        assert W is not None
        x = 1 - W
        xc, wc, xb, wb = contracted[x], contracted[W], batched[x], batched[W]
        shapes = [v.aval.shape for v in self.equation.invars]
        xf, wf = (_others(len(shapes[side]), c, b) for side, c, b in ((x, xc, xb), (W, wc, wb)))
        full = self.full(part)
        b, free = len(wb), len(wb) + (len(xf) if W == 1 else 0)  # where W's free axes lie in the result
        a = cut(met.a, full, {w: x for w, x in zip((*wb, *wc), (*xb, *xc), strict=True)})
        delta = cut(met.delta, full, {w: i for i, w in enumerate(wb)} | {w: free + i for i, w in enumerate(wf)})
        of_x = range(b, b + len(xf)) if W == 1 else range(b + len(wf), b + len(wf) + len(xf))
        of_W = range(free, free + len(wf))
        view = full.view.transposed((*wb, *wc, *wf))
        G, I, O = (math.prod(full.view.seen[i] for i in axes) for axes in (wb, wc, wf))
        a, delta = of_one_dtype(_positions(a, (xb, xf, xc), G, I), _positions(delta, (range(b), of_x, of_W), G, O))
        steps = met.delta.shape[1] > 1 and not xf
        if G == 1:
            return Outer(a, delta, (I, O), dtype, scanned=steps), view.reshaped((I, O))
        a, delta = (jnp.moveaxis(each, 2, 0) for each in (a, delta))
        return Stacked(Outer(a, delta, (I, O), dtype), (G, I, O), dtype), view.reshaped((G, I, O))


class Sum(Meeting):
    """A sum with a parameter, or an array that a parameter is a part of: `Shift`, or `Leading` for a table."""

    by_number = True

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t δ_t, with T the axes along which the parameter is repeated; row by row for a table."""
        delta = cut(met.delta, part, {axis: axis for axis in part.axes})
        repeated = _others(delta.ndim - 2, part.axes)
        table = _table(part, [delta.shape[2 + axis] for axis in repeated])
        if table is not None:
            length, T, D = table
            rows = _positions(delta, ((), repeated, part.axes), 1, T * D)
            rows = rows if rows.ndim == 2 else jnp.sum(rows.astype(wide(rows.dtype)), axis=1).astype(rows.dtype)
            rows = rows.reshape(rows.shape[0], T, D)
            return Leading(rows, (length, D), dtype), View(part.view.shape).reshaped((length, D))
        size = math.prod(part.view.seen)
        delta = _positions(delta, ((), repeated, part.axes), 1, size)
        return Shift(delta, (size,), dtype), part.view.reshaped((size,))


class Gain(Meeting):
    """A product number by number, repeated along other axes: `Scale`."""

    by_number = True

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t δ_t ⊙ x_t."""
        missing = met.delta.ndim - met.a.ndim  # all axes, of a lone number
        x = jnp.broadcast_to(jnp.expand_dims(met.a, tuple(range(2, 2 + missing))), met.delta.shape)
        size = math.prod(part.view.seen)
        x, delta = (
            _positions(
                cut(each, part, {axis: axis for axis in part.axes}),
                ((), _others(each.ndim - 2, part.axes), part.axes), 1, size,
            )
            for each in (x, met.delta)
        )  # fmt: skip
        return Scale(x, delta, (size,), dtype), part.view.reshaped((size,))


class Rows(Meeting):
    """A `gather` of whole rows along one axis: `Lookup`."""

    def check(self, part: Part) -> None:
        """The table must be all that the array holds."""
        full = part.full(self.given)
        if full is None or full.view.seen != self.given:
            raise Lost("a lookup in an array in which the parameter is repeated, or beside others")

    @property
    def axis(self) -> int:
        """The axis of the table along which rows are looked up."""
        return self.equation.params["dimension_numbers"].start_index_map[self.number]

    @property
    def number(self) -> int:
        """Which of the numbers of an index is the row's."""
        number = row_number(self.equation)
        assert number is not None
        return number

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t e(id_t) ⊗ δ_t."""
        params, rank = self.equation.params, len(self.given)
        V, D = self.given[self.axis], math.prod(self.given) // self.given[self.axis]
        ids = met.ids[..., self.number].astype(jnp.int32)
        if "clip" in str(params["mode"]).lower():
            ids = jnp.clip(ids, 0, V - 1)
        offset = params["dimension_numbers"].offset_dims
        delta = _positions(met.delta, ((), _others(met.delta.ndim - 2, offset), offset), 1, D, flat=False)
        ids = ids.reshape(delta.shape[:-1])
        axes = (self.axis, *(axis for axis in range(rank) if axis != self.axis))
        return Lookup(ids, delta, (V, D), dtype), self.full(part).view.transposed(axes).reshaped((V, D))


class Slices(Rows):
    """A `dynamic_slice` along one axis: `Lookup` of rows that follow one another."""

    @property
    def axis(self) -> int:
        """The axis of the table along which it is sliced."""
        assert self.counted is not None
        return self.counted - 1

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t e(start + t) ⊗ δ_t; a start too high is lowered, as JAX does."""
        rank, V = len(self.given), self.given[self.axis]
        rows = self.equation.params["slice_sizes"][self.axis]
        D = math.prod(self.given) // V
        others = tuple(axis for axis in range(rank) if axis != self.axis)
        delta = _positions(met.delta, ((), (self.axis,), others), 1, D, flat=False)
        start = jnp.clip(met.ids.astype(jnp.int32), 0, V - rows)[..., None]
        ids = (start + jnp.arange(rows, dtype=jnp.int32)).reshape(delta.shape[:-1])
        view = self.full(part).view.transposed((self.axis, *others)).reshaped((V, D))
        return Lookup(ids, delta, (V, D), dtype), view


def _others(rank: int, *taken: Sequence[int]) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if not any(axis in axes for axes in taken))


def cut(array: Array, part: Part, axes: dict[int, int]) -> Array:
    """Cut out of an array `[N, C, ...]` what belongs to a part: its axis i lies along that array's axes[i]."""
    start, limit = [0] * array.ndim, list(array.shape)
    for own, begin, size in zip(part.axes, part.starts, part.view.seen, strict=True):
        if own in axes:
            start[2 + axes[own]], limit[2 + axes[own]] = begin, begin + size
    return array if limit == list(array.shape) and not any(start) else lax.slice(array, start, limit)


def _positions(array: Array, axes: Sequence[Sequence[int]], groups: int, features: int, flat: bool = True) -> Array:
    """Return `[N, C, ...]` as `[N, T, (G,) F]`, with the axes of (G, T, F); as `[N, F]` where there is one position."""
    of_groups, of_positions, of_features = axes
    order = [0, 1, *(2 + axis for of in (of_positions, of_groups, of_features) for axis in of)]
    array = jnp.transpose(array, order)
    N, C = array.shape[:2]
    T = C * math.prod(array.shape[2 : 2 + len(of_positions)])
    if groups > 1:
        return array.reshape(N, T, groups, features)
    one = flat and C == 1 and not of_positions
    return array.reshape(N, features) if one else array.reshape(N, T, features)


def of_one_dtype(a: Array, delta: Array) -> tuple[Array, Array]:
    """Return both in the dtype that holds either."""
    if a.dtype == delta.dtype:
        return a, delta
    dtype = jnp.promote_types(a.dtype, delta.dtype)
    return a.astype(dtype), delta.astype(dtype)


def _table(part: Part, repeated: Sequence[int]) -> tuple[int, int, int] | None:
    """(length, T, D) where the first T rows of a table are added, row by row; None for anything else."""
    seen = [size for size in part.view.seen if size > 1]
    whole = [size for size in part.view.shape if size > 1]
    is_table = len(seen) == len(whole) == 2 and seen[1] == whole[1] and part.view.leads
    return (whole[0], seen[0], seen[1]) if is_table and math.prod(repeated) == 1 else None


def row_number(equation: Equation) -> int | None:
    """Say which number of its indices names a row, if a gather takes whole rows along one axis.

    The others then name where a row that is whole begins, and are 0 if they are clipped: so a lookup of one row looks
    that is mapped by `jax.vmap`, as in Equinox.
    """
    params = equation.params
    numbers, sizes, shape = params["dimension_numbers"], params["slice_sizes"], equation.invars[0].aval.shape
    axes = numbers.start_index_map
    cut = [k for k, axis in enumerate(axes) if sizes[axis] < shape[axis] or len(axes) == 1]
    if len(cut) != 1 or numbers.operand_batching_dims or (len(axes) > 1 and "clip" not in str(params["mode"]).lower()):
        return None
    axis = axes[cut[0]]
    whole = all(n == (1 if i == axis else size) for i, (n, size) in enumerate(zip(sizes, shape, strict=True)))
    return cut[0] if whole and tuple(numbers.collapsed_slice_dims) in ((axis,), ()) else None
