"""Formulas put into words: equations, steps with a sentence, and the derivation they make up, and how they are printed.

Each is printed as text for a terminal, as LaTeX and as JSON, and by `mathml` and `html` for a page. Where printing
rounds a number, the sign before or after it is ≈, not =.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Any

from jaxprop.derivations.formula import Formula, Labelled, Number, Rest, Sum, evaluate, formula, parts, substitute
from jaxprop.derivations.glyphs import PREAMBLE, WIDTH, Document, Latex, Text, number, rest_value
from jaxprop.derivations.rounding import size
from jaxprop.errors import JaxpropError

Json = dict[str, Any]
ROUNDED = 1e-14  # of what is added up: a hundred roundings of float64


class Shown:
    """What a notebook shows as HTML with MathML, and in a file made by LaTeX as LaTeX."""

    def _repr_html_(self) -> str:
        from jaxprop.derivations.html import in_notebook  # they are made of what is here
        from jaxprop.derivations.mathml import to_mathml

        return in_notebook(to_mathml(self))  # pyright: ignore[reportArgumentType]

    def _repr_latex_(self) -> str:
        written = to_latex(self)  # pyright: ignore[reportArgumentType]
        return f"$\\displaystyle {written}$" if isinstance(self, Equation) else written


@dataclass(frozen=True)
class Equation(Shown):
    """`side = side = …`, with an optional label before it.

    `exact=False` marks one that only holds nearly, such as a finite difference, and is printed with ≈.
    """

    sides: tuple[Formula, ...]
    label: str = ""
    exact: bool = True

    def error(self, values: Mapping[Formula, float], made: Mapping[Formula, float] | None = None) -> float:
        """Return how far the sides are apart, as a part of the largest: max|Δ| / max|side|, 0 when all are equal.

        Sides that differ by no more than they round to are measured by the numbers that they are made of: a right
        derivative of 0, such as cos π/2, is found as 6e-17. `made` has what symbols are made of themselves.

        >>> Equation((Number(2) * Number(3), Number(6))).error({})
        0.0
        """
        sides = [evaluate(side, values) for side in self.sides]
        spread, largest = max(sides) - min(sides), max(map(abs, sides))
        if spread <= ROUNDED * largest:
            return spread / largest if spread else 0.0
        made_of = max(size(side, values, made) for side in self.sides)
        return spread / (made_of if spread <= ROUNDED * made_of else largest)

    def signs(self, printer: Text) -> list[str]:
        """Return what stands before each side after the first: `=`, or `≈` where a number beside it is rounded."""
        rounded = [_rounds(side, printer.digits) for side in self.sides]
        return [printer.near if not self.exact or any(pair) else printer.equals for pair in pairwise(rounded)]

    def written_sides(self, printer: Text) -> list[str]:
        """Return `["a", "= b", "≈ c"]`, the label in front of the first."""
        label = printer.label.format(printer.words(self.label)) if self.label else ""
        first, *sides = map(printer.write, self.sides)
        return [label + first, *(f"{sign} {side}" for sign, side in zip(self.signs(printer), sides, strict=True))]

    def write(self, printer: Text) -> str:
        """Return the equation on one line."""
        return " ".join(self.written_sides(printer))

    def json(self, digits: int | None) -> Json:
        """Return the equation as plain data, as text and as LaTeX."""
        shown = {"label": self.label, "exact": self.exact}
        shown |= {"text": to_text(self, digits or 6), "latex": to_latex(self, digits or 6)}
        return {**shown, "sides": [to_json(side, digits) for side in self.sides]}


Prose = tuple[str | Formula | Equation, ...]
"""A sentence in parts: words, and formulas that every printer writes in its own way."""


@dataclass(frozen=True)
class Step(Shown):
    """A title, a sentence, the equations it speaks of, and the rows of a table, the head first."""

    title: str
    sentence: Prose = ()
    equations: tuple[Equation, ...] = ()
    rows: tuple[tuple[Prose, ...], ...] = ()

    def write(self, printer: Text) -> str:
        """Return the step in paragraphs and lines."""
        written = (equation.written_sides(printer) for equation in self.equations)
        step = printer.step(self.title, _prose(self.sentence, printer), written)
        rows = [[_prose(cell, printer).replace(printer.space, " ") for cell in row] for row in self.rows]
        return f"{step}\n{printer.table(rows)}" if rows else step

    def json(self, digits: int | None) -> Json:
        """Return the step as plain data."""
        text, latex = Text(digits or 6), Latex(digits or 6)
        words = {"sentence": _line(self.sentence, text), "sentence_latex": _line(self.sentence, latex)}
        rows = {"rows": [[_line(cell, text) for cell in row] for row in self.rows]} if self.rows else {}
        return {"title": self.title, **words, "equations": [each.json(digits) for each in self.equations], **rows}


@dataclass(frozen=True)
class Derivation(Shown):
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
        return to_text(self)

    def error(self) -> float:
        """Return the largest error of any exact equation in it: rounding, if the derivation is right."""
        equations = [equation for step in self.steps for equation in step.equations if equation.exact]
        found = max((equation.error(self.values) for equation in equations), default=0.0)
        if found <= ROUNDED:
            return found
        made: dict[Formula, float] = {}  # an equation may have only the names of what is rounded in those before it
        for each in equations:
            of_sides = (size(side, self.values, made) for side in each.sides)
            made[each.sides[0]] = max(made.get(each.sides[0], 0.0), *of_sides)
        return max(equation.error(self.values, made) for equation in equations)

    def write(self, printer: Text) -> str:
        """Return the title and every step."""
        steps = (printer.numbered.format(i, step.write(printer)) for i, step in enumerate(self.steps, 1))
        return "\n\n".join((printer.title(_prose(self.title, printer)), *steps))

    def json(self, digits: int | None) -> Json:
        """Return the derivation as plain data; its `facts` are keys of their own."""
        head = {key: _plain(value, digits) for key, value in self.facts.items()}
        known = [{"name": to_text(leaf), "value": _plain(value, digits)} for leaf, value in self.values.items()]
        body = [step.json(digits) for step in self.steps]
        return {"title": _line(self.title, Text(digits or 6)), **head, "values": known, "steps": body}


Printable = Formula | Equation | Step | Derivation


def to_text(node: Printable, digits: int | None = 6, width: int = WIDTH) -> str:
    """Print a formula, an equation, a step or a whole derivation as plain text with unicode letters.

    Args:
        node: what is printed.
        digits: how many significant digits numbers get, as `%g` writes them; None for as many as it takes.
        width: how many columns a line of a step has; longer formulas are broken at an operator.

    >>> from jaxprop.derivations.formula import Symbol
    >>> to_text(3 * (Symbol("x") ** 2 + 1) ** 3)
    '3·(x² + 1)³'
    >>> to_text(Equation((Symbol("a"), Number(2) / 3, Number(2 / 3))), digits=3)
    'a = 2/3 ≈ 0.667'
    """
    return _written(node, Text(digits, width))


def to_latex(node: Printable, digits: int | None = 6, document: bool = False) -> str:
    """Print as LaTeX: mathematics without delimiters for a formula or an equation, paragraphs for a derivation.

    What it prints needs the package amsmath (for `\\text`) or KaTeX.

    Args:
        node: what is printed.
        digits: how many significant digits numbers get; None for as many as it takes.
        document: whether it is a whole document, which tectonic or pdflatex compiles as it stands: a preamble, and
            equations that do not run off the page.

    >>> from jaxprop.derivations.formula import Derivative, Symbol
    >>> print(to_latex(Derivative(Symbol("C"), Symbol("w"))))
    \\frac{\\partial C}{\\partial w}
    """
    if not document:
        return _written(node, Latex(digits))
    written = _written(node, Document(digits))
    body = rf"\[ {written} \]" if isinstance(node, Formula | Equation) else written
    return f"{PREAMBLE}\n{body}\n\n\\end{{document}}\n"


def to_json(node: Printable, digits: int | None = None) -> Json:
    """Return plain dictionaries, lists, strings and finite numbers; a number that is not finite becomes None.

    Args:
        node: what is printed; a derivation's `facts` are keys of their own.
        digits: how many significant digits numbers get; None for full precision.

    >>> to_json(Number(3) ** 2)
    {'kind': 'power', 'base': {'kind': 'number', 'value': 3.0}, 'exponent': {'kind': 'number', 'value': 2.0}}
    """
    if isinstance(node, Formula):
        named = {each.name: _plain(getattr(node, each.name), digits) for each in fields(node)}
        return {"kind": type(node).__name__.lower(), **named}
    return node.json(digits)


def dumps(node: Printable, digits: int | None = None, head: Mapping[str, str] | None = None) -> str:
    """Return `to_json` as strict JSON text, with what `head` has before it: what `jaxprop explain --json` prints.

    >>> dumps(Number(0.1))
    '{"kind": "number", "value": 0.1}'
    """
    return json.dumps({**(head or {}), **to_json(node, digits)}, ensure_ascii=False, allow_nan=False)


def _written(node: Printable, printer: Text) -> str:
    return printer.write(node) if isinstance(node, Formula) else node.write(printer)


def _plain(value: object, digits: int | None) -> Any:
    match value:
        case Formula():
            return to_json(value, digits)
        case tuple() | list():
            return [_plain(item, digits) for item in value]
        case dict():
            return {key: _plain(item, digits) for key, item in value.items()}
        case float():
            return float(number(value, digits)) if math.isfinite(value) else None
        case _:
            return value


def _prose(prose: Prose, printer: Text) -> str:
    """Write a sentence; the spaces inside its formulas are the printer's, which may not be broken."""
    return "".join(
        printer.words(part)
        if isinstance(part, str)
        else printer.embedded(_written(part, printer).replace(" ", printer.space))
        for part in prose
    )


def _line(prose: Prose, printer: Text) -> str:
    return _prose(prose, printer).replace(printer.space, " ")


def _rounds(side: Formula, digits: int | None) -> bool:
    """Whether a number of this side is written with fewer digits than it has."""
    found = (rest_value(part.terms) if isinstance(part, Rest) else part for part in parts(side))
    shown = (part.value for part in found if isinstance(part, Number))
    return any(math.isfinite(v) and not math.isclose(float(number(v, digits)), v, rel_tol=1e-14) for v in shown)


def worked(lhs: Formula, *forms: Formula, values: Mapping[Formula, float], label: str = "") -> Equation:
    """Return `lhs = form = … = the last form with numbers = its value`; the value is computed, never given.

    Raises `UndefinedError` where the last form has no finite value.

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

    >>> from jaxprop.derivations.formula import Symbol
    >>> to_text(labelled_sum({"the left path": Symbol("p"), "the right path": Symbol("q")}))
    'p + q'
    """
    return Sum(tuple(Labelled(label, formula(term)) for label, term in terms.items()))


def term_equations(total: Sum, values: Mapping[Formula, float]) -> tuple[Equation, ...]:
    """Return one equation for each labelled term of a sum: `label: term = with numbers = value`.

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
