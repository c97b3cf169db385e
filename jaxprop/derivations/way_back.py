"""The way back, a step for every link: the error in front of a layer as a sum over what is behind it."""

from collections.abc import Sequence
from typing import Any

from jaxprop.derivations.activation_formulas import RULES, activation_formula
from jaxprop.derivations.derivation import Equation, Prose, Step
from jaxprop.derivations.equations import Equations
from jaxprop.derivations.formula import Formula, Number, Sum, Symbol
from jaxprop.derivations.layer_words import RENAMED, words_of
from jaxprop.derivations.passing import Node
from jaxprop.derivations.reading import C
from jaxprop.derivations.tracing import Link, Term
from jaxprop.layers import Affine, Linear
from jaxprop.layers.convolution import Convolution

JOINED = {
    "sum": "added to what comes the other way, so its error is that of the sum",
    "concatenate": "laid beside what the others answer, so its error is that of the same number there",
    "multiply": "multiplied by what the others answer, so its error is that of the product, times theirs",
}


class WayBack:
    """Writes the links of a trail, with the equations of `write`."""

    def __init__(self, write: Equations):
        self.write, self.values = write, write.values

    def step(self, link: Link) -> Step:
        """Return one layer on the way back."""
        self.values[link.front.delta] = link.front.error
        self.values.update({term.behind.delta: term.behind.error for term in link.terms})
        if link.kind == "branches":
            return Step(f"Where ways meet: {_place(link.node)}", *self._branches(link))
        if link.kind == "joined":
            return Step(f"The end of a branch: {_place(link.node)}", *self._joined(link))
        title = f"{'Inside' if link.kind == 'inside' else 'Through'} {_place(link.node)}"
        layer = link.node.layer
        if type(layer) in RULES and len(link.terms) == 1 and link.front.value is not None:
            return Step(title, *self._activation(link))
        if isinstance(layer, RENAMED) and link.terms:
            return Step(title, words_of(link), (_same(link),))
        terms = [("", term.behind.delta * self._slope(link, term)) for term in link.terms]
        return Step(title, words_of(link), tuple(self.write.total(link.front.delta, terms, link.count, link.rest)))

    def _slope(self, link: Link, term: Term) -> Formula:
        """How much the number behind moves with the one in front: a weight where it is one, else a derivative."""
        node, front, behind = link.node, link.front.at, term.behind.at
        name, index = "W", None
        if link.kind != "layer":
            pass
        elif type(node.layer) is Linear:
            index = (front[-1], behind[-1])
        elif type(node.layer) is Affine:
            name, index = "scale", (front[-1],)
        elif isinstance(node.layer, Convolution):
            index = _kernel(node.layer, node, front, behind)
        if index is None:
            self.values[link.slope(term)] = term.slope
            return link.slope(term)
        symbol = Symbol(name, (*node.steps, *index), node.path or None)
        self.values[symbol] = float(getattr(node.params, name)[index])  # where it is not the slope, sums do not hold
        return symbol

    def _activation(self, link: Link) -> tuple[Prose, tuple[Equation, ...]]:
        """The slope of one activation by its formula, and the product."""
        (term,) = link.terms
        front, behind, slope = link.front, term.behind, link.slope(term)
        self.values.update({front.symbol: front.value or 0.0, behind.symbol: behind.value or 0.0, slope: term.slope})
        found = activation_formula(link.node.layer, front.symbol, behind.symbol, front.value or 0.0)
        self.values.update(found.given)
        equations = list(self.write.define(found.helpers))
        equations += self.write.worked(slope, found.slope or Number(term.slope), exact=found.exact_slope)
        equations += self.write.worked(front.delta, behind.delta * slope)
        return found.words, tuple(equations)

    def _branches(self, link: Link) -> tuple[Prose, tuple[Equation, ...]]:
        """What comes back along every branch, and the sum."""
        front, ways = link.front, [term.behind for term in link.terms]
        many = "one way" if len(ways) == 1 else f"{len(ways)} ways"
        words = (
            *(front.symbol, " reaches ", C, f" by {many}, so its error is the sum of what comes back along each; "),
            "the largest is followed.",
        )
        labels = [f"through {way.name.path}" if way.name.letter == "x" else "around" for way in ways]
        each = [Equation((way.delta, Number(way.error)), label) for way, label in zip(ways, labels, strict=True)]
        parts = tuple(way.delta for way in ways)
        return words, (*each, *self.write.worked(front.delta, parts[0] if len(parts) == 1 else Sum(parts)))

    def _joined(self, link: Link) -> tuple[Prose, tuple[Equation, ...]]:
        """What a branch's own error is."""
        (term,) = link.terms
        join = getattr(link.node.layer, "join", "sum")
        words = (f"What the branch answers is {JOINED[join]}.",)
        if join != "multiply":
            return words, (_same(link),)
        return words, tuple(self.write.worked(link.front.delta, term.behind.delta * self._slope(link, term)))


def _place(node: Node) -> str:
    """The layer's kind, its path in the code, and its step."""
    name = type(node.layer).__name__ + (f", {node.path}" if node.path else "")
    return name + (f" at step {', '.join(map(str, node.steps))}" if node.steps else "")


def _same(link: Link) -> Equation:
    """The error in front is that behind, under another name."""
    return Equation((link.front.delta, link.terms[0].behind.delta, Number(link.front.error)))


def _kernel(layer: Convolution, node: Node, front: Sequence[int], behind: Sequence[int]) -> tuple[int, ...]:
    """The index of the number of a kernel between a number that goes into a convolution and one that comes out."""
    window = layer.window(node.passed.x)
    fine, coarse = (behind, front) if window.flipped else (front, behind)
    along: Any = zip(fine[1:-1], coarse[1:-1], window.strides, window.dilation, window.low, strict=True)
    k = [(q + low - s * t) // d for q, t, s, d, low in along]
    if window.flipped:
        k = [size - 1 - at for at, size in zip(k, window.kernel, strict=True)]
    return (*k, front[-1] % node.params.W.shape[-2], behind[-1])
