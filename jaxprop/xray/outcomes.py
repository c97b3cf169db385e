"""What the user sees that is not finite: of what f returned, and of its gradient."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxprop.tables import shown
from jaxprop.xray.marks import NAN, marks_of, marks_of_array
from jaxprop.xray.measures import FULL
from jaxprop.xray.planning import Path

if TYPE_CHECKING:
    from jaxprop.xray.report import Report


@dataclass(frozen=True)
class Outcome:
    """Hold the marks of what f returned, leaf by leaf, and the paths of the arguments whose gradients are not finite.

    Of what f returns beside its value only NaN counts: scores that are masked with −∞ are often among it.
    """

    values: tuple[int, ...]
    gradients: tuple[Path, ...]
    said: str  # in a sentence
    end: str  # in a few words, of the value if that is not finite

    def __bool__(self) -> bool:
        return any(self.values) or bool(self.gradients)

    @property
    def is_forward(self) -> bool:
        """Whether a value is at fault, so that the errors need not be looked into."""
        return any(self.values)


def outcome_of(report: "Report") -> Outcome:
    """See what is not finite."""
    values, aux = jax.tree.leaves(report.value), jax.tree.leaves(report.aux)
    marks = (*map(marks_of_array, values), *(marks_of_array(leaf) & NAN for leaf in aux))
    bad = {
        path: measured for path, (measured, *_) in report.errors.items()
        if path[0] == -1 and measured is not None and marks_of(np.asarray(measured))
    }  # fmt: skip
    value_said = _values(values, marks) if any(marks) else ""
    gradients_said = _gradients(bad, {site.path: site.name for site in report.sites}, report.light)
    end = gradients_said if len(bad) == 1 else f"{len(bad)} gradients are not finite"
    if not any(marks) and not bad:
        said = "The value and the gradients are finite." if report.errors else "All is finite."
    elif any(marks):
        said = f"{value_said}; so {gradients_said}." if bad else f"{value_said}."
    else:
        said = f"The value {_written(values[0])} is finite, but {gradients_said}."
    return Outcome(marks, tuple(bad), said[0].upper() + said[1:], value_said if any(marks) else end)


def _values(values: list[Any], marks: tuple[int, ...]) -> str:
    if len(values) == 1 and np.ndim(values[0]) == 0 and marks[0]:
        return f"the value is {_written(values[0])}"
    beside = " beside its value" if not any(marks[: len(values)]) else ""
    return f"what f returns{beside} holds {'NaN' if any(mark & NAN for mark in marks) else 'infinities'}"


def _gradients(bad: dict[Path, Any], names: dict[Path, str], light: bool) -> str:
    said = []
    for path, measured in list(bad.items())[:3]:
        kind = "NaN" if int(marks_of(np.asarray(measured))) & NAN else "infinite"
        part = ""
        if not light and measured[0] > 1:
            count = int(measured[FULL.index("nan")] + measured[FULL.index("inf")])
            part = f" ({count} of {int(measured[0])} not finite)"
        said.append(f"the gradient of {names.get(path, 'an argument')} is {kind}{part}")
    more = [f"{len(bad) - 3} more gradients are not finite"] if len(bad) > 3 else []
    return "; ".join((*said, *more))


def _written(value: Any) -> str:
    number = float(np.asarray(value).astype(np.float64))
    return "NaN" if np.isnan(number) else ("∞" if number > 0 else "−∞") if np.isinf(number) else shown(number)
