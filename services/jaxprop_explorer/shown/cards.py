"""A derivation cut into what a page lays out: cards that multiply, the paths behind a card, and every step.

Nothing is worked out here. Each symbol, formula and number is a piece of the `Derivation` that `jp.explain` wrote, and
is printed by the library.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaxprop.derivations import Derivation
from jaxprop.derivations.derivation import Equation, Step
from jaxprop.derivations.formula import Derivative, Formula, Number, Product
from jaxprop_explorer.shown.written import Printer

Json = dict[str, Any]


@dataclass(frozen=True)
class Card:
    """One factor of the chain rule: its value, the equation that works it out, and the step that says why."""

    factor: Formula
    value: float
    equation: Equation | None
    step: Step | None


@dataclass(frozen=True)
class Chain:
    """The derivative asked about, as a product of cards: `product` is that equation, `others` say it in other ways."""

    gradient: Formula
    value: float
    cards: tuple[Card, ...]
    product: Equation | None
    others: tuple[Equation, ...] = ()


def chain(derivation: Derivation, is_unit: bool = False) -> Chain:
    """Return the chain of a derivation, which is one card where there is no product.

    is_unit: whether it is to end at the sum z of a unit, so that its product is δ.
    """
    gradient = gradient_of(derivation)
    whole = [each for each in _equations(derivation) if each.sides[0] == gradient]
    first = next((side for each in whole for side in each.sides[1:] if isinstance(side, Product)), None)
    factors = (gradient,)
    if first is not None and all(factor in derivation.values for factor in first.factors):
        factors = first.factors
    if is_unit and len(factors) > 1:
        return _of_unit(derivation, factors[:-1])
    product = next((each for each in whole if len(each.sides) > 2 and each.sides[1] == first), None)
    others = tuple(each for each in whole if len(each.sides) > 2 and not each.label and each != product)
    return Chain(gradient, derivation.values[gradient], _cards(derivation, factors), product, others)


def _of_unit(derivation: Derivation, factors: tuple[Formula, ...]) -> Chain:
    """The chain that ends at z: its product is δ."""
    found = (each for each in _equations(derivation) if len(each.sides) > 2 and each.sides[1] == Product(factors))
    product = next(found, None)
    name = factors[0] if product is None else product.sides[0]
    return Chain(name, derivation.values[name], _cards(derivation, factors), product)


def gradient_of(derivation: Derivation) -> Derivative:
    """Return ∂C/∂w, which the title begins with."""
    first = derivation.title[0]
    assert isinstance(first, Equation) and isinstance(first.sides[0], Derivative)
    return first.sides[0]


def _cards(derivation: Derivation, factors: tuple[Formula, ...]) -> tuple[Card, ...]:
    return tuple(_card(derivation, factor) for factor in factors)


def _equations(derivation: Derivation) -> Iterator[Equation]:
    for step in derivation.steps:
        yield from step.equations


def _card(derivation: Derivation, factor: Formula) -> Card:
    for step in derivation.steps[1:]:
        for equation in step.equations:
            if equation.sides[0] == factor and not equation.label:
                return Card(factor, derivation.values[factor], equation, step)
    return Card(factor, derivation.values[factor], None, None)


def card_json(card: Card, printer: Printer) -> Json:
    """Return one card: its symbol, its formula and the same with numbers, its value, and why."""
    shown: Json = {
        "symbol": printer.math(card.factor), "value": printer.number(card.value), "exact": card.value,
        "term": printer.colour(card.factor), "formulas": [], "title": "", "why": [],
    }  # fmt: skip
    if card.equation is not None:
        sides = printer.sides(card.equation)[1:]
        shown["formulas"] = sides[:-1] if len(sides) > 1 else sides
    if card.step is not None:
        shown |= {"title": card.step.title, "why": printer.prose(card.step.sentence)}
    return shown


def paths_json(chain: Chain, printer: Printer) -> Json | None:
    """Return the paths that add up to a card, each with its part of the sum; None where the way back is one path."""
    for card in chain.cards:
        if card.step is None or card.equation is None:
            continue
        before = card.step.equations[: card.step.equations.index(card.equation)]
        terms = [each for each in before if each.label and isinstance(each.sides[-1], Number)]
        if terms:
            return {
                "of": printer.math(card.factor), "term": printer.colour(card.factor),
                "value": printer.number(card.value), "why": printer.prose(card.step.sentence),
                "terms": list(_terms(terms, printer)), "sum": printer.equation(card.equation),
            }  # fmt: skip
    return None


def _terms(terms: Sequence[Equation], printer: Printer) -> Iterator[Json]:
    """Each term with its share of the largest, which a bar shows."""
    numbers = [each.sides[-1].value for each in terms if isinstance(each.sides[-1], Number)]
    largest = max(map(abs, numbers)) or 1.0
    for each, value in zip(terms, numbers, strict=True):
        formulas = printer.sides(each)[:-1]
        yield {
            "label": each.label, "formulas": formulas, "value": printer.number(value), "exact": value,
            "share": abs(value) / largest, "negative": value < 0,
        }  # fmt: skip


def mean_json(step: Step, printer: Printer) -> Json:
    """Return the mean over a batch: its largest terms, and the equation that adds up all of them."""
    *terms, mean = step.equations
    return {
        "title": step.title, "sentence": printer.prose(step.sentence), "terms": list(_terms(terms, printer)),
        "sum": printer.equation(mean),
    }  # fmt: skip


def step_json(step: Step, printer: Printer) -> Json:
    """Return a whole step: its title, its sentence, its equations and its table."""
    return {
        "title": step.title,
        "sentence": printer.prose(step.sentence),
        "equations": [printer.equation(each) for each in step.equations],
        "rows": [[printer.prose(cell) for cell in row] for row in step.rows],
    }
