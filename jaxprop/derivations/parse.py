"""An expression typed by a person, read into a formula and never executed.

The text is cut into numbers, names, operators and parentheses; anything else is refused where it stands. What
remains goes through Python's `ast` for its precedence, with every number and name replaced by a placeholder, and only
arithmetic nodes are accepted back. All values are floats, so `9**9**9` overflows at once and fills no memory.
"""

import ast
import difflib
import math
from typing import NamedTuple, NoReturn

from jaxprop.errors import JaxpropError, pick

from .evaluate import CONSTANTS
from .formula import (
    Call,
    Constant,
    Formula,
    Negation,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
)
from .tokens import ALIASES, ALLOWED, FUNCTIONS, MAX_DEPTH, Token, check_parentheses, mark, tokenize

MAX_LENGTH = 500
OPERATORS = {"^": "**", "−": "-", "·": "*", "×": "*", "÷": "/"}
DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


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
    tokens = tokenize(text)
    if not tokens:
        raise JaxpropError("the expression is empty; write one such as 3*(x**2+1)")
    check_parentheses(text, tokens)
    return _Reader(text, tokens).read()


class _Reader:
    """Turns checked tokens into a formula; `atoms` are what the placeholders stand for."""

    def __init__(self, text: str, tokens: list[Token]):
        self.text = text
        self.tokens = tokens
        self.atoms: dict[str, Formula | str] = {}
        self.places: list[tuple[int, Token]] = []
        self.spans: dict[Formula, tuple[int, int]] = {}
        self.variable = self._variable()

    def read(self) -> Parsed:
        source = self._source()
        try:
            tree = ast.parse(source, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            self._fail(self.tokens[0], self.tokens[-1], f"cannot be read as an expression; {ALLOWED}")
        return Parsed(self.text, self._formula(tree, 0), self.variable, self.spans)

    def _fail(self, first: Token, last: Token, message: str) -> NoReturn:
        raise mark(self.text, first.start, last.end, message)

    def _is_function(self, token: Token) -> bool:
        return token.kind == "name" and ALIASES.get(token.text, token.text) in FUNCTIONS

    def _variable(self) -> Symbol:
        """Find the one name that is neither a function nor a constant, and refuse a function nobody knows."""
        following = [*self.tokens[1:], None]
        names = [
            (token, after)
            for token, after in zip(self.tokens, following, strict=True)
            if token.kind == "name" and not self._is_function(token) and token.text not in ("pi", *CONSTANTS)
        ]
        several = len({token.text for token, _ in names}) > 1
        for token, after in names:
            called = after is not None and after.kind == "open"
            if called and (several or len(token.text) > 1):
                self._unknown_function(token)
        for token, _ in names:
            if token.text != names[0][0].text:
                first = names[0][0].text
                message = f"two variables, {first!r} and {token.text!r}, where one is allowed"
                near = difflib.get_close_matches(token.text, FUNCTIONS, n=1)
                self._fail(token, token, message + (f" (or did you mean {near[0]}(...)?)" if near else ""))
        return Symbol(names[0][0].text if names else "x")

    def _unknown_function(self, token: Token) -> NoReturn:
        try:
            pick(token.text, FUNCTIONS, "function")
        except JaxpropError as error:
            self._fail(token, token, str(error))
        raise AssertionError(token)

    def _source(self) -> str:
        """Return the text for `ast`: placeholders for atoms, implied products written out, order checked."""
        pieces: list[str] = []
        width = 0
        for before, token in zip([None, *self.tokens], [*self.tokens, None], strict=True):
            glue = self._joined(before, token)
            if token is None:
                break
            for piece in (*glue, *self._piece(token)):
                self.places.append((width, token))
                pieces.append(piece)
                width += len(piece) + 1
        return " ".join(pieces)

    def _joined(self, before: Token | None, token: Token | None) -> list[str]:
        """Return ["*"] where a product is implied between two tokens; refuse two that cannot follow each other."""
        if before is not None and self._is_function(before):
            if token is None or token.kind != "open":
                self._fail(before, before, f"{before.text} needs parentheses: {before.text}(...)")
            return []
        complete = before is not None and before.kind in ("number", "name", "close", "superscript")
        if token is not None and token.kind in ("number", "name", "open"):
            if before is not None and before.kind == token.kind == "number":
                self._fail(before, token, "two numbers side by side; write an operator between them")
            return ["*"] if complete else []
        if complete or (token is not None and token.text in ("+", "-", "−")):
            return []
        place = token or Token("end", "", before.end if before else 0, (before.end if before else 0) + 1)
        found = f"found {place.text!r}" if place.text else "found the end"
        after = f" after {before.text!r}" if before else ""
        self._fail(place, place, f"expected a number, a name or '('{after}, {found}")

    def _piece(self, token: Token) -> list[str]:
        if token.kind in ("number", "superscript"):
            value = float(token.text.translate(DIGITS))
            if not math.isfinite(value):
                self._fail(token, token, "this number is too large for a float64")
            return [*(["**"] if token.kind == "superscript" else []), self._placeholder(Number(value))]
        if token.kind == "name":
            name = {"pi": "π", **ALIASES}.get(token.text, token.text)
            if self._is_function(token):
                return [self._placeholder(name)]
            return [self._placeholder(Constant(name) if name in CONSTANTS else self.variable)]
        return [OPERATORS.get(token.text, token.text)]

    def _placeholder(self, atom: Formula | str) -> str:
        name = f"n{len(self.atoms)}"
        self.atoms[name] = atom
        return name

    def _formula(self, node: ast.expr, depth: int) -> Formula:
        found = self._convert(node, depth)
        self.spans.setdefault(found, self._span(node))
        return found

    def _convert(self, node: ast.expr, depth: int) -> Formula:
        if depth > MAX_DEPTH:
            raise mark(self.text, *self._span(node), f"nested more than {MAX_DEPTH} deep")
        match node:
            case ast.Name(id=name) if isinstance(atom := self.atoms[name], Formula):
                return atom
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
                return Call(str(self.atoms[name]), self._formula(argument, depth + 1))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Negation(self._formula(operand, depth + 1))
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._formula(operand, depth + 1)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return self._sum(node, depth)
            case ast.BinOp(op=ast.Mult()):
                return self._product(node, depth)
            case ast.BinOp(op=ast.Div(), left=top, right=bottom):
                return _hoisted([self._formula(top, depth + 1)], self._formula(bottom, depth + 1))
            case ast.BinOp(op=ast.Pow(), left=base, right=exponent):
                return Power(self._formula(base, depth + 1), _signed(self._formula(exponent, depth + 1)))
        raise mark(self.text, *self._span(node), f"found {type(node).__name__}; {ALLOWED}")

    def _sum(self, node: ast.expr, depth: int) -> Formula:
        terms: list[Formula] = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            term = self._formula(node.right, depth + 1)
            terms.insert(0, Negation(term) if isinstance(node.op, ast.Sub) else term)
            node = node.left
        return Sum((self._formula(node, depth + 1), *terms))

    def _product(self, node: ast.expr, depth: int) -> Formula:
        factors: list[Formula] = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            factors.insert(0, self._formula(node.right, depth + 1))
            node = node.left
        return _hoisted([self._formula(node, depth + 1), *factors])

    def _span(self, node: ast.expr) -> tuple[int, int]:
        """Return where a node stands in the text, from where it stands in the source for `ast`."""
        inside = [token for at, token in self.places if node.col_offset <= at < (node.end_col_offset or 0)]
        return inside[0].start, inside[-1].end


def _hoisted(factors: list[Formula], bottom: Formula | None = None) -> Formula:
    """Return the product or quotient with a sign of its first factor moved in front: -3x is -(3x)."""
    first = factors[0]
    if isinstance(first, Negation):
        return Negation(_hoisted([first.formula, *factors[1:]], bottom))
    top = Product(tuple(factors)) if len(factors) > 1 else first
    return top if bottom is None else Quotient(top, bottom)


def _signed(exponent: Formula) -> Formula:
    """Return -2 as the number it is, so that x**-2 prints as x⁻²."""
    match exponent:
        case Negation(Number(value)):
            return Number(-value)
    return exponent
