"""`derive`: the derivative of an expression in one variable, one step of the chain rule after another."""

import math
from collections.abc import Mapping

from jaxprop.derivations import formula as tree
from jaxprop.derivations.calculus import depends, derivative
from jaxprop.derivations.circuit import circuit
from jaxprop.derivations.derivation import Derivation, Equation, Prose, Step, to_latex, to_text, worked
from jaxprop.derivations.formula import Call, Derivative, Formula, Number, Product, Sum, Symbol, evaluate, parts
from jaxprop.derivations.links import (
    SUBSCRIPTS,
    Link,
    Values,
    added,
    central_difference,
    check_value,
    corners,
    forward_step,
    jax_slopes,
    link_of,
    no_derivative,
)
from jaxprop.derivations.parse import Parsed, mark, parse
from jaxprop.errors import JaxpropError


def derive(expression: str, at: float | Mapping[str, float]) -> Derivation:
    """Differentiate an expression at a point by the chain rule, every step with its numbers.

    With f(x) = g(u(x)), df/dx = dg/du · du/dx, where dg/du is taken at the inside u(x). Insides are worked out first;
    where several of them meet, the contributions of all are added. In several variables, every node of the graph gets
    its value (forward) and the derivative of the output by it (backward), as in a circuit diagram. `jax.grad` and a
    central difference, both in float64, stand beside the result.

    Args:
        expression: text in one variable, such as "3*(x**2+1)**3", "sin 2x", "y = xe^x" or "σ(0.5w + 1)", or in several,
            such as "(x+y)*z". It is never executed.
        at: the point, a finite number, or one for every variable: {"x": -2, "y": 5, "z": -4}.

    Returns:
        The steps. `.facts` has expression, variable, at, value, derivative, derivative_latex, derivative_value,
        jax_grad and finite_difference (None where there is no value on one side of the point); for several variables
        expression, at, value, derivatives by name, and nodes: of each its name, formula, value, local derivatives,
        paths, derivative, jax_grad and finite_difference.

    Raises:
        JaxpropError: with a caret under the place, for text that is not an expression in these variables, and for a
            point where the value or the derivative is not finite.

    >>> derivation = derive("3*(x**2+1)**3", at=2.0)
    >>> derivation.facts["derivative"], derivation.facts["derivative_value"], derivation.facts["jax_grad"]
    ('18x(x² + 1)²', 900.0, 900.0)
    >>> derive("3*(x**2+1)", at=2.0).facts["derivative"]
    '6x'
    >>> derive("(x+y)*z", at={"x": -2, "y": 5, "z": -4}).facts["derivatives"]
    {'x': -4.0, 'y': -4.0, 'z': 3.0}
    """
    named = isinstance(at, Mapping)
    point = {name: _number(value, f"at {name}") for name, value in at.items()} if named else _number(at, "at")
    parsed = parse(expression, tuple(point) if isinstance(point, dict) else None)
    if isinstance(point, dict):
        if not parsed.variables:
            raise mark(parsed.text, 0, len(parsed.text), "at names the variables, and here is none")
        names = [variable.name for variable in parsed.variables]
        for name in dict.fromkeys((*names, *point)):
            if name not in point or name not in names:
                what = "no value for" if name in names else "a value for a variable that is not there,"
                raise mark(parsed.text, 0, len(parsed.text), f"at has {what} {name!r}")
        values: Values = {Symbol(name): value for name, value in point.items()}
    elif len(parsed.variables) > 1:
        each = ",".join(f"{variable.name}=2" for variable in parsed.variables)
        raise mark(parsed.text, 0, len(parsed.text), f"at must have a value for every variable: {each}")
    else:
        values = {parsed.variable: point}
    try:
        return _derivation(parsed, values) if len(values) == 1 else circuit(parsed, values)
    except RecursionError:
        raise JaxpropError("the expression is nested too deeply to differentiate") from None


def _number(value: object, what: str) -> float:
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise JaxpropError(f"{what} must be a finite number, found {value!r:.100}")
    return number


def _derivation(parsed: Parsed, values: Values) -> Derivation:
    x = parsed.variable
    at = values[x]
    formula = parsed.formula
    check_value(parsed, values)
    try:
        links = unfold(formula, x, parsed.name)
        forward = forward_step(links, values)
        backward = [_differentiate(link, x, values) for link in links]
        whole = _whole(links, x, values)
    except tree.UndefinedError as error:
        raise no_derivative(parsed, {x: at}, error) from None
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
    total = added(contributions)
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
    equation = worked(Derivative(last.symbol, x, "d"), *([added(terms)] if originals else []), simple, values=values)
    back = "With the insides put back and like factors combined:" if originals else "Without a number put in:"
    return Step("The derivative as one formula", (back,), (equation,))


def _witnesses(parsed: Parsed, at: float, slope: Formula, ours: float) -> tuple[Step, dict[str, float | None]]:
    grad = jax_slopes([link_of(Symbol("f_"), parsed.formula, parsed.formula)], {parsed.variable: at})[0]
    difference = central_difference(lambda v: evaluate(parsed.formula, {parsed.variable: v}), at)
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
    missing += corners(parsed.formula, {parsed.variable: at})
    sentence = ("The same number by other ways, in float64.", *missing)
    found = {"jax_grad": grad, "finite_difference": difference[0] if difference else None}
    return Step("Witnesses", sentence, tuple(equations)), found


def unfold(formula: Formula, x: Symbol, name: str = "") -> list[Link]:
    """Return the links from the innermost to the whole; equal insides share one name.

    Insides are the arguments of functions, bases of powers, and factors, tops and bottoms that are not the variable
    itself. A sum is an inside where a factor stands before it; other constant factors and sums stay in their link.

    >>> from jaxprop.derivations import to_text
    >>> x = Symbol("x")
    >>> [f"{link.symbol.name} = {to_text(link.local)}" for link in unfold(3 * (x**2 + 1) ** 3, x)]
    ['u = x² + 1', 'f = 3u³']
    """
    outer = Symbol(name or ("f" if x.name != "f" else "g"))
    letter = "u" if x.name.rstrip("₀₁₂₃₄₅₆₇₈₉") != "u" else "v"
    named: dict[Formula, tuple[Symbol, Formula]] = {}
    local = _local(formula, x, named, letter)
    if len(named) == 1:
        (original, (symbol, inside)) = next(iter(named.items()))
        local = tree.substitute(local, {symbol: Symbol(letter)})
        named = {original: (Symbol(letter), inside)}
    links = [link_of(symbol, inside, original) for original, (symbol, inside) in named.items()]
    return [*links, link_of(outer, local, formula)]


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
        case Call():
            return tree.changed(node, inside)
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
        case Call(name) if changes(node):
            return f"the derivative of {name}"
    return ""
