"""How far rounding alone may move the numbers of a program: what two runs of it may differ by and still agree.

A number of some dtype is moved by a fifth of its epsilon, as a standard deviation. An equation passes on what comes in
with its inputs, and adds its own:

    v = max over inputs of a · v_input + (ε / 5)² · steps of the scans around

v is a variance relative to the mean square of the array there. a is 1, but where a sum or a product cancels, of which
the measures tell how large its terms were and what is left. Errors take the same way backwards, and what the values on
it bring as well, since derivatives are made of them; there what cancels counts where it does and no further, since most
of an error comes by other ways.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from jaxprop.xray.planning import Path
from jaxprop.xray.rows import Measure
from jaxprop.xray.sites import Site, numbers_in

PART = 0.2  # of epsilon: what rounding moves is spread evenly over ± ε/2 or less
DIGIT = 10.0  # cancellation counts where more than a digit is lost: a little of it stands in every sum, and evens out
SUMS = {"add", "sub", "add_any"}
PRODUCTS = {"dot_general", "conv_general_dilated", "reduce_sum", "cumsum", "reduce_window_sum"}
SINGLE = float(np.finfo(np.float32).eps)  # what halves are summed up and measured in


class Measured(Protocol):
    """A report, or the reading that it is made of."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Give the equations."""
        ...

    @property
    def values(self) -> Mapping[Path, tuple[Any, ...]]:
        """Give the measures of what they computed."""
        ...

    @property
    def errors(self) -> Mapping[Path, tuple[Any, ...]]:
        """Give the measures of the errors that came back."""
        ...


class Known(NamedTuple):
    """What is known of an array: its mean square, how many numbers it has, and its relative variance by rounding."""

    square: float
    count: int
    variance: float


def epsilon(shape: str) -> float:
    """Return the epsilon of an array's dtype, told as "bfloat16[8,128]"; 0 for whole numbers.

    >>> epsilon("bfloat16[8,128]"), epsilon("int32[]")
    (0.0078125, 0.0)
    """
    try:
        return float(jnp.finfo(shape.partition("[")[0]).eps)
    except (TypeError, ValueError):
        return 0.0


def rounding(reading: Measured) -> tuple[dict[Path, float], dict[Path, float]]:
    """Return the relative variances that rounding may bring to the value of each equation, and to its error."""
    values: dict[int, Known] = {}
    forward: dict[Path, float] = {}
    for site in reading.sites:
        given = [values[number] for number in site.inputs if number in values]
        square = _mean_square(reading, site, errors=False)
        v = own(site) + _brought(site, given, square)
        forward[site.path] = v + _measuring(site)
        if square is None:  # what only moves numbers leaves them as large
            square = max((each.square for each in given), default=0.0)
        for number, shape in zip(site.outputs, site.shapes, strict=True):
            values[number] = Known(square, numbers_in(shape), v)
    return forward, _backward(reading, values, forward)


def _brought(site: Site, given: Sequence[Known], square: float | None) -> float:
    """The variance that comes with the inputs."""
    most = max((each.variance for each in given), default=0.0)
    if site.primitive in SUMS:
        return most * _amplification(max((each.square for each in given), default=0.0), square)
    if site.primitive in PRODUCTS and given:
        factors = given[:2]
        ratio = math.prod(each.count for each in factors) / max(numbers_in(site.shapes[0]), 1)
        terms = max(1.0, ratio if len(factors) == 1 else math.sqrt(ratio))
        summed = most + (PART * min(SINGLE, max(map(epsilon, site.shapes)))) ** 2 * terms
        return summed * _amplification(terms * math.prod(each.square for each in factors), square)
    return most


def _backward(reading: Measured, values: dict[int, Known], forward: dict[Path, float]) -> dict[Path, float]:
    behind: dict[int, list[Known]] = {}  # of each value: what its error is the sum of
    found: dict[Path, float] = {}
    for site in reversed(reading.sites):
        parts = [part for number in site.outputs for part in behind.get(number, ())]
        square, count = _mean_square(reading, site, errors=True), max(map(numbers_in, site.shapes), default=0)
        found[site.path] = (
            own(site) + _measuring(site) + max((_of_part(part, square, count) for part in parts), default=0.0)
        )
        v = own(site) + max((part.variance for part in parts), default=0.0)
        for number in site.inputs:
            if number is not None and square is None:
                behind.setdefault(number, []).extend(parts)
            elif number in values and square is not None:
                others = [values[n] for n in site.inputs if n != number and n in values]
                part = _part(site, values[number], others, Known(square, count, max(v, forward[site.path])))
                behind.setdefault(number, []).append(part)
    return found


def _of_part(part: Known, square: float | None, count: int) -> float:
    """The variance that one of its parts brings to an error, which is a sum over what was broadcast."""
    return part.variance * _amplification(part.square * max(1.0, part.count / max(count, 1)), square)


def _part(site: Site, value: Known, others: list[Known], error: Known) -> Known:
    """What the error of an equation's output brings to that of an input: its size before anything cancels."""
    if site.primitive in SUMS:
        return error
    other = others[0] if others else value
    if site.primitive == "mul":
        return error._replace(square=error.square * other.square)
    if site.primitive in PRODUCTS and others:
        terms = max(1.0, math.sqrt(other.count * error.count / max(value.count, 1)))
        return Known(error.square * other.square * terms, value.count, error.variance)
    return error._replace(square=0.0)


def own(site: Site) -> float:
    """Return the variance of what an equation itself rounds."""
    steps = math.prod(length for kind, length in site.axes if kind == "scan")
    return (PART * max(map(epsilon, site.shapes), default=0.0)) ** 2 * steps


def _measuring(site: Site) -> float:
    """The variance of what a measure rounds, which is a sum over the array."""
    eps = min(max(map(epsilon, site.shapes), default=0.0), SINGLE)
    return (PART * eps) ** 2 * max(map(numbers_in, site.shapes), default=0)


def _amplification(before: float, after: float | None) -> float:
    """How much more rounding matters to what is left of large numbers: mean squares before and after."""
    lost = before / after if after else 1.0
    return lost if lost > DIGIT**2 else 1.0


def _mean_square(reading: Measured, site: Site, *, errors: bool) -> float | None:
    """The mean square of what was measured at an equation, over all steps; None if nothing was."""
    found = (reading.errors if errors else reading.values).get(site.path, ())
    joined = [Measure(np.asarray(each)).joined for each in found if each is not None]
    squares = [of["square"] * of["largest"] * of["largest"] for of in joined]
    return max((square if math.isfinite(square) else 0.0 for square in squares), default=None)
