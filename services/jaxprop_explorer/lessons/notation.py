"""Derivations in the article's notation: δ for ∂, ŷ for the target, n for an input; so one sees what it mixes up."""

from collections.abc import Iterator
from dataclasses import replace

from jaxprop.derivations import Derivation
from jaxprop.derivations.derivation import Equation
from jaxprop.derivations.formula import LEAVES, Derivative, Formula, Symbol, changed, parts
from jaxprop.derivations.names import named

LETTERS = {"target": "ŷ", **{f"x{s}": f"n{s}" for s in "₁₂₃"}}
ERROR = Symbol("δ")


def article(node: Equation | Derivation) -> Equation | Derivation:
    """Return the same with the article's letters; the error δ, for which it has no letter, becomes δC/δz."""
    if isinstance(node, Equation):
        return replace(node, sides=tuple(map(_formula, node.sides)))
    found = {leaf for formula in _formulas(node) for leaf in parts(formula) if isinstance(leaf, Symbol | Derivative)}
    return named(replace(node, facts={}), {leaf: _formula(leaf) for leaf in found if _formula(leaf) != leaf})


def _formulas(node: Derivation) -> Iterator[Formula]:
    """Yield every formula of a derivation: of its title, its sentences, equations and tables."""
    prose = [node.title]
    for step in node.steps:
        prose += [step.sentence, step.equations, *(cell for row in step.rows for cell in row)]
    for part in (part for line in prose for part in line):
        if isinstance(part, Formula):
            yield part
        elif isinstance(part, Equation):
            yield from part.sides


def _formula(node: Formula) -> Formula:
    match node:
        case Symbol(name) if node == ERROR:
            return Derivative(Symbol("C"), Symbol("z"), "δ")
        case Symbol(name):
            return replace(node, name=LETTERS.get(name, name))
        case Derivative(of, by, "∂"):
            return Derivative(_formula(of), _formula(by), "δ")
    return node if isinstance(node, LEAVES) else changed(node, _formula)
