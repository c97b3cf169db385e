"""Formulas put into words: equations, steps with a sentence, and the derivation they make up."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxprop.errors import JaxpropError

from .evaluate import evaluate
from .formula import Formula, Labelled, Number, Rest, Sum, formula, substitute


@dataclass(frozen=True)
class Equation:
    """`side = side = …`, with an optional label before it.

    `exact=False` marks one that only holds nearly, such as a finite difference, and is printed with ≈.
    """

    sides: tuple[Formula, ...]
    label: str = ""
    exact: bool = True

    def error(self, values: Mapping[Formula, float]) -> float:
        """Return how far the sides are apart, as a part of the largest: max|Δ| / max|side|, 0 when all are equal.

        >>> Equation((Number(2) * Number(3), Number(6))).error({})
        0.0
        """
        sides = [evaluate(side, values) for side in self.sides]
        spread = max(sides) - min(sides)
        return spread / max(map(abs, sides)) if spread else 0.0


Prose = tuple[str | Formula | Equation, ...]
"""A sentence in parts: words, and formulas that every printer writes in its own way."""


@dataclass(frozen=True)
class Step:
    """A title, a sentence and the equations it speaks of."""

    title: str
    sentence: Prose = ()
    equations: tuple[Equation, ...] = ()


@dataclass(frozen=True)
class Derivation:
    """Steps from what is known to what was asked, with the value of every symbol and derivative in them.

    `facts` are results under names of their own: they come first in the JSON and are not printed elsewhere.

    >>> from jaxprop.derivations.formula import Symbol
    >>> x, y = Symbol("x"), Symbol("y")
    >>> step = Step("Double it", ("Put in ", Equation((x, Number(3))), "."), (worked(y, 2 * x, values={x: 3.0}),))
    >>> print(Derivation(("Twice ", x), (step,)))
    Twice x
    <BLANKLINE>
    1. Double it
       Put in x = 3.
         y = 2x = 2·3 = 6
    """

    title: Prose
    steps: tuple[Step, ...]
    values: Mapping[Formula, float] = field(default_factory=dict, hash=False)
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        from .printers import to_text  # printers are made of what is defined here

        return to_text(self)

    def error(self) -> float:
        """Return the largest error of any exact equation in it: rounding, if the derivation is right."""
        equations = [equation for step in self.steps for equation in step.equations if equation.exact]
        return max((equation.error(self.values) for equation in equations), default=0.0)


def worked(lhs: Formula, *forms: Formula, values: Mapping[Formula, float], label: str = "") -> Equation:
    """Return `lhs = form = … = the last form with numbers = its value`; the value is computed, never given.

    Raises `UndefinedError` where the last form has no finite value.

    >>> from jaxprop.derivations import to_text
    >>> from jaxprop.derivations.formula import Derivative, Symbol
    >>> δ, a, w = Symbol("δ", (0,)), Symbol("a", (3,)), Symbol("W", (3, 0))
    >>> gradient = Derivative(Symbol("C"), w)
    >>> to_text(worked(gradient, δ * a, values={δ: -0.5, a: 3.0}))
    '∂C/∂W[3,0] = δ[0]·a[3] = (-0.5)·3 = -1.5'
    """
    last = forms[-1]
    numbers, value = substitute(last, values), Number(evaluate(last, values))
    if numbers == -Number(-value.value):
        numbers = value
    return Equation(tuple(dict.fromkeys((lhs, *forms, numbers, value))), label)


def labelled_sum(terms: Mapping[str, Formula | float]) -> Sum:
    """Return the sum of the terms, each under its label.

    >>> from jaxprop.derivations import to_text
    >>> from jaxprop.derivations.formula import Symbol
    >>> to_text(labelled_sum({"the left path": Symbol("p"), "the right path": Symbol("q")}))
    'p + q'
    """
    return Sum(tuple(Labelled(label, formula(term)) for label, term in terms.items()))


def term_equations(total: Sum, values: Mapping[Formula, float]) -> tuple[Equation, ...]:
    """Return one equation for each labelled term of a sum: `label: term = with numbers = value`.

    >>> from jaxprop.derivations import to_text
    >>> from jaxprop.derivations.formula import Symbol
    >>> p = Symbol("p")
    >>> to_text(term_equations(labelled_sum({"the left path": 2 * p}), {p: 3.0})[0])
    'the left path: 2p = 2·3 = 6'
    """
    labelled = [term for term in total.terms if isinstance(term, Labelled)]
    return tuple(worked(term.formula, term.formula, values=values, label=term.label) for term in labelled)


def shorten(total: Sum, keep: int, values: Mapping[Formula, float] | None = None) -> Sum:
    """Write `keep` terms of a sum and count the others: the value stays the sum of all.

    With `values` the terms of largest magnitude are kept, in their order; without, the first ones. A sum that is
    only one term too long is left alone. Raises `JaxpropError` when `keep` is negative.

    >>> from jaxprop.derivations import to_text
    >>> total = shorten(Sum(tuple(Number(n) for n in range(1, 31))), keep=3)
    >>> to_text(total), evaluate(total)
    ('1 + 2 + 3 + … (27 more terms summing to 459)', 465.0)
    """
    if keep < 0:
        raise JaxpropError(f"keep must be at least 0, found {keep}")
    if len(total.terms) <= keep + 1:
        return total
    order = range(len(total.terms))
    if values is not None:
        order = sorted(order, key=lambda i: -abs(evaluate(total.terms[i], values)))
    kept = set(order[:keep])
    hidden = tuple(term for i, term in enumerate(total.terms) if i not in kept)
    return replace(total, terms=(*(total.terms[i] for i in sorted(kept)), Rest(hidden)))
