r"""Costs as formulas: C of one example, and ∂C/∂y[k], with y what the network answers.

Each entry of `RULES` is the formula of the class of that name in `jaxprop.costs`, with its settings and for every kind
of targets that it takes. C and its derivative are written from the same symbols, and the tape's numbers stand beside
the derivative in every equation. With positions, y is y[t,k].
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from jaxprop import costs
from jaxprop.costs import Cost
from jaxprop.derivations.first_factor import CostFormula as CostFormula, Example, Values, should
from jaxprop.derivations.formula import Call, Constant, Formula, Product, Symbol
from jaxprop.derivations.hinge_formulas import hinge
from jaxprop.derivations.softmax_formulas import (
    LARGEST_EXPONENT as LARGEST_EXPONENT,
    kl_divergence,
    softmax_cross_entropy,
)


def cost_formula(cost: Cost, y: np.ndarray, targets: np.ndarray, values: Values) -> CostFormula | None:
    """Return the formulas of `cost` at one example's answer y, of any shape; None where none are known.

    The numbers of y, of the targets and of what is made of them go into `values`.

    >>> found = cost_formula(costs.HalfSquaredError(), np.array([0.75]), np.array([1.0]), {})
    >>> from jaxprop.derivations import to_text
    >>> to_text(found.whole(found.terms[0])), to_text(found.derivative(0))
    ('(y[0] - target[0])²/2', 'y[0] - target[0]')
    >>> found = cost_formula(costs.MeanSquaredError(), np.ones((2, 3)), np.zeros((2, 3)), {})
    >>> to_text(found.derivative((1, 2)))
    '2·(y[1,2] - target[1,2])/6'
    """
    rule = RULES.get(type(cost))
    return None if rule is None else rule(cost, Example(np.asarray(y), np.asarray(targets), values))


def _half_squared_error(cost: Cost, example: Example) -> CostFormula:
    def difference(index: tuple[int, ...]) -> Formula:
        return example.answer(index) - example.target(index)

    return CostFormula(
        shape=example.y.shape,
        terms=tuple(difference(index) ** 2 for index in example.outputs()),
        whole=lambda total: total / 2,
        slope=difference,
        target=should(Symbol("target")),
        words=("The 2 of the square cancels the half in front of it, so what is left is the difference.",),
    )


def _mean_squared_error(cost: Cost, example: Example) -> CostFormula:
    half, n = _half_squared_error(cost, example), example.y.size
    mean = f", and the mean over {n} outputs divides by {n}" if n > 1 else ""
    return replace(
        half,
        whole=lambda total: total / n if n > 1 else total,
        slope=lambda index: 2 * half.slope(index) / n if n > 1 else 2 * half.slope(index),
        words=(f"The slope of a square is twice the inside{mean}.",),
    )


def _absolute_error(cost: Cost, example: Example) -> CostFormula:
    def difference(index: tuple[int, ...]) -> Formula:
        return example.answer(index) - example.target(index)

    return CostFormula(
        shape=example.y.shape,
        terms=tuple(Call("abs", difference(index)) for index in example.outputs()),
        slope=lambda index: Call("sign", difference(index)),
        target=should(Symbol("target")),
        words=("The slope is 1 above the target and -1 below it, however far. At the target it is 1, by convention.",),
    )


def _huber(cost: Cost, example: Example) -> CostFormula:
    assert isinstance(cost, costs.Huber)
    threshold = example.symbol("threshold", (), cost.threshold)

    def part(index: tuple[int, ...]) -> tuple[Formula, bool, bool]:
        r = float(example.y[index]) - float(example.targets[index])
        return example.answer(index) - example.target(index), abs(r) <= cost.threshold, r > 0

    def cost_of(index: tuple[int, ...]) -> tuple[Formula, ...]:
        difference, inside, _ = part(index)
        return (difference**2 / 2,) if inside else (threshold * Call("abs", difference), -(threshold**2 / 2))

    def slope(index: tuple[int, ...]) -> Formula:
        difference, inside, above = part(index)
        return difference if inside else threshold if above else -threshold

    return CostFormula(
        shape=example.y.shape,
        terms=tuple(term for index in example.outputs() for term in cost_of(index)),
        slope=slope,
        target=should(Symbol("target")),
        words=(
            *(
                "A difference of at most ",
                threshold,
                " costs half its square, and its slope is the difference itself; ",
            ),
            *("beyond, the cost is a straight line with the slope ", threshold, " or ", -threshold, "."),
        ),
    )


def _sigmoid_cross_entropy(cost: Cost, example: Example) -> CostFormula:
    terms: list[Formula] = []
    for index in example.outputs():
        a, t = example.answer(index), example.target(index)
        share = example.values[t]
        pieces = ((t, share, a), (1 - t, 1 - share, -a))
        terms += [Product((weight, Call("log", Call("sigmoid", side)))) for weight, size, side in pieces if size]
    words = ("The slope of the sigmoid has cancelled: a difference is left, so it is not slow where it is very wrong.",)
    return CostFormula(
        shape=example.y.shape,
        terms=tuple(terms),
        whole=lambda total: -total,
        slope=lambda index: Call("sigmoid", example.answer(index)) - example.target(index),
        target=should(Symbol("target")),
        words=words,
        smallest=1e-3,
    )


def _poisson(cost: Cost, example: Example) -> CostFormula:
    def terms(index: tuple[int, ...]) -> tuple[Formula, ...]:
        y, k = example.answer(index), example.target(index)
        factorial = example.symbol("log target!", index, math.lgamma(example.values[k] + 1))
        return Call("exp", y), -(k * y), factorial

    return CostFormula(
        shape=example.y.shape,
        terms=tuple(term for index in example.outputs() for term in terms(index)),
        slope=lambda index: Call("exp", example.answer(index)) - example.target(index),
        target=(*should(Symbol("target")), ", a count"),
        words=(
            *(Call("exp", Symbol("y")), " is the rate that the network expects. The logarithm of the factorial "),
            "1·2·3·… of the count does not change with y, so what is left is the rate less the count.",
        ),
        smallest=1e-3,
    )


def _gaussian(cost: Cost, example: Example) -> CostFormula:
    O = example.targets.shape[-1]

    def of_target(index: tuple[int, ...]) -> tuple[Formula, Formula, Formula]:
        """The residual, the logarithm of the variance, and the square over the variance, of one target."""
        *t, o = index
        r, s = example.target(index) - example.answer(index), example.answer((*t, o + O))
        return r, s, r**2 * Call("exp", -s)

    def slope(index: tuple[int, ...]) -> Formula:
        *t, k = index
        r, s, share = of_target((*t, k % O))
        return (1 - share) / 2 if k >= O else -(r * Call("exp", -s))

    constant = Call("log", 2 * Constant("π"))
    each = (of_target(index) for index in np.ndindex(example.targets.shape))
    means = f"first {O} answers are means, and the other {O}" if O > 1 else "first answer is a mean, and the other"
    return CostFormula(
        shape=example.y.shape,
        terms=tuple(term for _, s, share in each for term in (s, share, constant)),
        whole=lambda total: total / 2,
        slope=slope,
        target=should(Symbol("target")),
        words=(
            f"The {means} the logarithm of a variance. A difference counts less where the variance is large, and the ",
            "variance grows until it is the mean square of the difference.",
        ),
        smallest=1e-3,
    )


Rule = Callable[[Cost, Example], CostFormula]
RULES: dict[type, Rule] = {
    costs.HalfSquaredError: _half_squared_error,
    costs.MeanSquaredError: _mean_squared_error,
    costs.AbsoluteError: _absolute_error,
    costs.Huber: _huber,
    costs.SoftmaxCrossEntropy: softmax_cross_entropy,
    costs.SigmoidCrossEntropy: _sigmoid_cross_entropy,
    costs.KLDivergence: kl_divergence,
    costs.Hinge: hinge,
    costs.PoissonNegativeLogLikelihood: _poisson,
    costs.GaussianNegativeLogLikelihood: _gaussian,
}
