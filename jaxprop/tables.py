"""Text tables: what reports and commands print."""

from collections.abc import Collection, Sequence
from itertools import zip_longest


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
