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

from jaxprop.arrays.paths import by_path
from jaxprop.backward import manual
from jaxprop.costs import Cost, HalfSquaredError
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer, Linear
from jaxprop.network import Chain

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
        return _theta(jnp.asarray(point), self.origin, self.u, self.v)

    def place(self, params: PyTree) -> np.ndarray:
        """The point `[2]` of the plane that lies nearest to θ."""
        gap = jax.tree.map(jnp.subtract, params, self.origin)
        uu, uv, vv = _dot(self.u, self.u), _dot(self.u, self.v), _dot(self.v, self.v)
        return np.linalg.solve([[uu, uv], [uv, vv]], [_dot(gap, self.u), _dot(gap, self.v)])


class Programs(NamedTuple):
    """What is compiled once for a network and a cost, and serves every plane."""

    heights: Callable[..., Array]  # (points [M, 2], *arrays) -> C [M]
    slope: Callable[..., tuple[Array, Array]]  # (point [2], *arrays) -> C, ∂C/∂(s, t) [2]
    hessian: Callable[..., Array]  # (point [2], *arrays) -> [2, 2]
    descent: Callable[..., tuple[Array, Array]]  # (point [2], rate, *arrays) -> points [AHEAD, 2], C [AHEAD]


def _theta(point: Array, origin: PyTree, u: PyTree, v: PyTree) -> PyTree:
    return jax.tree.map(lambda o, a, b: o + point[0].astype(o.dtype) * a + point[1].astype(o.dtype) * b, origin, u, v)


def _dot(one: PyTree, other: PyTree) -> Any:
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


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

    def descent(point: Array, rate: Array, *arrays: Any) -> tuple[Array, Array]:
        def step(at: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
            at = at - rate.astype(at.dtype) * slope(at, *arrays)[1].astype(at.dtype)
            return at, (at, height(at, *arrays))

        return jax.lax.scan(step, point, length=AHEAD)[1]

    return Programs(jax.jit(heights), jax.jit(slope), jax.jit(jax.hessian(height)), jax.jit(descent))


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
    known = by_path(params)
    if path not in known:
        raise JaxpropError(f"there is no parameter {path!r}; known: {', '.join(known)}")
    shape = known[path].shape
    if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
        raise JaxpropError(f"{path} has the shape {list(shape)}, and no number at {list(index)}")
    zeros = {name: jnp.zeros_like(leaf) for name, leaf in known.items()}
    zeros[path] = zeros[path].at[index].set(1)
    return jax.tree.unflatten(jax.tree.structure(params), list(zeros.values()))


def of_two(net: Layer, cost: Cost, x: Array, targets: Array, params: PyTree, chosen: Any) -> Plane:
    """The plane of two numbers of θ, `chosen` as two pairs (path, index): s and t are those numbers themselves."""
    if tuple(chosen[0]) == tuple(chosen[1]):
        raise JaxpropError("choose two different parameters: the surface needs one for each direction")
    u, v = (unit(params, path, tuple(index)) for path, index in chosen)
    here = [float(_dot(params, direction)) for direction in (u, v)]
    origin = jax.tree.map(lambda leaf, a, b: jnp.where((a != 0) | (b != 0), 0, leaf), params, u, v)
    reach = [max(3.0, 1.5 * abs(value)) for value in here]
    span = [(value - r, value + r) for value, r in zip(here, reach, strict=True)]
    names = [f"{path}[{', '.join(map(str, index))}]" for path, index in chosen]
    return Plane(net, cost, x, targets, origin, u, v, (names[0], names[1]), (span[0], span[1]))


def of_random(net: Layer, cost: Cost, x: Array, targets: Array, params: PyTree, seed: int) -> Plane:
    """Two random directions, each unit's share scaled to the length of its weights (Li et al. 2018).

    Without that scale a network of small weights would look sharper than one of large weights that answers the same.
    """
    u, v = (_normalised(key, params) for key in jax.random.split(jax.random.key(seed)))
    span = (-1.5, 1.5)
    return Plane(net, cost, x, targets, params, u, v, ("random direction 1", "random direction 2"), (span, span))


def _normalised(key: Array, params: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(params)
    found = []
    for leaf, one in zip(leaves, jax.random.split(key, len(leaves)), strict=True):
        drawn = jax.random.normal(one, leaf.shape, leaf.dtype)
        axes = tuple(range(leaf.ndim - 1)) if leaf.ndim > 1 else None  # the weights of each unit; a bias as a whole
        length = jnp.linalg.norm(drawn) if axes is None else jnp.sqrt(jnp.sum(drawn**2, axis=axes, keepdims=True))
        goal = jnp.linalg.norm(leaf) if axes is None else jnp.sqrt(jnp.sum(leaf**2, axis=axes, keepdims=True))
        found.append(drawn * (goal / jnp.maximum(length, 1e-12)))
    return jax.tree.unflatten(structure, found)


def of_gradient(net: Layer, cost: Cost, x: Array, targets: Array, params: PyTree) -> Plane:
    """The gradient's direction, and the one in which the gradient turns when θ moves along it."""

    def gradient(theta: PyTree) -> PyTree:
        return jax.grad(lambda p: jnp.mean(cost(net(x, p), targets)))(theta)

    slope = gradient(params)
    length = float(jnp.sqrt(_dot(slope, slope)))
    if not length > 0:
        raise JaxpropError("the gradient is 0 here, and so has no direction; choose two random directions instead")
    _, turned = jax.jvp(gradient, (params,), (slope,))
    share = _dot(turned, slope) / length**2
    turned = jax.tree.map(lambda t, g: t - share * g, turned, slope)
    across = float(jnp.sqrt(_dot(turned, turned)))
    if not across > 1e-6 * length:
        raise JaxpropError("the gradient does not turn along itself here; choose two random directions instead")
    size = max(1.0, float(jnp.sqrt(_dot(params, params)))) / 2
    u = jax.tree.map(lambda g: g * (size / length), slope)
    v = jax.tree.map(lambda t: t * (size / across), turned)
    span = (-1.5, 1.5)
    return Plane(net, cost, x, targets, params, u, v, ("along the gradient", "across it"), (span, span))


def of_path(net: Layer, cost: Cost, x: Array, targets: Array, params: PyTree, rate: float) -> tuple[Plane, float]:
    """The plane that holds most of the next steps of descent, by their two principal components, and how much."""
    flat, back = ravel_pytree(params)

    def step(theta: Array, _: None) -> tuple[Array, Array]:
        _, grads = manual.value_and_grad(net, cost)(x, back(theta), targets)
        theta = theta - rate * ravel_pytree(grads)[0].astype(theta.dtype)
        return theta, theta

    steps = np.asarray(jax.lax.scan(step, flat, length=AHEAD)[1], np.float64) - np.asarray(flat, np.float64)
    steps = np.concatenate([np.zeros_like(steps[:1]), steps])
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
