"""The value of a formula, computed from the same tree that is printed, with Python's floats or any other numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxprop.errors import JaxpropError, pick

from .formula import (
    At,
    Call,
    Constant,
    Derivative,
    Formula,
    Negation,
    Number,
    Power,
    Product,
    Quotient,
    Rest,
    Sum,
    Symbol,
    children,
)

CONSTANTS = {"π": math.pi, "e": math.e}


class UndefinedError(JaxpropError):
    """A formula without a finite value; `.formula` is the smallest part that has none."""

    def __init__(self, reason: str, formula: Formula):
        super().__init__(reason)
        self.formula = formula


class Arithmetic(NamedTuple):
    """How numbers are added, multiplied, divided and raised, and the functions that are known."""

    total: Callable[[Sequence[Any]], Any]
    product: Callable[[Sequence[Any]], Any]
    quotient: Callable[[Any, Any], Any]
    power: Callable[[Any, Any], Any]
    functions: Mapping[str, Callable[[Any], Any]]


def _power(base: float, exponent: float) -> float:
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    if base < 0 and not exponent.is_integer():
        raise ValueError(f"the negative number {base:g} has no real power {exponent:g}")
    return math.pow(base, exponent)


def _log(x: float) -> float:
    if x <= 0:
        raise ValueError(f"the logarithm needs a positive number and finds {x:g}")
    return math.log(x)


def _sqrt(x: float) -> float:
    if x < 0:
        raise ValueError(f"the square root needs a number of at least 0 and finds {x:g}")
    return math.sqrt(x)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


FLOATS = Arithmetic(
    total=math.fsum,
    product=math.prod,
    quotient=lambda top, bottom: top / bottom,
    power=_power,
    functions={
        **{"sin": math.sin, "cos": math.cos, "exp": math.exp, "log": _log, "sqrt": _sqrt},
        **{"tanh": math.tanh, "sigmoid": _sigmoid, "relu": lambda x: max(x, 0.0), "step": lambda x: float(x > 0)},
    },
)


def evaluate(node: Formula, values: Mapping[Formula, Any] | None = None, arithmetic: Arithmetic = FLOATS) -> Any:
    """Return the value of a formula, its symbols and derivatives looked up in `values`.

    Raises `UndefinedError` where there is no finite value (division by zero, log of 0, overflow) and `JaxpropError`
    for a leaf without a value.

    >>> x = Symbol("x")
    >>> evaluate(3 * (x**2 + 1) ** 3, {x: 2.0})
    375.0
    """
    values = values or {}
    match node:
        case Number(value):
            return value
        case Constant(name):
            return CONSTANTS[pick(name, CONSTANTS, "constant")]
        case Symbol() | Derivative():
            if node not in values:
                raise JaxpropError(f"no value was given for {node}")
            return values[node]
        case At(inner, symbols, points):
            at = (evaluate(point, values, arithmetic) for point in points)
            return evaluate(inner, {**values, **dict(zip(symbols, at, strict=True))}, arithmetic)
    inside = [evaluate(child, values, arithmetic) for child in children(node)]
    try:
        value = _apply(node, inside, arithmetic)
    except ZeroDivisionError:
        raise UndefinedError("division by zero", node) from None
    except OverflowError:
        raise UndefinedError("overflow: the value is too large for a float64", node) from None
    except ValueError as error:
        raise UndefinedError(str(error), node) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UndefinedError("overflow: the value is too large for a float64", node)
    return value


def _apply(node: Formula, inside: list[Any], arithmetic: Arithmetic) -> Any:
    match node:
        case Sum() | Rest():
            return arithmetic.total(inside)
        case Product():
            return arithmetic.product(inside)
        case Quotient():
            return arithmetic.quotient(*inside)
        case Power():
            return arithmetic.power(*inside)
        case Negation():
            return -inside[0]
        case Call(name, _):
            return arithmetic.functions[pick(name, arithmetic.functions, "function")](inside[0])
        case _:
            return inside[0]
