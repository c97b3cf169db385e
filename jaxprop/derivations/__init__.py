"""Derivations written out: one formula tree, evaluated, differentiated, and printed as text, LaTeX, MathML and JSON."""

from jaxprop.derivations.derivation import (
    Derivation as Derivation,
    dumps as dumps,
    to_json as to_json,
    to_latex as to_latex,
    to_text as to_text,
)
from jaxprop.derivations.expression import derive as derive
from jaxprop.derivations.html import document as document, to_html as to_html
from jaxprop.derivations.mathml import term_colours as term_colours, to_mathml as to_mathml
from jaxprop.derivations.network import explain as explain

__all__ = [
    "Derivation",
    "derive",
    "document",
    "dumps",
    "explain",
    "term_colours",
    "to_html",
    "to_json",
    "to_latex",
    "to_mathml",
    "to_text",
]
