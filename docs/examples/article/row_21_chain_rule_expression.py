"""Row 21: the chain rule on 3(x² + 1), whose derivative is 6x.

Right: the result. Sloppy: "3(…)′ → 3". The outer function is linear there, so its derivative is 3 wherever it is
taken, which hides the rule's point: the outer derivative is taken at the inside. With 3(x² + 1)³ it matters: 9u² at
u = x² + 1, times 2x, is 18x(x² + 1)². Taken at x instead it would be another number.

Run: python docs/examples/article/row_21_chain_rule_expression.py, or: jaxprop explain "3*(x**2+1)" --at 2
"""

import sys
from typing import Any

from jaxprop.derivations import derive, to_text


def main(folder: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for expression in ("3*(x**2+1)", "3*(x**2+1)**3"):
        derivation = derive(expression, at=2.0)
        found[expression] = dict(derivation.facts)
        print(to_text(derivation), end="\n\n")
    outer, inner, x = derive("3*u**3", at=5.0), derive("x**2+1", at=2.0), 2.0
    at_x = derive("3*u**3", at=x)
    slopes = [part.facts["derivative_value"] for part in (outer, inner, at_x)]
    found["at_the_inside"], found["not_at_the_inside"] = slopes[0] * slopes[1], slopes[2] * slopes[1]
    print(f"outer derivative {outer.facts['derivative']} at the inside u = {inner.facts['value']:g}: {slopes[0]:g}")
    print(f"times inner derivative {inner.facts['derivative']} = {slopes[1]:g}: {found['at_the_inside']:g}")
    print(f"outer derivative taken at x = {x:g} instead: {found['not_at_the_inside']:g}, which is wrong")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
