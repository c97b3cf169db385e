"""A few examples at a time: what is built of single examples is then held of so many only.

Sums over examples are added up from group to group, and what is one number an example comes out in its place. Where
a program may be spread over several devices the examples are laid out as [devices, N/devices, ...] and every group
takes some of each device's own, so that nothing is sent between them before the one sum at the end; this needs a sum a
device, and is done where these are small beside the use itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError
from jaxprop.uses.way import CACHED, Way

Part = Callable[[Any, Array | None], tuple[PyTree, PyTree]]


class Step(NamedTuple):
    """Hold what `in_chunks` does with a use: where, what for, in which way, how many examples at a time of N, and how
    many numbers these hold.

    >>> Step("0.W", "norms", None, Way("direct", 0, 12), 1, 8, 12)._fields
    ('path', 'purpose', 'use', 'way', 'rows', 'examples', 'held')
    """

    path: str
    purpose: str
    use: Any
    way: Way
    rows: int
    examples: int
    held: int


_place: ContextVar[tuple[str, str]] = ContextVar("_place", default=("", ""))
_watch: ContextVar["Watch | None"] = ContextVar("_watch", default=None)


class Watch(NamedTuple):
    """Hold what was written down: the steps, and in words how uses are visited a second time.

    >>> Watch([], []).steps
    []
    """

    steps: list[Step]
    visits: list[str]


@contextmanager
def at(path: str, purpose: str) -> Iterator[None]:
    """Say where a use is and what for, for errors and for plans.

    >>> with at("0.W", "norms"):
    ...     pass
    """
    token = _place.set((path, purpose))
    try:
        yield
    finally:
        _place.reset(token)


@contextmanager
def watched() -> Iterator[Watch]:
    """Write down what every `in_chunks` inside does, as it is traced.

    >>> with watched() as watch:
    ...     _ = in_chunks(lambda use, w: (None, use), jnp.ones((4, 2)), None, Way("direct", 0, 2))
    >>> [(step.way.name, step.rows, step.examples) for step in watch.steps]
    [('direct', 4, 4)]
    """
    watch = Watch([], [])
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


def visits_again(uses: PyTree) -> None:
    """Write down that uses are visited a second time: those that were kept, or None for another pull of δ.

    >>> with watched() as watch:
    ...     visits_again({"W": jnp.ones((4, 2), "float32")})
    >>> watch.visits
    ['second visit: of the uses, which are kept: 32 bytes']
    """
    watch = _watch.get()
    if watch is None:
        return
    arrays = {id(leaf): leaf for leaf in jax.tree.leaves(uses)}.values()  # δ of W is that of b
    kept = f"of the uses, which are kept: {sum(a.size * a.dtype.itemsize for a in arrays):,} bytes"
    watch.visits.append(f"second visit: {'another pull of δ alone, which keeps no use' if uses is None else kept}")


def in_chunks(
    function: Part, use: Any, weights: Array | None, way: Way, most: int | None = None, cached: bool = True
) -> tuple[PyTree, PyTree]:
    """Return function(use, weights), computed of a few examples at a time.

    Args:
        function: takes the use and the weights of some examples; returns what adds up over examples, and arrays
            `[rows, ...]` of the examples themselves; both are pytrees.
        use: a pytree of arrays that have the example axis first.
        weights: `[N]`, or None.
        way: how many numbers the function holds of one example.
        most: how many it may hold at a time; by default as many as the use holds, and of one example at least.
        cached: take no more examples than stay in a processor's cache.

    Raises:
        JaxpropError: one example needs more than `most`.

    >>> from jaxprop.uses import Shift
    >>> use = Shift(jnp.array([[2.0], [4.0], [6.0]]), (1,), jnp.float32)
    >>> way = Way("direct", 0, numbers=2)
    >>> total, norms = in_chunks(lambda use, w: (use.total(w), use.squared_norms()), use, None, way)
    >>> print(total, norms)
    [12.] [ 4. 16. 36.]
    """
    leaves = jax.tree.leaves(use)
    N, held = leaves[0].shape[0], sum(leaf.size for leaf in leaves)
    bound = held if most is None else most
    at_once = N * way.numbers <= (min(bound, CACHED) if cached else bound)
    each = way.numbers + (0 if at_once else held // N)  # a group is a copy of its part of the use
    if most is not None and each > most:
        path, purpose = _place.get()
        raise JaxpropError(
            f"{path or 'a use'}: {purpose or 'what is built of examples'} would hold {each:,} numbers of one "
            f"example ({way.name}), and the memory bound allows {most:,}: raise memory="
        )
    lanes = 1 if at_once else _lanes(function, use, weights, N, held)
    lanes = 1 if lanes * each > bound else lanes
    length = N // lanes
    group = min(bound // lanes // max(1, each), CACHED // max(1, way.numbers) if cached else N)
    rows = N if at_once else _divisor(length, group)
    watch = _watch.get()
    if watch is not None:
        watch.steps.append(Step(*_place.get(), use, way, lanes * rows, N, lanes * rows * each))
    if rows == length:
        return function(use, weights)
    split = jax.tree.map(lambda a: a.reshape(lanes, length, *a.shape[1:]), (use, weights))

    def part(start: Any) -> tuple[PyTree, PyTree]:
        some = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, rows, 1), split)
        if lanes > 1:
            return jax.vmap(lambda some: function(*some))(some)
        found = function(*jax.tree.map(lambda a: a[0], some))
        return jax.tree.map(lambda a: a[None], found)

    def add(total: PyTree, start: Array) -> tuple[PyTree, PyTree]:
        more, single = part(start)
        return jax.tree.map(jnp.add, total, more), single

    nothing = jax.tree.map(jnp.zeros_like, part(0)[0])  # as the arrays are laid out; XLA leaves the part itself out
    total, single = jax.lax.scan(add, nothing, jnp.arange(0, length, rows))
    single = jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1).reshape(N, *a.shape[3:]), single)
    return jax.tree.map(lambda a: a[0] if lanes == 1 else jnp.sum(a, axis=0), total), single


def _lanes(function: Part, use: Any, weights: Array | None, N: int, held: int) -> int:
    """How many devices may share the examples: all, where their sums are small beside the use."""
    devices = jax.device_count()
    if devices == 1 or N % devices:
        return 1
    sums = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(function, use, weights)[0]))
    return devices if 2 * devices * sums <= held else 1


def _divisor(N: int, most: int) -> int:
    """The largest number ≤ most that divides N, at least 1."""
    return max(d for d in range(1, max(1, min(N, most)) + 1) if N % d == 0)
