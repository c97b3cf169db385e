"""`derive`: the derivative of an expression in one variable, one step of the chain rule after another."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprop.derivations import formula as tree
from jaxprop.derivations.calculus import depends, derivative
from jaxprop.derivations.derivation import Derivation, Equation, Prose, Step, to_latex, to_text, worked
from jaxprop.derivations.formula import Call, Derivative, Formula, Number, Product, Sum, Symbol, evaluate, parts
from jaxprop.derivations.parse import Parsed, mark, parse
from jaxprop.errors import JaxpropError

Values = dict[Formula, float]
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


def derive(expression: str, at: float) -> Derivation:
    """Differentiate an expression at a point by the chain rule, every step with its numbers.

    With f(x) = g(u(x)), df/dx = dg/du · du/dx, where dg/du is taken at the inside u(x). Insides are worked out first;
    where several of them meet, the contributions of all are added. `jax.grad` and a central difference, both in
    float64, stand beside the result.

    Args:
        expression: text in one variable, such as "3*(x**2+1)**3", "sin(2x)/x" or "σ(0.5w + 1)". It is never executed.
        at: the point, a finite number.

    Returns:
        The steps. `.facts` has expression, variable, at, value, derivative, derivative_latex, derivative_value,
        jax_grad and finite_difference (None where there is no value on one side of the point).

    Raises:
        JaxpropError: with a caret under the place, for text that is not an expression in one variable, and for a
            point where the value or the derivative is not finite.

    >>> derivation = derive("3*(x**2+1)**3", at=2.0)
    >>> derivation.facts["derivative"], derivation.facts["derivative_value"], derivation.facts["jax_grad"]
    ('18x(x² + 1)²', 900.0, 900.0)
    >>> derive("3*(x**2+1)", at=2.0).facts["derivative"]
    '6x'
    """
    try:
        point = float(at)
    except (TypeError, ValueError, OverflowError):
        point = math.nan
    if not math.isfinite(point):
        raise JaxpropError(f"at must be a finite number, found {at!r:.100}")
    parsed = parse(expression)
    try:
        return _derivation(parsed, point)
    except RecursionError:
        raise JaxpropError("the expression is nested too deeply to differentiate") from None


def _derivation(parsed: Parsed, at: float) -> Derivation:
    x, formula = parsed.variable, parsed.formula
    values: Values = {x: at}
    _check_value(parsed, at)
    try:
        links = unfold(formula, x)
        forward = _forward(links, values)
        backward = [_differentiate(link, x, values) for link in links]
        whole = _whole(links, x, values)
    except tree.UndefinedError as error:
        raise _no_derivative(parsed, at, error) from None
    slope = Derivative(links[-1].symbol, x, "d")
    witnesses, seen = _witnesses(parsed, at, slope, values[slope])
    simple = derivative(formula, x)
    facts = {
        **{"expression": parsed.text, "variable": x.name, "at": at, "value": values[links[-1].symbol]},
        **{"derivative": to_text(simple, None), "derivative_latex": to_latex(simple, None)},
        **{"derivative_value": values[slope], **seen},
    }
    title: Prose = ("The derivative of ", formula, " at ", Equation((x, Number(at))))
    product = _product_of_links(links, x, values)
    return Derivation(title, (forward, *backward, *product, whole, witnesses), values, facts)


def _check_value(parsed: Parsed, at: float) -> None:
    """Raise an error that points at the part that has no value, if one has none."""
    try:
        evaluate(parsed.formula, {parsed.variable: at})
    except tree.UndefinedError as error:
        here = f"in {to_text(error.formula)} at {parsed.variable.name} = {at:g}"
        raise mark(parsed.text, *_span(parsed, error.formula), f"{error}, {here}") from None


def _no_derivative(parsed: Parsed, at: float, error: tree.UndefinedError) -> JaxpropError:
    """Return the error for a derivative that is not finite, pointing at the innermost part that has none."""
    x = parsed.variable
    for part in parts(parsed.formula):
        try:
            evaluate(derivative(part, x), {x: at})
        except tree.UndefinedError as inner:
            of = f" of {to_text(part)}"
            return mark(parsed.text, *_span(parsed, part), f"no finite derivative{of} at {x.name} = {at:g}: {inner}")
    return mark(parsed.text, 0, len(parsed.text), f"no finite derivative at {x.name} = {at:g}: {error}")


def _span(parsed: Parsed, formula: Formula) -> tuple[int, int]:
    """Return where a formula stands in the text, or where the smallest part around it does."""
    around = [span for known, span in parsed.spans.items() if formula in parts(known)]
    return parsed.spans.get(formula) or min(around, key=lambda s: s[1] - s[0], default=(0, len(parsed.text)))


def _forward(links: list[Link], values: Values) -> Step:
    equations = []
    for link in links:
        equations.append(worked(link.symbol, link.local, values=values))
        values[link.symbol] = evaluate(link.local, values)
    whole = Equation((links[-1].symbol, links[-1].original))
    if len(links) == 1:
        return Step("The value", ("This is read as ", whole, "."), tuple(equations))
    sentence = ("This is read as ", whole, ". Every inside gets a name and its value comes before the outside's.")
    return Step("The inside first", sentence, tuple(equations))


def _differentiate(link: Link, x: Symbol, values: Values) -> Step:
    """Return the step that finds d(link)/dx from the derivatives of its inputs, filling in `values`."""
    slope = Derivative(link.symbol, x, "d")
    marks = "d" if len(link.inputs) == 1 else "∂"
    equations, contributions = [], []
    for name, partial in zip(link.inputs, link.partials, strict=True):
        lhs = Derivative(link.symbol, name, marks)
        places = tuple(s for s in link.inputs if depends(partial, s)) or (name,)
        taken = tree.At(partial, places, tuple(Number(values[s]) for s in places))
        equations.append(worked(lhs, taken, values=values))
        values[lhs] = evaluate(taken, values)
        contributions.append(lhs if name == x else lhs * Derivative(name, x, "d"))
    total = _sum(contributions)
    values[slope] = evaluate(total, values)
    if link.inputs != (x,):
        equations.append(worked(slope, total, values=values))
    return Step(f"The derivative of {link.symbol.name}", _sentence(link, x, values), tuple(equations))


def _sentence(link: Link, x: Symbol, values: Values) -> Prose:
    """Say which rules are used and, in every link, at which inside the outer derivative is taken."""
    known = Equation((link.symbol, link.local))
    *most, last = rules(link.local) or [""]
    by = f", by {', '.join(most)}{' and ' if most else ''}{last}," if last else ""
    if not link.inputs:
        return (known, " does not depend on ", x, ".")
    if link.inputs == (x,):
        here = Equation((x, Number(values[x])))
        return (known, f" depends on {x.name} itself. Its derivative{by} is taken at ", here, ".")
    at = tuple(part for name in link.inputs for part in (", ", Equation((name, Number(values[name])))))[1:]
    elsewhere = x not in link.inputs and any(values[name] != values[x] for name in link.inputs)
    unlike: Prose = (", not at ", Equation((x, Number(values[x])))) if elsewhere else ()
    if len(link.inputs) > 1:
        after = f"; each is multiplied by the derivative of its inside and the {len(link.inputs)} paths are added."
        return (known, f". The outer derivatives{by} are taken at the insides ", *at, *unlike, after)
    linear = not any(depends(partial, name) for partial in link.partials for name in link.inputs)
    same = " (the outside is linear, so every other inside would give the same)" if linear else ""
    after = f"{same}; it is multiplied by the derivative of the inside."
    return (known, f". The outer derivative{by} is taken at the inside ", *at, *unlike, after)


def _product_of_links(links: list[Link], x: Symbol, values: Values) -> tuple[Step, ...]:
    """Return the whole chain as one product, if it is one chain of three links or more."""
    if len(links) < 3 or any(len(link.inputs) != 1 for link in links):
        return ()
    factors = tuple(Derivative(link.symbol, link.inputs[0], "d") for link in reversed(links))
    slope = Derivative(links[-1].symbol, x, "d")
    sentence = "From the outside in, each derivative taken at its own inside, the chain is one product."
    return (Step("The product along the chain", (sentence,), (worked(slope, Product(factors), values=values),)),)


def _whole(links: list[Link], x: Symbol, values: Values) -> Step:
    """Return the step that writes the derivative as one formula in x."""
    last = links[-1]
    originals: dict[Formula, Formula] = {link.symbol: link.original for link in links[:-1]}
    terms = []
    for name, partial in zip(last.inputs, last.partials, strict=True):
        outer = tree.substitute(partial, originals)
        terms.append(outer if name == x else outer * derivative(originals[name], x))
    simple = derivative(last.original, x)
    equation = worked(Derivative(last.symbol, x, "d"), *([_sum(terms)] if originals else []), simple, values=values)
    back = "With the insides put back and like factors combined:" if originals else "Without a number put in:"
    return Step("The derivative as one formula", (back,), (equation,))


def _witnesses(parsed: Parsed, at: float, slope: Formula, ours: float) -> tuple[Step, dict[str, float | None]]:
    grad = jax_grad(parsed.formula, parsed.variable, at)
    difference = central_difference(parsed.formula, parsed.variable, at)
    equations, missing = [Equation((slope, Number(ours)), "chain rule")], []
    if math.isfinite(grad):
        equations.append(Equation((slope, Number(grad)), "jax.grad"))
    else:
        missing.append(" jax.grad gives no finite number here.")
    if difference is not None:
        label = f"central difference, h = {difference[1]:g}"
        equations.append(Equation((slope, Number(difference[0])), label, exact=False))
    else:
        missing.append(" There is no central difference: the expression has no value on one side of the point.")
    inside = [part.argument for part in parts(parsed.formula) if isinstance(part, Call) and part.function == "relu"]
    if any(evaluate(part, {parsed.variable: at}) == 0 for part in inside):
        missing.append(" relu has a corner at 0 and no derivative there: 0 is what jax.grad uses, by convention.")
    sentence = ("The same number by other ways, in float64.", *missing)
    found = {"jax_grad": grad, "finite_difference": difference[0] if difference else None}
    return Step("Witnesses", sentence, tuple(equations)), found


def _sum(terms: list[Formula]) -> Formula:
    return Sum(tuple(terms)) if len(terms) > 1 else terms[0] if terms else Number(0)


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
        local = tree.substitute(local, {symbol: Symbol(letter)})
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
        case tree.Negation(part):
            return -same(part)
        case Product(factors):
            alone = sum(depends(factor, x) for factor in factors) == 1
            return Product(tuple(map(scaled if alone else inside, factors)))
        case tree.Quotient(top, bottom):
            return (inside(top) if depends(bottom, x) else scaled(top)) / inside(bottom)
        case tree.Power(base, exponent):
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
        case tree.Quotient(_, bottom):
            return "the quotient rule" if changes(bottom) else "the constant factor rule"
        case tree.Power(base, exponent) if changes(node):
            if not changes(exponent):
                return "the power rule"
            return "the rule for a variable base and exponent" if changes(base) else "the exponential rule"
        case Call(name, argument) if changes(argument):
            return f"the derivative of {name}"
    return ""


LARGEST_INTEGER_POWER = 1024


def _power(base, exponent):
    whole = isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= LARGEST_INTEGER_POWER
    return base ** (int(exponent) if whole else exponent)


JAX = tree.Arithmetic(
    sum,
    _power,
    {
        **{"sin": jnp.sin, "cos": jnp.cos, "exp": jnp.exp, "log": jnp.log, "sqrt": jnp.sqrt, "tanh": jnp.tanh},
        **{"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu},
    },
)


def jax_grad(formula: Formula, x: Symbol, at: float) -> float:
    """Return df/dx by `jax.grad` in float64; it may be NaN or infinite.

    >>> x = Symbol("x")
    >>> jax_grad(3 * (x**2 + 1), x, 2.0)
    12.0
    """
    with jax.enable_x64(True):
        return float(jax.jit(jax.grad(lambda value: jnp.asarray(evaluate(formula, {x: value}, JAX))))(at))


def central_difference(formula: Formula, x: Symbol, at: float) -> tuple[float, float] | None:
    """Return (f(x + h) - f(x - h)) / 2h and h, None where f has no value beside x.

    >>> x = Symbol("x")
    >>> central_difference(3 * (x**2 + 1), x, 2.0)
    (12.0, 1.52587890625e-05)
    """
    for scale in dict.fromkeys((max(1.0, abs(at)), abs(at))):
        right, left = at + tree.H * scale, at - tree.H * scale
        try:
            rise = evaluate(formula, {x: right}) - evaluate(formula, {x: left})
        except tree.UndefinedError:
            continue
        if right > left and math.isfinite(rise / (right - left)):
            return rise / (right - left), (right - left) / 2
    return None
