"""Places in a network: one number of one array between two layers, with its name, its value and its error."""

from typing import Any, NamedTuple

import numpy as np

from jaxprop.derivations.formula import Derivative, Formula, Symbol
from jaxprop.derivations.passing import Node
from jaxprop.derivations.reading import C
from jaxprop.layers import Linear
from jaxprop.layers.convolution import Convolution
from jaxprop.network import Chain, Remat, Repeat, Shared

SUMS = (Linear, Convolution)  # what they answer is called z, and its error δ


class Name(NamedTuple):
    """What an array is called: a letter, the path of its layer, and the steps of the `Repeat`s around it.

    >>> Name("a", "1.inner.0", (2,)).symbol((3, 1))
    Symbol(name='a', index=(2, 3, 1), layer='1.inner.0')
    """

    letter: str
    path: str = ""
    steps: tuple[int, ...] = ()

    def symbol(self, index: tuple[int | str, ...]) -> Symbol:
        """Return the symbol of one of its numbers."""
        return Symbol(self.letter, (*self.steps, *index), self.path or None)

    def error(self, index: tuple[int | str, ...]) -> Formula:
        """Return the symbol of ∂C/∂(that number): δ where it is a z."""
        symbol = self.symbol(index)
        return Symbol("δ", symbol.index, symbol.layer) if self.letter == "z" else Derivative(C, symbol)


class Entry(NamedTuple):
    """One number of an array `[N, ...]`, at the full index `at` and written with `shown`; `error` is ∂C/∂(it)."""

    name: Name
    at: tuple[int, ...]
    shown: tuple[int, ...]
    value: float | None
    error: float

    @property
    def symbol(self) -> Symbol:
        """Its symbol."""
        return self.name.symbol(self.shown)

    @property
    def delta(self) -> Formula:
        """The symbol of its error."""
        return self.name.error(self.shown)


class View(NamedTuple):
    """Which examples C belongs to: to row `at` alone, or to the `whole` batch, where the first index is the example."""

    whole: bool
    at: int

    def shown(self, at: tuple[int, ...]) -> tuple[int, ...]:
        """Return an index as it is written."""
        return at if self.whole else at[1:]

    def only(self, numbers: np.ndarray) -> np.ndarray:
        """Return numbers `[N, ...]` with 0 where C does not look."""
        if self.whole:
            return numbers
        kept = np.zeros_like(numbers)
        kept[self.at] = numbers[self.at]
        return kept

    def entry(self, name: Name, at: tuple[int, ...], values: Any, errors: Any) -> Entry:
        """Return the entry of an array and of its errors."""
        return Entry(name, at, self.shown(at), None if values is None else float(values[at]), float(errors[at]))

    def answer(self, node: Node, at: tuple[int, ...]) -> Entry:
        """Return one number of what a layer answers."""
        return self.entry(answer_of(node), at, node.passed.y, node.passed.dy)


def last_inside(node: Node) -> Node:
    """Return the layer whose answer is the node's own: the last of a chain, what a wrapper wraps."""
    while node.is_opened and isinstance(node.layer, Chain | Repeat | Shared | Remat):
        node = list(node.children())[-1]
    return node


def answer_of(node: Node) -> Name:
    """Return the name of what a layer answers: y at the end of the network, z of sums, else a."""
    node = last_inside(node)
    root = node
    while root.around is not None:
        root = root.around
    end = last_inside(root)
    if (end.path, end.steps) == (node.path, node.steps):
        return Name("y")
    return Name("z" if isinstance(node.layer, SUMS) else "a", node.path, node.steps)


def input_of(node: Node) -> Name:
    """Return the name of what goes into a layer: what the one before it answers, or x."""
    around = node.around
    if around is None:
        return Name("x")
    if node.place and isinstance(around.layer, Chain | Repeat):
        return answer_of(around.child(node.place - 1))
    return input_of(around)


def share_of(node: Node) -> Name:
    """Return the name of what goes into a branch, as a number of its own: its error comes from that branch alone."""
    return Name("x", node.path, node.steps)
