"""Derivatives of formulas by the rules of calculus, and small honest simplifications of what comes out.

To simplify is to fold numbers, drop 0 and 1, and combine like terms and like factors. A product is taken apart into a
coefficient and the power of each of its bases, and put together again in one order. Whole numbers are kept as
fractions, so a third stays 1/3. Nothing is expanded and nothing is factored.
"""

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from itertools import chain

from jaxprop.derivations import formula as tree
from jaxprop.derivations.formula import Call, Constant, Formula, Negation, Number, Power, Product, Quotient, Sum, Symbol
from jaxprop.derivations.functions import FUNCTIONS
from jaxprop.derivations.parse import parse
from jaxprop.errors import pick

ZERO, ONE = Number(0), Number(1)

Coefficient = Fraction | float
Factors = dict[Formula, Coefficient]
"""The bases of a product, each with its exponent."""

EXACT: Mapping[Formula, Formula] = {
    Call("log", Constant("e")): ONE,
    **{Call(name, Number(at)): Number(value) for name, f in FUNCTIONS.items() for at, value in f.exact.items()},
}
U, V = Symbol("u"), Symbol("v")
BITS = 53


def depends(node: Formula, x: Formula) -> bool:
    """Whether `x` occurs in the formula."""
    return x in tree.parts(node)


def derivative(node: Formula, x: Symbol) -> Formula:
    """Return the simplified derivative with respect to `x`, every other symbol held fixed.

    >>> from jaxprop.derivations import to_text
    >>> x = Symbol("x")
    >>> to_text(derivative(3 * (x**2 + 1) ** 3, x)), to_text(derivative(Call("cos", x) ** -1, x))
    ('18x(x² + 1)²', 'sin(x)/cos(x)²')
    """
    return simplify(_derivative(node, x))


def _derivative(node: Formula, x: Symbol) -> Formula:
    if node == x:
        return ONE
    if not depends(node, x):
        return ZERO
    match node:
        case Sum(terms):
            return Sum(tuple(_derivative(term, x) for term in terms if depends(term, x)))
        case Negation(inner):
            return -_derivative(inner, x)
        case tree.Labelled(_, inner):
            return _derivative(inner, x)
        case Product(factors):
            changing = [i for i, factor in enumerate(factors) if depends(factor, x)]
            turns = (Product((*factors[:i], _derivative(factors[i], x), *factors[i + 1 :])) for i in changing)
            return Sum(tuple(turns))
        case Quotient(top, bottom) if not depends(bottom, x):
            return _derivative(top, x) / bottom
        case Quotient(top, bottom):
            return (_derivative(top, x) * bottom - top * _derivative(bottom, x)) / bottom**2
        case Power(base, exponent) if not depends(exponent, x):
            return exponent * base ** simplify(exponent - 1) * _derivative(base, x)
        case Power(base, exponent):
            outer = node * Call("log", base) * _derivative(exponent, x)
            return outer + node * exponent * _derivative(base, x) / base if depends(base, x) else outer
        case Call(name, argument, others):
            arguments = (argument, *others)
            at: dict[Formula, Formula] = dict(zip((U, V), arguments, strict=False))
            pairs = zip(slopes(pick(name, FUNCTIONS, "function")), arguments, strict=True)
            terms = [tree.substitute(slope, at) * _derivative(inner, x) for slope, inner in pairs if depends(inner, x)]
            return Sum(tuple(terms)) if len(terms) > 1 else terms[0]
    raise TypeError(f"no rule for the derivative of {type(node).__name__}")


@cache
def slopes(name: str) -> tuple[Formula, ...]:
    """Return the derivatives of a function by each of its arguments, as formulas in u and v."""
    return tuple(parse(slope, ("u", "v"), inner=True).formula for slope in FUNCTIONS[name].slopes)


def simplify(node: Formula) -> Formula:
    """Return a formula that has the same value wherever the given one has a value.

    Raises `UndefinedError` where folding the numbers overflows or divides by zero.

    >>> from jaxprop.derivations import to_text
    >>> x = Symbol("x")
    >>> to_text(simplify(Call("cos", x**2) * (2 * x) + 0)), to_text(simplify(x * x**-2)), to_text(simplify(3 * x / 6))
    ('2x·cos(x²)', '1/x', 'x/2')
    """
    match node:
        case Sum(terms):
            return _sum(map(simplify, terms))
        case Product() | Quotient() | Power() | Negation():
            return _join(*_split(tree.changed(node, simplify)))
        case Call():
            inside = tree.changed(node, simplify)
            return EXACT.get(inside, inside)
        case tree.Labelled(_, inner):
            return simplify(inner)
    return node


def _sum(terms: Iterable[Formula]) -> Formula:
    """Add like terms: 2x + x is 3x."""
    total: dict[frozenset, tuple[Coefficient, Factors]] = {}
    for term in chain.from_iterable(map(_terms, terms)):
        coefficient, factors = _split(term)
        key = frozenset(factors.items())
        before, first = total.get(key, (Fraction(0), factors))
        total[key] = (_exact(before + coefficient), first)
    joined = [_join(coefficient, factors) for coefficient, factors in total.values() if coefficient]
    if len(joined) > 1:
        # inside a sum, -1 is "minus 1" and not a negative number in parentheses
        return Sum(tuple(-Number(-t.value) if isinstance(t, Number) and t.value < 0 else t for t in joined))
    return joined[0] if joined else Number(0)


def _terms(node: Formula) -> tuple[Formula, ...]:
    match node:
        case Sum(terms):
            return terms
        case Negation(Sum(terms)):
            return tuple(-term for term in terms)
    return (node,)


def _split(node: Formula) -> tuple[Coefficient, Factors]:
    """Take a node, its insides already simple, apart into a coefficient and powers."""
    match node:
        case Number(value):
            return _exact(value), {}
        case Negation(inner):
            coefficient, factors = _split(inner)
            return -coefficient, factors
        case Product(factors):
            return _multiplied(map(_split, factors))
        case Quotient(top, bottom):
            return _multiplied((_split(top), _raised(bottom, Fraction(-1))))
        case Power(base, exponent):
            power, symbols = _split(exponent)
            if not symbols:
                return _raised(base, power)
    return Fraction(1), {node: Fraction(1)}


def _multiplied(pieces: Iterable[tuple[Coefficient, Factors]]) -> tuple[Coefficient, Factors]:
    coefficient: Coefficient = Fraction(1)
    together: Factors = {}
    for number, factors in pieces:
        coefficient = _exact(coefficient * number)
        for base, exponent in factors.items():
            together[base] = _exact(together.get(base, Fraction(0)) + exponent)
    return coefficient, {base: exponent for base, exponent in together.items() if exponent}


def _raised(base: Formula, exponent: Coefficient) -> tuple[Coefficient, Factors]:
    """Raise to a power: factor by factor if it is whole; (x²)^(1/2) is not x and stays as it is."""
    if not exponent:
        return Fraction(1), {}
    coefficient, factors = _split(base)
    if isinstance(exponent, float) or exponent.denominator != 1:
        return (Fraction(1), {}) if base == Number(1) else (Fraction(1), {base: exponent})
    raised = {part: _exact(power * exponent) for part, power in factors.items()}
    return _whole_power(coefficient, int(exponent)), raised


def _whole_power(number: Coefficient, exponent: int) -> Coefficient:
    if not number and exponent < 0:
        raise tree.UndefinedError("division by zero", Number(0) ** exponent)
    if isinstance(number, Fraction):
        bits = max(abs(number.numerator), number.denominator).bit_length() - 1
        if bits * abs(exponent) <= BITS:
            return _exact(number**exponent) if abs(number) not in (0, 1) else number ** (2 - exponent % 2)
    try:
        return _exact(float(number) ** float(exponent))
    except OverflowError:
        raise tree.UndefinedError(tree.OVERFLOW, Number(float(number)) ** exponent) from None


def _exact(number: Coefficient) -> Coefficient:
    """Keep whole numbers and their ratios as fractions while a float64 holds them exactly."""
    if isinstance(number, Fraction):
        small = max(abs(number.numerator), number.denominator).bit_length() <= BITS
        return number if small else _exact(float(number))
    number = float(number)
    if not math.isfinite(number):
        raise tree.UndefinedError(tree.OVERFLOW, Number(number))
    return Fraction(int(number)) if number.is_integer() and abs(number) < 2**BITS else number


def _join(coefficient: Coefficient, factors: Factors) -> Formula:
    """Put a coefficient and powers together: numbers, letters, sums, then functions; negative powers below."""
    if not coefficient:
        return Number(0)
    ordered = sorted(factors.items(), key=lambda item: _place(item[0]))
    above = [_power(base, exponent) for base, exponent in ordered if exponent > 0]
    below = [_power(base, -exponent) for base, exponent in ordered if exponent < 0]
    size = abs(coefficient)
    top, bottom = (size.numerator, size.denominator) if isinstance(size, Fraction) else (size, 1)
    if top != 1 or not above:
        above.insert(0, Number(float(top)))
    if bottom != 1:
        below.insert(0, Number(bottom))
    joined = _product(above) / _product(below) if below else _product(above)
    if coefficient > 0:
        return joined
    return Number(-joined.value) if isinstance(joined, Number) else -joined


def _product(factors: list[Formula]) -> Formula:
    return Product(tuple(factors)) if len(factors) > 1 else factors[0]


def _power(base: Formula, exponent: Coefficient) -> Formula:
    if exponent == 1:
        return base
    if isinstance(exponent, Fraction) and exponent.denominator != 1:
        return base ** (Number(exponent.numerator) / Number(exponent.denominator))
    return base ** float(exponent)


def _place(base: Formula) -> int:
    order = ((Number, Constant), (Symbol,), (Sum,))
    return next((i for i, kinds in enumerate(order) if isinstance(base, kinds)), len(order))
