"""`collect`: one forward pass, one walk back for each kind of error, and everything that is asked for on the way.

    1  forward          y, the caches and C_n
    2  the errors       of each kind that a quantity reads: ∂C_n/∂y itself, or columns, whose results add up
    3  the walks back   every use is closed where it arises: its part of the gradient, and what each quantity keeps
    4  a second visit   for quantities that need all uses before they can say anything of one, such as clipping
    5  finish           each quantity makes its result of what it kept

XLA removes what nobody reads: without quantities, the program is that of `manual.value_and_grad`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.backward.manual import Record, Tape
from jaxprop.backward.mixing import refuse_mixing
from jaxprop.backward.rules import Rule, as_rule, prepare
from jaxprop.backward.rules.edits import RuleLike
from jaxprop.checks import check_whole
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly
from jaxprop.network import in_order, leaves
from jaxprop.network.call import (
    Rng,
    RuleFunction,
    Targets,
    Weights,
    environment,
    require_cost,
    require_layer,
    takes_rows,
)
from jaxprop.stats.quantity import ERRORS, Context, Quantity
from jaxprop.stats.visits import Close, WayBack, by_hand, by_hand_again, with_norms
from jaxprop.uses import Use, rounded, weighted, weighted_sum
from jaxprop.uses.chunked import at, visits_again
from jaxprop.uses.use import check_weights, scale

Kind = tuple[str, int]  # of errors, and how many samples
COST: Kind = ("cost", 1)
SAMPLED = ("sampled", "exact")  # come in columns
SAMPLING = 83  # folded into rng: targets are drawn with a key that no layer draws with


class Collected(NamedTuple):
    """Hold what the function of `collect` returns: C, ∂C/∂θ in the tree of θ, and one result for each quantity.

    >>> Collected._fields
    ('value', 'grads', 'found')
    """

    value: Array
    grads: PyTree
    found: tuple[PyTree, ...]


class _Kept(NamedTuple):
    """What stands in a use's place after a visit: its part of the gradient, and what each quantity keeps."""

    total: Array | None
    parts: dict[int, PyTree]


class _Noting(Tape):
    """Go through a network and ask the quantities for their notes of every layer's record."""

    def __init__(self, quantities: Sequence[Quantity]) -> None:
        self.quantities = quantities

    def note(self, layer: Layer, kept: PyTree, dy: PyTree, dx: PyTree, cache: PyTree, params: PyTree) -> PyTree:
        record: Record = super().note(layer, kept, dy, dx, cache, params)
        return tuple(quantity.note(layer, record) if quantity.notes else None for quantity in self.quantities)


def collect(
    net: Layer,
    cost: Cost,
    quantities: Sequence[Quantity],
    *,
    rule: RuleLike | None = None,
    memory: int | None = None,
) -> RuleFunction[Collected]:
    """Return `run`, which computes C, ∂C/∂θ and any number of quantities of one backward pass.

    Args:
        net: a Layer. One that mixes examples (`BatchNorm`) is refused, unless all quantities allow for it.
        cost: C_n, such as `HalfSquaredError()`. "sampled" and "exact" errors are its `sampled_delta` or `hessian_root`.
        quantities: what is asked for, such as `[ExampleNorms(), NoiseScale()]`; of nothing, the gradient alone.
        rule: how the cost's own errors come back through layers, one of `jp.rules`; by default as the chain rule says.
            "true", "sampled" and "exact" errors always do.
        memory: how many bytes may be held at a time of what is built of single examples, at each use: groups of
            examples are made as small as that needs. By default no more than the use itself. `stats.plan` shows it.

    Returns:
        `run(x, params, targets, *, weights=None, rng=None, mask=None, feedback=None)`, which returns a `Collected`:
        value, grads and `found`, a tuple with one result for each quantity, in their order. It is pure: jit it.
        feedback: what `rule.init` made.

    Raises:
        JaxpropError: `net` is a plain function or mixes examples, something is no quantity, errors are to be sampled
            without rng, the cost does not have what is needed, `memory` is no whole number ≥ 1, or one example alone
            needs more than that.
        ShapeError: weights are not `[N]`.

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear
    >>> net, x = Linear(2), jnp.ones((3, 4))
    >>> value, grads, found = collect(net, HalfSquaredError(), [])(
    ...     x, net.init(jax.random.key(0), x), jnp.zeros((3, 2))
    ... )
    >>> grads.W.shape, found
    ((4, 2), ())
    """
    require_layer(net, "stats.collect")
    require_cost(cost, "stats.collect")
    quantities = _checked(quantities)
    alone = next((quantity for quantity in quantities if not quantity.mixes), None)
    if alone is not None:
        refuse_mixing(net, f"stats.collect of {alone}")
    rule = None if rule is None else as_rule(rule)
    if memory is not None:
        check_whole(memory, "stats.collect: memory, in bytes,")
    kind_of = {quantity: _kind(quantity, rule) for quantity in quantities}
    kinds = list(dict.fromkeys([COST, *kind_of.values()]))

    @takes_rows
    def run(
        x: PyTree,
        params: PyTree,
        targets: Targets,
        *,
        weights: Weights = None,
        rng: Rng = None,
        mask: PyTree = None,
        feedback: PyTree = None,
    ) -> Collected:
        examples = jax.tree.leaves(x)[0].shape[0]
        if weights is not None:
            check_weights(weights, examples)
        walk, theta = prepare(rule, net, params, feedback, rng)
        walk = _Noting(quantities).over(walk) if any(quantity.notes for quantity in quantities) else walk
        y, cache = walk.push(net, x, theta, environment(rng, mask), "")
        costs = cost(y, targets)
        by_rule, plainly = (WayBack(w, net, cache, theta) for w in (walk, walk.plain()))
        # where examples are mixed, every δ belongs to all of them: C's weights must enter before
        seed, later = (weights, None) if net.mixes_examples else (None, weights)

        def visit(kind: Kind) -> _Visit:
            asked = {i: quantity for i, quantity in enumerate(quantities) if kind_of[quantity] == kind}
            back, summed = (by_rule, _Summed(later)) if kind == COST else (plainly, None)
            close = _closing(asked, weights, summed, memory)
            if kind[0] in SAMPLED:
                columns = _columns(cost, kind, y, targets, rng)
                return _Visit(back.close_columns(columns, close), {}, None, None, len(columns))
            dy = scale(cost.delta(y, targets), seed)
            if not _keeps(net, asked.values()):
                return _Visit(*back.close(dy, close), dy)
            uses, notes = back.uses(dy)
            return _Visit(by_hand(uses, close), notes, dy, uses)

        visits = {kind: visit(kind) for kind in kinds}
        totals = jax.tree.map(lambda kept: kept.total, visits[COST].kept, is_leaf=_is_kept)
        value, grads = weighted(lambda w: (weighted_sum(costs, w), totals), weights, examples)
        grads = rounded(grads, params)

        def finished(i: int, quantity: Quantity) -> PyTree:
            kind = kind_of[quantity]
            visit, back = visits[kind], by_rule if kind == COST else plainly
            notes = in_order(net, visits[COST if kind[0] in SAMPLED else kind].notes)
            kept = jax.tree.map(lambda kept: kept.parts[i], visit.kept, is_leaf=_is_kept)
            context = Context(costs, y, params, grads, weights, visit.columns, net=net)
            if quantity.twice:
                part = quantity.between(kept, context)
                context = context._replace(again=visit.again(back, quantity, part))
            return quantity.finish(kept, {path: note[i] for path, note in notes.items()}, context)

        return Collected(value, grads, tuple(finished(i, quantity) for i, quantity in enumerate(quantities)))

    return run


class _Summed(NamedTuple):
    """That the gradient is wanted of a visit too, and with which weights it is summed."""

    weights: Weights


def _closing(asked: dict[int, Quantity], weights: Weights, summed: _Summed | None, memory: int | None) -> Close:
    """What is done with a use where it arises: its part of the gradient is summed, and each quantity keeps its own."""
    norms = summed is not None and any(quantity.norms for quantity in asked.values())

    def close(use: Use, path: str) -> _Kept:
        use = known = _within(use, memory)
        total, parts = None, {}
        if summed is not None and norms and use.wide == use.dtype:  # both come of the same products
            with at(path, "the norms of examples"):
                total, known = with_norms(use, summed.weights)
        elif summed is not None:
            total = use.total(summed.weights)
        for i, quantity in asked.items():
            with at(path, shortly(quantity)):
                parts[i] = quantity.close(known, path, weights)
        return _Kept(total, parts)

    return close


class _Visit(NamedTuple):
    """What one walk back left: kept parts and notes, and for a second visit the error and, if kept, the uses."""

    kept: PyTree
    notes: dict[str, PyTree]
    dy: PyTree = None
    uses: PyTree = None
    columns: int = 1

    def again(self, back: WayBack, quantity: Quantity, part: PyTree) -> PyTree:
        visits_again(self.uses)

        def again(use: Use, path: str, part: PyTree) -> PyTree:
            with at(path, f"{shortly(quantity)}, again"):
                return quantity.again(use, path, part)

        if self.uses is not None:
            return by_hand_again(self.uses, again, part)
        return back.close(self.dy, lambda use, path: again(use, path, part))[0]


def _kind(quantity: Quantity, rule: Rule | None) -> Kind:
    """The error that a quantity reads: quantities of one kind share a walk back."""
    if quantity.errors == "true" and rule is None:
        return COST
    return (quantity.errors, quantity.samples if quantity.errors == "sampled" else 1)


def _within(use: Use, memory: int | None) -> Use:
    """The use under a bound in bytes."""
    return use if memory is None else use.within(memory // jnp.dtype(use.wide).itemsize)


def _keeps(net: Layer, asked: Iterable[Quantity]) -> bool:
    """Tell whether uses are kept for a second visit. Inside a `Repeat` that would stack them."""
    second = [quantity for quantity in asked if quantity.twice]
    stacked = any(leaf.repeats for leaf in leaves(net))
    return bool(second) and (not stacked or any(quantity.parts for quantity in second))


def _columns(cost: Cost, kind: Kind, y: Array, targets: Targets, rng: Rng) -> Array:
    """The columns of errors, `[V, N, ...]`, which leave what adds up to the Fisher information or the GGN."""
    errors, samples = kind
    if errors == "exact":
        return cost.hessian_root(y, targets)
    if rng is None:
        raise JaxpropError(
            'stats.collect: errors="sampled" draws targets from what the network predicts: give rng=jax.random.key(0)'
        )
    keys = jax.random.split(jax.random.fold_in(rng, SAMPLING), samples)
    return jax.vmap(lambda key: cost.sampled_delta(y, targets, key))(keys) / math.sqrt(samples)


def _checked(quantities: Any) -> tuple[Quantity, ...]:
    """The quantities, each one an instance."""
    if isinstance(quantities, Quantity) or not isinstance(quantities, Iterable):
        hint = f"; write [{quantities!r}]" if isinstance(quantities, Quantity) else ""
        raise JaxpropError(f"stats.collect: quantities must be a list, found {shortly(quantities)}{hint}")
    quantities = tuple(quantities)
    for quantity in quantities:
        if not isinstance(quantity, Quantity):
            raise JaxpropError(
                f"stats.collect: found {shortly(quantity)} among the quantities, expected such as "
                "[jp.stats.ExampleNorms(), jp.stats.Variance()]"
            )
        if quantity.errors not in ERRORS:
            raise JaxpropError(f"stats.collect: {quantity} reads {quantity.errors!r}, expected one of {ERRORS}")
        if quantity.twice and quantity.errors in SAMPLED:
            raise JaxpropError(f"stats.collect: {quantity} visits twice, which columns of errors do not allow")
    return quantities


def _is_kept(node: Any) -> bool:
    return isinstance(node, _Kept)
