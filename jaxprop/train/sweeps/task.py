"""What all runs of a sweep share, and what becomes of a setting: its recipe, its start, whether it fits the rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxprop.arrays.shapes import spec
from jaxprop.backward.rules.edits import RuleLike
from jaxprop.checks import check_whole
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.network.call import call
from jaxprop.train.parts import read_recipe
from jaxprop.train.precision import kept
from jaxprop.train.rows import Rows
from jaxprop.train.run import FEEDBACK
from jaxprop.train.steps import Recipe, Way
from jaxprop.train.sweeps.scores import Truth
from jaxprop.train.sweeps.settings import BATCH_SIZE, Makers, Setting


@dataclass(frozen=True)
class Recipes:
    """What makes the recipe of a setting; hashable where what was given is, for programs are kept by it."""

    makers: Makers
    grad: Way | None
    rule: RuleLike | None
    precision: str | None

    def of(self, setting: Mapping[str, Any]) -> Recipe:
        """Make the recipe of a setting, some of whose numbers may be tracers."""
        net, cost, optimizer = (self.makers.made(part, setting) for part in ("net", "cost", "optimizer"))
        return read_recipe("sweep", net, cost, optimizer, self.grad, self.rule, self.precision)


@dataclass(frozen=True)
class Task:
    """What all runs share."""

    recipes: Recipes
    params: Any
    data: Rows
    held: Rows | None
    batch_size: int
    seeds: tuple[int, ...]

    def checked(self, setting: Setting) -> Recipe:
        """Make the recipe of a setting with its real values, and see that it is one."""
        check_whole(setting.get(BATCH_SIZE, 1), f"sweep: {BATCH_SIZE}")
        return self.recipes.of(setting)

    def start(self, recipe: Recipe, key: jax.Array, seed: int) -> tuple[PyTree, PyTree]:
        """θ and feedback that a run starts with, as `fit` draws them."""
        net = recipe.net
        if self.params is not None:
            given = self.params(jax.random.key(seed)) if callable(self.params) else self.params
        elif isinstance(net, Layer):
            given = net.init(key, self.data.x)
        else:
            raise JaxpropError("sweep: a plain function f(x, params) needs its params: pass params=")
        params = kept(jax.tree.map(jnp.array, given), recipe.precision)
        if recipe.rule is None or not isinstance(net, Layer):
            return params, None
        feedback = recipe.rule.init(jax.random.fold_in(key, FEEDBACK), net, params, spec(self.data.x))
        return params, kept(feedback, recipe.precision)

    def truth(self, recipe: Recipe, params: PyTree) -> Truth | None:
        """Check that rows, net and cost fit together; return what validation rows are held against."""
        truth = None
        for rows in [self.data] if self.held is None else [self.data, self.held]:
            y = jax.eval_shape(lambda x, p, mask: call(recipe.net, x, p, mask=mask), rows.x, params, rows.mask)
            if isinstance(recipe.net, Layer):
                recipe.net.check_values(rows.x)
            recipe.cost.check(y, rows.targets)
            recipe.cost.check_values(y, rows.targets)
            truth = Truth.of(recipe.cost, rows, y.shape) if rows is self.held else None
        return truth
