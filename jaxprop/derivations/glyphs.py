"""How formulas are written: where parentheses, dots and signs go is decided in `Text`; `Latex` replaces its glyphs.

Numbers are written with `digits` significant digits as `%g` writes them (`None`: as many as it takes).
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

from jaxprop.derivations.formula import (
    At,
    Call,
    Constant,
    Derivative,
    Formula,
    Labelled,
    Negation,
    Number,
    Power,
    Product,
    Quotient,
    Rest,
    Sum,
    Symbol,
    evaluate,
)
from jaxprop.errors import JaxpropError

# How tightly a node holds together; a child that holds less tightly than its place asks for gets parentheses.
SUM, SIGN, PRODUCT, RATIO, POWER, ATOM = range(6)

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"
WIDTH = 100  # columns of a line of text


def number(value: float, digits: int | None) -> str:
    """Write a number as `%g` does; `digits=None` takes the fewest digits that read back as the same float.

    >>> number(2.0, 6), number(-0.0, 6), number(1 / 3, 3), number(0.1, None)
    ('2', '0', '0.333', '0.1')
    """
    if value == 0:
        return "0"
    if digits is None:
        digits = next((n for n in range(1, 17) if float(f"{value:.{n}g}") == value), 17)
    return f"{value:.{digits}g}"


def rest_value(terms: tuple[Formula, ...]) -> Number | None:
    """Return what the unwritten terms of a sum add up to, None while symbols are left in them."""
    try:
        return Number(evaluate(Rest(terms)))
    except JaxpropError:
        return None


class Text:
    """Writes a formula as plain text with unicode letters, readable in a terminal."""

    near = "≈"
    dot = "·"
    space = "\u00a0"  # keeps a formula on one line while a sentence is wrapped
    quotient_level = PRODUCT

    def __init__(self, digits: int | None = 6):
        self.digits = digits

    def write(self, node: Formula, need: int = SUM) -> str:
        """Return the node, in parentheses if it holds together less tightly than `need`."""
        written = self._node(node)
        return written if self._level(node) >= need else self._parentheses(written)

    def _level(self, node: Formula) -> int:
        """Return how tightly the node holds together once written."""
        match node:
            case Labelled(_, inner):
                return self._level(inner)
            case Number(value) if value < 0:
                return SIGN
            case Number(value):
                return POWER if "e" in number(value, self.digits) else ATOM
            case Symbol(_, _, layer) if layer is not None:
                return POWER
            case Sum() | Rest():
                return SUM
            case Quotient():
                return self.quotient_level
        return {Negation: SIGN, Product: PRODUCT, Derivative: RATIO, Power: POWER}.get(type(node), ATOM)

    def _node(self, node: Formula) -> str:
        match node:
            case Number(value):
                return self._number(number(value, self.digits))
            case Symbol(name, index, layer):
                return self._symbol(name, tuple(map(str, index)), layer)
            case Constant(name):
                return self._symbol(name, (), None)
            case Derivative(of, by, mark):
                return self._derivative(self.write(of, RATIO), self.write(by, RATIO), mark)
            case Sum(terms):
                return "".join(self._signed(term, first=i == 0) for i, term in enumerate(terms)) or "0"
            case Rest(terms):
                return self._rest(terms)
            case Labelled(label, inner):
                return self._labelled(self._node(inner), label)
            case Product():
                return self._product(list(_factors(node)))
            case Quotient(top, bottom):
                return self._quotient(top, bottom)
            case Power(base, exponent):
                return self._power(self.write(base, ATOM), exponent)
            case Negation(inner):
                return "-" + self.write(inner, PRODUCT)
            case Call(function, argument):
                return self._call(function, self.write(argument))
            case At(inner, symbols, points):
                pairs = zip(symbols, points, strict=True)
                return self._at(self.write(inner), [(self.write(s), self.write(p)) for s, p in pairs])
        raise TypeError(f"not a formula: {node!r}")

    def _signed(self, term: Formula, first: bool) -> str:
        if first:
            return self.write(term, SUM)
        if isinstance(term, Negation):
            return " - " + self.write(term.formula, PRODUCT)
        return " + " + self.write(term, SUM if isinstance(term, Rest) else PRODUCT)

    def _rest(self, terms: tuple[Formula, ...]) -> str:
        counted = f"{len(terms)} more term" + "s" * (len(terms) != 1)
        value = rest_value(terms)
        return self._dots(counted, "") if value is None else self._dots(f"{counted} summing to ", self.write(value))

    def _product(self, factors: list[Formula]) -> str:
        """Write 6x and 18x(x² + 1)² without dots: a number, then a letter, then parentheses; dots elsewhere."""
        spaced = f" {self.dot} " if any(isinstance(f, Derivative) for f in factors) else self.dot
        written, run = "", 0
        for i, factor in enumerate(factors):
            here = self.write(factor, RATIO)
            tight = (run == 1 and _is_letter(factor)) or (run == 2 and _is_enclosed(factor))
            written += ("" if tight or i == 0 else spaced) + here
            run = run + 1 if tight and run == 1 else 0
            if isinstance(factor, Number) and self._level(factor) == ATOM:
                run = 1
        return written or "1"

    def step(self, title: str, sentence: str, equations: Iterable[Sequence[str]]) -> str:
        """Return a step: its title, its sentence wrapped, and the sides of every equation, on one line if they fit."""
        wrapped = textwrap.wrap(sentence, WIDTH - 3, break_long_words=False, break_on_hyphens=False)
        lines = [title, *(f"   {line}".replace(self.space, " ") for line in wrapped)]
        for sides in equations:
            glue = " " if len(" ".join(sides)) <= WIDTH - 5 else "\n" + " " * (6 + len(sides[0]))
            lines.append(f"     {sides[0]} {glue.join(sides[1:])}".rstrip())
        return "\n".join(lines)

    def numbered(self, number: int, step: str) -> str:
        """Return a step of a derivation with its number."""
        return f"{number}. {step}"

    def words(self, text: str) -> str:
        """Return plain words of a sentence."""
        return text

    def inline(self, mathematics: str) -> str:
        """Return mathematics inside a sentence."""
        return mathematics.replace(" ", self.space)

    def label(self, text: str) -> str:
        """Return what stands before an equation."""
        return f"{text}: " if text else ""

    def _parentheses(self, inside: str) -> str:
        """Return (inside)."""
        return f"({inside})"

    def _number(self, digits: str) -> str:
        """Return a number from its `%g` form."""
        return digits

    def _symbol(self, name: str, index: tuple[str, ...], layer: int | None) -> str:
        """Return W⁽²⁾[12,3]."""
        above = "" if layer is None else f"⁽{str(layer).translate(SUPERSCRIPTS)}⁾"
        return name + above + (f"[{','.join(index)}]" if index else "")

    def _derivative(self, of: str, by: str, mark: str) -> str:
        """Return ∂of/∂by."""
        return f"{mark}{of}/{mark}{by}"

    def _quotient(self, top: Formula, bottom: Formula) -> str:
        """Return top/bottom."""
        return f"{self.write(top, PRODUCT if isinstance(top, Product) else POWER)}/{self.write(bottom, POWER)}"

    def _power(self, base: str, exponent: Formula) -> str:
        """Return base to the exponent: x², x^(y + 1)."""
        if isinstance(exponent, Number) and re.fullmatch(r"-?\d+", digits := number(exponent.value, self.digits)):
            return base + digits.translate(SUPERSCRIPTS)
        return f"{base}^{self.write(exponent, ATOM)}"

    def _call(self, function: str, argument: str) -> str:
        """Return function(argument)."""
        return f"{ {'sigmoid': 'σ', 'sqrt': '√'}.get(function, function) }({argument})"

    def _at(self, inside: str, points: list[tuple[str, str]]) -> str:
        """Return [inside at u=5]."""
        return f"[{inside} at {', '.join(f'{symbol}={point}' for symbol, point in points)}]"

    def _dots(self, words: str, value: str) -> str:
        """Return … (27 more terms summing to 0.5)."""
        return f"… ({words}{value})"

    def _labelled(self, inside: str, label: str) -> str:
        """Return a labelled term; text has no room for the label inside a formula."""
        return inside


GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi "
        "psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
        strict=True,
    )
)
ESCAPES = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}", "·": r"$\cdot$"}
)

KNOWN_FUNCTIONS = ("sin", "cos", "exp", "log", "tanh")


class Latex(Text):
    """Writes a formula as LaTeX."""

    near = r"\approx"
    dot = r" \cdot "
    space = " "
    quotient_level = RATIO

    def step(self, title: str, sentence: str, equations: Iterable[Sequence[str]]) -> str:
        """Return a paragraph and displayed equations."""
        display = (rf"\[ {' '.join(sides)} \]" for sides in equations)
        return "\n".join((rf"\paragraph{{{self.words(title)}}} {sentence}", *display))

    def numbered(self, number: int, step: str) -> str:
        """Return the step as it is: LaTeX numbers paragraphs itself where that is wanted."""
        return step

    def words(self, text: str) -> str:
        """Return words with the characters that LaTeX gives a meaning escaped."""
        return text.translate(ESCAPES)

    def inline(self, mathematics: str) -> str:
        """Return $mathematics$."""
        return f"${mathematics}$"

    def label(self, text: str) -> str:
        """Return the label of an equation as upright words."""
        return rf"\text{{{self.words(text)}: }} " if text else ""

    def _parentheses(self, inside: str) -> str:
        return rf"\left({inside}\right)"

    def _number(self, digits: str) -> str:
        mantissa, _, exponent = digits.partition("e")
        return rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else digits

    def _symbol(self, name: str, index: tuple[str, ...], layer: int | None) -> str:
        base = name.rstrip(SUBSCRIPTS)
        below = [str(SUBSCRIPTS.index(c)) for c in name[len(base) :]]
        below = ["".join(below)] if below else []
        below += [i if len(i) == 1 or i.isdigit() else rf"\mathrm{{{self.words(i)}}}" for i in index]
        above = "" if layer is None else f"^{{({layer})}}"
        return _name(base, self) + above + (f"_{{{','.join(below)}}}" if below else "")

    def _derivative(self, of: str, by: str, mark: str) -> str:
        d = r"\partial " if mark == "∂" else r"\mathrm{d}"
        return rf"\frac{{{d}{of}}}{{{d}{by}}}"

    def _quotient(self, top: Formula, bottom: Formula) -> str:
        return rf"\frac{{{self.write(top)}}}{{{self.write(bottom)}}}"

    def _power(self, base: str, exponent: Formula) -> str:
        return f"{base}^{{{self.write(exponent)}}}"

    def _call(self, function: str, argument: str) -> str:
        if function == "sqrt":
            return rf"\sqrt{{{argument}}}"
        if function == "sigmoid":
            return rf"\sigma{self._parentheses(argument)}"
        name = "\\" + function if function in KNOWN_FUNCTIONS else rf"\operatorname{{{self.words(function)}}}"
        return name + self._parentheses(argument)

    def _at(self, inside: str, points: list[tuple[str, str]]) -> str:
        below = ",\\,".join(f"{symbol}={point}" for symbol, point in points)
        return rf"\left[{inside}\right]_{{{below}}}"

    def _dots(self, words: str, value: str) -> str:
        return rf"\underbrace{{\cdots}}_{{\text{{{words}}}{value}}}"

    def _labelled(self, inside: str, label: str) -> str:
        return rf"\underbrace{{{inside}}}_{{\text{{{self.words(label)}}}}}"


def _factors(node: Formula) -> Iterable[Formula]:
    if isinstance(node, Product):
        for factor in node.factors:
            yield from _factors(factor)
    else:
        yield node


def _is_letter(node: Formula) -> bool:
    """Whether the node is one letter, or one letter to a whole power."""
    if isinstance(node, Power) and isinstance(node.exponent, Number) and node.exponent.value.is_integer():
        node = node.base
    if isinstance(node, Symbol) and (node.index or node.layer is not None):
        return False
    return isinstance(node, Symbol | Constant) and len(node.name.rstrip(SUBSCRIPTS)) == 1


def _is_enclosed(node: Formula) -> bool:
    return isinstance(node, Sum) or (isinstance(node, Power) and isinstance(node.base, Sum))


def _name(name: str, latex: Latex) -> str:
    """Return δ as \\delta, ŷ as \\hat{y}, a longer name upright, and unknown letters as they are."""
    if name in GREEK:
        return "\\" + GREEK[name]
    letter, *accents = unicodedata.normalize("NFD", name) or [""]
    if accents == ["\u0302"]:
        return rf"\hat{{{letter}}}"
    return name if re.fullmatch(r"[A-Za-z]'?", name) else rf"\mathrm{{{latex.words(name)}}}"
