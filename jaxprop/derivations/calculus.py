"""Derivatives of formulas by the rules of calculus."""

from collections.abc import Callable, Mapping

from jaxprop.errors import pick

from .formula import Call, Formula, Labelled, Negation, Number, Power, Product, Quotient, Sum, Symbol, parts
from .simplify import simplify

ZERO, ONE = Number(0), Number(1)

DERIVATIVES: Mapping[str, Callable[[Formula], Formula]] = {
    "sin": lambda u: Call("cos", u),
    "cos": lambda u: -Call("sin", u),
    "exp": lambda u: Call("exp", u),
    "log": lambda u: 1 / u,
    "sqrt": lambda u: 1 / (2 * Call("sqrt", u)),
    "tanh": lambda u: 1 - Call("tanh", u) ** 2,
    "sigmoid": lambda u: Call("sigmoid", u) * (1 - Call("sigmoid", u)),
    "relu": lambda u: Call("step", u),
    "step": lambda u: ZERO,
}


def depends(node: Formula, x: Formula) -> bool:
    """Whether `x` occurs in the formula."""
    return any(part == x for part in parts(node))


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
        case Labelled(_, inner):
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
        case Call(name, argument):
            return DERIVATIVES[pick(name, DERIVATIVES, "function")](argument) * _derivative(argument, x)
    raise TypeError(f"no rule for the derivative of {type(node).__name__}")
