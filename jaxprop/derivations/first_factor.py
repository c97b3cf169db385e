"""The first factor of the chain rule: what a cost is at one example, and ∂C/∂y[k], as formulas of the same symbols."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from jaxprop.derivations.derivation import Prose
from jaxprop.derivations.formula import Formula, Sum, Symbol, evaluate, parts

Values = dict[Formula, float]
Helpers = tuple[tuple[Symbol, Formula], ...]
Index = int | tuple[int, ...]
"""Of an output: (k,), or (t, k) where y has positions; a number counts all outputs of the example in order."""


@dataclass(frozen=True, eq=False)
class Example:
    """One example's answer y, of any shape, and its targets; `values` gets the number of every symbol that is made."""

    y: np.ndarray
    targets: np.ndarray
    values: Values

    def outputs(self) -> Iterator[tuple[int, ...]]:
        """Yield the index of every output."""
        yield from np.ndindex(self.y.shape)

    def symbol(self, name: str, index: tuple[int, ...], value: float) -> Symbol:
        """Return a symbol, with its number."""
        found = Symbol(name, index)
        self.values[found] = float(value)
        return found

    def answer(self, index: tuple[int, ...]) -> Symbol:
        """Return y[k]."""
        return self.symbol("y", index, self.y[index])

    def target(self, index: tuple[int, ...]) -> Symbol:
        """Return target[k]."""
        return self.symbol("target", index, self.targets[index])

    def known(self, symbol: Symbol, formula: Formula) -> tuple[Symbol, Formula]:
        """Return a helper, with its number."""
        self.values[symbol] = evaluate(formula, self.values)
        return symbol, formula


@dataclass(frozen=True)
class CostFormula:
    """The formulas of one cost for one example; `terms` are what is summed in C, `whole` makes C of their sum.

    `sums` and `helpers` stand before C; `target` says what the network should have answered. Below `smallest` a float64
    has too few digits for C as it is written, the logarithm of a number near 1, and for a derivative that is so small
    a part of what it subtracts.
    """

    shape: tuple[int, ...]
    terms: tuple[Formula, ...]
    slope: Callable[[tuple[int, ...]], Formula]
    target: Prose
    words: Prose
    whole: Callable[[Formula], Formula] = lambda total: total
    sums: tuple[tuple[Symbol, tuple[Formula, ...]], ...] = ()
    helpers: Helpers = ()
    before: Callable[[tuple[int, ...]], Helpers] = lambda index: ()
    smallest: float = 0.0

    def derivative(self, k: Index) -> Formula:
        """Return ∂C/∂y[k]; the numbers of its symbols are in the values that the formulas were asked for with."""
        return self.slope(self._index(k))

    def unit(self, k: Index) -> Helpers:
        """Return what has to be known before ∂C/∂y[k]."""
        return self.before(self._index(k))

    def is_exact(self, k: Index, values: Values) -> bool:
        """Whether a float64 has enough digits for ∂C/∂y[k]: few are left of a difference of nearly equal numbers."""
        sums = [part for part in parts(self.derivative(k)) if isinstance(part, Sum)] if self.smallest else []
        return all(
            abs(evaluate(each, values)) >= self.smallest * max(abs(evaluate(term, values)) for term in each.terms)
            for each in sums
        )

    def _index(self, k: Index) -> tuple[int, ...]:
        if isinstance(k, tuple):
            return k
        if not 0 <= k < math.prod(self.shape):
            raise IndexError(f"output {k} of an answer of shape {self.shape}")
        return tuple(int(i) for i in np.unravel_index(k, self.shape)) if self.shape else ()


def should(symbol: Formula) -> Prose:
    """Return the words on what the network should have answered."""
    return (symbol, " is what it should have answered")
