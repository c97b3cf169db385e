r"""Costs as formulas: C of one example, and ∂C/∂y[k], with y what the network answers.

Each entry of `RULES` is the formula of the class of that name in `jaxprop.costs`, as it is without settings. C and its
derivative are written from the same symbols, and the tape's numbers stand beside the derivative in every equation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jaxprop import costs
from jaxprop.costs import Cost
from jaxprop.derivations.derivation import Equation, Prose
from jaxprop.derivations.formula import Call, Formula, Number, Product, Symbol, children, evaluate

LARGEST_EXPONENT = 500.0  # exp(710) is too large for a float64
Values = dict[Formula, float]
Helpers = tuple[tuple[Symbol, Formula], ...]


@dataclass(frozen=True)
class CostFormula:
    """The formulas of one cost for one example; `terms` are what is summed in C, `whole` makes C of their sum.

    `sums` and `helpers` stand before C, `unit(k)` before ∂C/∂y[k]; `target` says what the network should have answered.
    Below `smallest` a float64 has too few digits for C as it is written, the logarithm of a number near 1, and for a
    derivative that is so small a part of what it subtracts.
    """

    terms: tuple[Formula, ...]
    whole: Callable[[Formula], Formula]
    derivative: Callable[[int], Formula]
    target: Prose
    words: Prose
    sums: tuple[tuple[Symbol, tuple[Formula, ...]], ...] = ()
    helpers: Helpers = ()
    unit: Callable[[int], Helpers] = lambda k: ()
    smallest: float = 0.0

    def is_exact(self, k: int, values: Values) -> bool:
        """Whether a float64 has enough digits for ∂C/∂y[k]: few are left of a difference of nearly equal numbers."""
        parts = [abs(evaluate(part, values)) for part in children(self.derivative(k))]
        return abs(evaluate(self.derivative(k), values)) >= self.smallest * max(parts)


def cost_formula(cost: Cost, y: np.ndarray, targets: np.ndarray, values: Values) -> CostFormula | None:
    """Return the formulas of `cost` at the answer y `[O]`, None where none are known; targets go into `values`.

    >>> found = cost_formula(costs.HalfSquaredError(), np.array([0.75]), np.array([1.0]), {})
    >>> from jaxprop.derivations import to_text
    >>> to_text(found.whole(found.terms[0])), to_text(found.derivative(0))
    ('(y[0] - target[0])²/2', 'y[0] - target[0]')
    """
    rule = RULES.get(type(cost))
    if rule is None or cost != type(cost)():  # smoothed, weighted or ignored targets have no formula here
        return None
    return rule([Symbol("y", (k,)) for k in range(len(y))], y, targets, values)


def _targets(name: str, numbers: np.ndarray, values: Values) -> list[Symbol]:
    symbols = [Symbol(name, (k,)) for k in range(len(numbers))]
    values.update(zip(symbols, map(float, numbers), strict=True))
    return symbols


def _should(symbol: Formula) -> Prose:
    return (symbol, " is what it should have answered")


def _half_squared_error(y: list[Symbol], at: np.ndarray, targets: np.ndarray, values: Values) -> CostFormula:
    target = _targets("target", targets, values)
    return CostFormula(
        terms=tuple((a - t) ** 2 for a, t in zip(y, target, strict=True)),
        whole=lambda total: total / 2,
        derivative=lambda k: y[k] - target[k],
        target=_should(Symbol("target")),
        words=("The 2 of the square cancels the half in front of it, so what is left is the difference.",),
    )


def _mean_squared_error(y: list[Symbol], at: np.ndarray, targets: np.ndarray, values: Values) -> CostFormula:
    half, n = _half_squared_error(y, at, targets, values), len(y)
    mean = f", and the mean over {n} outputs divides by {n}" if n > 1 else ""
    return replace(
        half,
        whole=lambda total: total / n if n > 1 else total,
        derivative=lambda k: 2 * half.derivative(k) / n if n > 1 else 2 * half.derivative(k),
        words=(f"The slope of a square is twice the inside{mean}.",),
    )


def _softmax_cross_entropy(y: list[Symbol], at: np.ndarray, targets: np.ndarray, values: Values) -> CostFormula:
    labels = np.issubdtype(np.asarray(targets).dtype, np.integer)
    p = _targets("p", np.eye(len(y))[int(targets)] if labels else targets, values)
    softmax, S, P = [Symbol("softmax(y)", (k,)) for k in range(len(y))], Symbol("S"), Symbol("P")
    # all y may be shifted by one number; it is done only where exp would overflow
    shift = float(np.max(at)) if np.max(np.abs(at)) > LARGEST_EXPONENT else None
    powers = [Call("exp", a if shift is None else a - Number(shift)) for a in y]
    is_whole = abs(sum(values[each] for each in p) - 1) < 1e-13
    shares = np.exp(at - np.max(at))
    values.update(zip(softmax, map(float, shares / np.sum(shares)), strict=True))
    terms = [(p[k], Call("log", softmax[k])) for k in range(len(y)) if values[p[k]]]
    target: Prose = (*_should(Symbol("p")), ", a probability for every output")
    if labels:
        target = (*_should(Symbol("p")), ": ", Equation((p[int(targets)], Number(1))), ", all others are 0")
    words: Prose = ("softmax makes probabilities of the answers; the slope is their difference to the right ones.",)
    return CostFormula(
        terms=tuple(log if values[each] == 1 else each * log for each, log in terms),
        whole=lambda inner: -inner,
        derivative=lambda k: softmax[k] - p[k] if is_whole else softmax[k] * P - p[k],
        target=target,
        words=words if is_whole else (*words, " The right ones do not add up to 1, but to ", P, "."),
        sums=((S, tuple(powers)), *(() if is_whole else ((P, tuple(p)),))),
        helpers=((softmax[int(targets)], powers[int(targets)] / S),) if labels else (),
        unit=lambda k: ((softmax[k], powers[k] / S),),
        smallest=1e-3,
    )


def _sigmoid_cross_entropy(y: list[Symbol], at: np.ndarray, targets: np.ndarray, values: Values) -> CostFormula:
    target = _targets("target", targets, values)
    terms: list[Formula] = []
    for a, t in zip(y, target, strict=True):
        share = values[t]
        parts = ((t, share, a), (1 - t, 1 - share, -a))
        terms += [Product((weight, Call("log", Call("sigmoid", side)))) for weight, size, side in parts if size]
    words = ("The slope of the sigmoid has cancelled: a difference is left, so it is not slow where it is very wrong.",)
    return CostFormula(
        terms=tuple(terms),
        whole=lambda total: -total,
        derivative=lambda k: Call("sigmoid", y[k]) - target[k],
        target=_should(Symbol("target")),
        words=words,
        smallest=1e-3,
    )


Rule = Callable[[list[Symbol], np.ndarray, np.ndarray, Values], CostFormula]
RULES: dict[type, Rule] = {
    costs.HalfSquaredError: _half_squared_error,
    costs.MeanSquaredError: _mean_squared_error,
    costs.SoftmaxCrossEntropy: _softmax_cross_entropy,
    costs.SigmoidCrossEntropy: _sigmoid_cross_entropy,
}
