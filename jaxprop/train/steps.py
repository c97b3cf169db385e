"""A step of training, θ ← θ + update(∂C/∂θ), and many of them as one compiled loop."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import ArrayLike, Bool, Float, Key, PyTree, Shaped

from jaxprop.backward import auto, manual
from jaxprop.costs import Cost
from jaxprop.layers.layer import Layer
from jaxprop.network.call import Network

Way = Literal["auto", "manual"]


@dataclass(frozen=True)
class Recipe:
    """What every step of a run shares: f, C, the optimizer and the way to the gradient; static, so hashable."""

    net: Network
    cost: Cost
    optimizer: optax.GradientTransformation
    way: Way

    @property
    def value_and_grad(self) -> Callable[..., tuple[Array, PyTree]]:
        """C and ∂C/∂θ as a function of (x, params, targets, *, rng)."""
        if self.way == "manual" and isinstance(self.net, Layer):
            return manual.value_and_grad(self.net, self.cost)
        return auto.value_and_grad(self.net, self.cost)

    def key(self, rng: Key[Array, ""], step: ArrayLike) -> Key[Array, ""] | None:
        """A step's own key, for layers that draw; a plain function takes none."""
        return jax.random.fold_in(rng, step) if isinstance(self.net, Layer) else None


class State(NamedTuple):
    """What a step changes."""

    params: PyTree
    optimizer: PyTree


copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def begin(recipe: Recipe, params: PyTree) -> State:
    """Return the state before the first step, none of whose arrays is one of the caller's."""
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        # copied as a whole: some optimizers keep params themselves, and a buffer is donated only once
        return copied(State(params, recipe.optimizer.init(params)))


def step(
    recipe: Recipe, state: State, x: PyTree, targets: Shaped[Array, "N ..."], rng: Key[Array, ""] | None
) -> tuple[State, Float[Array, ""], PyTree]:
    """Take one step; return the new state, the cost before it, and the gradient."""
    value, grads = recipe.value_and_grad(x, state.params, targets, rng=rng)
    with jax.numpy_dtype_promotion("standard"):
        update = optax.with_extra_args_support(recipe.optimizer).update
        updates, optimizer_state = update(grads, state.optimizer, state.params, value=value)
        return State(optax.apply_updates(state.params, updates), optimizer_state), value, grads


@functools.partial(jax.jit, static_argnames="recipe", donate_argnames="state")
def take(
    recipe: Recipe,
    state: State,
    batches: PyTree[Shaped[Array, "steps N ..."]],
    start: ArrayLike,
    stop: ArrayLike,
    rng: Key[Array, ""],
    done: ArrayLike,
) -> tuple[State, Float[Array, " steps"], Bool[Array, ""]]:
    """Take the steps `start` to `stop` of some batches; return the new state, every step's cost, and if θ is finite.

    `done` counts the steps before these batches: every step of a run has an rng key of its own, fold_in(rng, step).
    """
    capacity = jax.tree.leaves(batches)[0].shape[0]

    def one(i: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
        state, costs = carry
        x, targets = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), batches)
        state, value, _ = step(recipe, state, x, targets, recipe.key(rng, done + i))  # XLA drops an unused key
        return state, costs.at[i].set(value.astype(costs.dtype))

    state, costs = jax.lax.fori_loop(start, stop, one, (state, jnp.zeros(capacity)))
    return state, costs, all_finite(state.params)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Return whether every floating number in a tree is finite.

    >>> bool(all_finite({"w": jnp.ones(2), "b": jnp.array(jnp.nan)}))
    False
    """
    floating = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return jnp.all(jnp.array([True, *(jnp.all(jnp.isfinite(leaf)) for leaf in floating)]))
