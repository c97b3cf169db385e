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
    """Hold what `in_chunks` does with a use: where, for what, in which way, and how many examples at a time of N.

    >>> Step("0.W", "norms", None, Way("direct", 0, 12), 1, 8)._fields
    ('path', 'purpose', 'use', 'way', 'rows', 'examples')
    """

    path: str
    purpose: str
    use: Any
    way: Way
    rows: int
    examples: int


_place: ContextVar[tuple[str, str]] = ContextVar("_place", default=("", ""))
_steps: ContextVar[list[Step] | None] = ContextVar("_steps", default=None)


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
def watched() -> Iterator[list[Step]]:
    """Write down what every `in_chunks` inside does, as it is traced.

    >>> with watched() as steps:
    ...     _ = in_chunks(lambda use, w: (None, use), jnp.ones((4, 2)), None, Way("direct", 0, 2))
    >>> [(step.way.name, step.rows, step.examples) for step in steps]
    [('direct', 4, 4)]
    """
    steps: list[Step] = []
    token = _steps.set(steps)
    try:
        yield steps
    finally:
        _steps.reset(token)


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
    N = leaves[0].shape[0]
    if most is not None and way.numbers > most:
        path, purpose = _place.get()
        raise JaxpropError(
            f"{path or 'a use'}: {purpose or 'what is built of examples'} would hold {way.numbers:,} numbers of one "
            f"example ({way.name}), and the memory bound allows {most:,}: raise memory="
        )
    held = sum(leaf.size for leaf in leaves)
    most = held if most is None else most
    lanes = _lanes(function, use, weights, N, held) if way.numbers * N > most or cached else 1
    length = N // lanes
    rows = _divisor(length, (min(most // lanes, CACHED) if cached else most // lanes) // max(1, way.numbers))
    steps = _steps.get()
    if steps is not None:
        steps.append(Step(*_place.get(), use, way, lanes * rows, N))
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
        more, each = part(start)
        return jax.tree.map(jnp.add, total, more), each

    nothing = jax.tree.map(jnp.zeros_like, part(0)[0])  # as the arrays are laid out; XLA leaves the part itself out
    total, each = jax.lax.scan(add, nothing, jnp.arange(0, length, rows))
    each = jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1).reshape(N, *a.shape[3:]), each)
    return jax.tree.map(lambda a: a[0] if lanes == 1 else jnp.sum(a, axis=0), total), each


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
