"""What a report has of each place: the numbers that were measured there, joined or step by step."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxprop.xray import measures
from jaxprop.xray.places import Line
from jaxprop.xray.planning import Path
from jaxprop.xray.sites import Site


@dataclass(frozen=True, eq=False)
class Measure:
    """Hold what was measured of an array, of all its steps and devices as if they were one array.

    numbers: what `program` left, `[*axes, measures]`, of `measures.FULL` or `measures.LIGHT`.

    With FULL, `rms`, `least` and `most` are those of the numbers that are finite. LIGHT knows the root of the mean
    square, the largest absolute value and the count alone: NaN and infinity show in them.
    """

    numbers: np.ndarray

    @property
    def light(self) -> bool:
        """Say whether only the mean square and the largest were measured."""
        return self.numbers.shape[-1] == len(measures.LIGHT)

    @cached_property
    def joined(self) -> dict[str, float]:
        """Give the numbers by their names in `measures`, over all steps that ran."""
        flat = self.numbers.reshape(-1, self.numbers.shape[-1]).astype(np.float64)
        ran = flat[flat[:, 0] > 0]
        with np.errstate(invalid="ignore"):  # of a light measure that holds infinity
            whole = measures.joined(ran) if len(ran) else np.zeros(flat.shape[-1])
        return dict(zip(measures.names(self.light), map(float, whole), strict=True))

    @property
    def count(self) -> int:
        """Give how many numbers there are; 0 where nothing ran, as in a branch that was not taken."""
        return int(self.joined["count"])

    @property
    def rms(self) -> float:
        """Give the root of the mean square, √(Σ x² / n), of the finite numbers."""
        return float(_rms(np.array(list(self.joined.values()))))

    @property
    def steps(self) -> np.ndarray:
        """Give the same of each step: `[*axes]`, such as a scan's steps; NaN where a step did not run."""
        return _rms(self.numbers.astype(np.float64))

    @property
    def largest(self) -> float:
        """Give the largest absolute value, of the finite numbers where these are known."""
        return self.joined["largest"]

    @property
    def least(self) -> float | None:
        """Give the least of the finite numbers; None in a light report."""
        return self.joined.get("least")

    @property
    def most(self) -> float | None:
        """Give the greatest of the finite numbers; None in a light report."""
        return self.joined.get("most")

    @property
    def zero(self) -> float | None:
        """Give the share of zeros; None in a light report."""
        return self._share("zero")

    @property
    def nan(self) -> float | None:
        """Give the share of NaN; None in a light report, see `trouble`."""
        return self._share("nan")

    @property
    def inf(self) -> float | None:
        """Give the share of infinities; None in a light report, see `trouble`."""
        return self._share("inf")

    @property
    def trouble(self) -> str:
        """Name what is not finite, "NaN", "inf" or "NaN, inf"; "" where all is."""
        found = measures.not_finite(np.array(list(self.joined.values())))
        return ", ".join(name for name, is_there in zip(("NaN", "inf"), found, strict=True) if is_there)

    def trouble_by_step(self, name: str) -> np.ndarray:
        """Say of each step whether it holds what `name` says, "NaN" or "inf": `[*axes]` of bool."""
        nan, inf = measures.not_finite(self.numbers)
        return nan if name == "NaN" else inf

    def _share(self, name: str) -> float | None:
        return None if self.light else self.joined[name] / max(self.joined["count"], 1)


def _rms(numbers: np.ndarray) -> np.ndarray:
    """The root of the mean square from what was measured, `[..., measures]`; NaN where there is no finite number."""
    if numbers.shape[-1] == len(measures.LIGHT):
        count, square, largest = (numbers[..., i] for i in range(len(measures.LIGHT)))
        found = np.where(np.isfinite(largest), np.sqrt(square) * largest, largest)
        return np.where(count > 0, found, np.nan)
    of = {name: numbers[..., i] for i, name in enumerate(measures.FULL)}
    finite = of["count"] - of["nan"] - of["inf"]
    mean = np.sqrt(of["square"] * of["count"] / np.maximum(finite, 1)) * of["largest"]
    return np.where(finite > 0, mean, np.nan)


@dataclass(frozen=True, eq=False)
class Row:
    """Hold what one equation computed, and the error that came back to it: one row for each output of real numbers.

    site: the equation; `site.axes` names what `Measure.steps` runs over.
    output: which of its outputs.
    value: of what it computed; None where it did not run.
    error: of the cotangent ∂C/∂(what it computed), of an argument its gradient; None where no error came back.
    """

    site: Site
    output: int
    value: Measure | None
    error: Measure | None

    @property
    def is_argument(self) -> bool:
        """Say whether it is no equation but an argument of f, with its gradient as its error."""
        return self.site.is_argument

    @property
    def name(self) -> str:
        """Name the equation by what it computes, an argument as one writes it inside f."""
        several = f"[{self.output}]" if len(self.site.shapes) > 1 else ""
        return self.site.name or f"{self.site.primitive}{several}"

    @property
    def line(self) -> Line | None:
        """Give the user's line."""
        return self.site.line

    @property
    def scope(self) -> str:
        """Give the modules around, joined by "/"."""
        return self.site.scope

    @property
    def shape(self) -> str:
        """Give the dtype and shape of one step, such as "float32[8,128]"."""
        return self.site.shapes[self.output]

    @property
    def place(self) -> str:
        """Say where it is, for a sentence: the line and the module around, as far as there are any."""
        return ", ".join(filter(None, (str(self.line or ""), self.scope))) or "no line is known"

    def holds(self, name: str, which: str) -> bool:
        """Say whether its "value", or its "error", holds what `name` says, "NaN" or "inf"."""
        measure = getattr(self, which)
        return measure is not None and name in measure.trouble


Measured = Mapping[Path, tuple[Any, ...]]


def rows_of(sites: Iterable[Site], values: Measured, errors: Measured) -> tuple[Row, ...]:
    """List what was measured, in the order in which the program runs."""
    rows = []
    for site in sites:
        value, error = values.get(site.path, ()), errors.get(site.path, ())
        for output in range(len(site.shapes)):
            row = Row(site, output, _measure(value, output), _measure(error, output))
            if row.value is not None or row.error is not None:
                rows.append(row)
    return tuple(rows)


def _measure(measured: tuple[Any, ...], output: int) -> Measure | None:
    """What was measured of one output, where anything ran."""
    numbers = measured[output] if output < len(measured) else None
    return None if numbers is None else measured_of(numbers)


def measured_of(numbers: Any) -> Measure | None:
    """Hold measures, where anything ran."""
    measure = Measure(np.asarray(numbers))
    return measure if measure.count else None
