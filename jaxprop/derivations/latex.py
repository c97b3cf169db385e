"""The LaTeX glyphs of a formula; where they go is decided in `glyphs.Text`."""

import re
import unicodedata

from .formula import Formula
from .glyphs import RATIO, SUBSCRIPTS, Text

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
    quotient_level = RATIO

    def words(self, text: str) -> str:
        """Return words with the characters that LaTeX gives a meaning escaped."""
        return text.translate(ESCAPES)

    def inline(self, mathematics: str) -> str:
        """Return $mathematics$."""
        return f"${mathematics}$"

    def label(self, text: str) -> str:
        """Return the label of an equation as upright words."""
        return rf"\text{{{self.words(text)}: }} " if text else ""

    def parentheses(self, inside: str) -> str:
        """Return parentheses that grow with what is inside."""
        return rf"\left({inside}\right)"

    def number(self, digits: str) -> str:
        """Return a number, 1e-07 as a power of ten."""
        mantissa, _, exponent = digits.partition("e")
        return rf"{mantissa} \times 10^{{{int(exponent)}}}" if exponent else digits

    def symbol(self, name: str, index: tuple[str, ...], layer: int | None) -> str:
        """Return W^{(2)}_{12,3}."""
        base = name.rstrip(SUBSCRIPTS)
        below = [str(SUBSCRIPTS.index(c)) for c in name[len(base) :]]
        below = ["".join(below)] if below else []
        below += [i if len(i) == 1 or i.isdigit() else rf"\mathrm{{{self.words(i)}}}" for i in index]
        above = "" if layer is None else f"^{{({layer})}}"
        return _name(base, self) + above + (f"_{{{','.join(below)}}}" if below else "")

    def derivative(self, of: str, by: str, mark: str) -> str:
        """Return the derivative as a fraction."""
        d = r"\partial " if mark == "∂" else r"\mathrm{d}"
        return rf"\frac{{{d}{of}}}{{{d}{by}}}"

    def quotient(self, top: Formula, bottom: Formula) -> str:
        """Return a fraction, which needs no parentheses."""
        return rf"\frac{{{self.write(top)}}}{{{self.write(bottom)}}}"

    def power(self, base: str, exponent: Formula) -> str:
        """Return base to the exponent, which needs no parentheses."""
        return f"{base}^{{{self.write(exponent)}}}"

    def call(self, function: str, argument: str) -> str:
        """Return the function at its argument."""
        if function == "sqrt":
            return rf"\sqrt{{{argument}}}"
        if function == "sigmoid":
            return rf"\sigma{self.parentheses(argument)}"
        name = "\\" + function if function in KNOWN_FUNCTIONS else rf"\operatorname{{{self.words(function)}}}"
        return name + self.parentheses(argument)

    def at(self, inside: str, points: list[tuple[str, str]]) -> str:
        """Return the formula in brackets with the points below."""
        below = ",\\,".join(f"{symbol}={point}" for symbol, point in points)
        return rf"\left[{inside}\right]_{{{below}}}"

    def rest(self, words: str, value: str) -> str:
        """Return dots with the count and the sum of what they stand for below."""
        return rf"\underbrace{{\cdots}}_{{\text{{{words}}}{value}}}"

    def labelled(self, inside: str, label: str) -> str:
        """Return a term with its label below it."""
        return rf"\underbrace{{{inside}}}_{{\text{{{self.words(label)}}}}}"


def _name(name: str, latex: Latex) -> str:
    """Return δ as \\delta, ŷ as \\hat{y}, a longer name upright, and unknown letters as they are."""
    if name in GREEK:
        return "\\" + GREEK[name]
    letter, *accents = unicodedata.normalize("NFD", name) or [""]
    if accents == ["\u0302"]:
        return rf"\hat{{{letter}}}"
    return name if re.fullmatch(r"[A-Za-z]'?", name) else rf"\mathrm{{{latex.words(name)}}}"
