"""What a way of computing the norms of a use costs, and which of several is taken: from static shapes alone.

    operations   multiply-adds an example
    numbers      what is held of one example at once, beside the use

A number that is written and read again is counted as 16 multiply-adds: an estimate, from 8 bytes at 50 GB a second
beside 100 billion multiply-adds a second. On accelerators it is rather more. Examples are taken a few at a time, so
that together they hold no more than the use holds itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

TOUCHED = 16
CACHED = 1 << 16  # numbers that stay in a processor's cache


class Way(NamedTuple):
    """A way to compute squared norms: its name, and what it costs an example.

    >>> Way("gram", 100, 10).cost, Way("direct", 0, 10).cost
    (260, 160)
    """

    name: str
    operations: int
    numbers: int

    @property
    def cost(self) -> int:
        """In multiply-adds."""
        return self.operations + TOUCHED * self.numbers


def cheapest(ways: Sequence[Way], most: int | None = None) -> Way:
    """Return the way with the lowest cost, the first of equals, of those that hold no more than `most` numbers.

    If all hold more, the one that holds least.

    >>> ways = [Way("gram", 100, 10), Way("direct", 0, 12)]
    >>> cheapest(ways).name, cheapest(ways, most=10).name
    ('direct', 'gram')
    """
    fitting = [way for way in ways if most is None or way.numbers <= most]
    return min(fitting, key=lambda way: way.cost) if fitting else min(ways, key=lambda way: way.numbers)
