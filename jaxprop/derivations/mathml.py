"""Derivations as MathML: formulas and equations for a page, and whole derivations as HTML with MathML inside.

Only elements of MathML Core are used, so every browser draws it without a script. A symbol, and the number that is put
in its place, have the same `data-symbol` (the symbol as text), and the factors of the chain rule have one of the
classes `term-1` … `term-6` as well, wherever they stand in the derivation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from jaxprop.derivations import formula as tree
from jaxprop.derivations.derivation import Derivation, Equation, Printable, Prose, Step, to_text
from jaxprop.derivations.formula import Derivative, Formula, Number, Product, Sum, Symbol, children
from jaxprop.derivations.functions import FUNCTIONS
from jaxprop.derivations.glyphs import ATOM, RATIO, Text, base_and_index, factors, number

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
ROOM = 40  # letters on one line, about what a phone shows
COLOURS = 6
APPLIED = "\u2061"  # the invisible sign between a function and its argument
TIMES = "\u2062"  # and the one between 2 and x
NAMED = Symbol | Derivative  # what has a name, and a number that can be put in its place


def to_mathml(
    node: Printable, digits: int | None = 6, colours: Mapping[str, int] | None = None, heading: int = 2
) -> str:
    """Print as MathML: one `<math>` for a formula or an equation, HTML with such elements for a step or a derivation.

    Each `<math>` has the text form as its label, for those who do not see it. An equation that is too long for one
    line has a line for each side. A derivation is an `<article class="derivation">` with a `<section class="step">`
    for each step; nothing in it needs a script or an inline style.

    Args:
        node: what is printed.
        digits: how many significant digits numbers get, as `%g` writes them; None for as many as it takes.
        colours: the number n of the class `term-n` by symbol, as text: {"∂C/∂a": 1}; `term_colours(node)` if it is not
            given. For a part of a derivation give those of the whole, and one symbol has one colour everywhere.
        heading: the level of the title of a derivation, 2 for `<h2>`; its steps are one level below.

    >>> from jaxprop.derivations.formula import Number, Symbol
    >>> print(to_mathml(Symbol("x") ** 2 / Number(2)).partition(">")[2])
    <mfrac><msup><mi data-symbol="x">x</mi><mn>2</mn></msup><mn>2</mn></mfrac></math>
    >>> 'aria-label="x = 0.5"' in to_mathml(Equation((Symbol("x"), Number(0.5))))
    True
    """
    printer = MathML(digits, term_colours(node) if colours is None else colours, heading)
    match node:
        case Derivation():
            return printer.derivation(node)
        case Step():
            return printer.of_step(node)
    return printer.math(node, display=True)


def term_colours(node: Printable) -> dict[str, int]:
    """Return which symbols, as text, have the classes `term-1` … `term-6`: the factors of the chain rule, in order.

    They are the factors in a derivation's facts: of its product, or, where it is a sum over places, of every term, so
    that errors have one colour and what came in another. Else they are those of the longest product of derivatives, or
    of symbols.

    >>> C, a, w = map(Symbol, "Caw")
    >>> term_colours(Derivative(C, a) * Derivative(a, w))
    {'∂C/∂a': 1, '∂a/∂w': 2}
    """
    facts = node.facts if isinstance(node, Derivation) else {}
    factors, terms = facts.get("factors", ()), facts.get("terms", ())
    rows: list[Sequence[Formula | str]] = [[factor["symbol"] for factor in factors]]
    if terms and len(factors) < 2:
        rows = [[factor["symbol"] for factor in term["factors"]] for term in terms]
    elif not factors:
        products = [part for part in _formulas(node) if isinstance(part, Product)]
        named = [product.factors for product in products if all(isinstance(f, NAMED) for f in product.factors)]
        rows = [max(named, key=lambda found: (all(isinstance(f, Derivative) for f in found), len(found)), default=())]
    colours: dict[str, int] = {}
    for row in rows:
        names = dict.fromkeys(each if isinstance(each, str) else to_text(each) for each in row)
        for i, name in enumerate(names):
            colours.setdefault(name, i % COLOURS + 1)
    return colours


def _formulas(node: Printable) -> Iterable[Formula]:
    match node:
        case Formula():
            yield from tree.parts(node)
        case Equation():
            for side in node.sides:
                yield from tree.parts(side)
        case Step():
            for equation in node.equations:
                yield from _formulas(equation)
        case Derivation():
            for step in node.steps:
                yield from _formulas(step)


@dataclass(frozen=True)
class Filled(Number):
    """A number that stands where `of` stood in the side of the equation before."""

    of: Formula


def filled(sides: Sequence[Formula]) -> list[Formula]:
    """Return the sides of an equation, where every number knows the symbol in whose place it is.

    The last number is the value of the symbol on the left.

    >>> a, w = Symbol("a"), Symbol("w")
    >>> [_, _, product, value] = filled((Symbol("z"), a * w, Number(2) * Number(3), Number(6)))
    >>> [to_text(each.of) for each in (*product.factors, value)]
    ['a', 'w', 'z']
    """
    found = [sides[0]]
    for side in sides[1:]:
        found.append(_fill(found[-1], side))
    if isinstance(found[-1], Number) and isinstance(sides[0], NAMED):
        found[-1] = Filled(found[-1].value, sides[0])
    return found


def _fill(before: Formula, now: Formula) -> Formula:
    """Return a side whose numbers know what stood there; where the side before is of another shape, as it is."""
    if isinstance(now, tree.LEAVES):
        of = before.of if isinstance(before, Filled) else before if isinstance(before, NAMED) else None
        return Filled(now.value, of) if isinstance(now, Number) and of is not None else now
    if isinstance(before, tree.At) and not isinstance(now, tree.At):
        return _fill(before.formula, now)
    pairs = list(zip(children(before), children(now), strict=False))
    if type(before) is not type(now) or len(pairs) != len(children(now)) or len(pairs) != len(children(before)):
        return now
    inside = (_fill(*pair) for pair in pairs)
    return tree.changed(now, lambda part: next(inside))


class Line(NamedTuple):
    """A part of a side that stands on a line of its own, and how long it is as text."""

    markup: str
    length: int


def _operator(sign: str) -> str:
    """An operator between two things, also where it is the first on its line."""
    return f'<mo form="infix">{sign}</mo>'


class MathML(Text):
    """Writes a formula as one MathML element, and derivations as HTML; `colours` are the classes by symbol, as text."""

    near, equals, dot, tight = _operator("≈"), _operator("="), _operator("·"), f"<mo>{TIMES}</mo>"
    plus, minus, sign = _operator("+"), _operator("−"), '<mo form="prefix">−</mo>'
    comma, space, group = '<mo separator="true">,</mo>', " ", "<mrow>{}</mrow>"
    quotient_level = RATIO
    marks: Mapping[str, str] = {"∂": "<mi>∂</mi>", "d": '<mi mathvariant="normal">d</mi>'}
    parentheses = '<mrow><mo form="prefix">(</mo>{}<mo form="postfix">)</mo></mrow>'
    at = '<msub><mrow><mo form="prefix">[</mo>{}<mo form="postfix">]</mo></mrow><mrow>{}</mrow></msub>'
    rest = "<munder><mo>⋯</mo><mrow><mtext>{}</mtext>{}</mrow></munder>"
    labelled = "<munder><munder>{}<mo>⏟</mo></munder><mtext>{}</mtext></munder>"
    label = "<mtext>{}:\u00a0</mtext>"

    def __init__(self, digits: int | None = 6, colours: Mapping[str, int] | None = None, heading: int = 2):
        super().__init__(digits)
        self.colours, self.heading, self.marking = colours or {}, heading, True

    def words(self, text: str) -> str:
        """Return words with every character escaped that HTML or XML gives a meaning."""
        return escape(text)

    def math(self, node: Formula | Equation, display: bool = False, labelled: bool = True) -> str:
        """Return a `<math>` element with the text form as its label; `labelled=False` leaves an equation's label out.

        In a sentence it stays on one line; by itself (`display`) an equation may have a line for each side.
        """
        inside = self.write(node) if isinstance(node, Formula) else self.equation(node, display, labelled)
        block = ' display="block"' if display else ""
        return f'<math xmlns="{NAMESPACE}"{block} aria-label="{escape(to_text(node, self.digits))}">{inside}</math>'

    def equation(self, node: Equation, display: bool, labelled: bool = True) -> str:
        """Return an equation as one element: a row, or a table with a line for each side where it is long."""
        label = self.label.format(self.words(node.label)) if node.label and labelled else ""
        sides, signs = filled(node.sides), node.signs(self)
        if not display or (len(node.label) if label else 0) + sum(self._length(side) + 2 for side in sides) <= ROOM:
            rest = "".join(sign + self.write(side) for sign, side in zip(signs, sides[1:], strict=True))
            return self.group.format(label + self.write(sides[0]) + rest)
        first = self.lines(sides[0])
        wide = len(first) > 1 or len(sides) == 1  # then the left side has lines of its own
        rows = [f'<mtd columnspan="3">{line}</mtd>' for line in (label, *first) if line] if wide else []
        start = "" if wide else label + first[0]
        for sign, side in zip(signs, sides[1:], strict=True):
            for line in self.lines(side):
                rows.append(f"<mtd>{start}</mtd><mtd>{sign}</mtd><mtd>{line}</mtd>")
                start = sign = ""
        return f'<mtable class="sides" displaystyle="true">{"".join(f"<mtr>{row}</mtr>" for row in rows)}</mtable>'

    def lines(self, side: Formula) -> list[str]:
        """Return a side in elements for one line each: a sum or a product is broken between its parts."""
        if isinstance(side, Sum):
            return _packed([Line(self._signed(t, first=i == 0), self._length(t) + 2) for i, t in enumerate(side.terms)])
        if isinstance(side, Product) and self._length(side) > ROOM:
            parts = [self.write(factor, RATIO) for factor in factors(side)]
            dotted = [part if i == 0 else self.dot + part for i, part in enumerate(parts)]
            return _packed([Line(m, self._length(f) + 1) for m, f in zip(dotted, factors(side), strict=True)])
        return [self.write(side)]

    def _length(self, node: Formula) -> int:
        return len(_Plain(self.digits).write(node))

    def prose(self, parts: Prose) -> str:
        """Return a sentence with its formulas in it."""
        return "".join(self.words(part) if isinstance(part, str) else self.math(part) for part in parts)

    def derivation(self, node: Derivation) -> str:
        """Return the title and the steps of a derivation as an article."""
        head = f"<h{self.heading}>{self.prose(node.title)}</h{self.heading}>"
        steps = (self.of_step(step, f"{i}. ") for i, step in enumerate(node.steps, 1))
        return "\n".join(('<article class="derivation">', head, *steps, "</article>"))

    def of_step(self, step: Step, before: str = "") -> str:
        """Return a step as a section: its title, its sentence, its equations and its table."""
        level = self.heading + 1
        lines = [f'<section class="step">\n<h{level}>{before}{self.words(step.title)}</h{level}>']
        lines += [f"<p>{self.prose(step.sentence)}</p>"] if step.sentence else []
        for equation in step.equations:
            label = f'<span class="label">{self.words(equation.label)}:</span> ' if equation.label else ""
            lines.append(f'<div class="equation">{label}{self.math(equation, display=True, labelled=False)}</div>')
        return "\n".join((*lines, *([self._rows(step.rows)] if step.rows else []), "</section>"))

    def _rows(self, rows: Sequence[Sequence[Prose]]) -> str:
        head, *body = rows
        numbers = [all(len(row[i]) == 1 and isinstance(row[i][0], Number) for row in body) for i in range(len(head))]
        kinds = [' class="number"' if each else "" for each in numbers]
        first = "".join(f'<th scope="col"{kind}>{self.prose(c)}</th>' for c, kind in zip(head, kinds, strict=True))
        lines = ("".join(f"<td{k}>{self.prose(c)}</td>" for c, k in zip(row, kinds, strict=True)) for row in body)
        filled_in = "".join(f"<tr>{line}</tr>\n" for line in lines)
        return f'<div class="rows"><table>\n<thead><tr>{first}</tr></thead>\n<tbody>{filled_in}</tbody></table></div>'

    def _named(self, node: Formula) -> str:
        """The attributes of a symbol, and of a number in its place."""
        if not self.marking:
            return ""
        name = to_text(node)
        colour = f' class="term-{self.colours[name]}"' if name in self.colours else ""
        return f'{colour} data-symbol="{escape(name)}"'

    def _number(self, node: Number, named: str = "") -> str:
        mantissa, _, exponent = number(abs(node.value), self.digits).partition("e")
        written = f"<mn>{mantissa}</mn>"
        if exponent:
            power = self._number(Number(int(exponent)))
            written += f"{_operator('×')}<msup><mn>10</mn>{power}</msup>"
        if node.value < 0:
            written = self.sign + written
        elif not exponent:
            return f"<mn{named}>{mantissa}</mn>"
        return f"<mrow{named}>{written}</mrow>"

    def _filled(self, node: Filled) -> str:
        return self._number(node, self._named(node.of))

    def _symbol(self, node: Symbol) -> str:
        base, below = base_and_index(node)
        named, letter = self._named(node), _letter(base)
        if not below and node.layer is None:
            return letter.replace(">", f"{named}>", 1)
        under = f"<mrow>{self.comma.join(map(_index, below))}</mrow>" if below else ""
        if node.layer is None:
            return f"<msub{named}>{letter}{under}</msub>"
        over = f"<mrow><mo>(</mo>{_index(str(node.layer))}<mo>)</mo></mrow>"
        return f"<msubsup{named}>{letter}{under}{over}</msubsup>" if under else f"<msup{named}>{letter}{over}</msup>"

    def _derivative(self, node: Derivative) -> str:
        mark, named = self.marks.get(node.mark, f"<mi>{escape(node.mark)}</mi>"), self._named(node)
        marking, self.marking = self.marking, False  # it is one symbol, and what is in it has no number of its own here
        top, bottom = (f"<mrow>{mark}{self.write(part, RATIO)}</mrow>" for part in (node.of, node.by))
        self.marking = marking
        return f"<mfrac{named}>{top}{bottom}</mfrac>"

    def _rest(self, node: tree.Rest) -> str:
        return super()._rest(node).replace(" </mtext>", "\u00a0</mtext>")

    def _quotient(self, node: tree.Quotient) -> str:
        return f"<mfrac>{self.write(node.top)}{self.write(node.bottom)}</mfrac>"

    def _power(self, node: tree.Power) -> str:
        return f"<msup>{self.write(node.base, ATOM)}{self.write(node.exponent)}</msup>"

    def _function(self, name: str) -> str:
        known = FUNCTIONS.get(name)
        return (known and known.mathml) or f"<mi>{escape((known and known.text) or name)}</mi><mo>{APPLIED}</mo>"


class _Plain(Text):
    """Text that is about as long as what is drawn is wide: what stands above or below is small, or takes no room."""

    def _filled(self, node: Filled) -> str:
        return self._number(node)

    def _symbol(self, node: Symbol) -> str:
        base, below = base_and_index(node)
        return base + _small(",".join(below), "" if node.layer is None else f"({node.layer})")

    def _derivative(self, node: Derivative) -> str:
        return node.mark + max(self.write(node.of), self.write(node.by), key=len)

    def _quotient(self, node: tree.Quotient) -> str:
        return max(self.write(node.top), self.write(node.bottom), key=len)

    def _power(self, node: tree.Power) -> str:
        return self.write(node.base, ATOM) + _small(self.write(node.exponent))

    def _at(self, node: tree.At) -> str:
        return f"[{self.write(node.formula)}]" + _small(super()._at(node).partition(" at ")[2])

    def _rest(self, node: tree.Rest) -> str:
        return _small(super()._rest(node)[4:-1])


def _small(*texts: str) -> str:
    """The longest of some texts in small letters, as long as it is wide."""
    longest = max(texts, key=len)
    return longest[: -(-7 * len(longest) // 10)]


def _packed(parts: Sequence[Line]) -> list[str]:
    """Put parts on lines as long as there is room, each line one element."""
    lines: list[Line] = []
    for part in parts:
        if lines and lines[-1].length + part.length <= ROOM:
            lines[-1] = Line(lines[-1].markup + part.markup, lines[-1].length + part.length)
        else:
            lines.append(part)
    return [f"<mrow>{line.markup}</mrow>" for line in lines]


def _letter(name: str) -> str:
    """The name of a symbol: ŷ as y with a hat, θ' with a prime, out_h1 as out with h1 below."""
    if name.endswith("'"):
        return f"<mrow>{_letter(name[:-1])}<mo>′</mo></mrow>"
    first, _, below = name.partition("_")
    if first.isalnum() and below.isalnum() and not first[0].isdigit():
        return f"<msub>{_letter(first)}<mtext>{escape(below)}</mtext></msub>"
    return HAT if name == "ŷ" else f"<mi>{escape(name)}</mi>"


HAT = '<mover accent="true"><mi>y</mi><mo>^</mo></mover>'


def _index(text: str) -> str:
    kind = "mn" if text.isdigit() else "mi" if len(text) == 1 else "mtext"
    return f"<{kind}>{escape(text)}</{kind}>"
