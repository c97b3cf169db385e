"""Everything that is asked for, of one forward pass: what `collect` does, whoever wrote the model.

1  the errors       of each kind that a quantity reads: ∂C_n/∂y itself, or columns, whose results add up
2  the walks back   every use is closed where it arises: its part of the gradient, and what each quantity keeps
3  a second visit   for quantities that need all uses before they can say anything of one, such as clipping
4  finish           each quantity makes its result of what it kept
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.backward.rules import Rule
from jaxprop.checks import check_whole
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly
from jaxprop.network.call import Weights
from jaxprop.stats.errors import COST, SAMPLED, Errors, Kind
from jaxprop.stats.quantity import ERRORS, Context, Quantity
from jaxprop.stats.visits import Back, Close, by_hand, by_hand_again, close_columns, with_norms
from jaxprop.uses import Use, rounded, weighted, weighted_sum
from jaxprop.uses.chunked import at, visits_again
from jaxprop.uses.use import check_weights, scale


class Collected(NamedTuple):
    """Hold what the function of `collect` returns: C, ∂C/∂θ in the tree of θ, and one result for each quantity.

    >>> Collected._fields
    ('value', 'grads', 'found')
    """

    value: Array
    grads: PyTree
    found: tuple[PyTree, ...]


class Asked(NamedTuple):
    """Hold what is asked for: the quantities, the kind of errors that each of them reads, and the bound in bytes.

    >>> from jaxprop.stats import ExampleNorms, GGNDiagonal
    >>> Asked.of([ExampleNorms(), GGNDiagonal()], None, None).kinds
    (('cost', 1), ('exact', 1))
    """

    quantities: tuple[Quantity, ...]
    kinds: tuple[Kind, ...]
    memory: int | None

    @classmethod
    def of(cls, quantities: Any, rule: Rule | None, memory: int | None) -> "Asked":
        """Check what was given, and return it."""
        quantities = _checked(quantities)
        if memory is not None:
            check_whole(memory, "stats.collect: memory, in bytes,")
        return cls(quantities, tuple(_kind(quantity, rule) for quantity in quantities), memory)

    def reading(self, kind: Kind) -> dict[int, Quantity]:
        """Return the quantities that read errors of a kind, by their place."""
        return {i: quantity for i, quantity in enumerate(self.quantities) if self.kinds[i] == kind}


class Passed(NamedTuple):
    """Hold one forward pass: y, what is wrong with it, θ, and the ways back from y to the uses of θ.

    y: the outputs, `[N, ...]`.    errors: C_n and its errors.    params: θ, in the tree that its gradient has.
    by_rule: the way back of the cost's own errors.    plainly: that of all others, as the chain rule has it.
    net: the network, if it is made of jaxprop's layers.

    >>> Passed._fields
    ('y', 'errors', 'params', 'by_rule', 'plainly', 'net')
    """

    y: Any
    errors: Errors
    params: PyTree
    by_rule: Back
    plainly: Back
    net: Layer | None = None


def gather(asked: Asked, passed: Passed, weights: Weights) -> Collected:
    """Return C, its gradient and what is asked for, of a forward pass."""
    net, costs = passed.net, passed.errors.costs
    if weights is not None:
        check_weights(weights, len(costs))
    # where examples are mixed, every δ belongs to all of them: C's weights must enter before
    mixes = net is not None and net.mixes_examples
    seed, later = (weights, None) if mixes else (None, weights)

    def visit(kind: Kind) -> _Visit:
        reading = asked.reading(kind)
        back, summed = (passed.by_rule, _Summed(later)) if kind == COST else (passed.plainly, None)
        close = _closing(reading, weights, summed, asked.memory)
        if kind[0] in SAMPLED:
            columns = passed.errors.columns(kind)
            return _Visit(close_columns(back, columns, close), {}, None, None, len(columns))
        dy = scale(passed.errors.delta, seed)
        if not _keeps(back, reading.values()):
            return _Visit(*back.close(dy, close), dy)
        uses, notes = back.uses(dy)
        return _Visit(by_hand(uses, close), notes, dy, uses)

    visits = {kind: visit(kind) for kind in dict.fromkeys([COST, *asked.kinds])}
    totals = jax.tree.map(lambda kept: kept.total, visits[COST].kept, is_leaf=_is_kept)
    value, grads = weighted(lambda w: (weighted_sum(costs, w), totals), weights, len(costs))
    grads = rounded(grads, passed.params)

    def finished(i: int, quantity: Quantity) -> PyTree:
        kind = asked.kinds[i]
        visit, back = visits[kind], passed.by_rule if kind == COST else passed.plainly
        notes = visits[COST if kind[0] in SAMPLED else kind].notes
        kept = jax.tree.map(lambda kept: kept.parts[i], visit.kept, is_leaf=_is_kept)
        context = Context(costs, passed.y, passed.params, grads, weights, visit.columns, net=net)
        if quantity.twice:
            part = quantity.between(kept, context)
            context = context._replace(again=visit.again(back, quantity, part))
        return quantity.finish(kept, {path: note[i] for path, note in notes.items()}, context)

    return Collected(value, grads, tuple(finished(i, quantity) for i, quantity in enumerate(asked.quantities)))


class _Kept(NamedTuple):
    """What stands in a use's place after a visit: its part of the gradient, and what each quantity keeps."""

    total: Array | None
    parts: dict[int, PyTree]


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

    def again(self, back: Back, quantity: Quantity, part: PyTree) -> PyTree:
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


def _keeps(back: Back, asked: Iterable[Quantity]) -> bool:
    """Tell whether uses are kept for a second visit. Inside a `Repeat` that would stack them."""
    second = [quantity for quantity in asked if quantity.twice]
    return any(quantity.parts for quantity in second) or (bool(second) and not back.stacks)


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
