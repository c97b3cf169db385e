"""Derivations in the article's notation: δ for ∂, ŷ for the target, n for an input; so one sees what it mixes up."""

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
    leaves = [
        *node.values,
        *(part for step in node.steps for each in step.equations for s in each.sides for part in parts(s)),
    ]
    leaves += [
        part for step in node.steps for part in step.sentence if isinstance(part, Formula) for part in parts(part)
    ]
    leaves += [part for part in node.title if isinstance(part, Formula)]
    names = {
        leaf: _formula(leaf) for leaf in leaves if isinstance(leaf, Symbol | Derivative) and _formula(leaf) != leaf
    }
    return named(replace(node, facts={}), names)


def _formula(node: Formula) -> Formula:
    match node:
        case Symbol(name) if node == ERROR:
            return Derivative(Symbol("C"), Symbol("z"), "δ")
        case Symbol(name):
            return replace(node, name=LETTERS.get(name, name))
        case Derivative(of, by, "∂"):
            return Derivative(_formula(of), _formula(by), "δ")
    return node if isinstance(node, LEAVES) else changed(node, _formula)
