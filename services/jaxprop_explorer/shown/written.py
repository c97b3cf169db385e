"""Pieces of a derivation as a page can show them: MathML, and sentences in parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from jaxprop.derivations import to_text
from jaxprop.derivations.derivation import Equation, Prose
from jaxprop.derivations.formula import Formula
from jaxprop.derivations.glyphs import number
from jaxprop.derivations.mathml import NAMESPACE, MathML, filled

Part = str | dict[str, str]
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Printer:
    """Prints formulas; a symbol in `colours`, as text, has the class of its number wherever it or its value stands."""

    colours: Mapping[str, int] = field(default_factory=dict)
    digits: int = 6

    def colour(self, node: Formula) -> int:
        """Return which of the colours 1 to 6 a symbol has, 0 for none."""
        return self.colours.get(to_text(node), 0)

    def math(self, node: Formula) -> str:
        """Return a formula as MathML."""
        return self._mathml().math(node)

    def equation(self, node: Equation) -> dict[str, Any]:
        """Return an equation: its label, and all its sides as MathML, in lines where it is long."""
        return {"label": node.label, "math": self._mathml().math(node, display=True, labelled=False)}

    def sides(self, node: Equation) -> list[str]:
        """Return every side of an equation by itself; a number has the colour of the symbol that it stands for."""
        shown = zip(node.sides, filled(node.sides), strict=True)
        return [
            f'<math xmlns="{NAMESPACE}" aria-label="{escape(to_text(side, self.digits))}">'
            f"{self._lines(with_symbols)}</math>"
            for side, with_symbols in shown
        ]

    def prose(self, sentence: Prose) -> list[Part]:
        """Return a sentence in parts: words as they are, formulas as {"math": MathML}."""
        return [part if isinstance(part, str) else {"math": self._mathml().math(part)} for part in sentence]

    def number(self, value: float) -> str:
        """Return a number as text, with a true minus sign.

        >>> Printer().number(-0.25), Printer().number(1.5e-7)
        ('−0.25', '1.5 × 10⁻⁷')
        """
        mantissa, _, exponent = number(value, self.digits).replace("-", "−").partition("e")
        return f"{mantissa} × 10{str(int(exponent.replace('−', '-'))).translate(RAISED)}" if exponent else mantissa

    def _lines(self, node: Formula) -> str:
        """A side on one line, or on as many as a long sum or product needs."""
        lines = self._mathml().lines(node)
        if len(lines) == 1:
            return lines[0]
        return f'<mtable class="sides">{"".join(f"<mtr><mtd>{line}</mtd></mtr>" for line in lines)}</mtable>'

    def _mathml(self) -> MathML:
        return MathML(self.digits, self.colours)
