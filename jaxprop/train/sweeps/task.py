"""What all runs of a sweep share, and what becomes of a setting: its recipe, its start, whether it fits the rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxprop.arrays.shapes import spec
from jaxprop.checks import check_whole
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly
from jaxprop.network.call import call, require, require_layer
from jaxprop.train.precision import kept
from jaxprop.train.rows import Rows
from jaxprop.train.run import FEEDBACK
from jaxprop.train.steps import Recipe, Way
from jaxprop.train.sweeps.scores import Truth
from jaxprop.train.sweeps.settings import BATCH_SIZE, Makers, Setting


@dataclass(frozen=True)
class Task:
    """What all runs share."""

    makers: Makers
    way: Way
    rule: Any
    precision: Any
    params: Any
    data: Rows
    held: Rows | None
    batch_size: int
    seeds: tuple[int, ...]

    def recipe(self, setting: Mapping[str, Any]) -> Recipe:
        """Make the recipe of a setting, some of whose numbers may be tracers."""
        made = {part: self.makers.made(part, setting) for part in ("net", "cost", "optimizer")}
        return Recipe(made["net"], made["cost"], made["optimizer"], self.way, self.rule, self.precision)

    def checked(self, setting: Setting) -> Recipe:
        """Make the recipe of a setting with its real values, and see that it is one."""
        recipe = self.recipe(setting)
        require(recipe.net, recipe.cost, "sweep")
        if not isinstance(recipe.cost, Cost):
            raise JaxpropError(f"sweep: cost must be one such as HalfSquaredError(), found {shortly(recipe.cost)}")
        if not callable(getattr(recipe.optimizer, "update", None)):
            raise JaxpropError(
                f"sweep: make_optimizer must return one of optax's optimizers, found {shortly(recipe.optimizer)}"
            )
        if self.way == "manual":
            require_layer(recipe.net, 'grad="manual"' if self.rule is None else "sweep with a rule")
        for name in (BATCH_SIZE,):
            check_whole(setting.get(name, 1), f"sweep: {name}")
        return recipe

    def start(self, recipe: Recipe, key: jax.Array, seed: int) -> tuple[PyTree, PyTree]:
        """θ and feedback that a run starts with, as `fit` draws them."""
        net = recipe.net
        if self.params is not None:
            given = self.params(jax.random.key(seed)) if callable(self.params) else self.params
        elif isinstance(net, Layer):
            given = net.init(key, self.data.x)
        else:
            raise JaxpropError("sweep: a plain function f(x, params) needs its params: pass params=")
        params = kept(jax.tree.map(jnp.array, given), self.precision)
        if self.rule is None or not isinstance(net, Layer):
            return params, None
        return params, kept(
            self.rule.init(jax.random.fold_in(key, FEEDBACK), net, params, spec(self.data.x)), self.precision
        )

    def truth(self, recipe: Recipe, start: tuple[PyTree, PyTree]) -> Truth | None:
        """Check that rows, net and cost fit together; return what validation rows are held against."""
        params, feedback = start
        truth = None
        for rows in [self.data] if self.held is None else [self.data, self.held]:
            y = jax.eval_shape(lambda x, p, mask: call(recipe.net, x, p, mask=mask), rows.x, params, rows.mask)
            if isinstance(recipe.net, Layer):
                recipe.net.check_values(rows.x)
            recipe.cost.check(y, rows.targets)
            recipe.cost.check_values(y, rows.targets)
            truth = Truth.of(recipe.cost, rows, y.shape) if rows is self.held else None
        rng = jax.random.key(0) if isinstance(recipe.net, Layer) else None
        jax.eval_shape(recipe.value_and_grad, jax.tree.map(lambda a: a[:1], self.data), params, rng, feedback)
        return truth
