"""Derivations written out: one formula tree, evaluated and printed as text, LaTeX and JSON."""

from .derivation import Derivation as Derivation
from .expression import derive as derive
from .network import explain as explain
from .printers import dumps as dumps, to_json as to_json, to_latex as to_latex, to_text as to_text

__all__ = ["Derivation", "derive", "dumps", "explain", "to_json", "to_latex", "to_text"]
