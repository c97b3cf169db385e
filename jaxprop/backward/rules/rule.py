"""What a rule is: how an error comes back through one layer, as a value that is given to the backward pass.

Backpropagation says dx = dy · ∂y/∂x. A rule may say something else: another matrix in the place of W, an error from
elsewhere, an error changed on its way. It is asked at every layer that is not made of layers, and sees what meets there
(`Here`). Combinators stay what they are: they share errors out and add them up, whatever rule made them.

The uses stay (a, δ) of the layer: a rule changes which δ arrives, not what a δ means for a parameter.

How to write one: `back`, and if it needs feedback arrays `fed` and `draw`; `feedback.py` is the model to follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.arrays.given import as_arrays, as_key
from jaxprop.arrays.paths import by_path, dotted
from jaxprop.arrays.shapes import spec
from jaxprop.checks import check_key
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.described import Described
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Leaf, Shared, Walk, join, leaves
from jaxprop.network.walk import Pushed


class Here(NamedTuple):
    """Hold what a rule sees at one layer on the way back.

    layer, path: which layer, and where.    dy: ∂C_n/∂y, the error that arrives.    cache: what the layer kept.
    params: the layer's own θ.    feedback: B in each array's place, None where there is none.
    x: shape and dtype of the layer's input.    error: e = ∂C_n/∂y of the whole network.
    key: a key of this layer's own, for rules that draw; None for others.

    >>> Here._fields
    ('layer', 'path', 'dy', 'cache', 'params', 'feedback', 'x', 'error', 'key')
    """

    layer: Layer
    path: str
    dy: PyTree
    cache: PyTree
    params: PyTree
    feedback: PyTree
    x: PyTree
    error: PyTree
    key: Array | None = None

    def backward(self, params: PyTree = None) -> tuple[PyTree, PyTree]:
        """Return (dx, uses) as the layer's own derivation has them, with other params if some are given."""
        return self.layer.backward(self.dy, self.cache, self.params if params is None else params)


class Feed(NamedTuple):
    """Say which array of θ gets feedback, and why: the rule that asked for it, at which leaf, under which name.

    `times` are the leading axes of an array inside `Repeat`s, one feedback array for each.
    """

    rule: "Rule"
    leaf: Leaf
    name: str
    tied: bool

    @property
    def times(self) -> int:
        """How many leading axes of W count blocks of `Repeat`s."""
        return self.leaf.repeats


@dataclass(frozen=True)
class Rule(Described):
    """How an error comes back through a layer: a frozen, hashable description, given as `rule=`.

        back(here)                  -> (dx, uses)   by default the layer's own backward
        draws                       True: it draws numbers on the way back, and needs rng=
        fed(leaf)                   -> names        which arrays of a layer need feedback; refuses what it cannot serve
        draw(key, W, feed, x, y)    -> B            fresh feedback for one of them
        check(path, W, B, feed)                     raises ShapeError for feedback that does not fit
        matrix(W, B)                -> array        what stands in W's place on the way back, for `alignment`
        moved(update, W, B)         -> (update, B)  how feedback moves when W does, for rules that learn it
        choose(leaves)              -> rules        which rule serves each leaf: itself, but for `at`

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear, manual
    >>> class Halved(Rule):
    ...     def back(self, here):
    ...         return here._replace(dy=here.dy / 2).backward()
    >>> net, x = Linear(1, bias=False), jnp.array([[2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))
    >>> value, grads = manual.value_and_grad(net, HalfSquaredError(), rule=Halved())(x, params, jnp.zeros((1, 1)))
    >>> print(value, grads.W)
    18.0 [[6.]]
    """

    @property
    def draws(self) -> bool:
        """Tell whether it draws numbers on the way back, with a key that the layers' own draws do not use."""
        return False

    def back(self, here: Here) -> tuple[PyTree, PyTree]:
        """Return dx, what goes on to the layer before, and the uses of the layer's parameters."""
        return here.backward()

    def fed(self, leaf: Leaf) -> tuple[str, ...]:
        """Return the names of the arrays of a leaf that travel with feedback; raise JaxpropError if it cannot serve."""
        return ()

    def draw(self, key: Array, W: Array, feed: Feed, x: PyTree, y: PyTree) -> Array:
        """Return fresh feedback for W. x, y: shape and dtype of the leaf's input and of the network's output."""
        raise TypeError(f"{type(self).__name__} must define draw(key, W, feed, x, y)")

    def check(self, path: str, W: Array, B: Array, feed: Feed) -> None:
        """Raise ShapeError if B cannot be the feedback of W at `path`; by default it must have W's shape and dtype."""
        if B.shape != W.shape or B.dtype != W.dtype:
            raise ShapeError(
                f"{self}: the feedback at {path} is {B.dtype}{list(B.shape)}, expected {W.dtype}{list(W.shape)} as the "
                "array that it stands beside; make it with rule.init(key, net, params, x)"
            )

    def moved(self, update: Array, W: Array, B: Array) -> tuple[Array, Array]:
        """Return the update of W and the feedback after it; by default feedback stays as it is."""
        return update, B

    def matrix(self, W: Array, B: Array) -> Array | None:
        """Return what errors come back through in W's place; None if it is no such matrix. By default B itself."""
        return B

    def choose(self, leaves: Sequence[Leaf]) -> list["Rule"]:
        """Return the rule that serves each leaf: itself, but for those that are made of others."""
        return [self] * len(leaves)

    def init(self, key: Key[Array, ""] | None, net: Layer, params: PyTree, x: PyTree = None) -> PyTree:
        """Return fresh feedback: the tree of θ, with an array where the rule needs one and None where it does not.

        Args:
            key: where the arrays are drawn from; None if the rule needs none.
            net: a Layer.
            params: θ, or its shapes.
            x: inputs `[N, ...]` or their `jax.ShapeDtypeStruct`; only direct feedback needs them.

        Raises:
            JaxpropError: the rule cannot serve a layer, or lacks the key or x.

        >>> import jax.numpy as jnp
        >>> from jaxprop import Linear, rules
        >>> net, x = Linear(2), jnp.ones((3, 4))
        >>> params = net.init(jax.random.key(0), x)
        >>> feedback = rules.FeedbackAlignment().init(jax.random.key(1), net, params)
        >>> feedback.W.shape, feedback.b
        ((4, 2), None)
        """
        feeds, found = feeds_of(self, net, params), {}
        if feeds:
            specs, y = ({}, None) if x is None else _specs(net, params, as_arrays(x, "x"))
            arrays = by_path(spec(params))

            @jax.jit  # one program, as θ is drawn by one
            def drawn(key: Array) -> dict[str, Array]:
                keys = zip(jax.random.split(key, len(feeds)), feeds.items(), strict=True)
                return {p: f.rule.draw(k, arrays[p], f, specs.get(f.leaf.path), y) for k, (p, f) in keys}

            found = drawn(check_key(as_key(key, "key"), f"{self}.init", "feedback"))
        return jax.tree_util.tree_map_with_path(lambda path, _: found.get(dotted(path)), params)

    def update(self, net: Layer, updates: PyTree, params: PyTree, feedback: PyTree) -> tuple[PyTree, PyTree]:
        """Return the updates of θ, and the feedback after them: what a step of training calls between the two.

        updates: what an optimizer is about to add to params.

        >>> import jax.numpy as jnp
        >>> from jaxprop import Linear, LinearParams, rules
        >>> params, feedback = LinearParams(jnp.ones((1, 1)), None), LinearParams(jnp.zeros((1, 1)), None)
        >>> updates, feedback = rules.KolenPollack(decay=0.5).update(Linear(1, bias=False), params, params, feedback)
        >>> print(updates.W, feedback.W)
        [[0.5]] [[1.]]
        """
        feeds = feeds_of(self, net, params)
        step, W, B = by_path(updates), by_path(params), by_path(feedback)
        moved = {path: feed.rule.moved(step[path], W[path], B[path]) for path, feed in feeds.items()}

        def put(which: int, tree: PyTree) -> PyTree:
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: moved[dotted(path)][which] if dotted(path) in moved else leaf, tree
            )

        return put(0, updates), put(1, feedback)


@dataclass(frozen=True)
class Backprop(Rule):
    """Let every error come back as the chain rule says: dx = dy · ∂y/∂x.

    The rule of `jp.manual` where none is given, and of layers that `jp.rules.at` says nothing about.
    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors" (1986).

    >>> Backprop()
    Backprop()
    """


def chosen_of(rule: Rule, net: Layer, params: PyTree) -> list[tuple[Leaf, Rule]]:
    """Return every leaf of a network with the rule that serves it."""
    found = list(leaves(net, params))
    return list(zip(found, rule.choose(found), strict=True))


def feeds_of(rule: Rule, net: Layer, params: PyTree) -> dict[str, Feed]:
    """Return {path of an array of θ: why it needs feedback}; of tied arrays the owner's path."""
    arrays = by_path(params)
    found: dict[str, Feed] = {}
    for leaf, chosen in chosen_of(rule, net, params):
        for name in chosen.fed(leaf):
            path = join(leaf.path, name)
            owner = _owner(leaf, path)
            if owner not in arrays:
                raise ShapeError(f"{chosen}: params have no array at {owner}; make them with net.init(key, x)")
            before = found.get(owner)
            if before is not None and before.rule != chosen:
                raise JaxpropError(
                    f"{owner} is tied to {path}, where {chosen} would go back through it, and elsewhere {before.rule}: "
                    "one array has one feedback; choose one rule for both"
                )
            found[owner] = Feed(chosen, leaf, name, owner != path or before is not None)
    return found


def _owner(leaf: Leaf, path: str) -> str:
    """The path at which θ holds an array: that of its owner where it is tied."""
    for around_path, around in reversed(leaf.inside):
        if isinstance(around, Shared):
            start = join(around_path, "inner")
            tied = {join(start, user): join(start, owner) for owner, user, _ in around.ties}
            path = tied.get(path, path)
    return path


class _Noting(Walk):
    """The plain walk forward, noting shape and dtype of what every leaf takes."""

    def __init__(self) -> None:
        self.found: dict[str, PyTree] = {}

    def push(self, layer: Layer, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        self.found[path] = spec(x)
        return super().push(layer, x, params, env, path)


def _specs(net: Layer, params: PyTree, x: PyTree) -> tuple[dict[str, PyTree], PyTree]:
    """What every layer takes, by path, and what the network gives."""
    walk = _Noting()
    y = jax.eval_shape(lambda x, params: walk.push(net, x, params, None, "")[0], spec(x), spec(params))
    return walk.found, y
