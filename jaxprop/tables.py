"""Text tables: what reports and commands print."""

import math
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


def table(rows: Sequence[Sequence[str]], right: Collection[int] = (), widest: int | None = None) -> str:
    """Align the cells of `rows` in columns, two spaces apart, without spaces at the ends of lines.

    Args:
        rows: the lines, the head among them; a line may have fewer cells than others.
        right: the numbers of the columns that are aligned at the right, as numbers are.
        widest: the width that no column exceeds; a longer cell pushes the rest of its line to the right.

    >>> print(table([("layer", "parameters"), ("Linear(3)", "1,203"), ("Tanh()", "0")], right=[1]))
    layer      parameters
    Linear(3)       1,203
    Tanh()              0
    """
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    if widest is not None:
        widths = [min(width, widest) for width in widths]
    aligned = (
        [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        for row in rows
    )
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)
