"""Quantities as training goes: every so many steps θ and the batch of the next step are looked at, between steps.

A step's loop is the same program with a monitor and without, so that θ comes out the same, bit for bit. Looking is a
program of its own: one forward and one backward pass by hand, with the key that layers draw from in that step.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Key, PyTree

from jaxprop.checks import check_whole
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly
from jaxprop.stats import Quantity, UpdateToWeight, collect
from jaxprop.stats.summary import summarised
from jaxprop.stats.update_to_weight import update_to_weight
from jaxprop.train.monitored import Monitored
from jaxprop.train.optimizers import point
from jaxprop.train.rows import Rows
from jaxprop.train.steps import PROGRAMS_KEPT, Recipe, State, batch, step
from jaxprop.train.together import at_home

LARGEST = 1000  # numbers of an array that are recorded; of a larger one a summary
RESERVED = ("epoch", "step", "cost", "gradient_norm", "seconds")  # columns of a history


class Watch(NamedTuple):
    """What is watched, as a compiled program knows it: names and quantities, hashable."""

    names: tuple[str, ...]
    quantities: tuple[Quantity, ...]


class Monitor:
    """The records of one run: `look` at a step makes one, `monitored` returns what there is."""

    def __init__(self, recipe: Recipe, watch: Watch, every: int) -> None:
        self.recipe, self.watch, self.every = recipe, watch, every
        self.before: dict[str, PyTree] = dict.fromkeys(watch.names)
        self.records: list[PyTree] = []
        self.steps: list[int] = []

    def left(self, steps: int) -> int:
        """How many steps may be taken until the next look, `steps` being behind."""
        return self.every - steps % self.every

    def look(self, state: State, batches: Rows, i: int, rng: Key[Array, ""], steps: int) -> None:
        """Record θ and the i-th of some batches, where it is time to."""
        if steps % self.every:
            return
        numbers = jax.device_put((np.int32(i), np.int32(steps)))
        value, norm, found = looking(self.recipe, self.watch)(state, batches, numbers[0], rng, numbers[1])
        for name, quantity in zip(*self.watch, strict=True):
            if _folds(quantity):
                self.before[name], found[name] = folding(quantity)(self.before[name], found[name])
        # on the host at once: the next chunk is written where this batch lies
        self.records.append(jax.device_get(at_home((value, norm, found))))
        self.steps.append(steps)

    def latest(self, since: int) -> dict[str, float]:
        """Return the latest record in numbers, for a row of the history; nothing if there is none since a step."""
        if not self.steps or self.steps[-1] < since:
            return {}
        found = Monitored.of(dict(zip(*self.watch, strict=True)), self.steps[-1:], self.records[-1:])
        return {name: value for name, value in found.rows()[0].items() if name not in ("step", "cost")}

    def kept(self) -> dict[str, PyTree]:
        """Return what the next records go on from, and the records so far, stacked, as arrays that can be kept."""
        return {"before": self.before, "records": jax.tree.map(lambda *a: np.stack(a), *self.records or [()])}

    def put(self, steps: list[int], records: list[PyTree], before: dict[str, PyTree]) -> None:
        """Go on from records of an earlier run."""
        self.steps, self.records, self.before = steps, records, before

    def like(self, state: State, batches: Rows, rng: Key[Array, ""]) -> tuple[PyTree, dict[str, PyTree]]:
        """Return the trees of a record and of what the next goes on from, in shapes."""
        look = looking(self.recipe, self.watch)
        value, norm, found = jax.eval_shape(look, state, batches, np.int32(0), rng, np.int32(0))
        before: dict[str, PyTree] = dict.fromkeys(self.watch.names)
        for name, quantity in zip(*self.watch, strict=True):
            if _folds(quantity):
                before[name], found[name] = jax.eval_shape(folding(quantity), None, found[name])
        return (value, norm, found), before

    def monitored(self) -> Monitored:
        """Return the records so far, stacked."""
        return Monitored.of(dict(zip(*self.watch, strict=True)), self.steps, self.records)


@functools.lru_cache(PROGRAMS_KEPT)
def looking(recipe: Recipe, watch: Watch) -> Callable[..., tuple[Array, Array, dict[str, PyTree]]]:
    """Return `look(state, batches, i, rng, steps)`, compiled: C, ‖∂C/∂θ‖ and the results by name."""
    return jax.jit(functools.partial(_look, recipe, watch))


def _look(
    recipe: Recipe, watch: Watch, state: State, batches: Rows, i: ArrayLike, rng: Key[Array, ""], steps: ArrayLike
) -> tuple[Array, Array, dict[str, PyTree]]:
    rows = batch(jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), batches))
    params, key = point(state.params), recipe.key(rng, steps)
    asked = dict(zip(*watch, strict=True))
    own = [name for name, quantity in asked.items() if _of_optimizer(quantity)]
    others = {name: quantity for name, quantity in asked.items() if name not in own}
    value, grads, results = recipe.collected(tuple(others.values()), rows, params, key, state.feedback)
    found = dict(zip(others, results, strict=True))
    if own:
        after = point(step(recipe, state, rows, key)[0].params)
        updates = jax.tree.map(jnp.subtract, after, params)
        found |= dict.fromkeys(own, update_to_weight(recipe.net, updates, params))  # pyright: ignore[reportArgumentType]
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(value.dtype))) for g in jax.tree.leaves(grads)))
    # what goes on from step to step stays whole
    found = {name: found[name] if _folds(q) else summarised(found[name], LARGEST) for name, q in asked.items()}
    return value, norm, found


def _of_optimizer(quantity: Quantity) -> bool:
    """Whether it is of the update that the optimizer makes."""
    return isinstance(quantity, UpdateToWeight) and quantity.learning_rate is None


def _folds(quantity: Quantity) -> bool:
    """Whether results of several steps are put together to one."""
    return type(quantity).over_steps is not Quantity.over_steps


@functools.lru_cache(16)
def folding(quantity: Quantity) -> Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]:
    """Return what puts results of steps together, compiled: the whole for the next time, and what is recorded."""

    def fold(before: PyTree, now: PyTree) -> tuple[PyTree, PyTree]:
        whole = quantity.over_steps(before, now)
        return whole, summarised(whole, LARGEST)

    return jax.jit(fold)


def read_monitor(given: Any, every: Any, recipe: Recipe) -> Monitor | None:
    """Return the monitor that was asked for, or None; raise JaxpropError for what cannot be watched."""
    check_whole(every.item() if isinstance(every, np.integer) else every, "fit: every")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise JaxpropError(
            f'fit: monitor must be a dict such as {{"noise": jp.stats.NoiseScale()}}, found {shortly(given)}'
        )
    if not isinstance(recipe.net, Layer):
        raise JaxpropError(
            "fit: monitor reads the backward pass of a Layer such as Chain(...), and net is a plain function: there is "
            "none to read"
        )
    for name, quantity in given.items():
        if not isinstance(quantity, Quantity):
            found = f"{shortly(quantity)}{'; write it as a call' if isinstance(quantity, type) else ''}"
            raise JaxpropError(f"fit: monitor[{name!r}] must be a quantity of jp.stats, found {found}")
        if not isinstance(name, str) or name in RESERVED or name.startswith("validation_"):
            raise JaxpropError(f"fit: monitor cannot have the name {name!r}, which a history has: choose another")
    watch = Watch(tuple(given), tuple(given.values()))
    # what it refuses, it refuses before the first step
    collect(recipe.net, recipe.cost, watch.quantities, rule=recipe.rule)
    return Monitor(recipe, watch, int(every))
