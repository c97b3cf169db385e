"""One number moved by hand: the cost of every example around it, in float64, and how far a nudge's slope is off.

    (C(w + h) − C(w − h)) / 2h = ∂C/∂w + O(h²)        (C(w + h) − C(w)) / h = ∂C/∂w + O(h)

Both come closer as h shrinks, until what is left of the difference of two costs is rounding: then 1/h makes it larger.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.costs import Cost
from jaxprop.derivations.question import X
from jaxprop.layers import Layer

H = np.logspace(0, -12, 25)  # two a decade


class Line(NamedTuple):
    """C of every example along one number w: `costs` `[len(by), N]` where w is moved by `by`, and the slopes at w.

    `slopes` are ∂C_n/∂w of every example, in the direction of w; `gradient` is `jax.grad`'s derivative of their mean.
    """

    by: np.ndarray
    costs: np.ndarray
    slopes: np.ndarray
    gradient: float


class Nudges(NamedTuple):
    """How far nudges of size h are from the derivative: of both ways, and of one way only."""

    h: np.ndarray
    both_ways: np.ndarray
    one_way: np.ndarray


def along(
    net: Layer, cost: Cost, x: ArrayLike, params: PyTree, targets: ArrayLike, path: str, index: tuple[int, ...],
    by: ArrayLike,
) -> Line:  # fmt: skip
    """Return C of every example where the number of `path` at `index` is moved by each of `by`, in float64.

    Compiled once for a network, a cost and the shapes of x and `by`, whichever number it is. The path "x" is the
    inputs, whose index begins with the example.
    """
    of_x = path == X
    known = {X: x} if of_x else by_path(params)
    before = sum(np.size(known[each]) for each in list(known)[: list(known).index(path)])
    place = before + int(np.ravel_multi_index(index, np.shape(known[path])))
    with jax.enable_x64(True):
        steps = np.asarray(by, np.float64)
        found = _along(net, cost, wide(x), wide(params), wide(targets), of_x, place, steps)
        costs, slopes, gradient = (np.asarray(each) for each in found)
    return Line(steps, costs, slopes, float(gradient))


def nudges(line: Line) -> Nudges:
    """Return the errors of nudges of the mean cost, from costs at (0, h₁, −h₁, h₂, −h₂, …), beside `jax.grad`."""
    costs = line.costs.mean(axis=1)
    h, ahead, behind = line.by[1::2], costs[1::2], costs[2::2]
    both, one = (ahead - behind) / (2 * h), (ahead - costs[0]) / h
    return Nudges(h, np.abs(both - line.gradient), np.abs(one - line.gradient))


def sizes(at: float) -> np.ndarray:
    """Return (0, h₁, −h₁, …) around a number, as parts of it where it is large.

    >>> [float(h) for h in sizes(0.5)[:5].round(3)]
    [0.0, 1.0, -1.0, 0.316, -0.316]
    """
    h = H * max(1.0, abs(at))
    return np.concatenate([[0.0], np.stack([h, -h], axis=1).ravel()])


def wide(tree: PyTree) -> PyTree:
    """Return the tree as numpy arrays, floating ones in float64."""

    def one(leaf: ArrayLike) -> np.ndarray:
        leaf = np.asarray(leaf)
        return leaf.astype(np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, tree)


@partial(jax.jit, static_argnums=(0, 1, 5))
def _along(
    net: Layer, cost: Cost, x: Array, params: PyTree, targets: Array, of_x: bool, place: int, by: Array
) -> tuple[Array, Array, Array]:
    theta, tree = ravel_pytree(x if of_x else params)

    def costs(theta: Array) -> Array:
        moved, params_ = (tree(theta), params) if of_x else (x, tree(theta))
        return cost(net(moved, params_), targets)

    _, slopes = jax.jvp(costs, (theta,), (jnp.zeros_like(theta).at[place].set(1),))
    gradient = jax.grad(lambda theta: jnp.mean(costs(theta)))(theta)[place]
    return jax.lax.map(lambda step: costs(theta.at[place].add(step)), by), slopes, gradient
