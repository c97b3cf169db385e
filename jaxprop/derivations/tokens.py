"""The text of an expression cut into pieces, and errors that point at their place."""

import re
from typing import NamedTuple

from jaxprop.errors import JaxpropError

from .evaluate import FLOATS

MAX_DEPTH = 40
ALIASES = {"σ": "sigmoid", "√": "sqrt", "ln": "log"}
FUNCTIONS = sorted(set(FLOATS.functions) - {"step"})
ALLOWED = f"allowed are numbers, one variable, pi, e, + - * / ** ^ ( ) and {', '.join(FUNCTIONS)}"

TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>√|[A-Za-zα-ωΑ-Ω][A-Za-z0-9_α-ωΑ-Ω]*[₀-₉]*)"
    r"|(?P<superscript>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)"
    r"|(?P<operator>\*\*|[-+*/^−·×÷])"
    r"|(?P<open>\()|(?P<close>\))"
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


def mark(text: str, start: int, end: int, message: str) -> JaxpropError:
    """Return the error `message` with the expression and a caret line under `text[start:end]`.

    >>> print(mark("1/x", 0, 3, "division by zero"))
    division by zero
      1/x
      ^^^
    """
    shown = "".join(c if c.isprintable() else " " for c in text)
    return JaxpropError(f"{message}\n  {shown}\n  {' ' * start}{'^' * max(1, end - start)}")


def tokenize(text: str) -> list[Token]:
    """Cut the text into tokens; raise `JaxpropError` at a character that has no place in an expression."""
    tokens, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            what = REFUSED.get(text[at])
            found = f"found {text[at]!r}" + (f", {what}" if what else "")
            raise mark(text, at, at + 1, f"{found}; {ALLOWED}")
        if match.lastgroup != "space":
            tokens.append(Token(str(match.lastgroup), match.group(), at, match.end()))
        at = match.end()
    return tokens


def check_parentheses(text: str, tokens: list[Token]) -> None:
    """Raise `JaxpropError` at a parenthesis without a partner, or at one nested too deep."""
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
