"""What a person types as a number: −0,034, 1/8, 3.4e-2; and whether it is the number that was asked for."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from jaxprop.errors import JaxpropError
from jaxprop_explorer.lessons.parts import number

RIGHT = 0.01  # of the answer: three digits, with room for intermediate results of three digits
NAMED = 0.006  # of a typical wrong answer, to be recognised as this one
CLOSE = 0.06  # of the answer: what rounding on the way does

NUMBER = r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[-+]?\d+)?"
SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def read(text: str) -> float:
    """Return the number that was typed: a decimal with a point or a comma, a fraction, or a power of ten.

    >>> read("−0,0337"), read("3/8"), read("3.4·10⁻²")
    (-0.0337, 0.375, 0.034)
    """
    if len(text) > 60:
        raise JaxpropError("this is too long for one number")
    plain = text.translate(SUPERSCRIPTS).replace("−", "-").replace("–", "-").strip().rstrip(".")
    plain = re.sub(r"\s*[·*x×]\s*10\s*\^?\s*\(?\s*([-+]?\d+)\s*\)?", r"e\1", plain)
    plain = re.sub(r"\s+", "", plain).lower()
    top, slash, bottom = plain.partition("/")
    if not re.fullmatch(NUMBER, top) or (slash and not re.fullmatch(NUMBER, bottom)):
        raise JaxpropError(
            f"{text.strip()[:30]!r} cannot be read as a number; write it like −0.034, −0,034, 3/8 or 3.4e-2"
        )
    found = float(top.replace(",", "."))
    if slash:
        divisor = float(bottom.replace(",", "."))
        if divisor == 0:
            raise JaxpropError("a fraction cannot have 0 below the line")
        found /= divisor
    if not math.isfinite(found):
        raise JaxpropError("this number is too large")
    return found


@dataclass(frozen=True)
class Mistake:
    """A typical wrong answer: its name, the step that went wrong, the number that comes of it, and what to tell."""

    name: str
    step: str
    value: float
    told: str


@dataclass(frozen=True)
class Verdict:
    """What is said of an answer. `mistake` is the name of what went wrong, empty where that is not known."""

    right: bool
    told: str
    mistake: str = ""
    step: str = ""


def near(answer: float, value: float, part: float) -> bool:
    """Whether an answer is a number to within a part of it."""
    return abs(answer - value) <= part * abs(value) if value else abs(answer) < 1e-9


def judge(answer: float, truth: float, mistakes: Iterable[Mistake]) -> Verdict:
    """Say whether an answer is right, and if not, which typical mistake it is."""
    mistakes = tuple(mistakes)
    if near(answer, truth, RIGHT):
        return Verdict(True, f"Right. To five digits it is {number(truth)}.")
    for mistake in mistakes:
        if near(answer, mistake.value, NAMED):
            return Verdict(False, mistake.told, mistake.name, mistake.step)
    if near(answer, truth, CLOSE):
        told = "This is close, but rounded too early: keep three or four digits until the end."
        return Verdict(False, told, "rounding", "rounding")
    if near(answer, -truth, RIGHT):
        return Verdict(False, "The number is right, but its sign is not.", "sign", "the sign")
    for mistake in mistakes:
        if near(answer, -mistake.value, NAMED):
            return Verdict(
                False, f"Two things went wrong: the sign, and this: {mistake.told}", mistake.name, mistake.step
            )
    return Verdict(
        False, "This is not right, and it is none of the usual slips. Let us take it apart, factor by factor."
    )


def told_apart(truth: float, mistakes: Iterable[Mistake]) -> bool:
    """Whether the answer and the typical mistakes are numbers that cannot be taken for each other."""
    values = [mistake.value for mistake in mistakes]
    if not truth or any(near(value, truth, 1.2 * RIGHT + NAMED) for value in values):
        return False
    return all(abs(a - b) > 2.5 * NAMED * max(abs(a), abs(b)) for i, a in enumerate(values) for b in values[:i])
