"""Where a parameter meets an activation: the equations whose way back is a `Use`, and how each makes one.

A meeting knows its equation, which operand is the parameter, and which other one has to be kept. `use` then takes what
landed there, `[N, C, ...]` with N examples and C steps of the scans that the parameter is closed over in, and returns
the use of one part and the view of the leaf that it is the use of.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.window import Window
from jaxprop.uses import Leading, Lookup, Outer, Patch, Scale, Shift, Stacked, Use
from jaxprop.uses.view import Numbers, View
from jaxprop.xray.following.parts import Lost, Part, Parts
from jaxprop.xray.versions import Equation


class Met(NamedTuple):
    """What landed at a meeting: the other operand, the error, and whole numbers that were seen; `[N, C, ...]`."""

    a: Array | None
    delta: Array
    ids: Array | None


Found = tuple[Use, View]


@dataclass(frozen=True)
class Meeting:
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

    def check(self, part: Part) -> None:
        """Raise `Lost` where this part cannot meet anything here."""

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Return the use of a part."""
        raise NotImplementedError


class Product(Meeting):
    """A product `dot_general`: `Outer`, one for each group where it has batch axes."""

    def check(self, part: Part) -> None:
        """Every axis of the operand must be the parameter's own."""
        if part.full(self.given) is None:
            raise Lost("a product with an array in which the parameter is repeated")

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t a_t ⊗ δ_t, with T the other operand's free axes."""
        contracted, batched = self.equation.params["dimension_numbers"]
        x, W = 1 - self.side, self.side
        xc, wc, xb, wb = contracted[x], contracted[W], batched[x], batched[W]
        shapes = [v.aval.shape for v in self.equation.invars]
        xf, wf = (_others(len(shapes[side]), c, b) for side, c, b in ((x, xc, xb), (W, wc, wb)))
        full = part.full(self.given)
        b, free = len(wb), len(wb) + (len(xf) if W == 1 else 0)  # where W's free axes lie in the result
        a = _cut(met.a, full, {w: x for w, x in zip((*wb, *wc), (*xb, *xc), strict=True)})
        delta = _cut(met.delta, full, {w: i for i, w in enumerate(wb)} | {w: free + i for i, w in enumerate(wf)})
        of_x = range(b, b + len(xf)) if W == 1 else range(b + len(wf), b + len(wf) + len(xf))
        of_W = range(free, free + len(wf))
        view = full.view.transposed((*wb, *wc, *wf))
        G, I, O = (math.prod(full.view.seen[i] for i in axes) for axes in (wb, wc, wf))
        a, delta = _of_one_dtype(_positions(a, (xb, xf, xc), G, I), _positions(delta, (range(b), of_x, of_W), G, O))
        steps = met.delta.shape[1] > 1 and not xf
        if G == 1:
            return Outer(a, delta, (I, O), dtype, scanned=steps), view.reshaped((I, O))
        a, delta = (jnp.moveaxis(each, 2, 0) for each in (a, delta))
        return Stacked(Outer(a, delta, (I, O), dtype), (G, I, O), dtype), view.reshaped((G, I, O))


class Convolution(Meeting):
    """A convolution, transposed ones too: `Patch`."""

    def check(self, part: Part) -> None:
        """What `Window` can say, of a kernel that is whole in each of its windows."""
        numbers = self.equation.params["dimension_numbers"].rhs_spec
        full = part.full(self.given)
        if full is None or any(full.view.seen[axis] != self.given[axis] for axis in numbers[2:]):
            raise Lost("a convolution with a kernel in which the parameter is repeated, or beside others")
        grouped = self.equation.params["feature_group_count"] > 1
        if grouped and full.view.seen != self.given:
            raise Lost("a convolution of groups with a kernel in which the parameter lies beside others")
        if window_of(self.equation) is None:
            raise Lost("a convolution that is spread and has strides, groups of examples, or both")

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t u_t ⊗ δ_t; steps of scans, and an axis of examples inside one, are positions more."""
        window, numbers = window_of(self.equation), self.equation.params["dimension_numbers"]
        assert window is not None
        full = part.full(self.given)
        out, into, *kernel = numbers.rhs_spec
        a, delta = met.a, met.delta
        if window.groups == 1:
            a, delta = _cut(a, full, {into: numbers.lhs_spec[1]}), _cut(delta, full, {out: numbers.out_spec[1]})
        a, delta = _of_one_dtype(_channels_last(a, numbers.lhs_spec), _channels_last(delta, numbers.out_spec))
        view = full.view.transposed((*kernel, into, out))
        B = a.shape[1] * a.shape[2]
        if B > 1:
            window = _beside(window, B)
            view = view.reshaped((1, *view.seen))
        a, delta = (each.reshape(each.shape[0], *((B,) if B > 1 else ()), *each.shape[3:]) for each in (a, delta))
        return Patch(a, delta, view.seen, dtype, window), view


def window_of(equation: Equation) -> Window | None:
    """Where the windows of a convolution lie; None where a `Window` cannot say it."""
    params, (x, W), y = equation.params, (v.aval.shape for v in equation.invars), equation.outvars[0].aval.shape
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    low = [pad for pad, _ in params["padding"]]
    kernel, fine, coarse = (
        tuple(shape[axis] for axis in spec[2:])
        for shape, spec in ((W, numbers.rhs_spec), (x, numbers.lhs_spec), (y, numbers.out_spec))
    )
    strides, dilation, spread = (tuple(params[name]) for name in ("window_strides", "rhs_dilation", "lhs_dilation"))
    if params["batch_group_count"] > 1:
        return None
    if set(spread) <= {1}:
        return Window(kernel, strides, dilation, tuple(low), fine, coarse, groups)
    if set(strides) <= {1} and groups == 1:  # z_q meets x_t where q = s t + d (K − 1 − k) − p, with k running backwards
        low = tuple(d * (k - 1) - pad for d, k, pad in zip(dilation, kernel, low, strict=True))
        return Window(kernel, spread, dilation, low, coarse, fine, groups, flipped=True)
    return None


def _beside(window: Window, B: int) -> Window:
    """A window one wide along an axis more, in front."""
    return replace(
        window, kernel=(1, *window.kernel), strides=(1, *window.strides), dilation=(1, *window.dilation),
        low=(0, *window.low), fine=(B, *window.fine), coarse=(B, *window.coarse),
    )  # fmt: skip


def _channels_last(array: Array, spec: Sequence[int]) -> Array:
    """`[N, C, ...]` as `[N, C, B, *spatial, channels]`."""
    examples, channels, *spatial = spec
    return jnp.transpose(array, (0, 1, *(2 + axis for axis in (examples, *spatial, channels))))


class Sum(Meeting):
    """A sum with a parameter, or an array that a parameter is a part of: `Shift`, or `Leading` for a table."""

    by_number = True
    sign = 1

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t δ_t, with T the axes along which the parameter is repeated; row by row for a table."""
        delta = met.delta if self.sign > 0 else -met.delta
        delta = _cut(delta, part, {axis: axis for axis in part.axes})
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


class Difference(Sum):
    """A difference, whose second operand is a parameter."""

    sign = -1


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
                _cut(each, part, {axis: axis for axis in part.axes}),
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
        number = _row_number(self.equation)
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
        return Lookup(ids, delta, (V, D), dtype), part.full(self.given).view.transposed(axes).reshaped((V, D))


class Slices(Rows):
    """A `dynamic_slice` along one axis: `Lookup` of rows that follow one another."""

    @property
    def axis(self) -> int:
        """The axis of the table along which it is sliced."""
        sizes = self.equation.params["slice_sizes"]
        cut = [axis for axis, (n, size) in enumerate(zip(sizes, self.given, strict=True)) if n < size]
        return cut[0] if cut else 0

    def use(self, part: Part, met: Met, dtype: DTypeLike) -> Found:
        """Σ_t e(start + t) ⊗ δ_t; a start too high is lowered, as JAX does."""
        rank, V = len(self.given), self.given[self.axis]
        rows = self.equation.params["slice_sizes"][self.axis]
        D = math.prod(self.given) // V
        others = tuple(axis for axis in range(rank) if axis != self.axis)
        delta = _positions(met.delta, ((), (self.axis,), others), 1, D, flat=False)
        start = jnp.clip(met.ids.astype(jnp.int32), 0, V - rows)[..., None]
        ids = (start + jnp.arange(rows, dtype=jnp.int32)).reshape(delta.shape[:-1])
        view = part.full(self.given).view.transposed((self.axis, *others)).reshaped((V, D))
        return Lookup(ids, delta, (V, D), dtype), view


def _others(rank: int, *taken: Sequence[int]) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if not any(axis in axes for axes in taken))


def _cut(array: Array, part: Part, axes: dict[int, int]) -> Array:
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


def _of_one_dtype(a: Array, delta: Array) -> tuple[Array, Array]:
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


def meeting_at(equation: Equation, held: Sequence[Parts], mapped: Sequence[bool]) -> Meeting | None:
    """Recognise a meeting; None where there is none: the equation loses the parameters that it is given."""
    name = equation.primitive.name
    sides = [i for i, parts in enumerate(held) if parts]
    if len(sides) != 1:
        return None
    (side,) = sides
    if name == "dot_general":
        return Product(equation, side, kept=1 - side)
    if name == "conv_general_dilated" and side == 1:
        return Convolution(equation, side, kept=0)
    if name in ("add", "add_any", "sub"):
        return (Difference if name == "sub" and side == 1 else Sum)(equation, side)
    if name == "mul" and mapped[1 - side]:
        return Gain(equation, side, kept=1 - side)
    if name == "gather" and side == 0 and _row_number(equation) is not None:
        return Rows(equation, side, counted=1)
    if name == "dynamic_slice" and side == 0:
        sizes, shape = equation.params["slice_sizes"], equation.invars[0].aval.shape
        cut = [axis for axis, (n, size) in enumerate(zip(sizes, shape, strict=True)) if n < size]
        return Slices(equation, side, counted=1 + cut[0]) if len(cut) == 1 else None
    return None


def _row_number(equation: Equation) -> int | None:
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
