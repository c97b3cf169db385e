"""An expression typed by a person, read into a formula and never executed.

The text is cut into numbers, names, operators and parentheses; anything else is refused where it stands. What remains
is read once, from left to right: a sum of products of powers. All values are floats, so `9**9**9` overflows at once
and fills no memory.
"""

import difflib
import math
import re
from typing import NamedTuple, NoReturn

from jaxprop.derivations import formula as tree
from jaxprop.derivations.formula import Call, Constant, Formula, Negation, Number, Power, Product, Quotient, Sum, Symbol
from jaxprop.errors import JaxpropError, pick

MAX_LENGTH = 500
MAX_DEPTH = 40
ALIASES = {"σ": "sigmoid", "√": "sqrt", "ln": "log"}
OPERATORS = {"**": "^", "−": "-", "·": "*", "×": "*", "÷": "/"}
DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
FUNCTIONS = sorted(set(tree.FLOATS.functions) - {"step"})
ALLOWED = f"allowed are numbers, one variable, pi, e, + - * / ** ^ ( ) and {', '.join(FUNCTIONS)}"

TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>√|[A-Za-zα-ωΑ-Ω][A-Za-z0-9_α-ωΑ-Ω]*[₀-₉]*)"
    r"|(?P<superscript>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)"
    r"|(?P<operator>\*\*|[-+*/^−·×÷])"
    r"|(?P<open>\()|(?P<close>\))"
    r"|(?P<refused>.)"
)
REFUSED = {
    ",": "a comma: every function takes one argument, and decimals are written with a point",
    ".": "an attribute or a lone point",
    "'": "a string",
    '"': "a string",
    **dict.fromkeys("<>=!", "a comparison or assignment"),
    **dict.fromkeys("[]{}", "a bracket other than ( )"),
}


class Token(NamedTuple):
    """A piece of the text: its kind, its characters, and where it starts and ends."""

    kind: str
    text: str
    start: int
    end: int


class Parsed(NamedTuple):
    """The formula, its variable, and where each part of it stands in the text."""

    text: str
    formula: Formula
    variable: Symbol
    spans: dict[Formula, tuple[int, int]]


def parse(text: str) -> Parsed:
    """Read an expression in one variable into a formula.

    `^` is a power, `2x` and `3(x+1)` are products, and everything that `to_text` prints of a formula in one variable
    can be read back. Raises `JaxpropError`, with a caret under the place, for anything else.

    >>> from jaxprop.derivations import to_text
    >>> to_text(parse("3(x^2 + 1)**3 - sin(2x)/2").formula)
    '3·(x² + 1)³ - sin(2x)/2'
    >>> parse("3 * (x + 1")
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: this '(' is never closed
      3 * (x + 1
          ^
    """
    if not isinstance(text, str):
        raise JaxpropError(f"the expression must be text such as '3*(x**2+1)', found {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise JaxpropError(f"the expression has {len(text)} characters; at most {MAX_LENGTH} are read")
    tokens = _tokens(text)
    if not tokens:
        raise JaxpropError("the expression is empty; write one such as 3*(x**2+1)")
    _check_parentheses(text, tokens)
    return _Reader(text, tokens).read()


def mark(text: str, start: int, end: int, message: str) -> JaxpropError:
    """Return the error `message` with the expression and a caret line under `text[start:end]`.

    >>> print(mark("1/x", 0, 3, "division by zero"))
    division by zero
      1/x
      ^^^
    """
    shown = "".join(c if c.isprintable() else " " for c in text)
    return JaxpropError(f"{message}\n  {shown}\n  {' ' * start}{'^' * max(1, end - start)}")


def _tokens(text: str) -> list[Token]:
    tokens = [Token(str(m.lastgroup), m.group(), *m.span()) for m in TOKEN.finditer(text) if m.lastgroup != "space"]
    for token in tokens:
        if token.kind == "refused":
            what = f", {REFUSED[token.text]}" if token.text in REFUSED else ""
            raise mark(text, token.start, token.end, f"found {token.text!r}{what}; {ALLOWED}")
    return tokens


def _check_parentheses(text: str, tokens: list[Token]) -> None:
    opened: list[Token] = []
    for token in tokens:
        if token.kind == "open":
            opened.append(token)
            if len(opened) > MAX_DEPTH:
                raise mark(text, token.start, token.end, f"parentheses nested more than {MAX_DEPTH} deep")
        elif token.kind == "close":
            if not opened:
                raise mark(text, token.start, token.end, "this ')' was never opened")
            opened.pop()
    if opened:
        raise mark(text, opened[-1].start, opened[-1].end, "this '(' is never closed")


class _Reader:
    """Reads tokens whose parentheses match; `at` is the next one, and every method reads on from there."""

    def __init__(self, text: str, tokens: list[Token]):
        self.text, self.tokens, self.at = text, tokens, 0
        self.spans: dict[Formula, tuple[int, int]] = {}
        self.variable = self._variable()

    def read(self) -> Parsed:
        formula = self._sum()
        self._check_depth(formula, 0, (0, len(self.text)))
        return Parsed(self.text, formula, self.variable, self.spans)

    def _sum(self) -> Formula:
        start, terms = self.at, [self._product()]
        while (operator := self._operator("+-")) is not None:
            term = self._product()
            terms.append(Negation(term) if operator == "-" else term)
        first = terms[0].terms if isinstance(terms[0], Sum) else terms[:1]
        return self._known(Sum((*first, *terms[1:])), start) if len(terms) > 1 else terms[0]

    def _product(self) -> Formula:
        start, found = self.at, self._power()
        factors = [found]
        while (operator := self._operator("*/") or self._implied()) is not None:
            if operator == "*":
                factors.append(self._power())
                found = self._known(_hoisted(factors), start)
            else:
                found = self._known(_hoisted(factors, self._power()), start)
                factors = [found]
        return found

    def _power(self) -> Formula:
        """Read signs and powers, -2^-x: a chain that is put together from its right end."""
        chain: list[tuple[int, str, Formula | None]] = []
        raised = True
        while raised:
            while (sign := self._operator("+-")) is not None:
                chain.append((self.at - 1, sign, None))
            chain.append((self.at, "^", self._atom()))
            while self._is("superscript"):
                chain.append((self.at, "^", self._number()))
            raised = self._operator("^") is not None
        if len(chain) > MAX_DEPTH + 1:
            first = self.tokens[chain[MAX_DEPTH + 1][0]]
            raise mark(self.text, first.start, self.tokens[self.at - 1].end, f"nested more than {MAX_DEPTH} deep")
        *before, (_, _, whole) = chain
        assert whole is not None
        for start, sign, base in reversed(before):
            if base is not None:
                if isinstance(whole, Negation) and isinstance(whole.formula, Number):
                    whole = Number(-whole.formula.value)  # so that x**-2 prints as x⁻²
                whole = self._known(Power(base, whole), start)
            elif sign == "-":
                whole = self._known(Negation(whole), start)
        return whole

    def _atom(self) -> Formula:
        if self._is("number"):
            return self._number()
        if not (self._is("name") or self._is("open")):
            self._expected()
        start, token = self.at, self.tokens[self.at]
        self.at += 1
        if token.kind == "open":
            inside = self._sum()
            self.at += 1
            return inside
        name = {"pi": "π", **ALIASES}.get(token.text, token.text)
        if not self._is_function(token):
            return self._known(Constant(name) if name in tree.CONSTANTS else self.variable, start)
        if not self._is("open"):
            self._fail(token, token, f"{token.text} needs parentheses: {token.text}(...)")
        return self._known(Call(name, self._atom()), start)

    def _number(self) -> Formula:
        token = self.tokens[self.at]
        value = float(token.text.translate(DIGITS))
        if not math.isfinite(value):
            self._fail(token, token, "this number is too large for a float64")
        self.at += 1
        return self._known(Number(value), self.at - 1)

    def _is(self, kind: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].kind == kind

    def _operator(self, wanted: str) -> str | None:
        """Return the next token, and pass it, if it is one of these operators."""
        found = OPERATORS.get(text := self.tokens[self.at].text, text) if self._is("operator") else ""
        if not found or found not in wanted:
            return None
        self.at += 1
        return found

    def _implied(self) -> str | None:
        """Return "*" where a product is implied, as in 2x."""
        if self._is("number") and self.tokens[self.at - 1].kind == "number":
            message = "two numbers side by side; write an operator between them"
            self._fail(self.tokens[self.at - 1], self.tokens[self.at], message)
        return "*" if any(map(self._is, ("number", "name", "open"))) else None

    def _known(self, formula: Formula, start: int) -> Formula:
        """Note that a formula stands between the token `start` and the last one read."""
        self.spans.setdefault(formula, (self.tokens[start].start, self.tokens[self.at - 1].end))
        return formula

    def _check_depth(self, formula: Formula, depth: int, around: tuple[int, int]) -> None:
        span = self.spans.get(formula, around)
        if depth > MAX_DEPTH:
            raise mark(self.text, *span, f"nested more than {MAX_DEPTH} deep")
        for child in tree.children(formula):
            self._check_depth(child, depth + 1, span)

    def _expected(self) -> NoReturn:
        before = self.tokens[self.at - 1] if self.at else None
        end = before.end if before else 0
        place = self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "", end, end + 1)
        found = f"found {place.text!r}" if place.text else "found the end"
        after = f" after {before.text!r}" if before else ""
        self._fail(place, place, f"expected a number, a name or '('{after}, {found}")

    def _fail(self, first: Token, last: Token, message: str) -> NoReturn:
        raise mark(self.text, first.start, last.end, message)

    def _is_function(self, token: Token) -> bool:
        return token.kind == "name" and ALIASES.get(token.text, token.text) in FUNCTIONS

    def _variable(self) -> Symbol:
        """Find the one name that is neither a function nor a constant, and refuse a function nobody knows."""
        known = ("pi", *tree.CONSTANTS)
        names = [t for t in self.tokens if t.kind == "name" and not self._is_function(t) and t.text not in known]
        several = len({token.text for token in names}) > 1
        called = {before for before, token in zip(self.tokens, self.tokens[1:], strict=False) if token.kind == "open"}
        for token in names:
            if token in called and (several or len(token.text) > 1):
                try:
                    pick(token.text, FUNCTIONS, "function")
                except JaxpropError as error:
                    self._fail(token, token, str(error))
        for token in names:
            if token.text != names[0].text:
                message = f"two variables, {names[0].text!r} and {token.text!r}, where one is allowed"
                near = difflib.get_close_matches(token.text, FUNCTIONS, n=1)
                self._fail(token, token, message + (f" (or did you mean {near[0]}(...)?)" if near else ""))
        return Symbol(names[0].text if names else "x")


def _hoisted(factors: list[Formula], bottom: Formula | None = None) -> Formula:
    """Return the product or quotient with a sign of its first factor moved in front: -3x is -(3x)."""
    first = factors[0]
    if isinstance(first, Negation):
        return Negation(_hoisted([first.formula, *factors[1:]], bottom))
    if isinstance(first, Product):
        factors = [*first.factors, *factors[1:]]
    top = Product(tuple(factors)) if len(factors) > 1 else first
    return top if bottom is None else Quotient(top, bottom)
