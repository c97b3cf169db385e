"""The gradient by hand: the four equations of backpropagation, every factor kept.

    BP1   dy = ∂C/∂y                      `cost.delta`
    BP2   dx = dy · ∂y/∂x                 each layer's `backward`, from the last to the first
    BP3   ∂C/∂b = δ                       a `Shift`
    BP4   ∂C/∂W = a δ                     an `Outer`

BP1 and BP2 are `backpropagate` below; BP3 and BP4 are what `Use.gradient` does where a and δ meet. Numbering after
Nielsen, "Neural Networks and Deep Learning", ch. 2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxprop.backward._common import require_layer, total
from jaxprop.costs import Cost
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Combinator, Walk
from jaxprop.uses import is_use, weighted


class Pass(NamedTuple):
    """One forward and one backward pass: C_n `[N]`, y, dx, the uses by parameter, and the walk's notes.

    >>> Pass._fields
    ('costs', 'y', 'dx', 'uses', 'notes')
    """

    costs: Array
    y: Array
    dx: Any
    uses: Any
    notes: dict[str, Any]


def backpropagate(
    walk: Walk, net: Layer, cost: Cost, x: Any, params: Any, targets: Any, rng: Array | None = None
) -> Pass:
    """Go forward and back through `net` with `walk`; nothing is averaged yet.

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear
    >>> net, x = Linear(1), jnp.ones((2, 3))
    >>> passed = backpropagate(Walk(), net, HalfSquaredError(), x, net.init(jax.random.key(0), x), jnp.ones((2, 1)))
    >>> passed.costs.shape, passed.dx.shape
    ((2,), (2, 3))
    """
    y, cache = walk.push(net, x, params, None if rng is None else Env(rng=rng), "")
    costs = cost(y, targets)
    dy = cost.delta(y, targets)  # BP1
    dx, uses, notes = walk.pull(net, dy, cache, params, "")  # BP2
    return Pass(costs, y, dx, uses, notes)


def value_and_grad(net: Layer, cost: Cost, walk: Walk | None = None) -> Callable[..., tuple[Array, Any]]:
    """Return C and ∂C/∂θ by the chain rule: `run(x, params, targets, *, weights=None, rng=None)`, as `auto`'s.

    C = Σ_n w_n C_n, with w_n = 1/N for None; the gradient is every use's `gradient(weights)`.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, HalfSquaredError, Linear, Sigmoid
    >>> net, x = Chain(Linear(1), Sigmoid()), jnp.array([[1.0, 3.0, 2.0]])
    >>> params = net.init(jax.random.key(0), x)
    >>> params = ((params[0]._replace(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1]))), ())
    >>> value, grads = value_and_grad(net, HalfSquaredError())(x, params, jnp.array([[1.0]]))
    >>> print(grads[0].W.ravel(), grads[0].b)
    [-0.0336...  -0.1009... -0.0673...] [-0.0336...]
    """
    run_uses = uses(net, cost, walk)

    def run(
        x: Any, params: Any, targets: Any, *, weights: Array | None = None, rng: Array | None = None
    ) -> tuple[Array, Any]:
        value, found = run_uses(x, params, targets, weights=weights, rng=rng)
        return value, jax.tree.map(lambda use: use.gradient(weights), found, is_leaf=is_use)

    return run


def uses(net: Layer, cost: Cost, walk: Walk | None = None) -> Callable[..., tuple[Array, Any]]:
    """Return C and, in the tree of params, the `Use` of every array: `run(x, params, targets, *, weights, rng)`.

    A use is per example: `weights` only weigh the value; give them to `use.gradient(weights)` as well.

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear
    >>> net, x = Linear(2), jnp.ones((3, 4))
    >>> params = net.init(jax.random.key(0), x)
    >>> value, found = uses(net, HalfSquaredError())(x, params, jnp.zeros((3, 2)))
    >>> found.W.per_example().shape, found.W.squared_norms().shape
    ((3, 4, 2), (3,))
    """
    require_layer(net, "manual")
    walk = walk or Walk()

    def run(
        x: Any, params: Any, targets: Any, *, weights: Array | None = None, rng: Array | None = None
    ) -> tuple[Array, Any]:
        passed = backpropagate(walk, net, cost, x, params, targets, rng)
        value = weighted(lambda w: total(passed.costs, w), weights, passed.costs.shape[0])
        closed = jax.tree_util.tree_map_with_path(
            lambda path, use: walk.close(use, jax.tree_util.keystr(path, simple=True, separator=".")),
            passed.uses,
            is_leaf=is_use,
        )
        return value, closed

    return run


class Record(NamedTuple):
    """What one layer saw: x in, y out, dy = ∂C_n/∂y back in, dx = ∂C_n/∂x back out, and its local derivative.

    `derivative` is ∂y/∂x where the layer has one as an array (φ'(z) of an activation), else None. For an activation
    x is z, y is a, dy is ∂C/∂a and dx is the error δ = ∂C/∂z.

    >>> Record._fields
    ('x', 'y', 'dy', 'dx', 'derivative')
    """

    x: Any
    y: Any
    dy: Any
    dx: Any
    derivative: Any


class Tape(Walk):
    """The plain walk, writing down at every layer what passes: what `trace` goes through the network with.

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Sigmoid
    >>> passed = backpropagate(Tape(), Sigmoid(), HalfSquaredError(), jnp.zeros((1, 1)), (), jnp.ones((1, 1)))
    >>> print(passed.notes[""].derivative)
    [[0.25]]
    """

    def push(self, layer: Layer, x: Array, params: Any, env: Env | None, path: str) -> tuple[Array, Any]:
        """Keep x and y beside the cache."""
        y, cache = super().push(layer, x, params, env, path)
        return (y, cache) if isinstance(layer, Combinator) else (y, (x, y, cache))

    def pull(self, layer: Layer, dy: Any, cache: Any, params: Any, path: str) -> tuple[Any, Any, dict[str, Any]]:
        """Note the record of a leaf."""
        if isinstance(layer, Combinator):
            return super().pull(layer, dy, cache, params, path)
        x, y, kept = cache
        dx, found, notes = super().pull(layer, dy, kept, params, path)
        derivative = getattr(layer, "derivative", None)
        slope = None if derivative is None else derivative(kept).astype(y.dtype)
        return dx, found, notes | {path: Record(x, y, dy, dx, slope)}


def trace(net: Layer, cost: Cost) -> Callable[..., dict[str, Record]]:
    """Return the tape, {path: Record} in the order of the forward pass: `run(x, params, targets, *, rng=None)`.

    Everything is per example and unaveraged, so weights do not enter. (Out of `jit` a dict comes sorted by path.)

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, HalfSquaredError, Linear, Sigmoid
    >>> net, x = Chain(Linear(2), Sigmoid()), jnp.ones((3, 4))
    >>> tape = trace(net, HalfSquaredError())(x, net.init(jax.random.key(0), x), jnp.zeros((3, 2)))
    >>> list(tape), tape["1"].derivative.shape
    (['0', '1'], (3, 2))
    """
    require_layer(net, "manual.trace")

    def run(x: Any, params: Any, targets: Any, *, rng: Array | None = None) -> dict[str, Record]:
        notes = backpropagate(Tape(), net, cost, x, params, targets, rng).notes
        return dict(reversed(notes.items()))

    return run
