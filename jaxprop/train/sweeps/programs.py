"""Runs side by side: begin, take steps, measure and keep the best, each compiled once for all runs of a program.

Every function is that of one run, mapped over the runs (`jax.vmap`), which are divided among the devices
(`jax.shard_map`): no device needs anything of another. Rows lie on every device once, and each step gathers those of
its batch by number, since every seed goes through them in an order of its own.
"""

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, Float, Int, Key, PyTree

from jaxprop.train.rows import Rows
from jaxprop.train.steps import PROGRAMS_KEPT, Recipe, State, all_finite, batch, begin, step
from jaxprop.train.sweeps.scores import Kind, measure
from jaxprop.train.sweeps.task import Recipes

RUNS = "runs"


class Lane(NamedTuple):
    """What makes one run another than the others; stacked, each array has a first axis of runs."""

    numbers: Mapping[str, Float[Array, ""]]  # the settings that are numbers in the program
    seed: Int[Array, ""]  # which of the orders of rows is its own
    key: Key[Array, ""]  # what its layers draw from


@dataclass(frozen=True)
class Place:
    """The devices of a sweep: runs are divided among them, all else lies on each."""

    devices: tuple[Any, ...]

    @property
    def mesh(self) -> Mesh:
        """Them in a row."""
        return Mesh(np.array(self.devices), (RUNS,))

    def runs(self, tree: PyTree) -> PyTree:
        """Put arrays with a first axis of runs on the devices."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec(RUNS)))

    def everywhere(self, tree: PyTree) -> PyTree:
        """Put arrays on every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def over_runs(self, one: Callable[..., Any], shared: int, donate: tuple[int, ...] = ()) -> Any:
        """Return a function of one run for many: all arguments but the last `shared` have a first axis of runs."""

        def many(*given: Any) -> Any:
            own = len(given) - shared
            mapped = jax.vmap(one, in_axes=(0,) * own + (None,) * shared)
            if len(self.devices) == 1:
                return mapped(*given)
            specs = (PartitionSpec(RUNS),) * own + (PartitionSpec(),) * shared
            # nothing goes from device to device, so there is nothing to check of what varies from one to the other
            return jax.shard_map(
                mapped, mesh=self.mesh, in_specs=specs, out_specs=PartitionSpec(RUNS), check_vma=False
            )(*given)

        return jax.jit(many, donate_argnums=donate)


class Program:
    """What one architecture and batch size compiles to: the programs of its runs, whose settings are `fixed` but for
    numbers."""

    def __init__(self, recipes: Recipes, fixed: Mapping[str, Any], rows: int, batch_size: int, place: Place) -> None:
        self.recipes, self.fixed, self.place = recipes, fixed, place
        self.full, self.rest = divmod(rows, batch_size)
        self.batch_size = batch_size
        self.begin = place.over_runs(self._begin, shared=2)
        self.keep = place.over_runs(self._keep, shared=0)
        self.for_use = place.over_runs(self._for_use, shared=0)
        self.take_full = place.over_runs(self._take(batch_size, 0, self.full), shared=5, donate=(0,))
        self.take_rest = place.over_runs(self._take(self.rest, self.full * batch_size, 1), shared=5, donate=(0,))
        self.measures: dict[Kind, Any] = {}
        self.compiled: dict[Any, Any] = {}

    @property
    def takes(self) -> list[Any]:
        """The steps of an epoch: those of full batches, and that of the rest; of the two, those that there are."""
        return [take for take, steps in ((self.take_full, self.full), (self.take_rest, self.rest)) if steps]

    def compiled_for(self, *given: Any) -> list[Any]:
        """Return `takes` compiled for arguments, which say what memory they take; kept like what a jit has compiled."""
        leaves, tree = jax.tree.flatten(given)
        exact = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
        key = (tree, exact, tuple((a.shape, a.dtype, getattr(a, "weak_type", False)) for a in leaves))
        if key not in self.compiled:
            lowered = [take.lower(*given) for take in self.takes]
            with ThreadPoolExecutor() as pool:  # XLA compiles without the interpreter's lock
                self.compiled[key] = list(pool.map(lambda one: one.compile(), lowered))
        return self.compiled[key]

    def measure(self, kind: Kind) -> Any:
        """Return what measures validation rows of a kind."""
        if kind not in self.measures:
            self.measures[kind] = self.place.over_runs(functools.partial(self._measure, kind), shared=4)
        return self.measures[kind]

    def recipe(self, lane: Lane) -> Recipe:
        """The recipe of a run."""
        return self.recipes.of({**self.fixed, **lane.numbers})

    def _begin(self, lane: Lane, params: PyTree, feedback: PyTree) -> State:
        """The state before the first step, of the θ that the run's seed drew."""
        own = jax.tree.map(lambda a: a[lane.seed], (params, feedback))
        return begin(self.recipe(lane), *own)

    def _take(
        self, size: int, first: int, capacity: int
    ) -> Callable[..., tuple[State, Float[Array, " steps"], Bool[Array, ""]]]:
        """`take` for batches of a size, the first of which begins at a place of the order."""

        def take(
            state: State, lane: Lane, data: Rows, orders: Int[Array, "S N"], start: Array, stop: Array, done: Array
        ) -> tuple[State, Float[Array, " steps"], Bool[Array, ""]]:
            recipe = self.recipe(lane)

            def one(i: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
                state, costs = carry
                chosen = jax.lax.dynamic_slice(orders, (lane.seed, first + i * size), (1, size))[0]
                rows = jax.tree.map(lambda a: a.at[chosen].get(mode="promise_in_bounds"), data)
                state, value = step(recipe, state, batch(rows), recipe.key(lane.key, done + i))
                return state, costs.at[i].set(value.astype(costs.dtype))

            state, costs = jax.lax.fori_loop(start, stop, one, (state, jnp.zeros(capacity)))
            good = all_finite((state.params, costs)) if state.scaling is None else ~state.scaling.lost
            return state, costs, good

        return take

    def _measure(
        self,
        kind: Kind,
        state: State,
        lane: Lane,
        held: Rows,
        truth: PyTree,
        data: Rows,
        chosen: Int[Array, "S M"] | None,
    ) -> tuple[Array, Array | None]:
        """The cost of each validation row, and what the score is made of."""
        recipe = self.recipe(lane)
        seen = None if chosen is None else jax.tree.map(lambda a: a[chosen[lane.seed]], data.x)
        return measure(recipe, state.for_use(), held, kind, truth, seen)

    def _for_use(self, state: State) -> PyTree:
        """θ for use, copied: what a step is given is gone after it."""
        return jax.tree.map(jnp.copy, state.for_use())

    def _keep(self, best: PyTree, state: State, better: Bool[Array, ""]) -> PyTree:
        """The parameters of the best epoch so far."""
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), state.for_use(), best)


def program_of(recipes: Recipes, fixed: Mapping[str, Any], rows: int, batch_size: int, place: Place) -> Program:
    """Return a program, the same one as for an earlier sweep that would compile the same, if it is among the latest."""
    items = tuple((name, type(value), value) for name, value in fixed.items())
    try:
        return _kept(recipes, items, rows, batch_size, place)
    except TypeError:  # a setting, or what was given, has no hash
        return Program(recipes, fixed, rows, batch_size, place)


@functools.lru_cache(PROGRAMS_KEPT)
def _kept(
    recipes: Recipes, fixed: tuple[tuple[str, type, Any], ...], rows: int, batch_size: int, place: Place
) -> Program:
    return Program(recipes, {name: value for name, _, value in fixed}, rows, batch_size, place)
