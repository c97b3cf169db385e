"""One number moved by hand: the cost of every example around it, in float64, and how far a nudge's slope is off.

    (C(w + h) − C(w − h)) / 2h = ∂C/∂w + O(h²)        (C(w + h) − C(w)) / h = ∂C/∂w + O(h)

Both come closer as h shrinks, until what is left of the difference of two costs is rounding: then 1/h makes it larger.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.costs import Cost
from jaxprop.derivations.question import X
from jaxprop.derivations.reading import float64
from jaxprop.layers import Layer

H = np.logspace(0, -12, 25)  # two a decade


class Slopes(NamedTuple):
    """∂C_n/∂w of every example, in the direction of w alone, and `jax.grad`'s derivative of their mean."""

    of_examples: np.ndarray
    of_mean: float


class Nudges(NamedTuple):
    """How far nudges of size h are from the derivative: of both ways, and of one way only."""

    h: np.ndarray
    both_ways: np.ndarray
    one_way: np.ndarray


def costs_along(
    net: Layer, cost: Cost, x: ArrayLike, params: PyTree, targets: ArrayLike, path: str, index: tuple[int, ...],
    by: ArrayLike,
) -> np.ndarray:  # fmt: skip
    """Return C of every example, `[len(by), N]`, where the number of `path` at `index` is moved by each of `by`.

    In float64, and compiled once for a network, a cost and the shapes of x and `by`, whichever number it is. The path
    "x" is the inputs, whose index begins with the example.
    """
    place = _place(x, params, path, index)
    with jax.enable_x64(True):
        steps = np.asarray(by, np.float64)
        return np.asarray(_costs(net, cost, float64(x), float64(params), float64(targets), path == X, place, steps))


def slopes(
    net: Layer, cost: Cost, x: ArrayLike, params: PyTree, targets: ArrayLike, path: str, index: tuple[int, ...]
) -> Slopes:
    """Return the derivatives of the examples' costs by one number, and that of their mean, in float64."""
    place = _place(x, params, path, index)
    with jax.enable_x64(True):
        found = _slopes(net, cost, float64(x), float64(params), float64(targets), path == X, place)
        return Slopes(np.asarray(found[0]), float(found[1]))


def nudges(by: np.ndarray, costs: np.ndarray, slope: float) -> Nudges:
    """Return the errors of nudges, from costs `[len(by)]` at (0, h₁, −h₁, h₂, −h₂, …), beside the slope."""
    h, ahead, behind = by[1::2], costs[1::2], costs[2::2]
    both, one = (ahead - behind) / (2 * h), (ahead - costs[0]) / h
    return Nudges(h, np.abs(both - slope), np.abs(one - slope))


def _place(x: ArrayLike, params: PyTree, path: str, index: tuple[int, ...]) -> int:
    """Which of all numbers of θ, or of x, in one long row."""
    known = {X: x} if path == X else by_path(params)
    before = sum(np.size(known[each]) for each in list(known)[: list(known).index(path)])
    return before + int(np.ravel_multi_index(index, np.shape(known[path])))


def sizes(at: float) -> np.ndarray:
    """Return (0, h₁, −h₁, …) around a number, as parts of it where it is large.

    >>> [float(h) for h in sizes(0.5)[:5].round(3)]
    [0.0, 1.0, -1.0, 0.316, -0.316]
    """
    h = H * max(1.0, abs(at))
    return np.concatenate([[0.0], np.stack([h, -h], axis=1).ravel()])


def _cost_of(net: Layer, cost: Cost, x: Array, params: PyTree, targets: Array, of_x: bool) -> tuple[Array, Any]:
    """θ or x as one long row, and C of every example as a function of it."""
    theta, tree = ravel_pytree(x if of_x else params)

    def costs(theta: Array) -> Array:
        return cost(net(tree(theta), params) if of_x else net(x, tree(theta)), targets)

    return theta, costs


@partial(jax.jit, static_argnums=(0, 1, 5))
def _costs(
    net: Layer, cost: Cost, x: Array, params: PyTree, targets: Array, of_x: bool, place: int, by: Array
) -> Array:
    theta, costs = _cost_of(net, cost, x, params, targets, of_x)
    return jax.lax.map(lambda step: costs(theta.at[place].add(step)), by)


@partial(jax.jit, static_argnums=(0, 1, 5))
def _slopes(
    net: Layer, cost: Cost, x: Array, params: PyTree, targets: Array, of_x: bool, place: int
) -> tuple[Array, Array]:
    theta, costs = _cost_of(net, cost, x, params, targets, of_x)
    _, of_examples = jax.jvp(costs, (theta,), (jnp.zeros_like(theta).at[place].set(1),))
    return of_examples, jax.grad(lambda theta: jnp.mean(costs(theta)))(theta)[place]
