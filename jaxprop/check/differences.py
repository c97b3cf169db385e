"""The third witness: nudge one entry of θ both ways and see how far C moves.

    ∂C/∂θ_i  ≈  (C(θ + h e_i) − C(θ − h e_i)) / 2h

The error is h² C'''/6 (truncation) + ε |C| / h (round-off), least near h = ∛ε: 1e-5 in float64.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxprop.arrays.paths import by_path

KINK = 1e-4  # a local derivative that changes by more than this across a nudge is looked at more closely
AT_ONCE = 8  # nudges that are computed side by side


class Nudged(NamedTuple):
    """Some entries of one array by their flat indices, the slopes found there, and whether a nudge crossed a kink.

    noise: how far the slope of a nudge by h is from that of one by h/8, which rounds eight times as much.
    """

    entries: Int[Array, " E"]
    slopes: Float[Array, " E"]
    crossed: Bool[Array, " E"]
    noise: Float[Array, " E"]


@dataclass(frozen=True)
class Slopes:
    """Central differences of some entries of one array, the flat indices of those, and how many others had a kink.

    noise: how far each slope is from that of an eighth of the nudge.
    """

    entries: np.ndarray
    slopes: np.ndarray
    at_kinks: int
    noise: np.ndarray

    @classmethod
    def of(cls, nudged: Nudged) -> "Slopes":
        """Every entry once, and only those that are away from kinks."""
        entries, first = np.unique(np.asarray(nudged.entries), return_index=True)
        slopes, noise, crossed = (np.asarray(a)[first] for a in (nudged.slopes, nudged.noise, nudged.crossed))
        return cls(entries[~crossed], slopes[~crossed], int(np.sum(crossed)), noise[~crossed])


def central_differences(
    C: Callable[[PyTree], Array],
    params: PyTree,
    entries: Mapping[str, np.ndarray],
    h: float = 1e-5,
    watch: Callable[[PyTree], PyTree] | None = None,
) -> dict[str, Slopes]:
    """Return, for each path in `entries`, the central differences of scalar C at those flat indices of params.

    Call it in float64. `watch(params)` may return local derivatives; where one of them jumps across a nudge, C has a
    kink and that entry is left out.

    >>> with jax.enable_x64(True):
    ...     found = central_differences(lambda p: p["w"][0] ** 2, {"w": jnp.array([3.0])}, {"w": np.array([0])})
    >>> round(float(found["w"].slopes[0]), 6)
    6.0
    """
    found = jax.jit(lambda params, entries: nudge(C, params, entries, h, watch))(params, dict(entries))
    return {path: Slopes.of(found[path]) for path in entries}


def nudge(
    C: Callable[[PyTree], Array],
    params: PyTree,
    entries: Mapping[str, Int[Array, " E"]],
    h: float = 1e-5,
    watch: Callable[[PyTree], PyTree] | None = None,
) -> dict[str, Nudged]:
    """Return the same as arrays, for use under `jit`."""
    if not entries:
        return {}
    flat, unravel = ravel_pytree(params)
    starts, start = {}, 0
    for path, leaf in by_path(params).items():
        starts[path] = start
        start += jnp.size(leaf)
    steps = h * jnp.array([1, -1, 1 / 8, -1 / 8], flat.dtype)

    def one(i: Array) -> tuple[Array, Array, Array]:
        def at(step: Array) -> tuple[Array, PyTree]:
            near = unravel(flat.at[i].add(step))
            return C(near), () if watch is None else watch(near)

        values, derivatives = jax.vmap(at)(steps)
        kinks = [_is_kink(*derivative) for derivative in jax.tree.leaves(derivatives)]
        slope, near = (values[0] - values[1]) / (2 * h), (values[2] - values[3]) / (h / 4)
        return slope, jnp.any(jnp.array([False, *kinks])), jnp.abs(slope - near)

    indices = jnp.concatenate([starts[path] + jnp.asarray(chosen) for path, chosen in entries.items()])
    padded = jnp.pad(indices, (0, -indices.size % AT_ONCE))  # whole batches: no second program for what is left over
    slopes, crossed, noise = jax.lax.map(one, padded, batch_size=AT_ONCE)
    found, start = {}, 0
    for path, chosen in entries.items():
        part = slice(start, start + jnp.size(chosen))
        found[path] = Nudged(jnp.asarray(chosen), slopes[part], crossed[part], noise[part])
        start += jnp.size(chosen)
    return found


def rounding_of_slopes(found: Iterable[Slopes]) -> float:
    """Return how much of a slope is rounding of C: the middle of how far two nudges' slopes are apart, where they are.

    C rounds alike for every entry, and by an eighth of the nudge its rounding counts eight times, so the middle of many
    is an upper bound of most. No gradient enters: a wrong one is measured by the same yardstick as a right one.

    >>> rounding_of_slopes([Slopes(np.arange(4), np.ones(4), 0, np.array([0.0, 1e-12, 2e-12, 9.0]))])
    2e-12
    """
    noise = np.concatenate([slopes.noise for slopes in found] or [np.zeros(0)])
    return float(np.median(noise[noise != 0])) if np.any(noise != 0) else 0.0


def choose(gradient: Array, entries: int) -> Int[Array, " E"]:
    """Return flat indices: half those of the largest gradient, half evenly spread; all where there are few.

    An entry may be among both halves.

    >>> choose(jnp.array([0.0, 9.0, 0.0, 0.0, 1.0, 2.0]), 4).tolist()
    [1, 5, 0, 5]
    """
    size = jnp.size(gradient)
    if size <= entries:
        return jnp.arange(size)
    largest = jax.lax.top_k(jnp.abs(jnp.ravel(gradient)), entries // 2)[1]
    spread = np.linspace(0, size - 1, entries - entries // 2).astype(int)
    return jnp.concatenate([largest.astype(int), jnp.asarray(spread)])


def _is_kink(up: Array, down: Array, near_up: Array, near_down: Array) -> Array:
    """Whether a local derivative jumps: a smooth one changes an eighth as much across an eighth of the nudge."""
    far, near = jnp.abs(up - down), jnp.abs(near_up - near_down)
    smooth = (near > far / 16) & (near < far / 4)
    return jnp.any((far > KINK) & ~smooth)
