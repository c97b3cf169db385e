"""An expression typed by a person, read into a formula and never executed.

The text is cut into numbers, words, operators and parentheses; anything else is refused where it stands. Words are cut
into names: `πx` is π·x, and `sinx` is sin(x). What remains is read once, from left to right: a sum of products of
powers. What people write in two meanings is refused, with what to write for each. All values are floats, so `9**9**9`
overflows at once and fills no memory.
"""

import difflib
import math
import re
import unicodedata
from collections.abc import Collection, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple, NoReturn

from rich.cells import cell_len

from jaxprop.derivations import formula as tree
from jaxprop.derivations.formula import Call, Constant, Formula, Negation, Number, Power, Product, Quotient, Sum, Symbol
from jaxprop.derivations.functions import FUNCTIONS
from jaxprop.errors import JaxpropError, pick

MAX_LENGTH = 500
MAX_DEPTH = 40
MAX_WORD = 60
OPERATORS = {"**": "^", "−": "-", "–": "-", "·": "*", "×": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/"}
DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
TYPED = sorted([name for name, function in FUNCTIONS.items() if function.typed] + ["pow"])
ALIASES = {alias: name for name, function in FUNCTIONS.items() for alias in function.aliases} | {"power": "pow"}
CALLED = {name: name for name in TYPED} | ALIASES
NAMED = {"pi": "π", **{name: name for name in tree.CONSTANTS}}
ALLOWED = f"allowed are numbers, variables, pi, e, + - * / ** ^ ( ) |x| and {', '.join(TYPED)}"

# a variable that needs no naming; x2 may be x² or x·2, so only those who name it by `at` get it
SINGLE = r"(?![πeσ][0-9₀-₉])[A-Za-zα-ωΑ-Ω](?:_[0-9]+|_[A-Za-z]+|[₀-₉]+)?"
TOKEN = re.compile(
    r"(?P<space>\s+|(?:np|jnp|numpy|math|jax\.numpy|jax\.nn|jnn|nn)\.(?=[A-Za-z]))"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>√|[A-Za-zα-ωΑ-Ω][A-Za-z0-9_α-ωΑ-Ω₀-₉]*)"
    r"|(?P<superscript>⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)"
    r"|(?P<operator>\*\*|[-+*/^−–·×⋅∗÷∕])"
    r"|(?P<open>\()|(?P<close>\))|(?P<comma>,)|(?P<bar>\|)"
    r"|(?P<refused>.)"
)
LEFT = re.compile(r"\s*(?P<name>[A-Za-zα-ωΑ-Ω][A-Za-z0-9_]*)\s*(?P<of>\([^()=]*\))?\s*(?P<sign>=)(?!=)")
REFUSED = {
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
    """The formula, its variables, where each part of it stands in the text, and its name: y of `y = x^2`."""

    text: str
    formula: Formula
    variables: tuple[Symbol, ...]
    spans: dict[Formula, tuple[int, int]]
    name: str

    @property
    def variable(self) -> Symbol:
        """The first variable; x where there is none."""
        return self.variables[0] if self.variables else Symbol("x")


def parse(text: str, names: Collection[str] | None = None, inner: bool = False) -> Parsed:
    """Read an expression into a formula.

    `^` is a power; `2x`, `πx`, `xe^x` and `3(x+1)` are products; `sin x`, `sinx`, `sin^2(x)`, `√x` and `|x|` are read
    as in books, and `y = x^2`, `f(x) = x^2` and `np.sin(x)` as people write them elsewhere. Everything that
    `to_text` prints of a formula can be read back. Raises `JaxpropError`, with a caret under the place, for anything
    else, and for what has two meanings.

    Args:
        text: the expression.
        names: its variables; None for one variable, which is found in the text.
        inner: whether functions are known that only derivatives have.

    >>> from jaxprop.derivations import to_text
    >>> to_text(parse("3(x^2 + 1)**3 - sin(2x)/2").formula)
    '3·(x² + 1)³ - sin(2x)/2'
    >>> to_text(parse("xe^-x + sin^2(πx)").formula)
    'x·e^(-x) + sin(π·x)²'
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
    text = unicodedata.normalize("NFC", text)
    plain = "".join(map(_plain, text))
    left = LEFT.match(plain)
    tokens = _tokens(text, plain, left.end() if left else 0)
    if not tokens:
        raise JaxpropError("the expression is empty; write one such as 3*(x**2+1)")
    _check_parentheses(text, tokens)
    if left and left["of"]:
        names = [name.strip() for name in left["of"][1:-1].split(",")]
    found = Names(text, tokens, names, inner)
    if left and not left["of"] and (not found.variables or left["name"] in found.variables):
        raise mark(text, *left.span("sign"), f"found '=', {REFUSED['=']}; {ALLOWED}")
    return _Reader(text, found).read(left["name"] if left else "")


def mark(text: str, start: int, end: int, message: str) -> JaxpropError:
    """Return the error `message` with the expression and a caret line under `text[start:end]`.

    >>> print(mark("1/x", 0, 3, "division by zero"))
    division by zero
      1/x
      ^^^
    """
    shown = "".join(c if c.isprintable() else " " for c in text)
    while start and not cell_len(shown[start:end] or " "):  # an accent stands on the letter before it
        start -= 1
    carets = " " * cell_len(shown[:start]) + "^" * max(1, cell_len(shown[start:end]))
    return JaxpropError(f"{message}\n  {shown}\n  {carets}")


def _plain(character: str) -> str:
    """Return ｘ and 𝑥 as x: what is the same letter in another type."""
    kind, _, _ = unicodedata.decomposition(character).partition(" ")
    same = unicodedata.normalize("NFKC", character)
    return same if kind in ("<font>", "<wide>", "<narrow>", "<compat>") and len(same) == 1 else character


def _tokens(text: str, plain: str, start: int) -> list[Token]:
    found = TOKEN.finditer(plain, start)
    tokens = [Token(str(m.lastgroup), m.group(), *m.span()) for m in found if m.lastgroup != "space"]
    for token in tokens:
        if token.kind == "refused":
            what = f", {REFUSED[token.text]}" if token.text in REFUSED else ""
            raise mark(text, token.start, token.end, f"found {text[token.start]!r}{what}; {ALLOWED}")
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


class Names:
    """Which words are functions, constants and variables: `tokens` with every word cut into the names it is made of."""

    def __init__(self, text: str, tokens: list[Token], names: Collection[str] | None, inner: bool):
        self.text, self.functions = text, CALLED | ({name: name for name in FUNCTIONS} if inner else {})
        words = [token for token in tokens if token.kind == "name" and not self._known(token.text)]
        after = {before.end: token for before, token in pairwise(tokens)}
        self.called = {token for token in words if token.end in after and after[token.end].kind == "open"}
        for name in names or ():
            if self._known(name) or not name.isidentifier():
                raise JaxpropError(f"a variable needs a name of its own, such as x or w1, found {name!r}")
        self.variables = tuple(names) if names is not None else self._variable(words)
        self.given = names is not None
        self.tokens = [part for token in tokens for part in (self._cut(token) if token in words else (token,))]
        used = {token.text for token in self.tokens}
        self.variables = tuple(name for name in self.variables if name in used)

    def _known(self, name: str) -> bool:
        return name in self.functions or name in NAMED

    def _variable(self, words: list[Token]) -> tuple[str, ...]:
        """Find the one variable of an expression: a letter that stands alone, or that every word can be cut with."""
        alone = [token for token in words if re.fullmatch(SINGLE, token.text)]
        if alone:
            return (next((token for token in alone if token not in self.called), alone[0]).text,)
        letters = sorted({c for token in words for c in token.text if c.isalpha() and not self._known(c)})
        fitting = [letter for letter in letters if all(self._ways(token.text, (letter,)) for token in words)]
        several = len({token.text for token in words}) > 1  # names then, and the second is one too many
        return tuple(fitting[:1] or ([words[0].text] if several else []))

    def _cut(self, token: Token) -> list[Token]:
        """Return the names that a word is made of; refuse one that can be cut in several ways, or in none."""
        if token.text in self.variables:
            return [token]
        ways = self._ways(token.text, self.variables)
        if len(ways) != 1:
            self._refuse(token, ways)
        cut, start = [], token.start
        for part in ways[0]:
            cut.append(Token("number" if part[0].isdigit() else "name", part, start, start + len(part)))
            start += len(part)
        return cut

    def _ways(self, word: str, variables: Sequence[str]) -> list[tuple[str, ...]]:
        """Return every way, two at most, to cut a word into functions, constants, variables and a function's number."""
        pieces = (*self.functions, *NAMED, *variables)

        @cache
        def rest(start: int, after_function: bool) -> list[tuple[str, ...]]:
            if start == len(word):
                return [()]
            found = [piece for piece in pieces if word.startswith(piece, start)]
            digits = re.match(r"\d+", word[start:])
            if digits and after_function:
                found.append(digits[0])
            ways = ((p, *more) for p in dict.fromkeys(found) for more in rest(start + len(p), p in self.functions))
            return list(dict.fromkeys(ways))[:2]

        return rest(0, False) if len(word) <= MAX_WORD else []

    def _refuse(self, token: Token, ways: list[tuple[str, ...]]) -> NoReturn:
        """Say what a word may mean, or that it is unknown, and what to write instead."""
        word, near = token.text, difflib.get_close_matches(token.text, TYPED, n=1)
        hint = f" (did you mean {near[0]}(...)?)" if near else ""
        product = "*".join(re.findall(r"[^\W\d_](?:_\w+?|\d+)?|\d+", re.sub(r"([πe])(\d)", r"\1 \2", word)))
        first, several = (self.variables or ("x",))[0], bool(self.variables)
        naming = f"a name of several letters gets its value by at: {word}=2; a product is written {product}"
        if re.fullmatch(r"[^\W\d_]\d+", word):
            naming = f"write {word[0]}^{word[1:]}, or {word[0]}*{word[1:]}; a name gets its value by at: {word}=2"
        elif word == product:
            naming = f"to have several, give each its value by at: {first}=2,{word}=5"
        if ways:
            one, other = (_spelled(way, self.functions) for way in ways)
            message = f"{word!r} has two meanings: write {one} or {other}"
        elif token in self.called and (several or len(word) > 1):
            try:
                message = str(pick(word, TYPED, "function"))
            except JaxpropError as error:
                message = str(error)
        elif self.given:
            known = ", ".join(self.variables) or "none"
            message = f"unknown name {word!r}{hint}; the variables are {known}: {naming}"
        elif several:
            message = f"two variables, {self.variables[0]!r} and {word!r}, where one is allowed{hint}; {naming}"
        else:
            message = f"unknown name {word!r}{hint}; {naming}"
        raise mark(self.text, token.start, token.end, message)


def _spelled(parts: Sequence[str], functions: Collection[str]) -> str:
    """Return the names of a word as a product, the argument of a function in parentheses: log2(x)."""
    written = ""
    for i, part in enumerate(parts):
        if part in functions:
            return f"{written}{'*' * bool(written)}{part}({_spelled(parts[i + 1 :], functions) or '...'})"
        written += "*" * bool(written) + part
    return written


class _Reader:
    """Reads tokens whose parentheses match; `at` is the next one, and every method reads on from there."""

    def __init__(self, text: str, names: Names):
        self.text, self.tokens, self.functions, self.at = text, names.tokens, names.functions, 0
        self.variables = names.variables
        self.bars, self.depth = 0, 0  # how many | are open inside the last parenthesis, and atoms inside atoms
        self.spans: dict[Formula, tuple[int, int]] = {}

    def read(self, name: str) -> Parsed:
        formula = self._sum()
        if self.at < len(self.tokens):
            self._comma()
        self._check_depth(formula, 0, (0, len(self.text)))
        return Parsed(self.text, formula, tuple(map(Symbol, self.variables)), self.spans, name)

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
        if not any(map(self._is, ("name", "open", "bar"))):
            self._expected()
        start, token = self.at, self.tokens[self.at]
        self.at, self.depth = self.at + 1, self.depth + 1
        if self.depth > MAX_DEPTH + 1:
            self._fail(token, token, f"nested more than {MAX_DEPTH} deep")
        if token.kind == "open":
            found = self._inside(start)[0]
        elif token.kind == "bar":
            found = self._absolute(token)
        elif token.text in self.functions:
            found = self._call(token)
        else:
            name = NAMED.get(token.text)
            found = self._known(Constant(name) if name else Symbol(token.text), start)
        self.depth -= 1
        return found

    def _inside(self, start: int, most: int = 1) -> list[Formula]:
        """Read on to the closing parenthesis: what is between commas, of which there may be `most` - 1."""
        bars, self.bars = self.bars, 0
        found = [self._sum()]
        while self._is("comma"):
            if len(found) == most:
                self._comma(start)
            self.at += 1
            found.append(self._sum())
        self.at, self.bars = self.at + 1, bars
        return found

    def _comma(self, start: int = 0) -> NoReturn:
        before = self.tokens[start - 1].text if start else ""
        name = f"{before} takes one argument" if before in self.functions else "only functions take arguments"
        what = f"{name}, and decimals are written with a point"
        self._fail(self.tokens[self.at], self.tokens[self.at], f"found ',', a comma: {what}; {ALLOWED}")

    def _absolute(self, token: Token) -> Formula:
        start = self.at - 1
        self.bars += 1
        inside = self._sum()
        if not self._is("bar"):
            self._fail(token, token, "this '|' is never closed")
        self.at, self.bars = self.at + 1, self.bars - 1
        return self._known(Call("abs", inside), start)

    def _call(self, token: Token) -> Formula:
        """Read sin(x), sin x, sin^2(x), max(x, 2) after the name of the function."""
        start, name, power = self.at - 1, self.functions[token.text], self._function_power(token)
        arity = 2 if name == "pow" else len(FUNCTIONS[name].slopes)
        if self._is("open"):
            self.at += 1
            several = len(self.text) if name in ("max", "min") else arity
            arguments = self._inside(self.at - 1, several)
            if len(arguments) < arity:
                self._fail(token, self.tokens[self.at - 1], f"{token.text} takes {arity} arguments: {token.text}(x, 2)")
        else:
            arguments = [self._bare(token)]
        if arity == 1:
            found: Formula = Call(name, arguments[0])
        else:
            found = arguments[0]
            for other in arguments[1:]:
                found = found**other if name == "pow" else Call(name, found, (other,))
        found = self._known(found, start)
        return found if power is None else self._known(found**power, start)

    def _function_power(self, token: Token) -> Formula | None:
        """Read the 2 of sin^2(x), if it is there; sin^-1 has two meanings."""
        first = self.at
        raised = self._operator("^") is not None
        if not raised and not self._is("superscript"):
            return None
        if raised and not self._is("number"):
            end = self.tokens[min(self.at + 1, len(self.tokens) - 1)]
        elif float((end := self.tokens[self.at]).text.translate(DIGITS)) >= 0 and token.text != "√":
            return self._number()
        name = token.text
        ways = f"write a{name}(x) or 1/{name}(x)" if name in ("sin", "cos", "tan") else f"write ({name}(x))^(...)"
        last = max(end, self.tokens[first], key=lambda found: found.end)
        self._fail(token, last, f"a power of {name} with two meanings: {ways}")

    def _bare(self, token: Token) -> Formula:
        """Read the argument of `sin 2x`: a run of numbers, letters and their powers, with no operator between them."""
        name, first = token.text, self.at
        if len(FUNCTIONS.get(self.functions[name], FUNCTIONS["max"]).slopes) > 1:
            self._fail(token, token, f"{name} needs parentheses: {name}(x, 2)")
        sign = self._operator("-")
        if not any(map(self._is, ("number", "name", "bar"))):
            self._fail(token, token, f"{name} needs an argument: {name}(x)")
        tight = name == "√"
        inside = self._atom() if tight or self._is_function() else self._power()
        if not tight and not self._is_function(first + (sign is not None)):
            factors = [inside]
            while self._is("number") or (self._is("name") and not self._is_function()):
                self._implied()
                factors.append(self._power())
            inside = self._known(_hoisted(factors), first + (sign is not None))
        self._check_bare(name, first, tight)
        return self._known(Negation(inside), first) if sign else inside

    def _check_bare(self, name: str, first: int, tight: bool) -> None:
        """Refuse sin x/2 and √x²: is what comes next inside the function or not?"""
        if self.at == len(self.tokens) or self._is_function():
            return
        last, token = self.tokens[self.at - 1], self.tokens[self.at]
        follows = self.at + 1 < len(self.tokens) and self._is_function(self.at + 1)
        operator = OPERATORS.get(token.text, token.text)
        product = token.kind == "operator" and operator in "*/" and not follows and not tight
        power = tight and (token.kind == "superscript" or operator == "^")
        if product or power or token.kind in ("number", "name", "open") or (token.kind == "bar" and not self.bars):
            inside = self.text[self.tokens[first].start : last.end]
            more = token.text if token.kind in ("operator", "superscript") else ""
            dots = "" if token.kind == "superscript" else "..."
            ways = f"{name}({inside}){more}{dots} or {name}({inside}{more}{dots})"
            self._fail(self.tokens[first - 1], token, f"this has two meanings: write {ways}")

    def _is_function(self, at: int | None = None) -> bool:
        at = self.at if at is None else at
        return at < len(self.tokens) and self.tokens[at].kind == "name" and self.tokens[at].text in self.functions

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
        opens = self._is("bar") and not self.bars
        return "*" if opens or any(map(self._is, ("number", "name", "open"))) else None

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


def _hoisted(factors: list[Formula], bottom: Formula | None = None) -> Formula:
    """Return the product or quotient with a sign of its first factor moved in front: -3x is -(3x)."""
    first = factors[0]
    if isinstance(first, Negation):
        return Negation(_hoisted([first.formula, *factors[1:]], bottom))
    if isinstance(first, Product):
        factors = [*first.factors, *factors[1:]]
    top = Product(tuple(factors)) if len(factors) > 1 else first
    return top if bottom is None else Quotient(top, bottom)
