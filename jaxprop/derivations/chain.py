"""An expression taken apart from the inside out: every inside gets a name, every link a small formula of its own."""

from typing import NamedTuple

from .calculus import depends, derivative
from .formula import Call, Formula, Negation, Power, Product, Quotient, Sum, Symbol, parts, substitute

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class Link(NamedTuple):
    """One link of the chain: `symbol = local`, which stands for `original` in the variable.

    `inputs` are the names in `local`, and `partials` its derivative with respect to each.
    """

    symbol: Symbol
    local: Formula
    original: Formula
    inputs: tuple[Symbol, ...]
    partials: tuple[Formula, ...]


def unfold(formula: Formula, x: Symbol) -> list[Link]:
    """Return the links from the innermost to the whole; equal insides share one name.

    Insides are the arguments of functions, bases of powers, and factors, tops and bottoms that are not the variable
    itself. A sum is an inside where a factor stands before it; other constant factors and sums stay in their link.

    >>> from jaxprop.derivations import to_text
    >>> x = Symbol("x")
    >>> [f"{link.symbol.name} = {to_text(link.local)}" for link in unfold(3 * (x**2 + 1) ** 3, x)]
    ['u = x² + 1', 'f = 3u³']
    """
    outer = Symbol("f" if x.name != "f" else "g")
    letter = "u" if x.name.rstrip("₀₁₂₃₄₅₆₇₈₉") != "u" else "v"
    named: dict[Formula, tuple[Symbol, Formula]] = {}
    local = _local(formula, x, named, letter)
    if len(named) == 1:
        (original, (symbol, inside)) = next(iter(named.items()))
        local = substitute(local, {symbol: Symbol(letter)})
        named = {original: (Symbol(letter), inside)}
    links = [_link(symbol, inside, original) for original, (symbol, inside) in named.items()]
    return [*links, _link(outer, local, formula)]


def _link(symbol: Symbol, local: Formula, original: Formula) -> Link:
    inputs = tuple(dict.fromkeys(part for part in parts(local) if isinstance(part, Symbol)))
    return Link(symbol, local, original, inputs, tuple(derivative(local, name) for name in inputs))


def _local(node: Formula, x: Symbol, named: dict[Formula, tuple[Symbol, Formula]], letter: str) -> Formula:
    """Return the node with its insides replaced by their names."""

    def inside(part: Formula) -> Formula:
        if part == x or not depends(part, x):
            return part
        if part not in named:
            local = _local(part, x, named, letter)
            named[part] = (Symbol(letter + str(len(named) + 1).translate(SUBSCRIPTS)), local)
        return named[part][0]

    def same(part: Formula) -> Formula:
        return _local(part, x, named, letter)

    def scaled(part: Formula) -> Formula:
        return inside(part) if isinstance(part, Sum) else same(part)

    if not depends(node, x):
        return node
    match node:
        case Sum(terms):
            return Sum(tuple(map(same, terms)))
        case Negation(part):
            return -same(part)
        case Product(factors):
            alone = sum(depends(factor, x) for factor in factors) == 1
            return Product(tuple(map(scaled if alone else inside, factors)))
        case Quotient(top, bottom):
            return (inside(top) if depends(bottom, x) else scaled(top)) / inside(bottom)
        case Power(base, exponent):
            return inside(base) ** inside(exponent)
        case Call(name, argument):
            return Call(name, inside(argument))
    return node


def rules(local: Formula) -> list[str]:
    """Return the names of the rules that the derivative of a link uses, outermost first.

    >>> u = Symbol("u")
    >>> rules(3 * u**3), rules(Call("sin", u) + u)
    (['the constant factor rule', 'the power rule'], ['the sum rule', 'the derivative of sin'])
    """
    found = [_rule(part) for part in reversed(list(parts(local)))]
    return [rule for rule in dict.fromkeys(found) if rule]


def _rule(node: Formula) -> str:
    def changes(part: Formula) -> bool:
        return any(isinstance(inner, Symbol) for inner in parts(part))

    match node:
        case Sum():
            return "the sum rule"
        case Product(factors):
            changing = sum(map(changes, factors))
            return "the product rule" if changing > 1 else "the constant factor rule" if changing else ""
        case Quotient(_, bottom):
            return "the quotient rule" if changes(bottom) else "the constant factor rule"
        case Power(base, exponent) if changes(node):
            if not changes(exponent):
                return "the power rule"
            return "the rule for a variable base and exponent" if changes(base) else "the exponential rule"
        case Call(name, argument) if changes(argument):
            return f"the derivative of {name}"
    return ""
