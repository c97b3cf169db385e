"""How formulas are written: where parentheses, dots and signs go is decided in `Text`; others replace its glyphs.

These are `Latex` here and `MathML` in `mathml`.

Numbers are written with `digits` significant digits as `%g` writes them (`None`: as many as it takes).
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from jaxprop.derivations import formula as tree
from jaxprop.derivations.formula import Constant, Derivative, Formula, Negation, Number, Power, Product, Sum, Symbol
from jaxprop.derivations.functions import FUNCTIONS
from jaxprop.errors import JaxpropError
from jaxprop.tables import table

# How tightly a node holds together; a child that holds less tightly than its place asks for gets parentheses.
SUM, SIGN, PRODUCT, RATIO, POWER, ATOM = range(6)
LEVELS = {Sum: SUM, tree.Rest: SUM, Negation: SIGN, Product: PRODUCT, Derivative: RATIO, Power: POWER}

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"
SUBSCRIPTED = str.maketrans("0123456789", SUBSCRIPTS)
WIDTH = 100  # columns of a line of text
GLUE = "\u2060"  # marks a space that is only there for a line to be broken


def number(value: float, digits: int | None) -> str:
    """Write a number as `%g` does; `digits=None` takes the fewest digits that read back as the same float.

    >>> number(2.0, 6), number(-0.0, 6), number(1 / 3, 3), number(0.1, None), number(20.0, None), number(123.0, 2)
    ('2', '0', '0.333', '0.1', '20', '120')
    """
    if value == 0:
        return "0"
    if digits is None:
        return repr(value).removesuffix(".0")
    return f"{float(f'{value:.{digits}g}'):.{max(digits, 6)}g}"  # 20, where %.1g writes 2e+01


def rest_value(terms: tuple[Formula, ...]) -> Number | None:
    """Return what the unwritten terms of a sum add up to, None while symbols are left in them."""
    try:
        return Number(tree.evaluate(tree.Rest(terms)))
    except JaxpropError:
        return None


class Text:
    """Writes a formula as plain text with unicode letters, readable in a terminal.

    A node is written by the method that has its name in small letters, from the templates of the class.
    """

    near, equals, dot, comma, tight = "≈", "=", "·", ", ", ""  # `tight` stands in a product where no dot is needed
    plus, minus, sign = " + ", " - ", "-"
    group = "{}"  # around what is several pieces side by side
    space = "\u00a0"  # keeps a formula on one line while a sentence is wrapped
    quotient_level = PRODUCT
    escapes: Mapping[int, str] = {}
    marks: Mapping[str, str] = {}
    parentheses, derivative, at = "({})", "{0}{1}/{0}{2}", "[{} at {}]"
    rest, labelled = "… ({}{})", "{0}"  # text has no room for a label inside a formula
    inline, label, numbered = "{}", "{}: ", "{}. {}"

    def __init__(self, digits: int | None = 6, width: int = WIDTH):
        self.digits, self.width = digits, width

    def write(self, node: Formula, need: int = SUM) -> str:
        """Return the node, in parentheses if it holds together less tightly than `need`."""
        written = getattr(self, f"_{type(node).__name__.lower()}")(node)
        return written if self._level(node) >= need else self.parentheses.format(written)

    def words(self, text: str) -> str:
        """Return plain words, with the characters escaped to which the printer gives a meaning."""
        return text.translate(self.escapes)

    def embedded(self, formula: str) -> str:
        """Return a formula as it stands in a sentence."""
        return self.inline.format(formula)

    def title(self, sentence: str) -> str:
        """Return the first line, or lines."""
        return "\n".join(self._wrapped(sentence, self.width))

    def step(self, title: str, sentence: str, equations: Iterable[Sequence[str]]) -> str:
        """Return a step: its title, its sentence wrapped, and the sides of every equation, on one line if they fit."""
        lines = [title, *(f"   {line}" for line in self._wrapped(sentence, self.width - 3))]
        for first, *sides in equations:
            if len(" ".join((first, *sides))) <= self.width - 5:
                lines.append(f"     {' '.join((first, *sides))}")
                continue
            start, *more = self._broken(first, self.width - 5)
            indent = 6 + len(first) if len(first) < self.width / 3 else 9
            rest = [*more, *(line for side in sides for line in self._broken(side, self.width - indent))]
            if rest and not more and indent == 6 + len(first):
                start = f"{start} {rest.pop(0)}"
            lines += [f"     {start}", *(" " * indent + line for line in rest)]
        return "\n".join(lines)

    def _wrapped(self, sentence: str, width: int) -> list[str]:
        lines = textwrap.wrap(sentence, width, break_long_words=False, break_on_hyphens=False)
        return [part for line in lines for part in self._broken(line.replace(self.space, " "), width)]

    def _broken(self, side: str, width: int) -> list[str]:
        """Return one side of an equation in lines, broken before operators where it is too long for one."""
        if len(side) <= width:
            return [side]
        glued = re.sub(r"([-+·=≈]) ", rf"\1{self.space}", side)
        if any(len(word) > width - 3 for word in glued.split(" ")):
            glued = glued.replace("·", f" {GLUE}·").replace(f" {GLUE}·{self.space}", f"·{self.space}")
        wrapped = textwrap.wrap(glued, width, subsequent_indent="   ", break_long_words=False, break_on_hyphens=False)
        return [line.replace(f" {GLUE}", "").replace(GLUE, "").replace(self.space, " ") for line in wrapped]

    def table(self, rows: Sequence[Sequence[str]]) -> str:
        """Return rows of cells, the head first, in columns."""
        return textwrap.indent(table(rows), "     ")

    def _level(self, node: Formula) -> int:
        match node:
            case tree.Labelled(_, inner):
                return self._level(inner)
            case Number(value) if value < 0:
                return SIGN
            case Number(value):
                return POWER if "e" in number(value, self.digits) else ATOM
            case Symbol(_, _, layer) if layer is not None:
                return POWER
            case tree.Quotient():
                return self.quotient_level
        return LEVELS.get(type(node), ATOM)

    def _number(self, node: Number) -> str:
        return number(node.value, self.digits)

    def _symbol(self, node: Symbol) -> str:
        above = "" if node.layer is None else f"⁽{_raised(node.layer)}⁾"
        return node.name + above + (f"[{','.join(map(str, node.index))}]" if node.index else "")

    def _constant(self, node: Constant) -> str:
        return self._symbol(Symbol(node.name))

    def _derivative(self, node: Derivative) -> str:
        mark = self.marks.get(node.mark, node.mark)
        return self.derivative.format(mark, self.write(node.of, RATIO), self.write(node.by, RATIO))

    def _sum(self, node: Sum) -> str:
        terms = "".join(self._signed(term, first=i == 0) for i, term in enumerate(node.terms))
        return self.group.format(terms) if terms else self._number(Number(0))

    def _signed(self, term: Formula, first: bool) -> str:
        if first:
            return self.write(term)
        if isinstance(term, Negation):
            return self.minus + self.write(term.formula, PRODUCT)
        return self.plus + self.write(term, SUM if isinstance(term, tree.Rest) else PRODUCT)

    def _rest(self, node: tree.Rest) -> str:
        count = len(node.terms) if node.count is None else node.count
        counted = f"{count:,} more term" + "s" * (count != 1)
        value = rest_value(node.terms)
        return self.rest.format(*(counted, "") if value is None else (f"{counted} summing to ", self.write(value)))

    def _labelled(self, node: tree.Labelled) -> str:
        return self.labelled.format(self.write(node.formula), self.words(node.label))

    def _product(self, node: Product) -> str:
        """Write 6x and 18x(x² + 1)² without dots: a number, then a letter, then parentheses; dots elsewhere."""
        parts = list(factors(node))
        spaced = f" {self.dot} " if any(isinstance(f, Derivative) for f in parts) else self.dot
        written, run = "", 0
        for i, factor in enumerate(parts):
            tight = (run == 1 and _is_letter(factor)) or (run == 2 and _is_enclosed(factor))
            written += ("" if i == 0 else self.tight if tight else spaced) + self.write(factor, RATIO)
            run = 2 if tight and run == 1 else int(isinstance(factor, Number) and self._level(factor) == ATOM)
        return self.group.format(written) if written else self._number(Number(1))

    def _quotient(self, node: tree.Quotient) -> str:
        top = self.write(node.top, PRODUCT if isinstance(node.top, Product) else POWER)
        return f"{top}/{self.write(node.bottom, POWER)}"

    def _power(self, node: Power) -> str:
        base, exponent = self.write(node.base, ATOM), self.write(node.exponent, ATOM)
        digits = number(node.exponent.value, self.digits) if isinstance(node.exponent, Number) else ""
        return base + (digits.translate(SUPERSCRIPTS) if re.fullmatch(r"-?\d+", digits) else f"^{exponent}")

    def _negation(self, node: Negation) -> str:
        return self.group.format(self.sign + self.write(node.formula, PRODUCT))

    def _call(self, node: tree.Call) -> str:
        around, inside = self._function(node.function), [self.write(part) for part in tree.children(node)]
        if "{}" in around:
            return around.format(*inside)
        return self.group.format(around + self.parentheses.format(self.comma.join(inside)))

    def _function(self, name: str) -> str:
        """Return the name of a function, or a template where that is not what is printed."""
        return (name in FUNCTIONS and FUNCTIONS[name].text) or name

    def _at(self, node: tree.At) -> str:
        pairs = zip(node.symbols, node.points, strict=True)
        return self.at.format(
            self.write(node.formula), self.comma.join(f"{self.write(s)}{self.equals}{self.write(p)}" for s, p in pairs)
        )


GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi "
        "psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
        strict=True,
    )
)
ESCAPES = {c: "\\" + c for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}"}
IN_MATH = str.maketrans(ESCAPES)
IN_WORDS = str.maketrans(
    {letter: rf"$\{name}$" for letter, name in GREEK.items()}
    | {digit: f"$_{i}$" for i, digit in enumerate(SUBSCRIPTS)}
    | {digit: f"$^{i}$" for i, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
    | {**ESCAPES, "·": r"$\cdot$", "∂": r"$\partial$", "≈": r"$\approx$", "√": r"$\surd$"}
)


class Latex(Text):
    """Writes a formula as LaTeX."""

    near, dot, comma = r"\approx", r" \cdot ", r",\,"
    space = " "
    quotient_level = RATIO
    escapes, marks = IN_WORDS, {"∂": r"\partial ", "d": r"\mathrm{d}"}
    parentheses, derivative, at = r"\left({}\right)", r"\frac{{{0}{1}}}{{{0}{2}}}", r"\left[{}\right]_{{{}}}"
    rest, labelled = r"\underbrace{{\cdots}}_{{\text{{{}}}{}}}", r"\underbrace{{{}}}_{{\text{{{}}}}}"
    inline, label, numbered = "${}$", r"\text{{{}: }} ", "{1}"  # LaTeX numbers paragraphs itself where that is wanted

    def title(self, sentence: str) -> str:
        """Return the sentence as it is."""
        return sentence

    def step(self, title: str, sentence: str, equations: Iterable[Sequence[str]]) -> str:
        """Return a paragraph and displayed equations."""
        display = map(self.display, equations)
        return "\n".join((rf"\paragraph{{{self.words(title)}}} {sentence}", *display))

    def display(self, sides: Sequence[str]) -> str:
        """Return an equation by itself, on one line."""
        return rf"\[ {' '.join(sides)} \]"

    def table(self, rows: Sequence[Sequence[str]]) -> str:
        """Return a displayed array."""
        lines = r" \\ ".join(
            " & ".join(cell.strip("$") if "$" in cell else rf"\text{{{cell}}}" for cell in row) for row in rows
        )
        return rf"\[ \begin{{array}}{{{'l' * len(rows[0])}}} {lines} \end{{array}} \]"

    def _number(self, node: Number) -> str:
        mantissa, _, exponent = super()._number(node).partition("e")
        return rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else mantissa

    def _symbol(self, node: Symbol) -> str:
        base, index = base_and_index(node)
        below = [i if re.fullmatch(r"[^\W_]|\d+", i) else self._upright(i) for i in index]
        above = "" if node.layer is None else f"^{{({self._layer(node.layer)})}}"
        return self._name(base) + above + (f"_{{{','.join(below)}}}" if below else "")

    def _layer(self, layer: int | str) -> str:
        """Return the number of a layer, or its path with its words upright."""
        parts = str(layer).split(".")
        return ".".join(part if part.isdigit() else rf"\mathrm{{{part.translate(IN_MATH)}}}" for part in parts)

    def _name(self, name: str) -> str:
        """Return δ as \\delta, ŷ as \\hat{y}, a longer name upright, and unknown letters as they are."""
        if name in GREEK:
            return "\\" + GREEK[name]
        letter, *accents = unicodedata.normalize("NFD", name) or [""]
        if accents == ["\u0302"]:
            return rf"\hat{{{letter}}}"
        return name if re.fullmatch(r"[A-Za-z]'?", name) else self._upright(name)

    def _upright(self, text: str) -> str:
        """Return a word of several letters, with its spaces; out_h1 is out with h1 below."""
        first, _, below = text.partition("_")
        if first in GREEK and below.isalnum():
            return rf"\{GREEK[first]}_{{\mathrm{{{below}}}}}"
        if first.isalnum() and below.isalnum() and not text[0].isdigit() and len(first) > 1:
            return rf"\mathrm{{{first}}}_{{\mathrm{{{below}}}}}"
        spaced = re.sub("(?<![-+]) (?![-+])", r"\\ ", text.translate(IN_MATH))  # TeX spaces operators itself
        return rf"\mathrm{{{spaced}}}"

    def _quotient(self, node: tree.Quotient) -> str:
        return rf"\frac{{{self.write(node.top)}}}{{{self.write(node.bottom)}}}"

    def _power(self, node: Power) -> str:
        return f"{self.write(node.base, ATOM)}^{{{self.write(node.exponent)}}}"

    def _function(self, name: str) -> str:
        return (name in FUNCTIONS and FUNCTIONS[name].latex) or rf"\operatorname{{{name.translate(IN_MATH)}}}"


def base_and_index(node: Symbol) -> tuple[str, list[str]]:
    """Return the name of a symbol without the digits that end it, which are its first index.

    >>> base_and_index(Symbol("u₁₂")), base_and_index(Symbol("w5'")), base_and_index(Symbol("a", ("t", 3), 2))
    (('u', ['12']), ("w'", ['5']), ('a', ['t', '3']))
    """
    name = node.name.translate(SUBSCRIPTED) if re.fullmatch(r"[^\W_]\d+'?", node.name) else node.name
    base = name.rstrip(SUBSCRIPTS + "'")
    digits = "".join(str(SUBSCRIPTS.index(c)) for c in name[len(base) :].rstrip("'"))
    return base + "'" * name.endswith("'"), [*([digits] if digits else []), *map(str, node.index)]


PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[margin=2cm]{geometry}
\usepackage{amsmath,graphicx,iftex}
\ifPDFTeX\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\fi
\allowdisplaybreaks
\setlength{\parindent}{0pt}
\begin{document}
\sloppy
"""
PAGE, ROWS = 80, 40  # signs on a line of a page, rows of a table on a page


class Document(Latex):
    """Writes a whole LaTeX document, whose long equations are broken at an equals sign or at an operator."""

    def title(self, sentence: str) -> str:
        """Return a heading."""
        return rf"{{\large {sentence}\par}}"

    def embedded(self, formula: str) -> str:
        """Return a formula in a sentence, in a line of its own if it is long."""
        return super().embedded(formula) if signs(formula) <= PAGE - 20 else f"\n{self.display([formula])}\n"

    def display(self, sides: Sequence[str]) -> str:
        """Return an equation by itself, broken where it is wider than the page."""
        if signs(" ".join(sides)) <= PAGE:
            return super().display(sides)
        head, *more = _pieces(sides[0])
        lines = [f"{head} &", *(rf"&\quad {piece}" for piece in more)]
        for i, (first, *rest) in enumerate(map(_pieces, sides[1:])):
            if i or more:
                lines.append("&")
            lines[-1] += first
            lines += [rf"&\qquad {piece}" for piece in rest]
        return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"

    def table(self, rows: Sequence[Sequence[str]]) -> str:
        """Return arrays that fit on a page, each with the head."""
        parts = (rows[start : start + ROWS] for start in range(1, len(rows), ROWS))
        return "\n".join(super(Document, self).table([rows[0], *part]) for part in parts)


def signs(latex: str) -> int:
    """About how many signs wide some LaTeX is; a fraction counts as top and bottom side by side."""
    plain = re.sub(r"\\(left|right|mathrm|text|operatorname|frac|,|quad)(?![a-z])|[{}^_$ ]", "", latex)
    return len(re.sub(r"\\[A-Za-z]+", "x", plain))


def _pieces(side: str) -> list[str]:
    """Return one side in pieces that fit on a line, cut before operators that are inside of nothing."""
    depth, cuts = 0, [0]
    for found in re.finditer(r"\\left|\\right|[{}]| (?=[+-] |\\cdot )", side):
        if found[0] == " ":
            cuts += [found.start()] if depth == 0 else []
        elif found.start() == 0 or side[found.start() - 1] != "\\":
            depth += 1 if found[0] in ("{", "\\left") else -1
    pieces: list[str] = []
    for start, end in pairwise([*cuts, len(side)]):
        if pieces and signs(pieces[-1] + side[start:end]) <= PAGE - 10:
            pieces[-1] += side[start:end]
        else:
            pieces.append(side[start:end])
    wide = r"\resizebox{{0.9\linewidth}}{{!}}{{$\displaystyle {}$}}"  # what can be cut nowhere
    return [piece.strip() if signs(piece) <= PAGE else wide.format(piece.strip()) for piece in pieces]


def factors(node: Formula) -> Iterable[Formula]:
    """Yield the factors of a product, those of the products in it too; anything else is its own factor."""
    if isinstance(node, Product):
        for factor in node.factors:
            yield from factors(factor)
    else:
        yield node


def _raised(layer: int | str) -> str:
    """A layer's number in small raised digits; a path with words in it has no such letters, and stays as it is."""
    written = str(layer)
    return written.translate(SUPERSCRIPTS) if written.lstrip("-").isdigit() else written


def _is_letter(node: Formula) -> bool:
    """Whether the node is one letter, or one letter to a whole power."""
    if isinstance(node, Power) and isinstance(node.exponent, Number) and node.exponent.value.is_integer():
        node = node.base
    if isinstance(node, Symbol) and (node.index or node.layer is not None):
        return False
    return isinstance(node, Symbol | Constant) and len(node.name.rstrip(SUBSCRIPTS)) == 1


def _is_enclosed(node: Formula) -> bool:
    return isinstance(node, Sum) or (isinstance(node, Power) and isinstance(node.base, Sum))
