"""Three printers of one formula tree: text for a terminal, LaTeX, and JSON.

`glyphs.Text` decides where parentheses, dots and signs go; `latex.Latex` replaces its glyphs. Numbers are
written with `digits` significant digits as `%g` writes them (`None`: as many as it takes); where that rounds one,
the sign before or after it is ≈, not =.

>>> from jaxprop.derivations.formula import Symbol
>>> x = Symbol("x")
>>> to_text(3 * (x**2 + 1) ** 3), to_latex(x / 2)
('3·(x² + 1)³', '\\\\frac{x}{2}')
"""

import json
import math
import textwrap
from dataclasses import fields
from typing import Any

from .derivation import Derivation, Equation, Prose, Step
from .formula import Formula, Number, Rest, parts
from .glyphs import Text, number, rest_value
from .latex import Latex

Printable = Formula | Equation | Step | Derivation

WIDTH = 100
GLUE = "\u00a0"  # keeps a formula on one line while a sentence is wrapped


def to_text(node: Printable, digits: int | None = 6) -> str:
    """Return plain text (unicode) of a formula, an equation, a step or a whole derivation.

    >>> from jaxprop.derivations.formula import Symbol
    >>> to_text(Equation((Symbol("a"), Number(2) / 3, Number(2 / 3))), digits=3)
    'a = 2/3 ≈ 0.667'
    """
    printer = Text(digits)
    match node:
        case Derivation(title, steps):
            numbered = (f"{i}. {_step_text(printer, step)}" for i, step in enumerate(steps, 1))
            return "\n\n".join((_prose(printer, title), *numbered))
        case Step():
            return _step_text(printer, node)
        case Equation():
            return " ".join(_sides(printer, node))
        case _:
            return printer.write(node)


def to_latex(node: Printable, digits: int | None = 6) -> str:
    """Return LaTeX: mathematics without delimiters for a formula or an equation, paragraphs for a derivation.

    What it prints needs the package amsmath (for `\\text`) or KaTeX.

    >>> from jaxprop.derivations.formula import Derivative, Symbol
    >>> print(to_latex(Derivative(Symbol("C"), Symbol("w"))))
    \\frac{\\partial C}{\\partial w}
    """
    printer = Latex(digits)
    match node:
        case Derivation(title, steps):
            return "\n\n".join((_prose(printer, title), *(to_latex(step, digits) for step in steps)))
        case Step(title, sentence, equations):
            display = (f"\\[ {to_latex(equation, digits)} \\]" for equation in equations)
            return "\n".join((f"\\paragraph{{{printer.words(title)}}} {_prose(printer, sentence)}", *display))
        case Equation():
            return " ".join(_sides(printer, node))
        case _:
            return printer.write(node)


def to_json(node: Printable, digits: int | None = None) -> dict[str, Any]:
    """Return plain dictionaries, lists, strings and finite numbers; full precision unless `digits` is given.

    A number that is not finite becomes None beside its text. A derivation's `facts` are keys of their own.

    >>> to_json(Number(3) ** 2)
    {'kind': 'power', 'base': {'kind': 'number', 'value': 3.0}, 'exponent': {'kind': 'number', 'value': 2.0}}
    """
    match node:
        case Derivation(title, steps, values, facts):
            head = {key: _json(value, digits) for key, value in facts.items()}
            known = [{"name": to_text(leaf), "value": _json(value, digits)} for leaf, value in values.items()]
            body = [to_json(step, digits) for step in steps]
            return {"title": _prose(Text(6), title), **head, "values": known, "steps": body}
        case Step(title, sentence, equations):
            words = {"sentence": _prose(Text(6), sentence), "sentence_latex": _prose(Latex(6), sentence)}
            return {"title": title, **words, "equations": [to_json(equation, digits) for equation in equations]}
        case Equation(sides, label, exact):
            shown = {"label": label, "exact": exact, "text": to_text(node), "latex": to_latex(node)}
            return {**shown, "sides": [to_json(side, digits) for side in sides]}
        case _:
            named = {field.name: _json(getattr(node, field.name), digits) for field in fields(node)}
            return {"kind": type(node).__name__.lower(), **named}


def dumps(node: Printable, digits: int | None = None) -> str:
    """Return `to_json` as strict JSON text.

    >>> dumps(Number(0.1))
    '{"kind": "number", "value": 0.1}'
    """
    return json.dumps(to_json(node, digits), ensure_ascii=False, allow_nan=False)


def _json(value: Any, digits: int | None) -> Any:
    match value:
        case Formula():
            return to_json(value, digits)
        case tuple() | list():
            return [_json(item, digits) for item in value]
        case float():
            return float(number(value, digits)) if math.isfinite(value) else None
        case _:
            return value


def _prose(printer: Text, prose: Prose, glue: str = " ") -> str:
    def part(item: str | Formula | Equation) -> str:
        match item:
            case str():
                return printer.words(item)
            case Equation():
                return printer.inline(" ".join(_sides(printer, item)).replace(" ", glue))
            case _:
                return printer.inline(printer.write(item).replace(" ", glue))

    return "".join(map(part, prose))


def _sides(printer: Text, equation: Equation) -> list[str]:
    """Return `["a", "= b", "≈ c"]`, the label in front of the first."""
    rounded = [_rounds(side, printer.digits) for side in equation.sides]
    label = printer.label(equation.label)
    written = [label + printer.write(equation.sides[0])]
    for i, side in enumerate(equation.sides[1:], 1):
        near = rounded[i] or rounded[i - 1] or not equation.exact
        written.append(f"{printer.near if near else '='} {printer.write(side)}")
    return written


def _rounds(side: Formula, digits: int | None) -> bool:
    """Whether a number of this side is written with fewer digits than it has."""
    found = (rest_value(part.terms) if isinstance(part, Rest) else part for part in parts(side))
    shown = (part.value for part in found if isinstance(part, Number))
    return any(math.isfinite(v) and not math.isclose(float(number(v, digits)), v, rel_tol=1e-14) for v in shown)


def _step_text(printer: Text, step: Step) -> str:
    glued = _prose(printer, step.sentence, glue=GLUE)
    wrapped = textwrap.wrap(glued, WIDTH - 3, break_long_words=False, break_on_hyphens=False)
    sentence = textwrap.indent("\n".join(wrapped), "   ").replace(GLUE, " ")
    lines = [step.title, sentence] if sentence else [step.title]
    for equation in step.equations:
        sides = _sides(printer, equation)
        whole = " ".join(sides)
        if len(whole) > WIDTH - 5:
            rest = ("\n" + " " * (6 + len(sides[0]))).join(sides[1:])
            whole = f"{sides[0]} {rest}"
        lines.append("     " + whole)
    return "\n".join(lines)
