"""A step of training, θ ← θ + update(∂C/∂θ), and many of them as one compiled loop."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import ArrayLike, Bool, Float, Key, PyTree

from jaxprop.backward import auto, manual
from jaxprop.backward.rules import Rule
from jaxprop.costs import Cost
from jaxprop.layers.layer import Layer
from jaxprop.network.call import Network
from jaxprop.stats import Collected, Quantity, collect
from jaxprop.train import optimizers
from jaxprop.train.devices import Devices
from jaxprop.train.precision import Computed, Precision, Scaling, computed, kept, scaling
from jaxprop.train.rows import Rows

Way = Literal["auto", "manual"]
Rng = Key[Array, ""] | None
PROGRAMS_KEPT = 4  # a compiled loop takes 4 MB


@dataclass(frozen=True)
class Recipe:
    """What every step of a run shares: f, C, the optimizer and the way to the gradient; static, so hashable."""

    net: Network
    cost: Cost
    optimizer: optax.GradientTransformation
    way: Way
    rule: Rule | None = None
    precision: Precision | None = None
    devices: Devices | None = None

    def value_and_grad(
        self, rows: Rows, params: PyTree, rng: Rng, feedback: PyTree = None, scale: Float[Array, ""] | None = None
    ) -> tuple[Array, PyTree]:
        """Return C = Σ_n w_n C_n of a batch, and ∂C/∂θ, by the rule if there is one.

        scale: what errors are multiplied by on their way back, in float16; the gradient is divided by it again.
        """
        low = self._laid(self.computed(rows, params, feedback, scale))
        given = {"weights": low.rows.weights, "rng": rng, "mask": low.rows.mask}
        if self.way == "auto":
            run = auto.value_and_grad(low.net, low.cost)
        else:
            run = manual.value_and_grad(low.net, low.cost, rule=self.rule)  # pyright: ignore[reportArgumentType]
            given["feedback"] = low.feedback
        value, grads = low.raised(*run(low.rows.x, low.params, low.rows.targets, **given), params)
        return value, grads if self.devices is None else self.devices.summed(grads)

    def computed(
        self, rows: Rows, params: PyTree, feedback: PyTree = None, scale: Float[Array, ""] | None = None
    ) -> Computed:
        """Return what a step computes with: f, C, rows and θ in its precision."""
        return computed(self.precision, self.net, self.cost, rows, params, feedback, scale)

    def collected(
        self, quantities: Sequence[Quantity], rows: Rows, params: PyTree, rng: Rng, feedback: PyTree = None
    ) -> Collected:
        """Return C, ∂C/∂θ and some quantities of a batch, by the rule if there is one.

        They are computed as θ is kept: what is squared or inverted is not to be rounded to half precision first.
        """
        rows = kept(rows, self.precision)
        given = {"weights": rows.weights, "rng": rng, "mask": rows.mask}
        run = collect(self.net, self.cost, quantities, rule=self.rule)  # pyright: ignore[reportArgumentType]
        params = params if self.devices is None else self.devices.gathered(params)
        return run(rows.x, params, rows.targets, **given, feedback=feedback)

    def value(self, rows: Rows, params: PyTree, rng: Rng) -> Array:
        """Return C alone, as a function that JAX may differentiate again."""
        return self._laid(self.computed(rows, params)).value(rng)

    def key(self, rng: Key[Array, ""], step: ArrayLike) -> Rng:
        """A step's own key, for layers that draw; a plain function takes none."""
        return jax.random.fold_in(rng, step) if isinstance(self.net, Layer) else None

    def _laid(self, low: Computed) -> Computed:
        """With θ gathered where it is spread over devices: all at once for a rule, which has feedback beside it."""
        if self.devices is None:
            return low
        if self.rule is not None:
            return low._replace(params=self.devices.gathered(low.params))
        params = self.devices.gathered(low.params, blocks=False)
        return low._replace(net=self.devices.gathering(low.net), params=params)


def batch(rows: Rows) -> Rows:
    """Return the rows of one batch as a step takes them: weights with the mean 1 become those of C = Σ_n w_n C_n.

    >>> batch(Rows(jnp.ones((4, 1)), jnp.ones((4, 1)), jnp.ones(4))).weights.tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return rows if rows.weights is None else rows._replace(weights=rows.weights / rows.weights.shape[0])


class State(NamedTuple):
    """What a step changes."""

    params: PyTree
    optimizer: PyTree
    feedback: PyTree = None
    scaling: Scaling | None = None  # of float16

    def for_use(self) -> PyTree:
        """The parameters that are for use."""
        return optimizers.for_use(self.params, self.optimizer)


copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def begin(recipe: Recipe, params: PyTree, feedback: PyTree = None) -> State:
    """Return the state before the first step, none of whose arrays is one of the caller's."""
    # optax mixes dtypes, and its zeros are made on the host
    with jax.numpy_dtype_promotion("standard"), jax.transfer_guard_host_to_device("allow"):
        # copied as a whole: some optimizers keep params themselves, and a loop of one's own may donate each buffer once
        return copied(State(*optimizers.start(recipe.optimizer, params), feedback, scaling(recipe.precision)))


def step(recipe: Recipe, state: State, rows: Rows, rng: Rng) -> tuple[State, Float[Array, ""]]:
    """Take one step; return the new state and the cost before it. In float16 a step that overflows is not taken."""
    scale = None if state.scaling is None else state.scaling.scale
    rows = rows if recipe.devices is None else recipe.devices.spread(rows)
    value, grads = recipe.value_and_grad(rows, optimizers.point(state.params), rng, state.feedback, scale)
    updates, optimizer = optimizers.update(
        *(recipe.optimizer, state.params, state.optimizer, value, grads),
        cost=lambda params: recipe.value(rows, params, rng),
        gradient=lambda params: recipe.value_and_grad(rows, params, rng, state.feedback, scale)[1],
        found=lambda quantities: (
            recipe.collected(quantities, rows, optimizers.point(state.params), rng, state.feedback).found
        ),
    )
    updates, feedback = _with_feedback(recipe, updates, state)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        after = State(optax.apply_updates(state.params, updates), optimizer, feedback, state.scaling)
    after = _if_finite(state, after, value, (grads, updates))
    return after if recipe.devices is None else recipe.devices.kept(after), value


def _if_finite(before: State, after: State, value: Array, found: PyTree) -> State:
    """The state after a step, or the one before where it overflowed, with the next loss scale, if there is one."""
    if before.scaling is None:
        return after
    good = all_finite((value, found))
    chosen = jax.tree.map(lambda a, b: jnp.where(good, a, b), after, before)
    return chosen._replace(scaling=before.scaling.after(good, value))


def _with_feedback(recipe: Recipe, updates: PyTree, state: State) -> tuple[PyTree, PyTree]:
    """The updates and the feedback after them, for a rule that moves it; of lookahead's pair by the fast θ."""
    if recipe.rule is None:
        return updates, state.feedback
    pair = isinstance(state.params, optax.LookaheadParams)
    moved, feedback = recipe.rule.update(
        *(recipe.net, optimizers.point(updates), optimizers.point(state.params), state.feedback)  # pyright: ignore[reportArgumentType]
    )
    return updates._replace(fast=moved) if pair else moved, feedback


@functools.lru_cache(PROGRAMS_KEPT)
def taking(recipe: Recipe) -> Callable[..., tuple[State, Float[Array, " steps"], Bool[Array, ""]]]:
    """Return `take(state, batches, start, stop, rng, done)` of a recipe, compiled.

    `state` is not donated: the loop copies it into buffers of its own, so that the state before is there still, at no
    cost, for whoever asks what it was.

    One compiled function a recipe, and the latest few of them: what a jit has compiled stays as long as the jit does.
    """
    return jax.jit(functools.partial(take, recipe))


def take(
    recipe: Recipe,
    state: State,
    batches: Rows,
    start: ArrayLike,
    stop: ArrayLike,
    rng: Key[Array, ""],
    done: ArrayLike,
) -> tuple[State, Float[Array, " steps"], Bool[Array, ""]]:
    """Take the steps `start` to `stop` of some batches; return the new state, every step's cost, and if all went well.

    It did if θ and the costs are finite; in float16, where steps are skipped, if not all of late were.

    `batches` are rows with a leading axis of steps. `done` counts the steps before these batches: every step of a run
    has an rng key of its own, fold_in(rng, step).
    """
    capacity = jax.tree.leaves(batches)[0].shape[0]

    def one(i: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
        state, costs = carry
        rows = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), batches)
        state, value = step(recipe, state, batch(rows), recipe.key(rng, done + i))  # XLA drops an unused key
        return state, costs.at[i].set(value.astype(costs.dtype))

    state, costs = jax.lax.fori_loop(start, stop, one, (state, jnp.zeros(capacity)))
    good = all_finite((state.params, costs)) if state.scaling is None else ~state.scaling.lost
    return state, costs, good


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Return whether every floating number in a tree is finite.

    >>> bool(all_finite({"w": jnp.ones(2), "b": jnp.array(jnp.nan)}))
    False
    """
    floating = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return jnp.all(jnp.array([True, *(jnp.all(jnp.isfinite(leaf)) for leaf in floating)]))
