"""Equations with their numbers: what a writer has written goes into `values`, where later equations find it."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from jaxprop.derivations import formula as tree
from jaxprop.derivations.derivation import Equation, Prose, shorten, to_text, worked
from jaxprop.derivations.formula import Formula, Negation, Number, Rest, Sum, Symbol, evaluate

ROOM = 98  # columns for both sides of an equation, so that a line stays within 110
SHOWN = 8


class Equations:
    """Writes equations, and gathers in `values` the number of every symbol that it writes."""

    def __init__(self, values: dict[Formula, float], most: int):
        self.values, self.most = values, most
        self.defined: set[Symbol] = set()

    def worked(self, lhs: Formula, *forms: Formula, label: str = "", exact: bool = True) -> Iterator[Equation]:
        """Yield `worked`, or nothing where float64 cannot hold a number on the way."""
        try:
            found = worked(lhs, *forms, values=self.values, label=label)
        except tree.UndefinedError:
            return
        self.values.setdefault(lhs, evaluate(found.sides[-1]))
        yield found if exact else Equation(found.sides, label, exact=False)

    def define(self, pairs: Iterable[tuple[Symbol, Formula]]) -> Iterator[Equation]:
        """Yield the equation of every name that has not been written before."""
        for symbol, formula in pairs:
            if symbol not in self.defined:
                self.defined.add(symbol)
                yield from self.worked(symbol, formula)

    def sum(
        self, lhs: Formula, terms: Sequence[Formula], *after: Formula,
        whole: Callable[[Formula], Formula] = lambda total: total, exact: bool = True,
    ) -> Iterator[Equation]:  # fmt: skip
        """Yield `lhs = whole(term + … + after)`, as many terms written as fit on a line."""
        taken = len(to_text(lhs)) + len(to_text(Sum(after))) + 3
        short = [*fitting(terms, self.values, ROOM - taken).terms, *after]
        yield from self.worked(lhs, whole(Sum(tuple(short)) if len(short) > 1 else short[0]), exact=exact)

    def total(self, lhs: Formula, terms: Sequence[tuple[str, Formula]], count: int, rest: float) -> Iterator[Equation]:
        """Yield `lhs` as the sum of terms, each with its label, and of `count` more that sum to `rest`.

        One term alone is written on one line with `lhs`, of several each has a line of its own.
        """
        if len(terms) < 2 and not count:
            yield from self.worked(lhs, *(term for _, term in terms)) if terms else [_value(lhs, self.values)]
            return
        for label, term in terms:
            yield from self.worked(term, term, label=label)
        if count:
            yield Equation((Number(rest),), f"the other {count:,} together")
        found = (evaluate(term, self.values) for _, term in terms)
        numbers: list[Formula] = [Negation(Number(-n)) if n < 0 else Number(n) for n in found]
        numbers += [Rest((Number(rest),), count)] if count else []
        yield Equation((lhs, Sum(tuple(numbers)), Number(self.values[lhs])))


def _value(lhs: Formula, values: Mapping[Formula, float]) -> Equation:
    return Equation((lhs, Number(values[lhs])))


def fitting(terms: Sequence[Formula], values: Mapping[Formula, float], room: int) -> Sum:
    """Return the sum of the terms, as many of them written as fit into `room` columns, with numbers too.

    >>> from jaxprop.derivations.formula import Number
    >>> to_text(fitting([Number(n) for n in range(1, 31)], {}, room=60))
    '1 + 2 + 3 + 4 + 5 + 6 + 7 + … (23 more terms summing to 437)'
    """
    total = Sum(tuple(terms))
    numbers = [tree.substitute(term, values) for term in terms[: SHOWN + 1]]
    try:
        sizes = [evaluate(term, values) for term in terms]
    except tree.UndefinedError:
        sizes = None
    for keep in range(min(len(terms), SHOWN), 1, -1):
        short = shorten(total, keep)
        with_numbers = Sum(tuple(numbers[: keep + 1]))
        if isinstance(rest := short.terms[-1], Rest):
            hidden = rest.terms if sizes is None else (Number(math.fsum(sizes[keep:])),)
            with_numbers = Sum((*numbers[:keep], Rest(hidden, len(rest.terms))))
        if max(len(to_text(short)), len(to_text(with_numbers))) <= room:
            return short
    return shorten(total, 1)


def joined(*parts: str | Formula | Prose) -> Prose:
    """Return one sentence of words, formulas and sentences."""
    return tuple(item for part in parts for item in (part if isinstance(part, tuple) else (part,)))
