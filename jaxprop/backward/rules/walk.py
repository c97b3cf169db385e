"""How a network is visited by rules: forward sees W, each leaf's way back is what its rule makes of W and B."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import jax
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path, dotted, place
from jaxprop.arrays.shapes import spec
from jaxprop.backward.rules.edits import RuleLike, as_rule
from jaxprop.backward.rules.rule import Backprop, Here, Rule, chosen_of, feeds_of
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Combinator, Walk
from jaxprop.network.fed import fed, feedback_of, without_feedback
from jaxprop.network.walk import Pulled, Pushed

DRAWING = 97  # folded into a layer's key: a rule draws with one that no layer draws with


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Kept:
    """What a leaf kept, the key of its rule, and what came in (static)."""

    cache: PyTree
    key: Array | None
    x: Any = field(metadata={"static": True})


class RuleWalk(Walk):
    """Visit a network by rules, {path of a leaf: rule}; leaves without one go back by backpropagation.

    >>> import jax.numpy as jnp
    >>> from jaxprop.layers import Linear, LinearParams
    >>> from jaxprop.network.fed import Fed
    >>> from jaxprop.backward.rules.feedback import FeedbackAlignment
    >>> walk, layer = RuleWalk({"": FeedbackAlignment()}), Linear(1, bias=False)
    >>> params = LinearParams(Fed(jnp.array([[3.0]]), jnp.array([[-1.0]])), None)
    >>> y, cache = walk.push(layer, jnp.array([[2.0]]), params, None, "")
    >>> dx, uses, _ = walk.pull(layer, jnp.ones((1, 1)), cache, params, "")
    >>> print(y, dx, uses.W.gradient())
    [[6.]] [[-1.]] [[2.]]
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.rules, self.error = dict(rules), None

    def push(self, layer: Layer, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go through one layer forward, with W."""
        if isinstance(layer, Combinator):
            return layer.push(self, x, params, env, path)
        y, cache = layer.forward(x, without_feedback(params), env)
        key = env.rng if env is not None and self._rule(path).draws else None
        leaves, tree = jax.tree.flatten(spec(x))
        return y, _Kept(cache, None if key is None else jax.random.fold_in(key, DRAWING), (tree, tuple(leaves)))

    def pull(self, layer: Layer, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Go through one layer back, as its rule says."""
        walk = self if path else self._from(dy)
        if isinstance(layer, Combinator):
            return layer.pull(walk, dy, cache, params, path)
        bare, theta = walk.bare(cache, params)
        tree, specs = cache.x
        x = jax.tree.unflatten(tree, specs)
        here = Here(layer, path, dy, bare, theta, feedback_of(params), x, walk.error, cache.key)
        dx, uses = walk._rule(path).back(here)
        return dx, uses, {}

    def bare(self, cache: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        """Return the cache and θ as the layer has them."""
        return cache.cache, without_feedback(params)

    def plain(self) -> Self:
        """Return the walk that goes back by backpropagation through what this one pushed."""
        other = copy.copy(self)
        other.rules = {}
        return other

    def _from(self, error: PyTree) -> Self:
        """This walk on its way back from the network's own error e = ∂C/∂y."""
        other = copy.copy(self)
        other.error = error
        return other

    def _rule(self, path: str) -> Rule:
        return self.rules.get(path, Backprop())


def prepare(
    rule: RuleLike | None, net: Layer, params: PyTree, feedback: PyTree = None, rng: Array | None = None
) -> tuple[Walk, PyTree]:
    """Return the walk of a rule, and params that carry the feedback: what whoever visits a network goes with.

    Args:
        rule: one of `jp.rules`, a function f(path, δ), or None for backpropagation.
        net: a Layer.
        params: θ.
        feedback: what `rule.init(key, net, params, x)` made; None for rules that need none.
        rng: the key of the pass, for rules that draw.

    Raises:
        JaxpropError: the rule cannot serve a layer, lacks feedback or rng, or gets feedback that it has no use for.
        ShapeError: feedback does not fit.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Linear
    >>> net, x = Linear(2), jnp.ones((3, 4))
    >>> walk, params = prepare(Backprop(), net, net.init(jax.random.key(0), x))
    >>> type(walk).__name__
    'RuleWalk'
    """
    if rule is None:
        if feedback is not None:
            raise JaxpropError("found feedback and no rule: say rule=, such as rule=jp.rules.FeedbackAlignment()")
        return Walk(), params
    rule = as_rule(rule)
    rules = {leaf.path: chosen for leaf, chosen in chosen_of(rule, net, params)}
    drawing = next((path for path, chosen in rules.items() if chosen.draws), None)
    if drawing is not None and rng is None:
        raise JaxpropError(
            f"{place(rules[drawing], drawing)} draws numbers on the way back: give rng=jax.random.key(0)"
        )
    feeds, arrays, given = feeds_of(rule, net, params), by_path(params), by_path(feedback)
    missing, extra = [p for p in feeds if p not in given], [p for p in given if p not in feeds]
    if missing or extra:
        found = f"found none for {missing[0]}" if missing else f"found some for {extra[0]}, which needs none"
        raise ShapeError(
            f"{rule}: needs feedback for {', '.join(feeds) or 'no array'}, {found}; give "
            "feedback=rule.init(key, net, params, x)"
        )
    for path, feed in feeds.items():
        feed.rule.check(path, arrays[path], given[path], feed)
    return RuleWalk(rules), jax.tree_util.tree_map_with_path(
        lambda path, array: fed(array, given.get(dotted(path))), params
    )
