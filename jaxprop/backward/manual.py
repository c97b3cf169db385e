"""The gradient by hand: the four equations of backpropagation, every factor kept.

    BP1   dy = ∂C/∂y                      `cost.delta`
    BP2   dx = dy · ∂y/∂x                 each layer's `backward`, from the last to the first
    BP3   ∂C/∂b = δ                       a `Shift`
    BP4   ∂C/∂W = a δ                     an `Outer`

BP1 and BP2 are `backpropagate` below; BP3 and BP4 are what `Use.gradient` does where a and δ meet. Numbering after
Nielsen, "Neural Networks and Deep Learning", ch. 2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.backward.mixing import refuse_mixing
from jaxprop.backward.pulling import Pull as Pull, vjp as vjp
from jaxprop.backward.rules.edits import RuleLike, as_rule
from jaxprop.backward.rules.walk import prepare
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Env, Layer
from jaxprop.layers.settings import shortly
from jaxprop.network import Recorder, Walk, in_order
from jaxprop.network.call import (
    Rng,
    RuleFunction,
    Targets,
    Weights,
    environment,
    require_cost,
    require_layer,
    takes_rows,
)
from jaxprop.uses import rounded, weighted, weighted_sum
from jaxprop.uses.use import scale


class Pass(NamedTuple):
    """Hold one forward and one backward pass: C_n `[N]`, y, dx, the uses by parameter, and the walk's notes.

    >>> Pass._fields
    ('costs', 'y', 'dx', 'uses', 'notes')
    """

    costs: Float[Array, " N"]
    y: Array
    dx: PyTree
    uses: PyTree
    notes: dict[str, PyTree]


def backpropagate(
    walk: Walk,
    net: Layer,
    cost: Cost,
    x: PyTree,
    params: PyTree,
    targets: Targets,
    env: Env | None = None,
    seed: Weights = None,
) -> Pass:
    """Go forward and back through `net` with `walk`; nothing is averaged yet.

    Args:
        walk: how the network is visited.
        net: a Layer.
        cost: C_n, such as `HalfSquaredError()`.
        x: inputs `[N, ...]`.
        params: θ.
        targets: `[N, ...]`, what the cost compares y with.
        env: what a forward pass needs beside x and θ.
        seed: weights `[N]` of the examples' errors from the start, for a net that mixes examples: later is too late.

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear
    >>> net, x = Linear(1), jnp.ones((2, 3))
    >>> passed = backpropagate(Walk(), net, HalfSquaredError(), x, net.init(jax.random.key(0), x), jnp.ones((2, 1)))
    >>> passed.costs.shape, passed.dx.shape
    ((2,), (2, 3))
    """
    y, cache = walk.push(net, x, params, env, "")
    costs = cost(y, targets)
    dy = cost.delta(y, targets)  # BP1
    dy = dy if seed is None else scale(dy, seed)
    dx, uses, notes = walk.pull(net, dy, cache, params, "")  # BP2
    return Pass(costs, y, dx, walk.close_all(uses), notes)


def value_and_grad(
    net: Layer, cost: Cost, walk: Walk | None = None, *, rule: RuleLike | None = None
) -> RuleFunction[tuple[Array, PyTree]]:
    """Return `run`, which computes C = Σ_n w_n C_n and ∂C/∂θ by the chain rule, or by another one.

    Args:
        net: a Layer.
        cost: C_n, such as `HalfSquaredError()`.
        walk: how the network is visited; by default the plain `Walk`.
        rule: how errors come back through layers, one of `jp.rules`; by default as the chain rule says.

    Returns:
        `run(x, params, targets, *, weights=None, rng=None, mask=None, feedback=None)`, which returns (C, gradient) as
        `auto`'s does. The gradient is every use's `gradient(weights)`. feedback: what `rule.init` made.

    Raises:
        JaxpropError: `net` is a plain function, or the rule cannot serve it.
        ShapeError: feedback does not fit.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, HalfSquaredError, Linear, Sigmoid
    >>> net, x = Chain(Linear(1), Sigmoid()), jnp.array([[1.0, 3.0, 2.0]])
    >>> params = net.init(jax.random.key(0), x)
    >>> params = ((params[0]._replace(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1]))), ())
    >>> value, grads = value_and_grad(net, HalfSquaredError())(x, params, jnp.array([[1.0]]))
    >>> print(grads[0].W.ravel(), grads[0].b)
    [-0.0336...  -0.1009... -0.0673...] [-0.0336...]
    """
    require_layer(net, "manual")
    require_cost(cost, "manual")
    visiting = _visiting(net, walk, rule)

    @takes_rows
    def run(
        x: PyTree,
        params: PyTree,
        targets: Targets,
        *,
        weights: Weights = None,
        rng: Rng = None,
        mask: PyTree = None,
        feedback: PyTree = None,
    ) -> tuple[Array, PyTree]:
        walk, theta = visiting(params, feedback, rng)

        def summed(weights: Weights) -> tuple[Array, PyTree]:
            # where examples are mixed, every δ belongs to all of them: C's weights must enter before
            seed, later = (weights, None) if net.mixes_examples else (None, weights)
            totals = walk.closing(lambda use, path: use.total(later))
            passed = backpropagate(totals, net, cost, x, theta, targets, environment(rng, mask), seed)
            return weighted_sum(passed.costs, weights), passed.uses

        value, grads = weighted(summed, weights, jax.tree.leaves(x)[0].shape[0])
        return value, rounded(grads, params)

    return run


def uses(
    net: Layer, cost: Cost, walk: Walk | None = None, *, rule: RuleLike | None = None
) -> RuleFunction[tuple[Array, PyTree]]:
    """Return `run`, which computes C and, in the tree of params, the `Use` of every array.

    Args:
        net: a Layer that does not mix the examples of a batch.
        cost: C_n, such as `HalfSquaredError()`.
        walk: how the network is visited; what its `close` makes of the uses is returned in their place.
        rule: how errors come back through layers, one of `jp.rules`; by default as the chain rule says.

    Returns:
        `run(x, params, targets, *, weights=None, rng=None, mask=None, feedback=None)`, which returns (C, uses). A use
        is per example: `weights` weigh the value alone; give them to `use.gradient(weights)` as well.

    Raises:
        JaxpropError: `net` is a plain function, or mixes examples, so that no quantity of one example exists.

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear
    >>> net, x = Linear(2), jnp.ones((3, 4))
    >>> params = net.init(jax.random.key(0), x)
    >>> value, found = uses(net, HalfSquaredError())(x, params, jnp.zeros((3, 2)))
    >>> found.W.per_example().shape, found.W.squared_norms().shape
    ((3, 4, 2), (3,))
    """
    require_layer(net, "manual")
    require_cost(cost, "manual")
    visiting = _visiting(net, walk, rule)
    refuse_mixing(net, "manual.uses")

    @takes_rows
    def run(
        x: PyTree,
        params: PyTree,
        targets: Targets,
        *,
        weights: Weights = None,
        rng: Rng = None,
        mask: PyTree = None,
        feedback: PyTree = None,
    ) -> tuple[Array, PyTree]:
        walk, theta = visiting(params, feedback, rng)
        passed = backpropagate(walk, net, cost, x, theta, targets, environment(rng, mask))
        return weighted(lambda w: weighted_sum(passed.costs, w), weights, passed.costs.shape[0]), passed.uses

    return run


class Record(NamedTuple):
    """Hold what one layer saw: x in, y out, dy = ∂C_n/∂y back in, dx = ∂C_n/∂x back out, and its local derivative.

    `derivative` is ∂y/∂x where the layer has one as an array (φ'(z) of an activation), else None. For an activation
    x is z, y is a, dy is ∂C/∂a and dx is the error δ = ∂C/∂z.

    >>> Record._fields
    ('x', 'y', 'dy', 'dx', 'derivative')
    """

    x: PyTree
    y: PyTree
    dy: PyTree
    dx: PyTree
    derivative: PyTree


class Tape(Recorder):
    """Walk plainly and write down at every layer what passes: `trace` goes through the network with it.

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Sigmoid
    >>> passed = backpropagate(Tape(), Sigmoid(), HalfSquaredError(), jnp.zeros((1, 1)), (), jnp.ones((1, 1)))
    >>> print(passed.notes[""].derivative)
    [[0.25]]
    """

    def keep(self, layer: Layer, x: PyTree, y: PyTree, params: PyTree, env: Env | None) -> tuple[PyTree, PyTree]:
        """Keep what went in and what came out."""
        return x, y

    def note(self, layer: Layer, kept: PyTree, dy: PyTree, dx: PyTree, cache: PyTree, params: PyTree) -> Record:
        """Note the record of a leaf."""
        x, y = kept
        derivative = getattr(layer, "derivative", None)
        slope = None if derivative is None else derivative(cache).astype(y.dtype)
        return Record(x, y, dy, dx, slope)


def trace(net: Layer, cost: Cost, *, rule: RuleLike | None = None) -> Callable[..., dict[str, Record]]:
    """Return `run`, which writes a tape: {path: Record} in the order of the forward pass.

    Args:
        net: a Layer.
        cost: C_n, such as `HalfSquaredError()`.
        rule: how errors come back through layers, one of `jp.rules`; by default as the chain rule says.

    Returns:
        `run(x, params, targets, *, rng=None, mask=None, feedback=None)`. Everything on the tape is per example and not
        averaged, so weights do not enter. (A dict that comes out of `jit` is sorted by path.) Of a rule that edits
        errors, dy is what arrived at a layer, dx what it made of the edited error.

    Raises:
        JaxpropError: `net` is a plain function.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, HalfSquaredError, Linear, Sigmoid
    >>> net, x = Chain(Linear(2), Sigmoid()), jnp.ones((3, 4))
    >>> tape = trace(net, HalfSquaredError())(x, net.init(jax.random.key(0), x), jnp.zeros((3, 2)))
    >>> list(tape), tape["1"].derivative.shape
    (['0', '1'], (3, 2))
    """
    require_layer(net, "manual.trace")
    require_cost(cost, "manual.trace")
    visiting = _visiting(net, None, rule)

    @takes_rows
    def run(
        x: PyTree, params: PyTree, targets: Targets, *, rng: Rng = None, mask: PyTree = None, feedback: PyTree = None
    ) -> dict[str, Record]:
        walk, theta = visiting(params, feedback, rng)
        passed = backpropagate(Tape().over(walk), net, cost, x, theta, targets, environment(rng, mask))
        return in_order(net, passed.notes)

    return run


def _visiting(net: Layer, walk: Walk | None, rule: RuleLike | None) -> Callable[..., tuple[Walk, PyTree]]:
    """How the network is visited, as a function (params, feedback, rng) -> (walk, params)."""
    if walk is not None and not isinstance(walk, Walk):
        raise JaxpropError(
            f"manual: found {shortly(walk)} for a walk; if it is a rule, give it by name, as in rule=..."
        )
    if walk is not None and rule is not None:
        raise JaxpropError("manual: found both a walk and a rule, which is a walk of its own: give one of them")
    if rule is not None:
        rule = as_rule(rule)

    def visiting(params: PyTree, feedback: PyTree, rng: Rng) -> tuple[Walk, PyTree]:
        plain, theta = prepare(rule, net, params, feedback, rng)
        return plain if walk is None else walk, theta

    return visiting
