"""Costs of softmax as formulas: amounts on every class, for labels and probabilities, smoothed, weighted or ignored.

At one position q[c] is what the targets put on class c, and Q = Σ q:

    C = -Σ q[c]·log softmax(y)[c]        ∂C/∂y[k] = softmax(y)[k]·Q - q[k]

and with positions C is the mean of such costs C[t] over those that are not ignored.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from jaxprop.costs import Cost, KLDivergence, SoftmaxCrossEntropy
from jaxprop.derivations.derivation import Equation, Prose, shorten
from jaxprop.derivations.first_factor import CostFormula, Example, Helpers, should
from jaxprop.derivations.formula import Call, Formula, Number, Sum, Symbol, evaluate

LARGEST_EXPONENT = 500.0  # exp(710) is too large for a float64
TINY = 1e-300
WRITTEN = 4  # terms of a sum over classes that is not the cost itself
ROUNDED = 1e-5  # how far they are where they were rounded to float32
WHOLE = 1e-13  # how far probabilities may be from 1, to be called that

Place = tuple[int, ...]


class Classes(NamedTuple):
    """One position: its symbols by class, how q is made, what is summed in S and P, and Q or what stands for it."""

    softmax: list[Symbol]
    powers: list[Formula]
    S: Symbol
    amounts: list[Symbol]
    made: dict[int, Formula]
    sums: list[tuple[Symbol, tuple[Formula, ...]]]
    total: Symbol | None
    Q: Helpers
    terms: list[Formula]


def softmax_cross_entropy(cost: Cost, example: Example) -> CostFormula:
    """Return the formulas of `SoftmaxCrossEntropy`, whatever its settings are."""
    assert isinstance(cost, SoftmaxCrossEntropy)
    return _Softmax(cost, example, cost.label_smoothing, cost.class_weights, cost.ignore).formula()


def kl_divergence(cost: Cost, example: Example) -> CostFormula:
    """Return the formulas of `KLDivergence`: the cross-entropy less what it is at best."""
    return _Softmax(cost, example).formula()


class _Softmax:
    """Makes the formulas of one example, a position at a time, when it is asked about."""

    def __init__(
        self, cost: Cost, example: Example, smoothing: float = 0.0, weights: tuple[float, ...] | None = None,
        ignore: int | None = None,
    ):  # fmt: skip
        self.example, self.smoothing, self.weights = example, smoothing, weights
        self.from_best = isinstance(cost, KLDivergence)
        self.C = example.y.shape[-1]
        self.labels = np.issubdtype(example.targets.dtype, np.integer)
        self.places: list[Place] = list(np.ndindex(example.y.shape[:-1]))
        self.ignored = ignore
        self.counted = [t for t in self.places if not (self.labels and example.targets[t] == ignore)]
        self.classes = cache(self._classes)

    def formula(self) -> CostFormula:
        """Return the cost's formula: of one position, or the mean over those that count."""
        one = len(self.places) == 1 and len(self.counted) == 1
        words: Prose = ("softmax makes probabilities of the answers; the slope is their difference to the right ones.",)
        words = (*words, *self._about_amounts())
        return CostFormula(
            **(self._of_one() if one else self._of_many()),
            shape=self.example.y.shape,
            slope=self._slope,
            target=self._should(),
            words=words if one else (*words, *self._about_mean()),
            before=lambda index: () if index[:-1] not in self.counted else self._before(index, known=one),
            smallest=1e-3,
        )

    def _of_one(self) -> dict[str, Any]:
        t = self.counted[0]
        at = self.classes(t)
        helpers = [(at.amounts[c], at.made[c]) for c in self._first(t) if c in at.made]
        helpers += at.Q
        if self.labels:
            label = int(self.example.targets[t])
            helpers.append((at.softmax[label], at.powers[label] / at.S))
        whole = (lambda inner: inner) if self.from_best else (lambda inner: -inner)
        return {"terms": tuple(at.terms), "whole": whole, "sums": tuple(at.sums), "helpers": tuple(helpers)}

    def _of_many(self) -> dict[str, Any]:
        """C = (C[0] + C[1] + …)/T, with the largest of them written out."""
        n = len(self.counted)
        if not n:
            return {"terms": (Number(0),)}
        costs = {t: self.example.symbol("C", t, self._number(t)) for t in self.counted}
        largest = max(self.counted, key=lambda t: self.example.values[costs[t]])
        terms = self.classes(largest).terms
        total = terms[0] if len(terms) == 1 else shorten(Sum(tuple(terms)), WRITTEN, self.example.values)
        own = self.example.known(costs[largest], total if self.from_best else -total)
        before = [each for c in self._first(largest) for each in self._before((*largest, c))]
        return {
            "terms": (costs.pop(largest), *costs.values()),
            "whole": lambda total: total / n if n > 1 else total,
            "helpers": (*dict.fromkeys(before), own),
        }

    def _first(self, t: Place) -> list[int]:
        """The classes that C is written with: the label alone, or the first with any amount."""
        if self.labels:
            return [int(self.example.targets[t])]
        return [int(c) for c in np.flatnonzero(self._q(t))[:WRITTEN]]

    def _p(self, t: Place) -> np.ndarray:
        p = self.example.targets[t]
        return (np.arange(self.C) == int(p)).astype(float) if self.labels else p  # np.eye has C² numbers

    def _q(self, t: Place) -> np.ndarray:
        p = self._p(t)
        q = (1 - self.smoothing) * p + self.smoothing * np.sum(p) / self.C
        return q if self.weights is None else q * self.weights

    def _number(self, t: Place) -> float:
        """C[t], where it is not written."""
        q, y = self._q(t), self.example.y[t]
        some = q > 0
        logs = y - np.max(y) - np.log(np.sum(np.exp(y - np.max(y))))
        best = np.log(q[some]) if self.from_best else 0.0
        return float(np.sum(q[some] * (best - logs[some])))

    def _slope(self, index: tuple[int, ...]) -> Formula:
        *t, k = index
        if tuple(t) not in self.counted:
            return Number(0)
        at = self.classes(tuple(t))
        share = at.softmax[k] if at.total is None else at.softmax[k] * at.total
        difference = share - at.amounts[k]
        return difference / len(self.counted) if len(self.counted) > 1 else difference

    def _before(self, index: tuple[int, ...], known: bool = False) -> Helpers:
        """What is needed for ∂C/∂y[t,k]; S and P are `known` where they stand before C."""
        *t, k = index
        at = self.classes(tuple(t))
        sums = [(name, shorten(Sum(terms), WRITTEN, self.example.values)) for name, terms in at.sums]
        own = [(at.amounts[k], at.made[k])] if k in at.made else []
        return (*([] if known else sums), *own, *at.Q, (at.softmax[k], at.powers[k] / at.S))

    def _classes(self, t: Place) -> Classes:
        e, C = self.example, self.C
        y = [e.answer((*t, c)) for c in range(C)]
        at = e.y[t]
        # all y may be shifted by one number; it is done only where exp would overflow
        shift = float(np.max(at)) if np.max(np.abs(at)) > LARGEST_EXPONENT else None
        powers: list[Formula] = [Call("exp", a if shift is None else a - Number(shift)) for a in y]
        shares = np.exp(at - np.max(at))
        shares = shares / np.sum(shares)
        softmax = [e.symbol("softmax(y)", (*t, c), shares[c]) for c in range(C)]
        p = [e.symbol("p", (*t, c), share) for c, share in enumerate(self._p(t))]
        S = Symbol("S", t)
        sums: list[tuple[Symbol, tuple[Formula, ...]]] = [(S, tuple(powers))]
        e.known(S, Sum(tuple(powers)))
        P = None
        if self.smoothing or self.weights is None:
            P = self._total("P", t, p)
            sums += [(P, tuple(p))] if P else []
        amounts, made = self._amounts(t, p, P)
        total = self._total("Q", t, amounts) if made else P
        Q = ((total, shorten(Sum(tuple(amounts)), WRITTEN, e.values)),) if made and total else ()
        logs = [  # a probability that a float64 does not hold still has a logarithm
            Call("log", softmax[c]) if shares[c] > TINY else y[c] - Number(shift or 0) - Call("log", S)
            for c in range(C)
        ]
        first, terms = set(self._first(t)), []
        for c in sorted(range(C), key=lambda c: c not in first):
            size = e.values[amounts[c]]
            if size and self.from_best:
                terms.append(amounts[c] * (Call("log", amounts[c]) - logs[c]))
            elif size:
                terms.append(logs[c] if size == 1 else amounts[c] * logs[c])
        return Classes(softmax, powers, S, amounts, made, sums, total, Q, terms or [Number(0)])

    def _amounts(self, t: Place, p: list[Symbol], P: Symbol | None) -> tuple[list[Symbol], dict[int, Formula]]:
        """q[c], and the formula of each where it is not p[c] itself: smoothed, then weighted."""
        e = self.example
        if not self.smoothing and self.weights is None:
            return p, {}
        made: dict[int, Formula] = {}
        for c, share in enumerate(p):
            formula: Formula = share
            if self.smoothing:
                ε = e.symbol("smoothing", (), self.smoothing)
                formula = (1 - ε) * share + (ε if P is None else ε * P) / self.C
            if self.weights is not None:
                formula = e.symbol("class_weight", (c,), self.weights[c]) * formula
            made[c] = formula
        return [e.known(Symbol("q", (*t, c)), formula)[0] for c, formula in made.items()], made

    def _total(self, name: str, t: Place, parts: list[Symbol]) -> Symbol | None:
        """Return what the amounts add up to, None where that is 1 and need not be said."""
        total = evaluate(Sum(tuple(parts)), self.example.values)
        return None if abs(total - 1) < WHOLE else self.example.symbol(name, t, total)

    def _should(self) -> Prose:
        words = should(Symbol("p"))
        if not self.labels:
            return (*words, ", a probability for every output")
        if len(self.places) > 1 or not self.counted:
            return (*words, ": at every position 1 for the right one, and 0 for all others")
        t = self.counted[0]
        return (
            *words,
            ": ",
            Equation((Symbol("p", (*t, int(self.example.targets[t]))), Number(1))),
            ", all others are 0",
        )

    def _about_amounts(self) -> Prose:
        """Say what was made of the targets."""
        said: list[str | Formula | Equation] = []
        if self.smoothing:
            said.append(" Some of every probability is spread over all classes, as much as smoothing says.")
        if self.weights is not None:
            said.append(" Each class counts as much as its class_weight.")
        off = [abs(float(np.sum(self._q(t))) - 1) for t in self.counted]
        total = Symbol("Q" if said else "P") if any(each >= WHOLE for each in off) else None
        if said:
            together = (", together ", total) if total else ()
            said += [" So ", Symbol("p"), " becomes ", Symbol("q"), *together, "."]
        elif total:
            where = "" if min(off) >= WHOLE else ", at some positions,"
            if max(off) < ROUNDED:
                said += [f" As the right ones are rounded, they{where} add up to ", total, ", which is nearly 1."]
            else:
                said += [f" The right ones{where} do not add up to 1, but to ", total, "."]
        return tuple(said)

    def _about_mean(self) -> Prose:
        n, T = len(self.counted), len(self.places)
        which = f"{n} positions"
        if n < T:
            which = f"the {n} of {T} positions that do not have the label {self.ignored}"
        return (" ", Symbol("C"), f" is the mean over {which}." if n else " is 0, for every position is ignored.")
