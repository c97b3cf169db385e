"""How far a rule's gradient points away from the true one: the angle between them, layer by layer.

    angle(u, v) = arccos(⟨u, v⟩ / ‖u‖‖v‖) = 2 arctan2(‖û − v̂‖, ‖û + v̂‖)         û = u / ‖u‖, v̂ = v / ‖v‖

0° is backpropagation, below 90° a small step still lowers the cost, 90° is what directions drawn at random have in many
dimensions. The form on the right is exact near 0° and 180° too, where a cosine has lost half of its digits.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.backward.mixing import refuse_mixing
from jaxprop.backward.rules.edits import RuleLike, as_rule
from jaxprop.backward.rules.rule import feeds_of
from jaxprop.backward.rules.walk import prepare
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.network import Walk, leaves
from jaxprop.network.call import (
    Rng,
    Targets,
    Weights,
    environment,
    require_cost,
    require_layer,
    takes_rows,
)

Angle = Float[Array, "*L"]


class Angles(NamedTuple):
    """Hold angles in degrees: of the gradient by layer and in total, and of feedback B to W by the path of W.

    An angle is NaN where one of the two is 0: a `Step` has no true gradient before it. Inside a `Repeat` there is one a
    block, `[L]`. `feedback` compares W with what errors come back through in its place: B, or |M| ⊙ sign(W). Direct
    feedback stands in no W's place, and uniform and redrawn signs travel without arrays.

    >>> Angles._fields
    ('layers', 'total', 'feedback')
    """

    layers: dict[str, Angle]
    total: Angle
    feedback: dict[str, Angle]


def alignment(net: Layer, cost: Cost, rule: RuleLike) -> Callable[..., Angles]:
    """Return `run`, which computes the angle in degrees between a rule's gradient and the true one.

    One forward pass and two ways back. To see it as training goes: `fit(..., rule=rule,
    monitor={"angle": jp.stats.Alignment()})`.

    Args:
        net: a Layer that does not mix the examples of a batch.
        cost: C_n, such as `SoftmaxCrossEntropy()`.
        rule: one of `jp.rules`, or a function f(path, δ).

    Returns:
        `run(x, params, targets, *, weights=None, rng=None, mask=None, feedback=None)`, which returns `Angles`: of each
        layer, all its parameters together; of all; and of B to W.

    Raises:
        JaxpropError: `net` is a plain function or mixes examples, or the rule cannot serve it.

    Source: Lillicrap et al., "Random synaptic feedback weights support error backpropagation for deep learning" (2016),
    figure 1, who take the angle of δ.

    >>> import jax, jax.numpy as jnp
    >>> from jaxprop import Chain, HalfSquaredError, Linear, rules
    >>> net, x, rule = Chain(Linear(5), Linear(2)), jnp.ones((3, 4)), rules.FeedbackAlignment()
    >>> params = net.init(jax.random.key(0), x)
    >>> feedback = rule.init(jax.random.key(1), net, params)
    >>> run = jax.jit(alignment(net, HalfSquaredError(), rule))
    >>> found = run(x, params, jnp.zeros((3, 2)), feedback=feedback)
    >>> print(found.layers["1"], bool(found.layers["0"] > 1), sorted(found.feedback))      # the last layer's is true
    0.0 True ['0.W', '1.W']
    """
    require_layer(net, "rules.alignment")
    require_cost(cost, "rules.alignment")
    refuse_mixing(net, "rules.alignment")

    @takes_rows
    def run(
        x: PyTree, params: PyTree, targets: Targets, *, weights: Weights = None, rng: Rng = None, mask: PyTree = None,
        feedback: PyTree = None,
    ) -> Angles:  # fmt: skip
        if not jax.tree.leaves(params):
            raise JaxpropError(f"rules.alignment: {net} has no parameters, so no gradient that could point anywhere")
        walk, fed = prepare(rule, net, params, feedback, rng)
        y, cache = walk.push(net, x, fed, environment(rng, mask), "")
        dy = cost.delta(y, targets)

        def gradient(walk: Walk) -> PyTree:
            totals = walk.closing(lambda use, path: use.total(weights))
            return totals.close_all(totals.pull(net, dy, cache, fed, "")[1])

        layers, total = angles(net, gradient(walk), gradient(walk.plain()))
        return Angles(layers, total, _of_feedback(rule, net, params, feedback))

    return run


def angles(net: Layer, found: PyTree, true: PyTree) -> tuple[dict[str, Angle], Angle]:
    """Return the angle in degrees of two gradients of `net`, {path of a layer: angle}, and that of the whole trees.

    >>> from jaxprop import Linear, LinearParams
    >>> these, those = (LinearParams(jnp.array([[w]]), jnp.array([b])) for w, b in ((1.0, 0.0), (0.0, 2.0)))
    >>> layers, total = angles(Linear(1), these, those)
    >>> print(layers[""], total)
    90.0 90.0
    """
    layers = {}
    for one, other in zip(leaves(net, found), leaves(net, true), strict=True):
        these, those = jax.tree.leaves(one.params), jax.tree.leaves(other.params)
        if these:
            layers[one.path] = _by_block(one.repeats)(these, those)
    return layers, angle(jax.tree.leaves(found), jax.tree.leaves(true))


def _of_feedback(rule: RuleLike, net: Layer, params: PyTree, feedback: PyTree) -> dict[str, Angle]:
    """The angle of W to what stands in its place on the way back, by path of W."""
    W, B, found = by_path(params), by_path(feedback), {}
    for path, feed in feeds_of(as_rule(rule), net, params).items():
        matrix = feed.rule.matrix(W[path], B[path])
        if matrix is not None:
            found[path] = _by_block(feed.times)([W[path]], [matrix])
    return found


def _by_block(repeats: int) -> Callable[..., Angle]:
    """`angle`, of every block of the `Repeat`s around a layer."""
    measure = angle
    for _ in range(repeats):
        measure = jax.vmap(measure)
    return measure


def angle(these: list[Array], those: list[Array]) -> Angle:
    """Return the angle in degrees of two vectors, each given in parts; NaN if one of them is 0.

    >>> print(angle([jnp.array([1.0, 1.0])], [jnp.array([0.0, 3.0])]))
    45.0
    """
    u, v = _unit(these), _unit(those)
    apart = sum(jnp.sum(jnp.square(a - b)) for a, b in zip(u, v, strict=True))
    along = sum(jnp.sum(jnp.square(a + b)) for a, b in zip(u, v, strict=True))
    return jnp.degrees(2 * jnp.arctan2(jnp.sqrt(apart), jnp.sqrt(along)))


def _unit(parts: list[Array]) -> list[Array]:
    """The vector at length 1; its largest number is divided out first, so that no square is 0 or infinite."""
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(part)) for part in parts]))
    parts = [part / largest for part in parts]
    length = jnp.sqrt(sum(jnp.sum(jnp.square(part)) for part in parts))
    return [part / length for part in parts]
