"""The third witness: nudge one entry of θ both ways and see how far C moves.

    ∂C/∂θ_i  ≈  (C(θ + h e_i) − C(θ − h e_i)) / 2h

The error is h² C'''/6 (truncation) + ε |C| / h (round-off), least near h = ∛ε: 1e-5 in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxprop.network import by_path

KINK = 1e-4  # a local derivative that changes by more than this across a nudge is looked at more closely


@dataclass(frozen=True)
class Slopes:
    """Central differences of some entries of one parameter, the flat indices of those, and how many had a kink."""

    entries: np.ndarray
    slopes: np.ndarray
    at_kinks: int


def central_differences(
    C: Callable[[Any], Any],
    params: Any,
    entries: dict[str, np.ndarray],
    h: float = 1e-5,
    watch: Callable[[Any], Any] | None = None,
) -> dict[str, Slopes]:
    """Return, for each path in `entries`, the central differences of scalar C at those flat indices of params.

    Call it in float64. `watch(params)` may return local derivatives; where one of them jumps across a nudge, C has a
    kink and that entry is left out.

    >>> with jax.enable_x64(True):
    ...     found = central_differences(lambda p: p["w"][0] ** 2, {"w": jnp.array([3.0])}, {"w": np.array([0])})
    >>> round(float(found["w"].slopes[0]), 6)
    6.0
    """
    flat, unravel = ravel_pytree(params)
    starts, start = {}, 0
    for path, leaf in by_path(params).items():
        starts[path] = start
        start += np.size(leaf)
    indices = np.concatenate([starts[path] + chosen for path, chosen in entries.items()])

    @jax.jit
    def nudge_all(flat: Any, indices: Any) -> tuple[Any, Any]:
        def nudge(i: Any) -> tuple[Any, Any]:
            up, down = unravel(flat.at[i].add(h)), unravel(flat.at[i].add(-h))
            change = (C(up) - C(down)) / (2 * h)
            if watch is None:
                return change, jnp.array(False)
            near = [unravel(flat.at[i].add(step)) for step in (h / 8, -h / 8)]
            kinks = jax.tree.map(_is_kink, *map(watch, (up, down, *near)))
            return change, jnp.any(jnp.array([False, *jax.tree.leaves(kinks)]))

        return jax.lax.map(nudge, indices, batch_size=8)

    slopes, crossed = map(np.asarray, nudge_all(flat, jnp.asarray(indices)))
    found, start = {}, 0
    for path, chosen in entries.items():
        part = slice(start, start + len(chosen))
        smooth = ~crossed[part]
        found[path] = Slopes(chosen[smooth], slopes[part][smooth], int(np.sum(~smooth)))
        start += len(chosen)
    return found


def choose(gradient: np.ndarray, entries: int) -> np.ndarray:
    """Flat indices: half those of the largest gradient, half evenly spread; all where there are few.

    >>> choose(np.array([0.0, 9.0, 0.0, 0.0, 1.0, 2.0]), 4).tolist()
    [0, 1, 5]
    """
    if gradient.size <= entries:
        return np.arange(gradient.size)
    largest = np.argsort(-np.abs(gradient.ravel()), kind="stable")[: entries // 2]
    spread = np.linspace(0, gradient.size - 1, entries - entries // 2).astype(int)
    return np.unique(np.concatenate([largest, spread]))


def _is_kink(up: Any, down: Any, near_up: Any, near_down: Any) -> Any:
    """Whether a local derivative jumps: a smooth one changes an eighth as much across an eighth of the nudge."""
    far, near = jnp.abs(up - down), jnp.abs(near_up - near_down)
    smooth = (near > far / 16) & (near < far / 4)
    return jnp.any((far > KINK) & ~smooth)
