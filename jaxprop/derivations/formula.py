"""One formula tree: what is printed is what is evaluated, so no formula is ever typed twice.

Formulas are frozen and compared by structure. They are built with ordinary operators or by naming the node, and
their value comes from a mapping of leaves (symbols and derivatives) to numbers.

>>> from jaxprop.derivations import to_text
>>> C, a, z, w = (Symbol(name) for name in "Cazw")
>>> chain = Derivative(C, a) * Derivative(a, z) * Derivative(z, w)
>>> to_text(chain)
'∂C/∂a · ∂a/∂z · ∂z/∂w'
>>> numbers = {Derivative(C, a): -0.5, Derivative(a, z): 0.25, Derivative(z, w): 3.0}
>>> to_text(substitute(chain, numbers)), evaluate(chain, numbers)
('(-0.5)·0.25·3', -0.375)
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from jaxprop.derivations.functions import FUNCTIONS
from jaxprop.errors import JaxpropError, pick


@dataclass(frozen=True)
class Formula:
    """Base of every node; `+ - * / **` and unary minus build larger formulas, plain numbers are taken in.

    >>> 2 * Symbol("x") + 1 == Sum((Product((Number(2), Symbol("x"))), Number(1)))
    True
    """

    def __add__(self, other: "Formula | float") -> "Sum":
        return Sum((*_flat(Sum, self), *_flat(Sum, formula(other))))

    def __radd__(self, other: float) -> "Sum":
        return formula(other) + self

    def __sub__(self, other: "Formula | float") -> "Sum":
        return self + Negation(formula(other))

    def __rsub__(self, other: float) -> "Sum":
        return formula(other) - self

    def __mul__(self, other: "Formula | float") -> "Product":
        return Product((*_flat(Product, self), *_flat(Product, formula(other))))

    def __rmul__(self, other: float) -> "Product":
        return formula(other) * self

    def __truediv__(self, other: "Formula | float") -> "Quotient":
        return Quotient(self, formula(other))

    def __rtruediv__(self, other: float) -> "Quotient":
        return formula(other) / self

    def __pow__(self, other: "Formula | float") -> "Power":
        return Power(self, formula(other))

    def __neg__(self) -> "Negation":
        return Negation(self)


@dataclass(frozen=True)
class Number(Formula):
    """A number, kept as a float: `Number(2)`."""

    value: float

    def __post_init__(self):
        object.__setattr__(self, "value", float(self.value))


@dataclass(frozen=True)
class Constant(Formula):
    """A number with a name of its own: `Constant("π")` or `Constant("e")`."""

    name: str


@dataclass(frozen=True)
class Symbol(Formula):
    """A name for a number: x, W[12,3] is `Symbol("W", (12, 3))`, a⁽²⁾[j] is `Symbol("a", ("j",), layer=2)`.

    The layer is a number, or a path in the network, "2.inner.0".
    """

    name: str
    index: tuple[int | str, ...] = ()
    layer: int | str | None = None


@dataclass(frozen=True)
class Derivative(Formula):
    """∂of/∂by as one symbol whose value is looked up; `mark="d"` where there is one variable only."""

    of: Formula
    by: Formula
    mark: str = "∂"


@dataclass(frozen=True)
class Sum(Formula):
    """term + term + …"""

    terms: tuple[Formula, ...]


@dataclass(frozen=True)
class Rest(Formula):
    """The terms of a long sum that are counted and added, not written: see `derivation.shorten`.

    `count` says how many they are where `terms` holds their sum alone.
    """

    terms: tuple[Formula, ...]
    count: int | None = None


@dataclass(frozen=True)
class Labelled(Formula):
    """A formula with a few words on what it is, such as one path through the network in a sum over paths."""

    label: str
    formula: Formula


@dataclass(frozen=True)
class Product(Formula):
    """factor · factor · …"""

    factors: tuple[Formula, ...]


@dataclass(frozen=True)
class Quotient(Formula):
    """top / bottom."""

    top: Formula
    bottom: Formula


@dataclass(frozen=True)
class Power(Formula):
    """base ** exponent."""

    base: Formula
    exponent: Formula


@dataclass(frozen=True)
class Negation(Formula):
    """-formula."""

    formula: Formula


@dataclass(frozen=True)
class Call(Formula):
    """A function at a place: `Call("sin", x)`, or of two numbers, `Call("max", x, (y,))`; see `FUNCTIONS`."""

    function: str
    argument: Formula
    others: tuple[Formula, ...] = ()


@dataclass(frozen=True)
class At(Formula):
    """A formula evaluated where each symbol is its point: `At(9 * u**2, (u,), (Number(5),))`."""

    formula: Formula
    symbols: tuple[Formula, ...]
    points: tuple[Formula, ...]


LEAVES = (Number, Constant, Symbol, Derivative)


def formula(value: Formula | float) -> Formula:
    """Return a formula as it is and a number as a `Number`."""
    return value if isinstance(value, Formula) else Number(value)


def children(node: Formula) -> tuple[Formula, ...]:
    """Return the formulas directly inside a node, none for a leaf.

    >>> len(children(Symbol("x") + 1))
    2
    """
    if isinstance(node, LEAVES):
        return ()
    values = (getattr(node, field.name) for field in fields(node))
    nested = (value if isinstance(value, tuple) else (value,) for value in values)
    return tuple(part for parts in nested for part in parts if isinstance(part, Formula))


def changed(node: Formula, change: Callable[[Formula], Formula]) -> Formula:
    """Return a node that is no leaf with every formula directly inside it changed."""
    new: dict[str, Any] = {}
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Formula | tuple):
            new[field.name] = change(value) if isinstance(value, Formula) else tuple(map(change, value))
    return replace(node, **new)


def parts(node: Formula) -> Iterator[Formula]:
    """Yield every formula inside a node, insides first and the node itself last."""
    for child in children(node):
        yield from parts(child)
    yield node


def substitute(node: Formula, values: Mapping[Formula, Formula | float]) -> Formula:
    """Put numbers or formulas in the place of leaves; the rest stays as it is written.

    >>> x = Symbol("x")
    >>> substitute(x**2 + 1, {x: 3.0}) == Number(3) ** 2 + 1
    True
    """
    if isinstance(node, LEAVES):
        return formula(values[node]) if node in values else node
    if isinstance(node, At):
        points = (substitute(point, values) for point in node.points)
        return substitute(node.formula, {**values, **dict(zip(node.symbols, points, strict=True))})
    return changed(node, lambda part: substitute(part, values))


H = 2.0**-17  # for central differences: near the cube root of float64's epsilon, truncation and rounding in balance
OVERFLOW = "overflow: the value is too large for a float64"
CONSTANTS = {"π": math.pi, "e": math.e}


class UndefinedError(JaxpropError):
    """A formula without a finite value; `.formula` is the smallest part that has none."""

    def __init__(self, reason: str, formula: Formula):
        super().__init__(reason)
        self.formula = formula


class Arithmetic(NamedTuple):
    """How numbers are added and raised, and the functions that are known."""

    total: Callable[[Sequence[Any]], Any]
    power: Callable[[Any, Any], Any]
    functions: Mapping[str, Callable[..., Any]]


def _power(base: float, exponent: float) -> float:
    if base == 0 and exponent < 0:
        raise ZeroDivisionError
    if base < 0 and not exponent.is_integer():
        raise ValueError(f"the negative number {base:g} has no real power {exponent:g}")
    return math.pow(base, exponent)


FLOATS = Arithmetic(math.fsum, _power, FUNCTIONS)


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
        if isinstance(value, float) and not math.isfinite(value):
            raise OverflowError
    except ZeroDivisionError:
        raise UndefinedError("division by zero", node) from None
    except OverflowError:
        raise UndefinedError(OVERFLOW, node) from None
    except ValueError as error:
        raise UndefinedError(str(error), node) from None
    return value


def _apply(node: Formula, inside: list[Any], arithmetic: Arithmetic) -> Any:
    match node:
        case Sum() | Rest():
            return arithmetic.total(inside)
        case Product():
            return math.prod(inside)
        case Quotient():
            return inside[0] / inside[1]
        case Power():
            return arithmetic.power(*inside)
        case Negation():
            return -inside[0]
        case Call(name):
            return arithmetic.functions[pick(name, arithmetic.functions, "function")](*inside)
        case _:
            return inside[0]


def _flat(kind: type, node: Formula) -> tuple[Formula, ...]:
    return children(node) if isinstance(node, kind) else (node,)
