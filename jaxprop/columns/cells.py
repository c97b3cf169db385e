"""Cells as people write them: which are missing, which are numbers, and how a column of numbers is written.

A column writes its numbers in one way, which is decided from all of its cells and never for a cell alone:

- With points and commas in one cell, the last of the two is the decimal mark.
- Commas alone separate thousands where groups of three digits follow each (1,234), else they are decimal (1,5); so are
  those after a 0 (0,123).
- Points alone are decimal, unless a cell has several (1.234.567).

Signs of money, percent signs, spaces and apostrophes between digits are left out: 45 % is 45.
"""

import numbers
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxprop.errors import DataError

Place = Callable[[int], str]  # where a row is, for errors: its line in a file, say

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", "missing"})
_SIGNS = re.compile(r"[$€£¥₹₽%]|(?<=\d)[\s\u00a0\u202f'’](?=\d{3})|\b(?:USD|EUR|GBP|CHF)\b")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE)
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")


def in_row(row: int) -> str:
    """Return where a row is that came from no file."""
    return f"row {row}"


def is_missing(cell: object) -> bool:
    """Return whether a cell says that nothing is known: None, NaN, an empty text, or a word such as NA.

    >>> [is_missing(cell) for cell in (None, float("nan"), " ", "N/A", "?", 0, "no")]
    [True, True, True, True, True, False, False]
    """
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, numbers.Number | np.datetime64) and bool(cell != cell)


def empty_cell(where: str, column: str) -> DataError:
    """Return the error of a cell that is missing where a value must be."""
    return DataError(f"{where}, column {column!r}: found an empty cell, expected a value; fill it in or remove the row")


def decimal_mark(cells: Sequence[Any]) -> str:
    """Return the decimal mark of a column, "." or ",", from all of its cells.

    >>> decimal_mark(["1,234", "950"]), decimal_mark(["1,5", "1,234"]), decimal_mark(["1.234,50"])
    ('.', ',', ',')
    """
    texts = [_bare(cell) for cell in cells if isinstance(cell, str)]
    commas = [text for text in texts if "," in text]
    if not commas:
        return "," if any(text.count(".") > 1 for text in texts) else "."
    both = [text for text in commas if "." in text]
    if both:
        return "," if all(text.rfind(",") > text.rfind(".") for text in both) else "."
    return "." if all(_GROUPS.fullmatch(text) for text in commas) else ","


def number(cell: object, decimal: str = ".") -> float | None:
    """Return the number that a cell holds, or None: `decimal` is the column's mark, the other one groups thousands.

    >>> number("$1,234.50"), number("1.234,5 €", ","), number("45 %"), number("1_000"), number("1,5")
    (1234.5, 1234.5, 45.0, None, None)
    """
    if not isinstance(cell, str):
        if isinstance(cell, np.datetime64 | np.timedelta64):  # float() reads them as counts of their unit
            return None
        try:
            return float(cell)  # pyright: ignore[reportArgumentType] (a number of Python, numpy or a frame)
        except (TypeError, ValueError, OverflowError):
            return None
    text = _bare(cell)
    if decimal == ",":
        text = text.translate(_SWAPPED)
    if _GROUPS.fullmatch(text):
        text = text.replace(",", "")
    return float(text) if _PLAIN.fullmatch(text) else None


def plain_numbers(cells: Sequence[Any]) -> np.ndarray | None:
    """Return a column of plain finite numbers `[N]` at once, or None if any of its cells needs a closer look."""
    if any(
        isinstance(cell, np.datetime64 | np.timedelta64) or (isinstance(cell, str) and "_" in cell) for cell in cells
    ):
        return None
    try:
        values = np.array(cells, np.float64)
    except (TypeError, ValueError):
        return None
    return values if values.ndim == 1 and np.isfinite(values).all() else None


_SWAPPED = str.maketrans(",.", ".,")


def _bare(cell: str) -> str:
    """The cell without signs of money and percent, and with a plain minus."""
    return _SIGNS.sub("", cell.replace("\u2212", "-")).strip()
