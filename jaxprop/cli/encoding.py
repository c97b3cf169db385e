"""Words for a terminal whose encoding lacks a letter: `sigma` for σ, `->` for →, never a UnicodeEncodeError."""

import codecs
import io
import sys
import unicodedata

LETTERS = {
    "∂": "d", "·": "*", "⊙": "*", "∘": "o", "×": "x", "√": "sqrt", "∞": "inf", "Σ": "sum", "∑": "sum", "ᵀ": "^T",
    "→": "->", "←": "<-", "≤": "<=", "≥": ">=", "≈": "~", "−": "-", "–": "-", "—": "-", "…": "...", "‖": "|",
    "‘": "'", "’": "'", "“": '"', "”": '"', "│": "|", "─": "-", "━": "-", "╭": "+", "╮": "+", "╰": "+", "╯": "+",
}  # fmt: skip


def spelled(letter: str) -> str:
    """Spell a letter in ASCII, or return '?'.

    >>> [spelled(letter) for letter in "σ∂→²é☃"]
    ['sigma', 'd', '->', '2', 'e', '?']
    """
    if letter in LETTERS:
        return LETTERS[letter]
    name = unicodedata.name(letter, "")
    if name.startswith("GREEK SMALL LETTER "):
        return name.split()[3].lower().replace("lamda", "lambda")
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(spelled, error.object[error.start : error.end])), error.end


def speak_any_encoding() -> None:
    """Let stdout and stderr spell what their encoding cannot write."""
    codecs.register_error("jaxprop.spelled", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="jaxprop.spelled")
