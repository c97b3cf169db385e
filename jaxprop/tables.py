"""Text tables: what reports and commands print."""

import math
import shutil
import sys
from collections.abc import Collection, Sequence
from itertools import zip_longest


def shown(value: float, digits: int = 4) -> str:
    """Return a number as people write it: at least `digits` significant digits, no digit before the point lost.

    >>> shown(123456.7), shown(1234.5678), shown(0.25), shown(3.0), shown(1.2345678e-9), shown(float("inf"))
    ('123457', '1235', '0.25', '3', '1.235e-09', 'inf')
    """
    if value == 0 or not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{digits}g}"
    text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def table(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), widest: int | None = None, room: int | None = None
) -> str:
    """Align the cells of `rows` in columns, two spaces apart, without spaces at the ends of lines.

    Args:
        rows: the lines, the head among them; a line may have fewer cells than others.
        right: the numbers of the columns that are aligned at the right, as numbers are.
        widest: the width that no column exceeds; a longer cell pushes the rest of its line to the right.
        room: the width of a terminal: cells of the longest columns of words are cut to it, never those of `right`.

    >>> print(table([("layer", "parameters"), ("Linear(3)", "1,203"), ("Tanh()", "0")], right=[1]))
    layer      parameters
    Linear(3)       1,203
    Tanh()              0
    >>> print(table([("layer", "parameters"), ("Linear(32, bias=False)", "1,203")], right=[1], room=23))
    layer        parameters
    Linear(32,…       1,203
    """
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    if widest is not None:
        widths = [min(width, widest) for width in widths]
    if room is not None:
        widths = _fitted(widths, right, room)
        rows = [[c if len(c) <= w else f"{c[: w - 1]}…" for c, w in zip(row, widths, strict=False)] for row in rows]
    aligned = (
        [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        for row in rows
    )
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def _fitted(widths: list[int], right: Collection[int], room: int) -> list[int]:
    """Widths that fit in the room, as far as columns of words can give way; six letters of each are left."""
    words = [i for i in range(len(widths)) if i not in right]
    while words and sum(widths) + 2 * (len(widths) - 1) > room:
        longest = max(words, key=widths.__getitem__)
        if widths[longest] <= 6:
            break
        widths[longest] -= 1
    return widths


def terminal_room() -> int | None:
    """Return the columns of the terminal that stdout is, or None where it is a pipe or a file: nothing is cut there."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
