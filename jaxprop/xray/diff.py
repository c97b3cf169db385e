"""`diff`: the first place where two runs of one function part, of two precisions, machines, JAX or code versions."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, NamedTuple

import numpy as np

from jaxprop.errors import JaxpropError
from jaxprop.tables import Table, shown
from jaxprop.xray import measures
from jaxprop.xray.aligning import Pair, aligned
from jaxprop.xray.program import Reading
from jaxprop.xray.report import Report
from jaxprop.xray.rounding import rounding
from jaxprop.xray.rows import Measure, Row
from jaxprop.xray.sites import Site
from jaxprop.xray.tabulated import Printed

SIGMAS = 6.0  # deviations of what rounding brings that still agree: of hundreds of places, none of them all


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


@dataclass(frozen=True, eq=False)
class Place:
    """Hold one output of an equation that both programs have: what they measured there, and how far it differs."""

    here: Row
    there: Row
    value: Difference | None
    error: Difference | None


class Parting(NamedTuple):
    """The place where two runs part first, in their values ("value") or in the errors that come back ("error")."""

    place: Place
    kind: str

    @property
    def difference(self) -> Difference:
        """Give how far it is there."""
        found = self.place.value if self.kind == "value" else self.place.error
        assert found is not None
        return found

    @property
    def measured(self) -> tuple[Measure, Measure]:
        """Give what both measured there."""
        pair = [getattr(row, self.kind) for row in (self.place.here, self.place.there)]
        return pair[0], pair[1]


@dataclass(frozen=True, eq=False)
class Diff:
    """Hold two reports place by place; `diff` makes it.

    places: what both have, in the order in which the first program runs; the arguments stand first.
    only_here, only_there: the equations that only the first, or only the other program has; equations that only move or
        convert numbers are left out.
    """

    places: tuple[Place, ...]
    only_here: tuple[Site, ...]
    only_there: tuple[Site, ...]

    @cached_property
    def first(self) -> Parting | None:
        """Give the first place where they part: forward first, then on the way back; None if they agree."""
        return next((Parting(place, kind) for kind in ("value", "error") for place in self._parted(kind)), None)

    def _parted(self, kind: str) -> Iterator[Place]:
        for place in self.in_order(kind):
            found = place.value if kind == "value" else place.error
            if found is not None and found.parts:
                yield place

    def in_order(self, kind: str) -> list[Place]:
        """List the places with values, or with errors, in the order in which a run comes to them, scans step by step."""
        if kind == "value":
            return sorted((p for p in self.places if p.value), key=lambda p: _moment(p.here.site, p.value))
        used = self._first_uses
        found = [place for place in self.places if place.error]
        return sorted(found, key=lambda p: _moment(p.here.site, p.error, used), reverse=True)

    @cached_property
    def _first_uses(self) -> dict[int, Any]:
        """Of each argument's value, by its number, the place that uses it first: there its gradient is complete."""
        used: dict[int, Any] = {}
        for place in self.places:
            for number in place.here.site.inputs:
                if number is not None:
                    used.setdefault(number, _before(place.here.site.path))
        return used

    def table(self, limit: int | None = 40) -> Printed:
        """Return the table of all places, in order.

        Args:
            limit: how many rows are shown, those that part first. None shows all.
        """
        chosen = list(self.places)
        notes = ["Differences are relative; * marks those that are more than rounding explains."]
        if limit is not None and len(chosen) > limit:
            first = sorted(range(len(chosen)), key=lambda i: (not _parts(chosen[i]), i))[:limit]
            notes = [f"{limit} of {len(chosen)} places; table(None) shows all.", *notes]
            chosen = [chosen[i] for i in sorted(first)]
        head = ("place", "line", "shape", "value RMS", "other", "differs", "error RMS", "other", "differs")
        return Printed(Table((head, *map(_cells, chosen)), right=range(3, 9), notes=notes))

    def __str__(self) -> str:
        return "\n".join(_sentences(self))

    def __repr__(self) -> str:
        return f"{self}\n.table() shows every place."

    def _repr_html_(self) -> str:
        return f"{''.join(f'<p>{escape(line)}</p>' for line in _sentences(self))}{self.table()._repr_html_()}"

    def json(self) -> dict[str, Any]:
        """Return the verdict as plain data for `json.dump`."""
        first = self.first
        found = None
        if first is not None:
            site, (mine, other) = first.place.here.site, first.measured
            found = {
                "kind": first.kind, "primitive": site.primitive, "scope": site.scope, "line": str(site.line or ""),
                "shape": first.place.here.shape, "step": first.difference.step,
                "relative": _plain(first.difference.relative), "explained": _plain(first.difference.explained),
                "rms": [_plain(mine.rms), _plain(other.rms)],
            }  # fmt: skip
        only = [[_named(site) for site in sites] for sites in (self.only_here, self.only_there)]
        return {"agree": first is None, "first": found, "places": len(self.places), "only": only, "text": str(self)}


def diff(report: Report | Reading, other: Report | Reading, *, rtol: float | None = None) -> Diff:
    r"""Compare two reports of one function place by place: the first place where they part.

    The reports may be of two precisions, two machines, two versions of JAX or of the function itself; of another
    machine or version comes one by `Report.from_json`. Their equations are paired by what they compute, in which module
    and function; what only one program has is listed.

    Two arrays x and x′ are compared by their measures: RMS, largest, least and greatest number, how many are NaN and
    infinite, and a random projection, so that a few numbers in another order or with another sign show too. Relative to
    the larger RMS, the difference of the projections is about ‖x - x′‖ / ‖x‖. What rounding explains of it grows with
    the equations on the way: each adds a fifth of its dtype's epsilon, ε (of the coarser of the two), as a deviation,
    and more where numbers cancel; six deviations agree. On accelerators a float32 product is rounded further than that
    by default, and shows: see `jax.default_matmul_precision`.

    Args:
        report: of one run, by `report` or `Report.from_json`, or a reading of `program`.
        other: of the other run.
        rtol: the relative difference that agrees, in place of what rounding explains.

    Raises:
        JaxpropError: one of them is no report, or no equation of the two is the same.

    >>> import jax.numpy as jnp
    >>> from jaxprop.xray import report
    >>> def f(slope):
    ...     return lambda w, x: jnp.sum(jnp.where(x @ w > 0, x @ w, slope * (x @ w)))
    >>> w, x = jnp.array([1.0, -2.0]), jnp.array([[1.0, 2.0], [3.0, 1.0]])
    >>> found = diff(report(f(0.1))(w, x), report(f(0.2))(w, x))
    >>> found.first.kind, found.first.place.here.name, diff(report(f(0.1))(w, x), report(f(0.1))(w, x)).first
    ('value', 'mul', None)
    """
    ours, theirs = (_report(each, name) for each, name in ((report, "report"), (other, "other")))
    pairs = aligned(ours.sites, theirs.sites)
    bounds = _Bounds(rounding(ours), rounding(theirs), rtol)
    mine, others = ({(row.site.path, row.output): row for row in each.rows} for each in (ours, theirs))
    places = tuple(place for pair in pairs for place in _places(pair, mine, others, bounds))
    if not any(place.here.site.primitive != "argument" for place in places):
        raise JaxpropError(
            f"diff: no equation of the two is the same, of {len(ours.sites)} and {len(theirs.sites)}: give reports of "
            "one function on arguments of the same shapes"
        )
    order = {site.path: number for number, site in enumerate(ours.sites)}
    return Diff(
        tuple(sorted(places, key=lambda place: order[place.here.site.path])),
        tuple(pair.here for pair in pairs if pair.here is not None and pair.there is None),
        tuple(pair.there for pair in pairs if pair.there is not None and pair.here is None),
    )


def _report(given: Any, name: str) -> Report:
    if isinstance(given, Reading):
        return Report(given)
    if isinstance(given, Report):
        return given
    hint = "; Report.from_json makes one of what json.load read" if isinstance(given, dict) else ""
    raise JaxpropError(f"diff: {name} must be what jp.xray.report(f)(*args) returns, found {type(given).__name__}{hint}")


class _Bounds(NamedTuple):
    """What may differ: the variances by rounding of both, or a tolerance of the user's."""

    here: tuple[dict[Any, float], dict[Any, float]]
    there: tuple[dict[Any, float], dict[Any, float]]
    rtol: float | None

    def at(self, here: Site, there: Site, kind: int) -> float:
        if self.rtol is not None:
            return self.rtol
        return SIGMAS * math.sqrt(self.here[kind][here.path] + self.there[kind][there.path])


def _places(pair: Pair, mine: dict[Any, Row], others: dict[Any, Row], bounds: _Bounds) -> Iterator[Place]:
    """The outputs of an equation that both measured."""
    here, there = pair
    if here is None or there is None:
        return
    for output in range(min(len(here.shapes), len(there.shapes))):
        ours, theirs = mine.get((here.path, output)), others.get((there.path, output))
        if ours is not None and theirs is not None:
            value = _difference(ours.value, theirs.value, bounds.at(here, there, 0), here, last=False)
            yield Place(ours, theirs, value, _difference(ours.error, theirs.error, bounds.at(here, there, 1), here, last=True))


def _difference(a: Measure | None, b: Measure | None, explained: float, site: Site, *, last: bool) -> Difference | None:
    """The difference of what was measured, in the step where they part first, or else in that where it is largest."""
    if a is None or b is None:
        return None
    light = a.light or b.light
    ours, theirs = (_by_name(each, light) for each in (a, b))
    found = relative(ours, theirs, light)
    if found.ndim == 0 or not site.axes:
        return Difference(float(found.max()), explained)
    flat = found.reshape(found.shape[0], -1).max(axis=1)
    over = np.flatnonzero(~(flat <= explained))
    step = int((over[-1] if last else over[0]) if len(over) else flat.argmax())
    return Difference(float(flat[step]), explained, step if site.axes[0][0] == "scan" else None)


def _by_name(measure: Measure, light: bool) -> dict[str, np.ndarray]:
    """The measures by name, those of `LIGHT` with the mean square as it is there."""
    numbers = measure.numbers.astype(np.float64)
    of = {name: numbers[..., i] for i, name in enumerate(measures.names(measure.light))}
    if not measure.light:
        with np.errstate(over="ignore"):
            of["square"] = of["square"] * of["largest"] ** 2
        if light:  # which shows what is not finite in the others
            broken = np.where(of["nan"] > 0, np.nan, np.where(of["inf"] > 0, np.inf, 0.0))
            of = {name: of[name] + broken * (name != "count") for name in measures.LIGHT}
    return of


def relative(a: dict[str, np.ndarray], b: dict[str, np.ndarray], light: bool) -> np.ndarray:
    """Return the relative difference of two arrays by their measures; infinite where other numbers are not finite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rms = [np.sqrt(each["square"]) for each in (a, b)]
        size, largest = np.fmax(*rms), np.fmax(a["largest"], b["largest"])
        found = [np.abs(rms[0] - rms[1]) / size, np.abs(a["largest"] - b["largest"]) / largest]
        if not light:
            found += [np.abs(a[name] - b[name]) / largest for name in ("least", "most")]
            found.append(np.abs(a["projection"] - b["projection"]) / size)
        whole = np.nan_to_num(np.stack(np.broadcast_arrays(*found)), nan=0.0, posinf=0.0).max(axis=0)  # 0 / 0: both are 0
    kinds = ("square", "largest") if light else ("nan", "inf")
    if light:
        other = np.any([_kind(a[name]) != _kind(b[name]) for name in kinds], axis=0)
    else:
        other = np.any([a[name] != b[name] for name in kinds], axis=0)
    return np.where(other | (a["count"] != b["count"]), np.inf, whole)


def _kind(numbers: np.ndarray) -> np.ndarray:
    """0 for what is finite, 1 for infinity, 2 for NaN."""
    return np.where(np.isnan(numbers), 2, np.where(np.isinf(numbers), 1, 0))
