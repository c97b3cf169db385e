"""Names of one's own in a derivation: w5 where it would say W⁽²⁾[0,0]."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import ArrayLike

from jaxprop.arrays.index import check_index, read_index
from jaxprop.derivations import formula as tree
from jaxprop.derivations.derivation import Derivation, Equation, Prose, Step, to_text
from jaxprop.derivations.formula import Derivative, Formula, Symbol
from jaxprop.derivations.question import Question, X
from jaxprop.errors import JaxpropError
from jaxprop.layers import Linear
from jaxprop.network import leaves

ENTRY = re.compile(r"(?P<path>.+?)(?:\[(?P<index>[\d ,]+)\])?")
TAKEN = ("C", "y", "target", "η")
UNITS = re.compile(r"(?P<name>[xy]|target|p|(?:[azδ]|delta)(?P<layer>\d+)|C)")


def symbols_of(
    names: Mapping[str, str], columns: Sequence[str] | None, question: Question, known: Mapping[str, ArrayLike],
    numbered: bool = True,
) -> dict[Formula, Formula]:  # fmt: skip
    """Return what each name, and each column of x, stands for in a derivation, as symbols.

    numbered: whether layers are told by the number of their `Linear`, else by their path.

    names: {"w5": "1.W[0,0]", "out_h1": "a1[0]", "i1": "x[0]", "E": "C"}: a number of a parameter by its path, an input,
    a unit's sum z or activation a with the number of its Linear (1 is the first), an answer y, a target, or the cost.
    """
    paths = [leaf.path for leaf in leaves(question.net) if type(leaf.layer) is Linear]
    found: dict[Formula, Formula] = {
        Symbol(name, (i,), layer): Symbol(name, (column,), layer)
        for name, layer in (("x", None), *((name, 0) for name in ("a", "u", *(f"u{i}" for i in "₁₂₃₄₅"))))
        for i, column in enumerate(columns or ())
    }
    for name, entry in names.items():
        if not name.strip() or (name in TAKEN and str(entry).partition("[")[0] != name):  # the one y may be called y
            raise JaxpropError(
                f"names: {name!r} is given to {entry!r}; expected a name that is not empty and none of "
                f"{', '.join(TAKEN)}, which stand for something else in every derivation"
            )
        match = ENTRY.fullmatch(entry) if isinstance(entry, str) else None
        path = match["path"] if match else ""
        index: tuple[int, ...] = read_index(match["index"] or "") if match else ()
        place, _, leaf = path.rpartition(".")
        unit = UNITS.fullmatch(path)
        if path in known and path != X:
            index = check_index(index, path, tuple(known[path].shape))  # pyright: ignore
            number = 1 + paths.index(place) if place in paths else None
            symbol = Symbol(leaf, index, number if numbered else place or None)
            found[Symbol(leaf + "'", symbol.index, symbol.layer)] = Symbol(name + "'")
        elif unit and len(index) == (path != "C"):
            layer = int(unit["layer"]) if unit["layer"] else None
            if layer is not None and not numbered:
                layer = paths[layer - 1] if 0 < layer <= len(paths) else layer
            letter = path.rstrip("0123456789").replace("delta", "δ")
            symbol = Symbol(letter, index, layer)
            if path == "C":
                found |= {Symbol("C", (when,)): Symbol(name, (when,)) for when in ("after", "flipped")}
        else:
            raise JaxpropError(
                f"names: {name!r} is given to {entry!r}, which is no entry; expected a number of a parameter "
                f"({', '.join(path for path in known if path != X)}) such as 0.W[0,0], or x[0], z1[0], a1[0], y[0], "
                "target[0] or C"
            )
        found[symbol] = Symbol(name)
    return found


def named(derivation: Derivation, names: Mapping[Formula, Formula]) -> Derivation:
    """Return the derivation with other names for some of its symbols; nothing else changes.

    >>> from jaxprop.derivations.derivation import Step
    >>> w = Symbol("W", (0, 0), 1)
    >>> step = Step("The question", ("How does ", w, " matter?"), (Equation((Derivative(Symbol("C"), w), w)),))
    >>> print(named(Derivation((w,), (step,), {w: 2.0}), {w: Symbol("w5")}))
    w5
    <BLANKLINE>
    1. The question
       How does w5 matter?
         ∂C/∂w5 = w5
    """

    def formula(node: Formula) -> Formula:
        if node in names:
            return names[node]
        if isinstance(node, Derivative):
            return replace(node, of=formula(node.of), by=formula(node.by))
        return node if isinstance(node, tree.LEAVES) else tree.changed(node, formula)

    cost = names.get(Symbol("C"))

    def words(text: str) -> str:
        return re.sub(r"\bC\b", cost.name, text) if isinstance(cost, Symbol) else text

    def equation(each: Equation) -> Equation:
        return replace(each, sides=tuple(map(formula, each.sides)), label=words(each.label))

    def prose(parts: Prose) -> Prose:
        def part(each: str | Formula | Equation) -> str | Formula | Equation:
            return (
                words(each) if isinstance(each, str) else formula(each) if isinstance(each, Formula) else equation(each)
            )

        return tuple(map(part, parts))

    def step(each: Step) -> Step:
        rows = tuple(tuple(map(prose, row)) for row in each.rows)
        return replace(each, sentence=prose(each.sentence), equations=tuple(map(equation, each.equations)), rows=rows)

    values = {formula(symbol): value for symbol, value in derivation.values.items()}

    def written(fact: Any) -> Any:
        """A fact with every formula in it as text, under its new names."""
        if isinstance(fact, dict):
            return {key: written(value) for key, value in fact.items()}
        if isinstance(fact, list):
            return [written(value) for value in fact]
        return to_text(formula(fact)) if isinstance(fact, Formula) else fact

    facts = {key: written(value) for key, value in derivation.facts.items()}
    return Derivation(prose(derivation.title), tuple(map(step, derivation.steps)), values, facts)
