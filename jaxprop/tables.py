"""Tables: what reports and commands print as text, and notebooks show as HTML."""

import abc
import math
import re
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest


def shown(value: float, digits: int = 4) -> str:
    """Return a number as people write it: at least `digits` significant digits, no digit before the point lost.

    >>> shown(123456.7), shown(1234.5678), shown(0.25), shown(3.0), shown(1.2345678e-9), shown(float("inf"))
    ('123457', '1235', '0.25', '3', '1.235e-09', 'inf')
    >>> shown(-0.0)
    '0'
    """
    value = value or 0.0  # not -0, which a measure of zeros may be
    if value == 0 or not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{digits}g}"
    text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def table(
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    widest: int | None = None,
    room: int | None = None,
    tails: Collection[int] = (),
) -> str:
    """Align the cells of `rows` in columns, two spaces apart, without spaces at the ends of lines.

    Args:
        rows: the lines, the head among them; a line may have fewer cells than others.
        right: the numbers of the columns that are aligned at the right, as numbers are.
        widest: the width that no column exceeds; a longer cell pushes the rest of its line to the right.
        room: the width of a terminal: cells of the longest columns of words are cut to it, never those of `right`.
        tails: the numbers of the columns that are cut at their beginning, since the end of a path says most.

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
        rows = [
            [cut(cell, width, i in tails) for i, (cell, width) in enumerate(zip(row, widths, strict=False))]
            for row in rows
        ]
    aligned = (
        [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        for row in rows
    )
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


NUMBER = re.compile(r"(-?[\d.,]+(e[-+]\d+)?|-?inf|nan)( \(\d+\))?")
STYLE = """<style>
.jaxprop-table { color: inherit; font-size: 0.9em; max-width: 100%; overflow-x: auto; }
.jaxprop-table table { border-collapse: collapse; margin: 0.25em 0; font-variant-numeric: tabular-nums; }
.jaxprop-table tr { background: none !important; }
.jaxprop-table th, .jaxprop-table td { padding: 0.3em 0.75em; text-align: left; color: inherit; white-space: pre-wrap; }
.jaxprop-table th { font-weight: 600; border-bottom: 1px solid rgba(128, 128, 128, 0.7); }
.jaxprop-table td { border-bottom: 1px solid rgba(128, 128, 128, 0.25); }
.jaxprop-table .number { text-align: right; white-space: nowrap; }
.jaxprop-table .marked td:last-child { font-weight: 600; }
.jaxprop-table .marked td:first-child { box-shadow: inset 0.25em 0 #d55e00; }
.jaxprop-table p { margin: 0.25em 0; }
</style>"""


@dataclass(frozen=True)
class Table:
    """Hold rows of cells, the head first, the columns that are aligned at the right, and the lines below the table.

    `marked` are rows that stand out in a notebook, 0 for the first below the head; a cell must say in words why.
    `tails` is as for `table`.

    >>> kept = Table((("layer", "kept"), ("Tanh()", "8 B")), right=(1,), notes=("for 2 rows",))
    >>> print(kept.text())
    layer   kept
    Tanh()   8 B
    for 2 rows
    >>> '<td>Tanh()</td><td class="number">8 B</td>' in kept.html()
    True
    """

    rows: Sequence[Sequence[str]]
    right: Collection[int] = ()
    notes: Sequence[str] = ()
    marked: Collection[int] = ()
    tails: Collection[int] = ()

    def text(self, widest: int | None = None, room: int | None = None) -> str:
        """Return it as text; `widest` and `room` are as for `table`."""
        return "\n".join([table(self.rows, self.right, widest, room, self.tails), *self.notes])

    def html(self) -> str:
        """Return it as HTML with the same cells, for a notebook; its style holds in dark and in light ones.

        Columns of numbers are aligned at the right, whether or not they are in the text.
        """
        width = max(map(len, self.rows))
        head, *body = ([*row, *[""] * (width - len(row))] for row in self.rows)
        columns = (all(NUMBER.fullmatch(row[i]) for row in body) for i in range(width))
        kinds = [' class="number"' if i in self.right or numbers else "" for i, numbers in enumerate(columns)]
        names = "".join(f'<th scope="col"{kind}>{escape(cell)}</th>' for cell, kind in zip(head, kinds, strict=True))
        marks = [' class="marked"' if i in self.marked else "" for i in range(len(body))]
        lines = "\n".join(
            f"<tr{mark}>{''.join(f'<td{kind}>{escape(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))}</tr>"
            for row, mark in zip(body, marks, strict=True)
        )
        below = "".join(f"\n<p>{escape(note)}</p>" for note in self.notes)
        written = f"<table>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>"
        return f'<div class="jaxprop-table">{STYLE}\n{written}{below}\n</div>'


class Tabular(abc.ABC):
    """What prints as a table: text with `print`, HTML in a notebook."""

    @abc.abstractmethod
    def as_table(self) -> Table:
        """Return the table that is printed."""

    def __str__(self) -> str:
        return self.as_table().text()

    def _repr_html_(self) -> str:
        return self.as_table().html()


def cut(cell: str, width: int, is_tail: bool = False) -> str:
    """Cut a text to a width, at its end, or at its beginning if the tail tells more.

    >>> cut("Dense_0", 9), cut("Block_1/Dense_0", 9), cut("Block_1/Dense_0", 9, is_tail=True)
    ('Dense_0', 'Block_1/…', '…/Dense_0')
    """
    if len(cell) <= width:
        return cell
    return f"…{cell[1 - width :]}" if is_tail else f"{cell[: width - 1]}…"


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
