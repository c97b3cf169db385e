"""Links of a chain: a formula cut into named parts, their values, and the same derivatives by other ways."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprop.derivations import formula as tree
from jaxprop.derivations.calculus import derivative
from jaxprop.derivations.derivation import Equation, Step, to_text, worked
from jaxprop.derivations.formula import Call, Formula, Number, Sum, Symbol, evaluate, parts
from jaxprop.derivations.functions import FUNCTIONS
from jaxprop.derivations.parse import Parsed, mark
from jaxprop.errors import JaxpropError

Values = dict[Formula, float]
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class Link(NamedTuple):
    """One link of the chain: `symbol = local`, which stands for `original` in the variables.

    `inputs` are the names in `local`, and `partials` its derivative with respect to each.
    """

    symbol: Symbol
    local: Formula
    original: Formula
    inputs: tuple[Symbol, ...]
    partials: tuple[Formula, ...]


def link_of(symbol: Symbol, local: Formula, original: Formula) -> Link:
    """Return the link of a formula whose insides are names."""
    inputs = tuple(dict.fromkeys(part for part in parts(local) if isinstance(part, Symbol)))
    return Link(symbol, local, original, inputs, tuple(derivative(local, name) for name in inputs))


def forward_step(links: Sequence[Link], values: Values) -> Step:
    """Return the step that works out every link in order, filling in `values`."""
    equations = []
    for link in links:
        equations.append(worked(link.symbol, link.local, values=values))
        values[link.symbol] = evaluate(link.local, values)
    whole = Equation((links[-1].symbol, links[-1].original))
    if len(links) == 1:
        return Step("The value", ("This is read as ", whole, "."), tuple(equations))
    sentence = ("This is read as ", whole, ". Every inside gets a name and its value comes before the outside's.")
    return Step("The inside first", sentence, tuple(equations))


def added(terms: Sequence[Formula]) -> Formula:
    """Return the sum of the terms, one of them alone as it is."""
    return Sum(tuple(terms)) if len(terms) > 1 else terms[0] if terms else Number(0)


def corners(formula: Formula, values: Mapping[Formula, float]) -> list[str]:
    """Say of every function that stands on its corner which slope is taken there, by convention."""
    found = []
    for part in parts(formula):
        if isinstance(part, Call) and FUNCTIONS[part.function].corner:
            first, *others = (evaluate(inside, values) for inside in tree.children(part))
            if first == (others[0] if others else 0):
                found.append(" " + FUNCTIONS[part.function].corner)
    return list(dict.fromkeys(found))


def check_value(parsed: Parsed, values: Mapping[Formula, float]) -> None:
    """Raise an error that points at the part that has no value, if one has none."""
    try:
        evaluate(parsed.formula, values)
    except tree.UndefinedError as error:
        message = f"{error}, in {to_text(error.formula)} at {_point(values)}"
        raise mark(parsed.text, *_span(parsed, error.formula), message) from None


def no_derivative(parsed: Parsed, values: Mapping[Formula, float], error: tree.UndefinedError) -> JaxpropError:
    """Return the error for a derivative that is not finite, pointing at the innermost part that has none."""
    at = _point(values)
    for part in parts(parsed.formula):
        try:
            for x in parsed.variables:
                evaluate(derivative(part, x), values)
        except tree.UndefinedError as inner:
            of = f" of {to_text(part)}"
            return mark(parsed.text, *_span(parsed, part), f"no finite derivative{of} at {at}: {inner}")
    return mark(parsed.text, 0, len(parsed.text), f"no finite derivative at {at}: {error}")


def _point(values: Mapping[Formula, float]) -> str:
    return ", ".join(f"{to_text(x)} = {value:g}" for x, value in values.items())


def _span(parsed: Parsed, formula: Formula) -> tuple[int, int]:
    """Return where a formula stands in the text, or where the smallest part around it does."""
    around = [span for known, span in parsed.spans.items() if formula in parts(known)]
    return parsed.spans.get(formula) or min(around, key=lambda s: s[1] - s[0], default=(0, len(parsed.text)))


LARGEST_INTEGER_POWER = 1024


def _power(base, exponent):
    whole = isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= LARGEST_INTEGER_POWER
    return base ** (int(exponent) if whole else exponent)


JAX = tree.Arithmetic(sum, _power, {name: function.jax for name, function in FUNCTIONS.items()})


def output(
    links: Sequence[Link],
    values: Mapping[Formula, Any],
    node: Formula,
    value: Any,
    arithmetic: tree.Arithmetic = tree.FLOATS,
) -> Any:
    """Return the value of the last link where a node is set to `value`, whatever it is made of."""
    known = {symbol: values[symbol] for symbol in values if symbol not in [link.symbol for link in links]}
    known[node] = value
    for link in links:
        if link.symbol not in known:
            known[link.symbol] = evaluate(link.local, known, arithmetic)
    return known[links[-1].symbol]


def jax_slopes(links: Sequence[Link], values: Mapping[Formula, float]) -> list[float]:
    """Return ∂(last link)/∂node by `jax.grad` in float64, of every variable and every link; some may be NaN.

    >>> x = Symbol("x")
    >>> jax_slopes([link_of(Symbol("f"), 3 * (x**2 + 1), x)], {x: 2.0})
    [12.0, 1.0]
    """
    gates = {link.symbol: link.local for link in links}
    variables = [symbol for symbol in values if isinstance(symbol, Symbol) and symbol not in gates]

    def last(nudges: jax.Array) -> jax.Array:
        known: dict[Formula, Any] = {}
        for symbol, nudge in zip((*variables, *gates), nudges, strict=True):
            found = evaluate(gates[symbol], known, JAX) if symbol in gates else values[symbol]
            known[symbol] = jnp.asarray(found) + nudge
        return known[links[-1].symbol]

    with jax.enable_x64(True):
        return jax.jit(jax.grad(last))(jnp.zeros(len(variables) + len(gates))).tolist()


def central_difference(f: Callable[[float], float], at: float) -> tuple[float, float] | None:
    """Return (f(at + h) - f(at - h)) / 2h and h, None where f has no value beside the point.

    >>> central_difference(lambda x: 3 * (x**2 + 1), 2.0)
    (12.0, 1.52587890625e-05)
    """
    for scale in dict.fromkeys((max(1.0, abs(at)), abs(at))):
        right, left = at + tree.H * scale, at - tree.H * scale
        try:
            rise = f(right) - f(left)
        except tree.UndefinedError:
            continue
        if right > left and math.isfinite(rise / (right - left)):
            return rise / (right - left), (right - left) / 2
    return None
