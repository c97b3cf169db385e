"""A plane through θ and the cost over it: θ(s, t) = θ₀ + s·u + t·v, and C(s, t), its slope and its curvature.

Two parameters are the plane whose directions are those two numbers. The article's f(x, θ) = θ₁θ₂x is such a plane of a
chain of two linear neurons. The slope comes from the library's backward pass: ∂C/∂s = ⟨∂C/∂θ, u⟩.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from jaxprop.backward import manual
from jaxprop.costs import Cost, HalfSquaredError
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer, Linear
from jaxprop.network import Chain
from jaxprop_explorer.experiments.theta import array_at, is_in, with_number

AHEAD = 60  # steps of gradient descent that are looked ahead
MOST_ROWS = 256  # of the data, whose mean cost is drawn
WORK = 4e9  # multiplications that a surface may take, about a second


class Plane(NamedTuple):
    """θ₀, the two directions, and the rows `(x, targets)` whose mean cost is the height."""

    net: Layer
    cost: Cost
    x: Array
    targets: Array
    origin: PyTree
    u: PyTree
    v: PyTree
    names: tuple[str, str]
    span: tuple[tuple[float, float], tuple[float, float]]

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What the programs take beside a point."""
        return self.x, self.targets, self.origin, self.u, self.v

    def theta(self, point: Any) -> PyTree:
        """θ(s, t)."""
        s, t = point

        def moved(o: Any, a: Any, b: Any) -> np.ndarray:
            return (np.asarray(o, np.float64) + s * np.asarray(a) + t * np.asarray(b)).astype(o.dtype)

        return jax.tree.map(moved, self.origin, self.u, self.v)

    def place(self, params: PyTree) -> np.ndarray:
        """The point `[2]` of the plane that lies nearest to θ."""
        ways = np.stack([_flat(self.u), _flat(self.v)], axis=1)
        return np.linalg.lstsq(ways, _flat(params) - _flat(self.origin))[0]


class Around(NamedTuple):
    """What is known of a point: C, its slope `[2]`, its curvature `[2, 2]`, and the steps ahead `[AHEAD, 3]`."""

    cost: Array
    slope: Array
    hessian: Array
    ahead: Array


class Programs(NamedTuple):
    """What is compiled once for a network and a cost, and serves every plane."""

    heights: Callable[..., Array]  # (points [M, 2], *arrays) -> C [M]
    slope: Callable[..., tuple[Array, Array]]  # (point [2], *arrays) -> C, ∂C/∂(s, t) [2]
    around: Callable[..., "Around"]  # (point [2], rate, *arrays)


def _theta(point: Array, origin: PyTree, u: PyTree, v: PyTree) -> PyTree:
    return jax.tree.map(lambda o, a, b: o + point[0].astype(o.dtype) * a + point[1].astype(o.dtype) * b, origin, u, v)


def _dot(one: PyTree, other: PyTree) -> Any:
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def _flat(tree: PyTree) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])


@lru_cache(16)
def programs(net: Layer, cost: Cost) -> Programs:
    """The programs of a network and a cost."""

    def height(point: Array, x: Array, targets: Array, origin: PyTree, u: PyTree, v: PyTree) -> Array:
        return jnp.mean(cost(net(x, _theta(point, origin, u, v)), targets))

    def heights(points: Array, *arrays: Any) -> Array:
        return jax.lax.map(lambda point: height(point, *arrays), points, batch_size=64)

    def slope(point: Array, x: Array, targets: Array, origin: PyTree, u: PyTree, v: PyTree) -> tuple[Array, Array]:
        value, grads = manual.value_and_grad(net, cost)(x, _theta(point, origin, u, v), targets)
        return value, jnp.stack([_dot(grads, u), _dot(grads, v)])

    def around(point: Array, rate: Array, *arrays: Any) -> Around:
        def step(at: Array, _: None) -> tuple[Array, Array]:
            cost, way = slope(at, *arrays)
            return at - rate * way.astype(at.dtype), jnp.append(at, cost.astype(at.dtype))

        cost, way = slope(point, *arrays)
        ahead = jax.lax.scan(step, point, length=AHEAD + 1)[1][1:]
        return Around(cost, way, jax.jacfwd(lambda at: slope(at, *arrays)[1])(point), ahead)

    return Programs(jax.jit(heights), jax.jit(slope), jax.jit(around))


def heights(plane: Plane) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sides `[n]` of the plane's span, and C over them `[n, n]`, a row for each t."""
    numbers = sum(leaf.size for leaf in jax.tree.leaves(plane.origin))
    side = int(np.clip(np.sqrt(WORK / (numbers * len(plane.x))), 21, 61))
    s, t = (np.linspace(low, high, side) for low, high in plane.span)
    points = jnp.asarray(np.stack(np.meshgrid(s, t), axis=-1).reshape(-1, 2), jnp.result_type(float))
    found = programs(plane.net, plane.cost).heights(points, *plane.arrays)
    return s, t, np.asarray(found, np.float64).reshape(side, side)


def article() -> Plane:
    """C(θ₁, θ₂) = ½ (θ₁θ₂x − y)² at x = 1, y = 2.

    >>> plane = article()
    >>> float(programs(plane.net, plane.cost).slope(jnp.array([0.4, 0.3]), *plane.arrays)[0])
    1.767...
    """
    one = Linear(1, bias=False)
    net = Chain(one, one)
    x = jnp.ones((1, 1), jnp.result_type(float))
    zero = jax.tree.map(jnp.zeros_like, net.init(jax.random.key(0), x))
    u, v = (unit(zero, f"{layer}.W", (0, 0)) for layer in range(2))
    span = (-4.0, 4.0)
    return Plane(net, HalfSquaredError(), x, 2 * x, zero, u, v, ("θ₁", "θ₂"), (span, span))


def unit(params: PyTree, path: str, index: tuple[int, ...]) -> PyTree:
    """The direction in which only the number at `path` and `index` moves. Raises JaxpropError if there is none."""
    shape = np.shape(array_at(params, path))
    if not is_in(index, shape):
        raise JaxpropError(f"{path} has the shape {list(shape)}, and no number at {list(index)}")
    return with_number(jax.tree.map(jnp.zeros_like, params), path, index, 1)


def of_two(net: Layer, cost: Cost, x: Array, targets: Array, params: PyTree, chosen: Any) -> Plane:
    """The plane of two numbers of θ, `chosen` as two pairs (path, index): s and t are those numbers themselves."""
    if tuple(chosen[0]) == tuple(chosen[1]):
        raise JaxpropError("choose two different parameters: the surface needs one for each direction")
    u, v = (unit(params, path, tuple(index)) for path, index in chosen)
    here = [float(_flat(params) @ _flat(direction)) for direction in (u, v)]
    origin = jax.tree.map(lambda leaf, a, b: jnp.asarray(np.where(a + b != 0, 0, leaf), leaf.dtype), params, u, v)
    reach = [max(3.0, 1.5 * abs(value)) for value in here]
    span = [(value - r, value + r) for value, r in zip(here, reach, strict=True)]
    names = [f"{path}[{', '.join(map(str, index))}]" for path, index in chosen]
    return Plane(net, cost, x, targets, origin, u, v, (names[0], names[1]), (span[0], span[1]))


def of_random(net: Layer, cost: Cost, x: Array, targets: Array, params: PyTree, seed: int) -> Plane:
    """Two random directions, each unit's share scaled to the length of its weights (Li et al. 2018).

    Without that scale a network of small weights would look sharper than one of large weights that answers the same.
    """
    random = np.random.default_rng(seed)
    u, v = (jax.tree.map(lambda leaf: _normalised(random, leaf), params) for _ in range(2))
    span = (-1.5, 1.5)
    return Plane(net, cost, x, targets, params, u, v, ("random direction 1", "random direction 2"), (span, span))


def _normalised(random: np.random.Generator, leaf: Array) -> Array:
    own = np.asarray(leaf, np.float64)
    drawn = random.normal(size=own.shape)
    axes = tuple(range(own.ndim - 1)) if own.ndim > 1 else None  # the weights of each unit; a bias as a whole
    length, goal = (np.sqrt(np.sum(one**2, axis=axes, keepdims=True)) for one in (drawn, own))
    return jnp.asarray((drawn * (goal / np.maximum(length, 1e-12))).reshape(own.shape), leaf.dtype)


def of_gradient(net: Layer, cost: Cost, x: Array, targets: Array, params: PyTree) -> Plane:
    """The gradient's direction, and the one in which the gradient turns when θ moves along it."""
    flat, back = ravel_pytree(params)
    slope, turned = (np.asarray(part, np.float64) for part in _turning(net, cost)(x, params, targets))
    length = np.linalg.norm(slope)
    if not length > 0:
        raise JaxpropError("the gradient is 0 here, and so has no direction; choose two random directions instead")
    turned -= (turned @ slope) / length**2 * slope
    across = np.linalg.norm(turned)
    if not across > 1e-6 * length:
        raise JaxpropError("the gradient does not turn along itself here; choose two random directions instead")
    size = max(1.0, float(np.linalg.norm(np.asarray(flat, np.float64)))) / 2
    u, v = (back(jnp.asarray(way * size, flat.dtype)) for way in (slope / length, turned / across))
    span = (-1.5, 1.5)
    return Plane(net, cost, x, targets, params, u, v, ("along the gradient", "across it"), (span, span))


@lru_cache(16)
def _turning(net: Layer, cost: Cost) -> Callable[..., tuple[Array, Array]]:
    """The gradient g, and how it changes along itself, ∇²C g: both as flat arrays."""

    @jax.jit
    def run(x: Array, params: PyTree, targets: Array) -> tuple[Array, Array]:
        flat, back = ravel_pytree(params)
        gradient = jax.grad(lambda theta: jnp.mean(cost(net(x, back(theta)), targets)))
        slope = gradient(flat)
        return slope, jax.jvp(gradient, (flat,), (slope,))[1]

    return run


def of_path(net: Layer, cost: Cost, x: Array, targets: Array, params: PyTree, rate: float) -> tuple[Plane, float]:
    """The plane that holds most of the next steps of descent, by their two principal components, and how much."""
    flat, back = ravel_pytree(params)
    steps = np.asarray(_walking(net, cost)(x, params, targets, rate), np.float64) - np.asarray(flat, np.float64)
    if not np.isfinite(steps).all():
        raise JaxpropError(f"with the learning rate {rate:g} the path leaves all finite numbers; choose a smaller one")
    _, sizes, axes = np.linalg.svd(steps - steps.mean(axis=0), full_matrices=False)
    if len(sizes) < 2 or not sizes[1] > 1e-9 * max(sizes[0], 1e-12):
        raise JaxpropError("gradient descent goes straight or not at all here: its path spans no plane")
    axes = axes[:2] * np.where((steps[-1] @ axes[:2].T) < 0, -1, 1)[:, None]
    seen = steps @ axes.T
    u, v = (back(jnp.asarray(axis, flat.dtype)) for axis in axes)
    span = []
    for low, high in zip(seen.min(axis=0), seen.max(axis=0), strict=True):
        room = 0.35 * max(high - low, 0.3 * float(np.ptp(seen[:, 0])))
        span.append((float(low - room), float(high + room)))
    share = float(np.sum(sizes[:2] ** 2) / np.sum(sizes**2))
    names = ("main direction of the path", "second direction")
    return Plane(net, cost, x, targets, params, u, v, names, (span[0], span[1])), share


@lru_cache(16)
def _walking(net: Layer, cost: Cost) -> Callable[..., Array]:
    """θ now and after each of the next steps of gradient descent, as rows `[AHEAD + 1, P]`."""

    @jax.jit
    def run(x: Array, params: PyTree, targets: Array, rate: Array) -> Array:
        flat, back = ravel_pytree(params)

        def step(theta: Array, _: Any) -> tuple[Array, Array]:
            _, grads = manual.value_and_grad(net, cost)(x, back(theta), targets)
            return theta - rate * ravel_pytree(grads)[0].astype(theta.dtype), theta

        return jax.lax.scan(step, flat, length=AHEAD + 1)[1]

    return run
