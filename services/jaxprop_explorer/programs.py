"""What is compiled for an experiment: one program that trains, one that measures and draws.

There is one of each for a network, a cost and an optimizer, whatever the learning rate: all pages share it. Steps are
counted while the program runs, so that θ is the same to the last bit however they are divided among calls.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, PyTree

from jaxprop.backward import manual
from jaxprop.backward.manual import Record
from jaxprop.backward.rules import Rule
from jaxprop.costs import Cost
from jaxprop.layers import Activation, Flatten, Layer, Linear, Softmax, Standardize, Unstandardize
from jaxprop.network import Chain
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe, State, all_finite, step

STEPS_AT_ONCE = 256
# compiled in a third of the time, and fast enough for what runs some times a second
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
KEPT = 24  # compiled programs of a kind: one takes some MB
SIDE, UNIT_SIDE, CURVE = 64, 32, 128  # points along an edge of the decision surface, of a unit's heat map, of a curve
DRAWN = (Linear, Activation, Softmax, Standardize, Unstandardize, Flatten)
MOST_HEAT = 160  # units that get a heat map


class Trained(NamedTuple):
    """What some steps made: the state, how many were taken, and whether all is finite still."""

    state: State
    steps: Int[Array, ""]
    finite: Bool[Array, ""]


@lru_cache(KEPT)
def training(recipe: Recipe) -> Callable[..., Trained]:
    """Return `run(state, kept, x, targets, order, steps)`, compiled.

    It takes up to `steps` steps; the rows of step i are `order[i]`. `kept` is a tree like θ: where it is False, a
    weight is 0 and stays so. A step that makes something infinite or NaN is not taken, and is the last.
    """

    def run(state: State, kept: PyTree, x: Array, targets: Array, order: Int[Array, "S B"], steps: Array) -> Trained:
        def going(carry: tuple[Array, State, Array]) -> Array:
            return (carry[0] < steps) & carry[2]

        def one(carry: tuple[Array, State, Array]) -> tuple[Array, State, Array]:
            i, before, _ = carry
            rows = order[i]
            after, value = step(recipe, before, Rows(x[rows], targets[rows]), None)
            params = jax.tree.map(lambda p, k: jnp.where(k, p, jnp.zeros_like(p)), after.params, kept)
            after = after._replace(params=params)
            finite = all_finite(params) & jnp.isfinite(value)
            state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
            return i + finite.astype(i.dtype), state, finite

        taken, state, finite = jax.lax.while_loop(going, one, (jnp.zeros_like(steps), state, jnp.bool_(True)))
        return Trained(state, taken, finite)

    return jax.jit(run)


@lru_cache(KEPT)
def passing(net: Layer, cost: Cost, rule: Rule | None) -> Callable[..., tuple[dict[str, Record], Array, PyTree]]:
    """Return `run(params, feedback, x, targets)`, compiled: the tape, C and ∂C/∂θ of the example in view."""

    def run(params: PyTree, feedback: PyTree, x: Array, targets: Array) -> tuple[dict[str, Record], Array, PyTree]:
        tape = manual.trace(net, cost, rule=rule)(x, params, targets, feedback=feedback)
        return tape, *manual.value_and_grad(net, cost, rule=rule)(x, params, targets, feedback=feedback)

    return jax.jit(run, compiler_options=QUICKLY)


@lru_cache(KEPT)
def measuring(net: Layer, cost: Cost) -> Callable[..., tuple[Float[Array, " N"], Array]]:
    """Return `run(params, x, targets)`, compiled: C of every row, and what the network expects, `cost.expected(y)`."""

    def run(params: PyTree, x: Array, targets: Array) -> tuple[Array, Array]:
        y = net(x, params)
        return cost(y, targets), cost.expected(y)

    return jax.jit(run, compiler_options=QUICKLY)


@lru_cache(KEPT)
def beginning(net: Layer) -> Callable[..., PyTree]:
    """Return `run(seed, x)`, compiled: the first θ."""
    return jax.jit(lambda seed, x: net.init(jax.random.key(seed), x), compiler_options=QUICKLY)


class Drawing(NamedTuple):
    """Numbers from −127 to 127 over the inputs: of each unit, by layer, `[U, points]`; and what the network answers."""

    units: tuple[Array, ...]
    scales: tuple[Array, ...]
    surface: Array
    scale: Array
    answers: Array


def drawn(net: Layer, inputs: int) -> bool:
    """Return whether every unit of a network can be drawn over its inputs: one or two of them, layer after layer."""
    return inputs <= 2 and isinstance(net, Chain) and all(isinstance(layer, DRAWN) for layer in net.layers)


@lru_cache(KEPT)
def drawing(net: Chain, cost: Cost, middle: float | None, two: bool) -> Callable[..., Drawing]:
    """Return `run(params, x)`, compiled: the units and the answers over a grid x `[points, 1 or 2]`.

    What the network answers is `cost.expected(y)`; of two classes how far it is from the middle between them; of
    more, which it is. Over a plane a unit is drawn at every second point along each side.
    """

    def run(params: PyTree, x: Array) -> Drawing:
        units, y = [], x
        for at, (layer, p) in enumerate(zip(net.layers, params, strict=True)):
            y = layer(y, p)
            if at in ends:
                units.append(y)
        answers = cost.expected(y)
        parts = [_scaled(_thinned(unit) if two else unit) for unit in units]
        surface, scale = _surface(answers, middle)
        return Drawing(tuple(u for u, _ in parts), tuple(s for _, s in parts), surface, scale, answers)

    ends = [at for _, at in rows_of_units(net)]
    return jax.jit(run, compiler_options=QUICKLY)


def rows_of_units(net: Chain) -> list[tuple[int, int]]:
    """Return, for every `Linear` of a chain, its place and that of what its units answer: its activation, if any.

    >>> from jaxprop.layers import Tanh
    >>> rows_of_units(Chain(Linear(2), Tanh(), Linear(1)))
    [(0, 1), (2, 2)]
    """
    last = len(net.layers) - 1
    return [
        (at, at + 1 if at < last and isinstance(net.layers[at + 1], Activation | Softmax) else at)
        for at, layer in enumerate(net.layers)
        if isinstance(layer, Linear)
    ]


def _surface(answers: Float[Array, "points O"], middle: float | None) -> tuple[Array, Array]:
    """Int8 `[points]`: numbers as they are, of two classes what speaks for the second, of more which it is."""
    outputs = answers.shape[1]
    if middle is None:
        (surface,), (scale,) = _scaled(answers[:, :1])
        return surface, scale
    if outputs == 1:
        shown = (answers[:, 0] - middle) * 2
    elif outputs == 2:
        shown = answers[:, 1] - answers[:, 0]
    else:
        shown = jnp.argmax(answers, axis=1) * (2 / (outputs - 1)) - 1
    return jnp.round(jnp.clip(shown, -1, 1) * 127).astype(jnp.int8), jnp.ones(())


def _thinned(values: Array) -> Array:
    grid = values.reshape(SIDE, SIDE, -1)
    every = SIDE // UNIT_SIDE
    return grid[::every, ::every].reshape(UNIT_SIDE * UNIT_SIDE, -1)


def _scaled(values: Float[Array, "points U"]) -> tuple[Array, Array]:
    """Int8 `[U, points]` of each unit, its largest value being 127 or −127, and that value."""
    size = jnp.max(jnp.abs(values), axis=0)
    part = jnp.where(size > 0, values / jnp.where(size > 0, size, jnp.ones_like(size)), jnp.zeros_like(values))
    return jnp.round(part * 127).astype(jnp.int8).T, size


def with_rate(state: State, rate: float) -> State:
    """Return the state with another learning rate."""
    held = state.optimizer
    hyper = {**held.hyperparams, "learning_rate": jnp.asarray(rate, held.hyperparams["learning_rate"].dtype)}
    return state._replace(optimizer=held._replace(hyperparams=hyper))
