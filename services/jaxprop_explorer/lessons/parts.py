"""What a lesson is made of: words, formulas, interactions that Python answers, numbers to check, and a setting."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax

from jaxprop.derivations import Derivation, glyphs
from jaxprop.derivations.derivation import Equation
from jaxprop.errors import JaxpropError, pick

LONGEST = 200  # characters that may be typed, and moves that may be made

Values = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """What an interaction answers: words, named numbers, and whatever of a picture, a table and formulas there is.

    `picture` is SVG, or the address of an image as data, and so is one `beside` it; `said` tells it to those who do not
    see it.
    """

    words: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    picture: str = ""
    beside: str = ""
    said: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    code: str = ""
    formulas: tuple[Equation | Derivation, ...] = ()


@dataclass(frozen=True)
class Slider:
    """A number between two others."""

    name: str
    label: str
    low: float
    high: float
    step: float
    start: float

    def checked(self, value: object) -> float:
        """Return the number, or raise `JaxpropError`."""
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise JaxpropError(f"{self.label}: expected a number from {self.low:g} to {self.high:g}, found {value!r}")
        return float(value)

    def json(self) -> Values:
        """Return what the page draws."""
        limits = {"low": self.low, "high": self.high, "step": self.step}
        return {"kind": "slider", "name": self.name, "label": self.label, **limits, "start": self.start}


@dataclass(frozen=True)
class Choice:
    """One of several, each a name and a label."""

    name: str
    label: str
    options: Mapping[str, str] = field(hash=False)
    start: str

    def checked(self, value: object) -> str:
        """Return the name, or raise `JaxpropError`."""
        return pick(str(value), self.options, self.label)

    def json(self) -> Values:
        """Return what the page draws."""
        options = [[name, label] for name, label in self.options.items()]
        return {"kind": "choice", "name": self.name, "label": self.label, "options": options, "start": self.start}


@dataclass(frozen=True)
class Typed:
    """A line of text."""

    name: str
    label: str
    start: str

    def checked(self, value: object) -> str:
        """Return the text, or raise `JaxpropError`."""
        if not isinstance(value, str) or len(value) > LONGEST:
            raise JaxpropError(f"{self.label}: expected a text of at most {LONGEST} characters")
        return value

    def json(self) -> Values:
        """Return what the page draws."""
        return {"kind": "typed", "name": self.name, "label": self.label, "start": self.start}


@dataclass(frozen=True)
class Moves:
    """Buttons; the value is the list of those that were pressed, in order."""

    name: str
    label: str
    options: Mapping[str, str] = field(hash=False)
    start: tuple[str, ...] = ()

    def checked(self, value: object) -> tuple[str, ...]:
        """Return the moves, or raise `JaxpropError`."""
        if not isinstance(value, list | tuple) or len(value) > LONGEST:
            raise JaxpropError(f"{self.label}: expected a list of at most {LONGEST} moves")
        return tuple(pick(str(move), self.options, self.label) for move in value)

    def json(self) -> Values:
        """Return what the page draws."""
        options = [[name, label] for name, label in self.options.items()]
        return {"kind": "moves", "name": self.name, "label": self.label, "options": options, "start": list(self.start)}


Control = Slider | Choice | Typed | Moves


@dataclass(frozen=True)
class Widget:
    """An interaction: controls, and a function from their values to what is shown, computed in float64."""

    name: str
    title: str
    controls: tuple[Control, ...]
    answer: Callable[..., Shown]

    def show(self, values: Values | None = None) -> Shown:
        """Return what is shown for these values; a control that is not among them stands where it starts."""
        values = values or {}
        known = {control.name: control for control in self.controls}
        for name in values:
            pick(name, known, f"{self.title}: control")
        filled = {name: control.checked(values.get(name, control.start)) for name, control in known.items()}
        with jax.enable_x64(True):
            return self.answer(**filled)


@dataclass(frozen=True)
class Try:
    """A button: what it says, and the values that it gives to the controls of an interaction."""

    label: str
    widget: str
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Setup:
    """What a lesson sets up on the page: settings, the numbers of θ by path, what is selected, and a panel."""

    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    theta: Mapping[str, Any] = field(default_factory=dict, hash=False)
    panel: str = "network"
    selected: Mapping[str, Any] | None = field(default=None, hash=False)
    words: str = ""


@dataclass(frozen=True)
class Anchor:
    """A number of the lesson that can be checked: what the article's row says, and what the library finds."""

    what: str
    expected: float
    find: Callable[[], float]
    digits: int = 5  # significant ones, to which both must agree

    def found(self) -> float:
        """Return the library's number, in float64."""
        return _found(self.find)

    @property
    def holds(self) -> bool:
        """Whether both numbers are the same to their digits."""
        off = 0.5000001 * 10.0 ** (math.floor(math.log10(abs(self.expected))) + 1 - self.digits) if self.expected else 0
        return abs(self.found() - self.expected) <= max(off, 1e-12)


@lru_cache(256)
def _found(find: Callable[[], float]) -> float:
    with jax.enable_x64(True):
        return float(find())


@dataclass(frozen=True)
class Lesson:
    """One row of the article as a lesson."""

    number: int
    chapter: int
    title: str
    quote: str  # what the article says
    paragraphs: tuple[str, ...]
    widgets: tuple[Widget, ...]
    tries: tuple[Try, ...]
    anchors: tuple[Anchor, ...]
    setup: Setup
    formulas: Callable[[], tuple[Equation | Derivation, ...]] | None = None

    def widget(self, name: str) -> Widget:
        """Return the interaction of that name."""
        known = {each.name: each for each in self.widgets}
        return known[pick(name, known, f"lesson {self.number}: interaction")]


def number(value: float, digits: int = 5) -> str:
    """Return a number as a lesson writes it, with a proper minus sign.

    >>> number(-0.0336573), number(2.0)
    ('−0.033657', '2')
    """
    written = glyphs.number(float(value), digits)
    mantissa, _, exponent = written.partition("e")
    if exponent:
        written = f"{mantissa}·10{str(int(exponent)).translate(glyphs.SUPERSCRIPTS)}"
    return written.replace("-", "−")


def numbers(values: Iterable[float], digits: int = 5) -> str:
    """Return numbers with commas between them.

    >>> numbers([1.0, -0.5])
    '1, −0.5'
    """
    return ", ".join(number(value, digits) for value in values)


def bracketed(value: float) -> str:
    """Return a number as it stands in a product, a negative one in parentheses.

    >>> bracketed(-0.5), bracketed(2.0)
    ('(−0.5)', '2')
    """
    return f"({number(float(value))})" if value < 0 else number(float(value))
