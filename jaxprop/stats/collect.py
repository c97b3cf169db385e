"""`collect`: one forward pass, one walk back for each kind of error, and everything that is asked for on the way.

XLA removes what nobody reads: without quantities, the program is that of `manual.value_and_grad`.
"""

from collections.abc import Callable, Sequence
from typing import Any, overload

from jaxtyping import PyTree

from jaxprop.backward.manual import Record, Tape
from jaxprop.backward.mixing import refuse_mixing
from jaxprop.backward.rules import Rule, as_rule, prepare
from jaxprop.backward.rules.edits import RuleLike
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.network.call import (
    Rng,
    RuleFunction,
    Targets,
    Weights,
    environment,
    require_cost,
    takes_rows,
)
from jaxprop.stats.errors import of_cost
from jaxprop.stats.foreign import Argnums, Axes, Function, of_function
from jaxprop.stats.gather import Asked, Collected, Passed, gather
from jaxprop.stats.quantity import Quantity
from jaxprop.stats.visits import WayBack


@overload
def collect(
    net: Layer,
    cost: Cost,
    quantities: Sequence[Quantity],
    *,
    rule: RuleLike | None = None,
    memory: int | None = None,
) -> RuleFunction[Collected]: ...


@overload
def collect(
    net: Function,
    cost: Cost,
    quantities: Sequence[Quantity],
    *,
    memory: int | None = None,
    argnums: Argnums = 0,
    in_axes: Any,
) -> Callable[..., Collected]: ...


@overload
def collect(
    net: Function,
    cost: Sequence[Quantity],
    *,
    memory: int | None = None,
    argnums: Argnums = 0,
    in_axes: Any,
) -> Callable[..., Collected]: ...


def collect(
    net: Layer | Function,
    cost: Any,
    quantities: Any = None,
    *,
    rule: RuleLike | None = None,
    memory: int | None = None,
    argnums: Argnums = 0,
    in_axes: Any = None,
) -> Callable[..., Collected]:
    """Return `run`, which computes C, ∂C/∂θ and any number of quantities of one backward pass.

        collect(net, cost, quantities)(x, params, targets)                          a network of jaxprop's layers
        collect(f, cost, quantities, in_axes=(None, 0))(params, x, targets)         f(params, x): y of one example
        collect(f, quantities, in_axes=(None, 0, 0))(params, x, targets)            f(params, x, t): C_n of one example

    The last two are for models of Flax, Equinox and plain JAX. f is what stands in `jax.vmap(jax.grad(f), in_axes)`.

    Args:
        net: a Layer. One that mixes examples (`BatchNorm`) is refused, unless all quantities allow for it. Or f.
        cost: C_n, such as `HalfSquaredError()`. "sampled" and "exact" errors are its `sampled_delta` or `hessian_root`.
        quantities: what is asked for, such as `[ExampleNorms(), NoiseScale()]`; of nothing, the gradient alone.
        rule: how the cost's own errors come back through layers, one of `jp.rules`; by default as the chain rule says.
            "true", "sampled" and "exact" errors always do. Of a function there is no other way.
        memory: how many bytes may be held at a time of what is built of single examples, at each use: groups of
            examples are made as small as that needs. By default no more than the use itself. `stats.plan` shows it.
        argnums: which of f's arguments are θ, as for `jax.grad`. They may hold other things than arrays of real
            numbers, whose gradient is None.
        in_axes: the axis N of each of f's arguments, as for `jax.vmap`, and None for θ.

    Returns:
        `run(x, params, targets, *, weights=None, rng=None, mask=None, feedback=None)`, which returns a `Collected`:
        value, grads and `found`, a tuple with one result for each quantity, in their order. It is pure: jit it.
        feedback: what `rule.init` made. Of a function `run(*args, weights=None, rng=None)`, with the arguments of f
        and, where there is a cost, targets behind them; value and grads are means, or weighted by weights `[N]`.

    Raises:
        JaxpropError: `net` mixes examples, or is a function without in_axes; a quantity reads layers, or errors of a
            cost, of a function that has none; something is no quantity, errors are to be sampled without rng, the cost
            does not have what is needed, `memory` is no whole number ≥ 1, or one example alone needs more than that.
        ShapeError: weights are not `[N]`, or f returns no single number for an example where there is no cost.

    >>> import jax, jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(2), jnp.ones((3, 4))
    >>> value, grads, found = collect(net, HalfSquaredError(), [])(
    ...     x, net.init(jax.random.key(0), x), jnp.zeros((3, 2))
    ... )
    >>> grads.W.shape, found
    ((4, 2), ())
    >>> def f(w, x, t):
    ...     return 0.5 * (w * x - t) ** 2
    >>> run = collect(f, [stats.ExampleNorms(), stats.Variance()], argnums=0, in_axes=(None, 0, 0))
    >>> value, grads, (norms, variance) = run(3.0, jnp.array([1.0, 2.0]), jnp.zeros(2))      # g_n = 3 and 12
    >>> print(value, grads, norms, variance)
    11.25 7.5 [  9. 144.] 20.25
    """
    if not isinstance(net, Layer):
        return of_function(net, cost, quantities, Axes(argnums, in_axes), rule, memory)
    if quantities is None:
        raise JaxpropError("stats.collect: a network needs a cost: write stats.collect(net, cost, quantities)")
    require_cost(cost, "stats.collect")
    if in_axes is not None:
        raise JaxpropError("stats.collect: in_axes are for functions of one example, and a Layer has the axis N first")
    rule = None if rule is None else as_rule(rule)
    return _of_network(net, cost, Asked.of(quantities, rule, memory), rule)


def _of_network(net: Layer, cost: Cost, asked: Asked, rule: Rule | None) -> RuleFunction[Collected]:
    """The function of x, θ and targets for a network of jaxprop's layers."""
    alone = next((quantity for quantity in asked.quantities if not quantity.mixes), None)
    if alone is not None:
        refuse_mixing(net, f"stats.collect of {alone}")

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
    ) -> Collected:
        walk, theta = prepare(rule, net, params, feedback, rng)
        noting = [quantity.notes for quantity in asked.quantities]
        walk = _Noting(asked.quantities).over(walk) if any(noting) else walk
        y, cache = walk.push(net, x, theta, environment(rng, mask), "")
        by_rule, plainly = (WayBack(w, net, cache, theta) for w in (walk, walk.plain()))
        passed = Passed(y, of_cost(cost, y, targets, rng), params, by_rule, plainly, net)
        return gather(asked, passed, weights)

    return run


class _Noting(Tape):
    """Go through a network and ask the quantities for their notes of every layer's record."""

    def __init__(self, quantities: Sequence[Quantity]) -> None:
        self.quantities = quantities

    def note(self, layer: Layer, kept: PyTree, dy: PyTree, dx: PyTree, cache: PyTree, params: PyTree) -> PyTree:
        record: Record = super().note(layer, kept, dy, dx, cache, params)
        return tuple(quantity.note(layer, record) if quantity.notes else None for quantity in self.quantities)
