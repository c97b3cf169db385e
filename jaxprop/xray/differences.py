"""By how much two measures of one array differ, and what rounding explains of that."""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxprop.xray import measures
from jaxprop.xray.rows import Measure
from jaxprop.xray.sites import Site

SIGMAS = 6.0  # deviations of what rounding brings that still agree: of hundreds of places, none of them all
NOISE = 0.5  # where rounding explains more, nothing else is left: the gradient of a bias that changes nothing, say


class Difference(NamedTuple):
    """By how much two arrays differ, relative to the larger one, and what rounding explains of it.

    step: of a scan's steps, the first (of errors the last) that differs by more; None outside of scans.
    """

    relative: float
    explained: float
    step: int | None = None

    @property
    def parts(self) -> bool:
        """Say whether it is more than rounding explains."""
        return not self.relative <= self.explained


class Bounds(NamedTuple):
    """What may differ: the variances by rounding of both, or a tolerance of the user's."""

    here: tuple[dict[Any, float], dict[Any, float]]
    there: tuple[dict[Any, float], dict[Any, float]]
    rtol: float | None

    def at(self, here: Site, there: Site, kind: int) -> float:
        """Give the relative difference that agrees, of values (kind 0) or errors (1) of an equation."""
        explained = SIGMAS * math.sqrt(self.here[kind][here.path] + self.there[kind][there.path])
        return explained if self.rtol is None or explained > NOISE else self.rtol


def difference(a: Measure | None, b: Measure | None, explained: float, site: Site, *, last: bool) -> Difference | None:
    """Give the difference of two measures, in the step where they part first, or else in that where it is largest."""
    if a is None or b is None:
        return None
    light = a.light or b.light
    ours, theirs = (_by_name(each, light) for each in (a, b))
    found = _relative(ours, theirs, light)
    if not site.axes or not found.shape:
        return Difference(float(found.max()), explained)
    flat = found.reshape(len(found), -1).max(axis=1)
    over = np.flatnonzero(~(flat <= explained))
    step = int((over[-1] if last else over[0]) if len(over) else flat.argmax())
    return Difference(float(flat[step]), explained, step if site.axes[0][0] == "scan" else None)


def _by_name(measure: Measure, light: bool) -> dict[str, np.ndarray]:
    """The measures by name, as far as both reports have them."""
    numbers = measure.numbers.astype(np.float64)
    of = {name: numbers[..., i] for i, name in enumerate(measures.names(measure.light))}
    if light and not measure.light:  # a light one shows in the others what is not finite
        nan, inf = measures.not_finite(numbers)
        broken = np.where(nan, np.nan, np.where(inf, np.inf, 0.0))
        of |= {name: of[name] + broken for name in ("square", "largest")}
    return of


def _relative(a: dict[str, np.ndarray], b: dict[str, np.ndarray], light: bool) -> np.ndarray:
    """The relative difference of two arrays by their measures; infinite where other numbers are not finite."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        rms = [np.sqrt(each["square"]) * each["largest"] for each in (a, b)]
        size, largest = np.fmax(*rms), np.fmax(a["largest"], b["largest"])
        found = [np.abs(rms[0] - rms[1]) / size, np.abs(a["largest"] - b["largest"]) / largest]
        if not light:
            found += [np.abs(a[name] - b[name]) / largest for name in ("least", "most")]
            found.append(np.abs(a["projection"] - b["projection"]) / size)
        every = np.stack(np.broadcast_arrays(*found))
        whole = np.nan_to_num(every, nan=0.0, posinf=0.0).max(axis=0)  # 0 / 0: both are 0
    if light:
        other = np.any([_kind(a[name]) != _kind(b[name]) for name in ("square", "largest")], axis=0)
    else:
        other = np.any([a[name] != b[name] for name in ("nan", "inf")], axis=0)
    return np.where(other | (a["count"] != b["count"]), np.inf, whole)


def _kind(numbers: np.ndarray) -> np.ndarray:
    """0 for what is finite, 1 for infinity, 2 for NaN."""
    return np.where(np.isnan(numbers), 2, np.where(np.isinf(numbers), 1, 0))
