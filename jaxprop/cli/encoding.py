"""Words for a terminal whose encoding lacks a letter: `sigma` for σ, `->` for →, never a UnicodeEncodeError."""

import codecs
import io
import sys
import unicodedata

LETTERS = {
    "∂": "d", "·": "*", "⋅": "*", "∗": "*", "⊙": "*", "⊗": "x", "∘": "o", "×": "x", "÷": "/", "±": "+-", "√": "sqrt",
    "∞": "inf", "∑": "sum", "→": "->", "←": "<-", "↔": "<->", "↓": "v", "≤": "<=", "≥": ">=", "≈": "~", "−": "-",
    "–": "-", "—": "-", "…": "...", "⋮": ":", "‖": "|", "⟨": "<", "⟩": ">", "′": "'", "″": "''", "‘": "'", "’": "'",
    "“": '"', "”": '"', "│": "|", "─": "-", "━": "-", "╭": "+", "╮": "+", "╰": "+", "╯": "+",
    "░": ".", "▒": ":", "▓": "*", "█": "#", "\N{COMBINING CIRCUMFLEX ACCENT}": "_hat", "\N{COMBINING MACRON}": "_bar",
    "\N{WORD JOINER}": "", "Σ": "sum",
}  # fmt: skip


def spelled(letter: str) -> str:
    """Spell a letter in ASCII, or return '?'.

    >>> [spelled(letter) for letter in "σΔ∂→²é☃"]
    ['sigma', 'Delta', 'd', '->', '2', 'e', '?']
    """
    if letter in LETTERS:
        return LETTERS[letter]
    name = unicodedata.name(letter, "").replace("LAMDA", "LAMBDA").split()
    if name[:1] == ["GREEK"] and name[1:3] in (["SMALL", "LETTER"], ["CAPITAL", "LETTER"]):
        return name[3].capitalize() if name[1] == "CAPITAL" else name[3].lower()
    plain = unicodedata.normalize("NFKD", letter).replace("−", "-")
    return plain.encode("ascii", "ignore").decode() or "?"


def _raised(letter: str) -> bool:
    """Whether a letter is part of a power, which goes on after it."""
    return letter != "⁾" and unicodedata.decomposition(letter).startswith("<super>")


def _spell(error: UnicodeError) -> tuple[str, int]:
    """A power begins with ^, for 2² is not 22."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    before, text = error.object[error.start - 1 : error.start], ""
    for letter in error.object[error.start : error.end]:
        text += ("^" if _raised(letter) and not (before and _raised(before)) else "") + spelled(letter)
        before = letter
    return text, error.end


def speak_any_encoding() -> None:
    """Let stdout and stderr spell what their encoding cannot write."""
    codecs.register_error("jaxprop.spelled", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="jaxprop.spelled")
