"""What is compiled for an experiment: one program that trains, one that measures and draws.

There is one of each for a network, a cost and an optimizer, whatever the learning rate: all pages share it. Steps are
counted while the program runs, so that θ is the same to the last bit however they are divided among calls.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Bool, Float, Int, PyTree

from jaxprop.backward import manual
from jaxprop.backward.manual import Record
from jaxprop.backward.rules import Rule
from jaxprop.costs import Cost
from jaxprop.layers import Activation, Flatten, Layer, Linear, Softmax, Standardize, Unstandardize
from jaxprop.network import Chain
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe, State, all_finite

STEPS_AT_ONCE = 256
# compiled in a third of the time, and fast enough for what runs some times a second
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
KEPT = 24  # compiled programs of a kind: one takes some MB
MOST_HEAT = 160  # units that get a heat map
SIDE, CURVE = 64, 128  # points along an edge of the decision surface, and of a curve
UNIT_SIDES = ((40, 32), (MOST_HEAT, 16))  # along an edge of a unit's heat map, for up to so many units
DRAWN = (Linear, Activation, Softmax, Standardize, Unstandardize, Flatten)


class Trained(NamedTuple):
    """What some steps made: the state, how many were taken, if all is finite still, the gradient of the last one."""

    state: State
    steps: Int[Array, ""]
    finite: Bool[Array, ""]
    grads: PyTree


@lru_cache(KEPT)
def training(recipe: Recipe) -> Callable[..., Trained]:
    """Return `run(state, kept, x, targets, order, steps)`, compiled.

    It takes up to `steps` steps; the rows of step i are `order[i]`. `kept` is a tree like θ: where it is False, a
    weight is 0 and stays so. A step that makes something infinite or NaN is not taken, and is the last.
    """

    def run(state: State, kept: PyTree, x: Array, targets: Array, order: Int[Array, "S B"], steps: Array) -> Trained:
        def going(carry: Trained) -> Array:
            return (carry.steps < steps) & carry.finite

        def one(carry: Trained) -> Trained:
            rows = order[carry.steps]
            value, after, grads = _step(recipe, carry.state, kept, Rows(x[rows], targets[rows]))
            finite = all_finite(after.params) & jnp.isfinite(value)
            made, before = (after, grads), (carry.state, carry.grads)
            taken = jax.tree.map(lambda new, old: jnp.where(finite, new, old), made, before)
            return Trained(taken[0], carry.steps + finite.astype(carry.steps.dtype), finite, taken[1])

        nothing = jax.tree.map(jnp.zeros_like, state.params)
        return jax.lax.while_loop(going, one, Trained(state, jnp.zeros_like(steps), jnp.bool_(True), nothing))

    return jax.jit(run)


def _step(recipe: Recipe, state: State, kept: PyTree, rows: Rows) -> tuple[Array, State, PyTree]:
    """Take one step; return C before it, the state after it, and the gradient that it went by.

    The choice of what is kept stands between update and θ: multiplied and added at once, as XLA likes to, θ would
    differ in its last bit from w − η · g, which the page writes out.
    """
    value, grads = recipe.value_and_grad(rows, state.params, None, state.feedback)
    feedback = state.feedback
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        updates, held = recipe.optimizer.update(grads, state.optimizer, state.params)
    if recipe.rule is not None:
        net: Layer = recipe.net  # pyright: ignore[reportAssignmentType]
        updates, feedback = recipe.rule.update(net, updates, state.params, feedback)
    updates = jax.tree.map(lambda u, k: jnp.where(k, u, jnp.zeros_like(u)), updates, kept)
    with jax.numpy_dtype_promotion("standard"):
        return value, State(optax.apply_updates(state.params, updates), held, feedback), grads


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
def drawing(net: Chain, cost: Cost, middle: float | None, side: int | None) -> Callable[..., Drawing]:
    """Return `run(params, x)`, compiled: the units and the answers over a grid x `[points, 1 or 2]`.

    What the network answers is `cost.expected(y)`; of two classes how far it is from the middle between them; of
    more, which it is. Over a plane a unit is drawn at `side` points along an edge, over a line (None) at all.
    """

    def run(params: PyTree, x: Array) -> Drawing:
        units, y = [], x
        for at, (layer, p) in enumerate(zip(net.layers, params, strict=True)):
            y = layer(y, p)
            if at in ends:
                units.append(y)
        answers = cost.expected(y)
        parts = [_scaled(unit if side is None else thinned(unit, side)) for unit in units]
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


def thinned(values: Any, side: int) -> Any:
    """Return every so many of values `[SIDE · SIDE, U]`, so that `side` are left along an edge."""
    every = SIDE // side
    return values.reshape(SIDE, SIDE, -1)[::every, ::every].reshape(side * side, -1)


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
