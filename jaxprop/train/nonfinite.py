"""When numbers stop being numbers: which step, and which layer was the first."""

from typing import NoReturn

import jax
import numpy as np
from jax import Array
from jaxtyping import Key, PyTree, Shaped

from jaxprop.arrays.paths import by_path
from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.errors import TrainingError
from jaxprop.layers.layer import Layer
from jaxprop.network import leaves
from jaxprop.network.call import Network, call
from jaxprop.train.steps import Recipe, State, all_finite, copied, step, take

ADVICE = (
    "Try a smaller learning rate, standardised inputs (a Standardize layer first), "
    "clipped gradients (optax.chain(optax.clip_by_global_norm(1.0), ...)), or another init"
)


def explain(
    recipe: Recipe,
    state: State,
    batches: PyTree[Shaped[Array, "steps N ..."]],
    start: int,
    stop: int,
    rng: Key[Array, ""],
    done: int,
    epoch: int,
) -> NoReturn:
    """Take the steps of `take` again, one at a time, to the first that is not finite, and raise TrainingError."""
    for i in range(start, stop):
        after, costs, good = take(recipe, copied(state), batches, i, i + 1, rng, done)
        if not (good and np.isfinite(costs[i])):
            x, targets = jax.tree.map(lambda a, i=i: a[i], batches)
            grads = jax.jit(step, static_argnums=0)(recipe, state, x, targets, recipe.key(rng, done + i))[2]
            where = first_nonfinite(recipe.net, recipe.cost, x, state.params, targets, grads)
            raise _error(done + i + 1, epoch, where or "the update of the parameters")
        state = after
    raise _error(done + stop, epoch, "something that another run of the same steps does not show")


def first_nonfinite(
    net: Network, cost: Cost, x: PyTree, params: PyTree, targets: Shaped[Array, "N ..."], grads: PyTree
) -> str | None:
    """Say where the first non-finite number of one step arises: in a layer's output, the cost, an error, a gradient.

    Forward order first, then backward order; None if all are finite.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, HalfSquaredError, Linear, ReLU
    >>> net, x = Chain(Linear(2), ReLU()), jnp.array([[jnp.inf]])
    >>> params = net.init(jax.random.key(0), x)
    >>> first_nonfinite(net, HalfSquaredError(), x, params, jnp.zeros((1, 2)), params)
    'the output of layer 0, Linear(2)'
    """
    for path, leaf in by_path(params).items():
        if not all_finite(leaf):
            return f"parameter {path}"
    y = jax.jit(call, static_argnums=0)(net, x, params)
    tape, layers = {}, {}
    if isinstance(net, Layer):
        tape = jax.jit(manual.trace(net, cost))(x, params, targets)
        layers = {leaf.path: leaf.layer for leaf in leaves(net)}
    for path, layer in layers.items():
        if not all_finite(tape[path].y):
            return f"the output of layer {path}, {layer!r}"
    if not all_finite(y):
        return "the output of the network" if layers else "the output of f(x, params)"
    if not all_finite(cost(y, targets)):
        return f"the cost, {cost!r}"
    for path, layer in reversed(layers.items()):
        if tape[path].dx is not None and not all_finite(tape[path].dx):
            return f"the error going back through layer {path}, {layer!r}"
    return next((f"the gradient of {path}" for path, leaf in by_path(grads).items() if not all_finite(leaf)), None)


def _error(step: int, epoch: int, where: str) -> TrainingError:
    return TrainingError(f"training stopped at step {step} (epoch {epoch}): the first not finite is {where}. {ADVICE}")
