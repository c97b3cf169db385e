"""How large the numbers are that a formula's value is made of: what it rounds to, where they cancel."""

from collections.abc import Mapping

from jaxprop.derivations.formula import FLOATS, At, Formula, _apply, children, evaluate

STEP = 1e-7  # of a part's own size: far above its rounding, and small enough for a slope


def size(node: Formula, values: Mapping[Formula, float], made: Mapping[Formula, float] | None = None) -> float:
    """Return |value| + Σ |∂value/∂part| · size(part), over the parts that it is made of; `made` has sizes of symbols.

    A rounding error of one part in 10¹⁶ in every number that is computed on the way changes the value by no more than
    so many parts of this size, to first order.

    >>> from jaxprop.derivations.formula import Number, Symbol
    >>> x = Symbol("x")
    >>> round(size(x - 3, {x: 3.0}), 6), round(size(2 * x, {x: 3.0}), 4)
    (9.0, 18.0)
    """
    value = evaluate(node, values)
    if isinstance(node, At):
        at = {symbol: evaluate(point, values) for symbol, point in zip(node.symbols, node.points, strict=True)}
        return size(node.formula, {**values, **at}, made)
    parts = children(node)
    inside = [evaluate(part, values) for part in parts]
    total = max(abs(value), (made or {}).get(node, 0.0))
    for i, part in enumerate(parts):
        of_part = size(part, values, made)
        step = STEP * of_part
        try:
            moved = _apply(node, [*inside[:i], inside[i] + step, *inside[i + 1 :]], FLOATS)
        except (ValueError, ArithmeticError):  # beyond the edge of a domain, as below 0 of a root
            continue
        total += abs(moved - value) / STEP
    return total
