"""An experiment: a problem, a network, a cost, an optimizer and θ, and all that a page may do to them."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from jaxprop import costs, layers
from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer, Linear
from jaxprop.network import Chain, by_path
from jaxprop_explorer.problems import Problem, problem
from jaxprop_explorer.settings import Settings

KINDS = {"tanh": layers.Tanh, "sigmoid": layers.Sigmoid, "relu": layers.ReLU, "linear": layers.Identity}


class Experiment:
    """θ of one network on its way, from its settings on.

    `version` grows with every change, `step` counts updates, `history` holds what was changed at which step: from
    settings, history and steps the same θ comes again. `pulled` says whether a backward pass ran since θ or the
    example changed.
    """

    def __init__(
        self, net: Layer, cost: Cost, rows: Problem, params: PyTree, settings: Settings, steerable: bool = True
    ) -> None:
        self.net, self.cost, self.rows, self.params, self.settings = net, cost, rows, params, settings
        self.steerable = steerable
        self.version = self.step = self.example = 0
        self.pulled = False
        self.history: list[dict[str, Any]] = []
        self.costs: list[tuple[int, float]] = []
        self.order = np.random.default_rng(settings.seed)

    @classmethod
    def of(cls, settings: Settings) -> "Experiment":
        """Return the experiment that these settings describe, before its first step."""
        rows = problem(settings.data)
        activation = KINDS[settings.activation]()
        hidden = [layer for width in settings.layers for layer in (Linear(width), activation)]
        net = Chain(*hidden, Linear(rows.outputs))
        params = net.init(jax.random.key(settings.seed), jnp.asarray(rows.x[:1]))
        return cls(net, costs.HalfSquaredError(), rows, params, settings)

    def advance(self, steps: int) -> None:
        """Take some steps of the optimizer, each on a batch."""
        for _ in range(steps):
            at = self.order.choice(len(self.rows.x), min(self.settings.batch_size, len(self.rows.x)), replace=False)
            x, targets = jnp.asarray(self.rows.x[at]), jnp.asarray(self.rows.targets[at])
            value, grads = _value_and_grad(self.net, self.cost)(x, self.params, targets)
            optimizer = optax.sgd(self.settings.learning_rate)
            updates, _ = optimizer.update(grads, optimizer.init(self.params))
            self.params = optax.apply_updates(self.params, updates)
            self.step += 1
            self.costs.append((self.step, float(value)))
        self.changed()

    def edit(self, path: str, index: tuple[int, ...], value: float) -> None:
        """Set one number of θ."""
        known = by_path(self.params)
        if path not in known:
            raise JaxpropError(f"there is no parameter {path!r}; known: {', '.join(known)}")
        changed = jnp.asarray(known[path]).at[index].set(value)
        self.params = jax.tree_util.tree_unflatten(
            jax.tree.structure(self.params), [changed if name == path else leaf for name, leaf in known.items()]
        )
        self.history.append({"at": self.step, "edit": [path, list(index), value]})
        self.changed()

    def changed(self) -> None:
        """Note that θ is another one now."""
        self.version += 1
        self.pulled = False

    @property
    def row(self) -> tuple[jax.Array, jax.Array]:
        """The example in view, x `[1, I]` and its target."""
        at = slice(self.example, self.example + 1)
        return jnp.asarray(self.rows.x[at]), jnp.asarray(self.rows.targets[at])


@lru_cache(8)
def _value_and_grad(net: Layer, cost: Cost) -> Any:
    return jax.jit(manual.value_and_grad(net, cost))
