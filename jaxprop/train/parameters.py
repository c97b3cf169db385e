"""Some of θ by path, for an optimizer: what decays, what has another learning rate, what stays; and an average of θ.

optax takes such a choice as a mask or as labels: `choose` makes them.

    optax.adamw(0.01, weight_decay=0.1, mask=choose("*.W"))                         weights decay, biases do not
    optax.partition({True: optax.sgd(0.1), False: optax.adam(0.01)}, choose("0"))   two optimizers
    frozen(optax.adam(0.01), "0", "1")                                              the first two layers stay
    averaged(optax.adam(0.01), 0.999)                                               θ for use is an average
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from jaxprop.arrays.paths import by_path, dotted
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly
from jaxprop.network import leaves

Key = str | type[Layer]


def choose(*keys: Key, net: Layer | None = None) -> Callable[[PyTree], PyTree[Bool[Any, ""]]]:
    """Return a function of θ, or of a tree like it, that tells of each array whether it fits one of the keys.

    It is what optax takes as `mask=` and, with True and False for labels, in `optax.partition`.

    Args:
        keys: dotted paths with `*`, `?` and `[...]` as in file names (`*` goes through dots), of arrays or of what they
            lie in: "0" and "0.*" are all of the first layer of a `Chain`, "*.b" all that is called b. Or classes of
            layers, a combinator for all that is inside of it.
        net: the network, which classes of layers need.

    Raises:
        JaxpropError: something is no key; in use, a key fits no array, with the paths that there are.

    >>> from jaxprop import Chain, Linear, ReLU
    >>> net = Chain(Linear(2), ReLU(), Linear(1))
    >>> params = net.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> choose("0.W", "2")(params)
    (LinearParams(W=True, b=False), (), LinearParams(W=True, b=True))
    """
    for key in keys:
        if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, Layer)):
            raise JaxpropError(
                f'choose: a key must be a path such as "0.*" or a class of layers such as jp.Conv, found {shortly(key)}'
            )
        if not isinstance(key, str) and not isinstance(net, Layer):
            raise JaxpropError(f"choose: {key.__name__} is a class of layers, which only the network knows: give net=")
    if not keys:
        raise JaxpropError('choose: found no key: write a path such as "0.*" or a class of layers such as jp.Conv')

    def chosen(params: PyTree) -> PyTree[Bool[Any, ""]]:
        # an optimizer around this one may have left some out: they are there all the same
        paths = by_path(params, is_leaf=lambda node: isinstance(node, optax.MaskedNode))
        fitting = {key: {path for path in paths if _fits(key, path, net)} for key in keys}
        for key, found in fitting.items():
            if not found:
                shown = repr(key) if isinstance(key, str) else key.__name__
                raise JaxpropError(f"choose: {shown} fits no array of θ; there are {', '.join(paths)}")
        together = set().union(*fitting.values())
        return jax.tree_util.tree_map_with_path(lambda path, _: dotted(path) in together, params)

    return chosen


def _fits(key: Key, path: str, net: Layer | None) -> bool:
    """Tell whether a key fits an array, or something that it lies in."""
    names = path.split(".")
    around = [".".join(names[:i]) for i in range(len(names) + 1)]
    if isinstance(key, str):
        return any(fnmatchcase(place, key) for place in around[1:])
    assert net is not None
    return any(
        where in around and isinstance(layer, key)
        for leaf in leaves(net)
        for where, layer in (*leaf.inside, (leaf.path, leaf.layer))
    )


def frozen(
    optimizer: optax.GradientTransformation, *keys: Key, net: Layer | None = None
) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that leaves the arrays of θ that fit a key as they are, and steps the others.

    The optimizer inside does not see them: they have no state and no decay, and a clipped norm is that of the others.
    Nobody asks for their gradients then, so that XLA does not compute them.

    Args:
        optimizer: what steps the others.
        keys, net: as for `choose`.

    Raises:
        JaxpropError: as `choose` does.

    >>> from jaxprop import Chain, HalfSquaredError, Linear
    >>> from jaxprop.train.parts import step
    >>> net, x = Chain(Linear(2), Linear(1)), jnp.ones((4, 2))
    >>> run = step(net, HalfSquaredError(), frozen(optax.adamw(0.1), "0"))
    >>> before = run.start(net.init(jax.random.key(0), x))
    >>> after, _ = jax.jit(run)(x, before, jnp.zeros((4, 1)))
    >>> [bool((a == b).all()) for a, b in zip(jax.tree.leaves(before.params), jax.tree.leaves(after.params))]
    [True, True, False, False]
    """
    chosen, inner = choose(*keys, net=net), with_extra_args(optimizer)

    def init(params: PyTree) -> PyTree:
        return inner.init(_without(chosen(params), params))

    def update(grads: PyTree, state: PyTree, params: PyTree = None, **extra: Any) -> tuple[PyTree, PyTree]:
        if isinstance(params, optax.LookaheadParams):
            raise JaxpropError("frozen: lookahead keeps two θ: write optax.lookahead(frozen(...), ...)")
        where = chosen(grads)

        def whole(some: PyTree) -> PyTree:
            return jax.tree.map(lambda stays, p, s: p if stays else s, where, params, some)

        def of_some(f: Callable[..., Any]) -> Callable[..., Any]:
            return lambda some, *rest: f(whole(some), *rest)

        given = dict(extra)
        for name in {"value_fn", "obj_fn"} & set(extra):
            given[name] = of_some(extra[name])
        if "grad" in extra:
            given["grad"] = _without(where, extra["grad"])
        if "grad_fn" in extra:
            given["grad_fn"] = lambda some, *rest: _without(where, of_some(extra["grad_fn"])(some, *rest))
        some = None if params is None else _without(where, params)
        updates, state = inner.update(_without(where, grads), state, some, **given)
        # −0 and not 0: −0 + 0 is 0, but whatever −0 is added to stays as it is
        return jax.tree.map(lambda stays, g, u: jnp.full_like(g, -0.0) if stays else u, where, grads, updates), state

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def _without(where: PyTree[bool], tree: PyTree) -> PyTree:
    """The tree without what is chosen, as optax leaves something out."""
    return jax.tree.map(lambda out, part: optax.MaskedNode() if out else part, where, tree)


class AveragedState(NamedTuple):
    """The state of `averaged`: that of the optimizer inside, the average of θ, and of how many steps it is.

    >>> averaged(optax.sgd(0.1), 0.9).init(1.0).average
    1.0
    """

    inner: PyTree
    average: PyTree
    steps: Int[Array, ""]


def averaged(
    optimizer: optax.GradientTransformation, decay: Float[ArrayLike, ""] = 0.999
) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that also averages θ over its steps; the average is θ for use.

    ē_t = Σ_s d^(t−s) θ_s / Σ_s d^(t−s) over the steps s = 1 … t: an exponential moving average without a bias to its
    start, kept as ē_t = θ_t − (θ_t − ē_{t−1}) (1 − (1 − d) / (1 − d^t)). The `result.params`, the validation and the
    best of `fit` are of ē, and so is `run.params(state)` of `step`. Write it outermost, so that it sees θ as it is
    after the step, but inside of `optax.MultiSteps`, of whose batches it then counts those that moved θ.

    Args:
        optimizer: what steps θ.
        decay: d, from 0 (θ itself) to below 1; about the last 1 / (1 − d) steps count.

    Raises:
        JaxpropError: d is not in this range.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992); the correction is that
    of Kingma and Ba, "Adam" (2015), section 3.

    >>> from jaxprop import HalfSquaredError
    >>> from jaxprop.train.parts import step
    >>> run = step(lambda x, w: w * x, HalfSquaredError(), averaged(optax.sgd(0.5), 0.5))
    >>> state, x, take = run.start(0.0), jnp.ones((1, 1)), jax.jit(run)
    >>> for _ in range(2):
    ...     state, _ = take(x, state, 2 * x)
    >>> print(state.params, run.params(state))  # (0.5 · 1 + 1.5) / (0.5 + 1)
    1.5 1.333...
    """
    if isinstance(decay, int | float) and not 0 <= decay < 1:
        raise JaxpropError(f"averaged: decay must be from 0 to below 1, such as 0.999, found {decay}")
    inner = with_extra_args(optimizer)

    def init(params: PyTree) -> AveragedState:
        return AveragedState(inner.init(params), params, jnp.zeros((), jnp.int32))

    def update(
        grads: PyTree, state: AveragedState, params: PyTree = None, **extra: Any
    ) -> tuple[PyTree, AveragedState]:
        updates, within = inner.update(grads, state.inner, params, **extra)
        steps: Any = optax.safe_increment(state.steps)
        # 1 − d^t would lose its digits while t is small
        share = (1 - decay) / -jnp.expm1(steps.astype(jnp.result_type(float)) * jnp.log(decay))
        after = optax.apply_updates(params, updates)
        # from θ_t, so that what stays (even −0) is its own average to the last bit
        average = jax.tree.map(lambda e, p: p - (p - e) * (1 - share).astype(p.dtype), state.average, after)
        return updates, AveragedState(within, average, steps)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def with_extra_args(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer whose update may be given more than a gradient; that of optax.MultiSteps passes it on.

    >>> with_extra_args(optax.MultiSteps(optax.sgd(0.1), 2)).init(1.0).mini_step.item()
    0
    """
    if isinstance(optimizer, optax.MultiSteps):
        return optax.GradientTransformationExtraArgs(optimizer.init, optimizer.update)  # pyright: ignore
    return optax.with_extra_args_support(optimizer)
