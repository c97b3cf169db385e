"""The derivative with every sum multiplied out: one product for each path from the parameter to the cost."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .derivation import Equation, Step
from .formula import Formula, Number, Product, Symbol
from .paths import count, largest
from .printers import to_text
from .reading import Reading
from .writing import Writer, joined

ROOM = 100


class Path(NamedTuple):
    """A path: its unit in every level, its links from the cost to the parameter, and their product."""

    units: tuple[int, ...]
    factors: tuple[Formula, ...]
    numbers: list[float]
    product: float


class Whole(NamedTuple):
    """The largest paths and what the others add up to, as plain data, and a step where a sum has sums inside."""

    paths: list[dict[str, Any]]
    rest: dict[str, Any]
    steps: tuple[Step, ...]


def whole_way(reading: Reading, writer: Writer, unit: int, came_in: tuple[Symbol, ...], gradient: Formula) -> Whole:
    """Return the largest paths from the parameter to the cost, how many more there are, and what they add up to."""
    levels, values = reading.levels, writer.values
    ways = [level.slopes[:, None] * level.edges for level in levels if level.edges is not None]
    ends = levels[-1].slopes * levels[-1].nodes[-1].errors
    found = []
    for units in largest(ways, ends, unit, writer.most):
        links = [writer.link(i, *units[i : i + 2])[0] for i in range(len(ways))]
        factors = (writer.error(levels[-1].nodes[0], units[-1]), *reversed(links), *came_in)
        numbers = [values[factor] for factor in factors]
        found.append(Path(units, factors, numbers, float(np.prod(numbers))))
    shown = [{"units": list(path.units), "product": path.product, "factors": path.numbers} for path in found]
    left = count(ways) - len(found)
    rest = {"count": left, "sum": values[gradient] - sum(path.product for path in found) if left else 0.0}
    if len(ways) < 2:  # the sum in the steps before is one over all paths already
        return Whole(shown, rest, ())
    total = ends
    for way in reversed(ways):
        total = way @ total
    whole = float(total[unit]) * math.prod(values[each] for each in came_in)
    return Whole(shown, rest, (_step(writer, found, rest, gradient, whole),))


def _step(writer: Writer, found: list[Path], rest: dict[str, Any], gradient: Formula, total: float) -> Step:
    paths = len(found) + rest["count"]
    sentence = joined(
        f"With every sum multiplied out, the derivative is a sum over {paths:,} paths, one for every choice of a unit ",
        "in each layer above. A path is a product of links; this is the first link of the largest path, and the path:",
    )
    link, formula = writer.link(0, *found[0].units[:2])

    def equations() -> Iterator[Equation]:
        yield from writer.worked(link, formula)
        largest_path = Product(found[0].factors)
        if len(to_text(largest_path)) + len("the largest: ") <= ROOM:
            yield Equation((largest_path,), "the largest")
        for path in found:
            yield _path(path)
        if rest["count"]:
            yield Equation((Number(rest["sum"]),), f"the other {rest['count']:,} together")
        yield Equation((gradient, Number(total)), f"all {paths:,} paths together")

    return Step("The whole way back", sentence, tuple(equations()))


def _path(path: Path) -> Equation:
    """One path in numbers: their product, where it fits on a line, and its value."""
    label = f"through units {', '.join(map(str, path.units))}"
    numbers = Product(tuple(map(Number, path.numbers)))
    fits = len(label) + len(to_text(numbers)) <= ROOM - 4
    return Equation((numbers, Number(path.product)) if fits else (Number(path.product),), label)
