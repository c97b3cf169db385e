"""`diff`: the first place where two runs of one function part, of two precisions, machines, JAX or code versions."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from numbers import Real
from typing import Any, NamedTuple

from jaxprop.errors import JaxpropError
from jaxprop.tables import Table, shown
from jaxprop.xray.aligning import Pair, aligned
from jaxprop.xray.diff_said import sentences
from jaxprop.xray.differences import Bounds, Difference, difference
from jaxprop.xray.program import Reading
from jaxprop.xray.report import Report
from jaxprop.xray.rounding import rounding
from jaxprop.xray.rows import Measure, Row
from jaxprop.xray.sites import Site
from jaxprop.xray.tabulated import Printed
from jaxprop.xray.written import plain


@dataclass(frozen=True, eq=False)
class Place:
    """Hold one output of an equation that both programs have: what they measured there, and how far it differs."""

    here: Row
    there: Row
    value: Difference | None
    error: Difference | None

    @property
    def parts(self) -> bool:
        """Say whether the values or the errors differ by more than rounding explains."""
        return any(found is not None and found.parts for found in (self.value, self.error))


class Parting(NamedTuple):
    """The place where two runs part first, in their values ("value") or in the errors that come back ("error")."""

    place: Place
    kind: str

    @property
    def difference(self) -> Difference:
        """Give how far it is there."""
        found = getattr(self.place, self.kind)
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

    >>> import jax.numpy as jnp, jaxprop as jp
    >>> run = jp.xray.report(lambda x: jnp.sum(jnp.sin(x)))
    >>> print(jp.xray.diff(run(jnp.ones(3)), run(jnp.ones(3))))
    They agree at all 3 places: the values exactly and the errors exactly.
    >>> found = jp.xray.diff(run(jnp.ones(3)), run(2 * jnp.ones(3)))
    >>> found.first.kind, found.first.place.here.name, found.first.difference.relative
    ('value', 'x', 0.5)
    """

    places: tuple[Place, ...]
    only_here: tuple[Site, ...]
    only_there: tuple[Site, ...]

    @cached_property
    def first(self) -> Parting | None:
        """Give the first place where they part: forward first, then on the way back; None if they agree."""
        every = (Parting(place, kind) for kind in ("value", "error") for place in self.in_order(kind))
        return next((each for each in every if each.difference.parts), None)

    def in_order(self, kind: str) -> list[Place]:
        """List the places with values, or with errors, in the order of a run, scans step by step."""
        if kind == "value":
            values = [(_moment(p.here.site, p.value.step), p) for p in self.places if p.value is not None]
            return [place for _, place in sorted(values, key=lambda pair: pair[0])]
        used = self._first_uses
        errors = [
            (used.get(site.outputs[0], (0,)) if p.here.is_argument else _moment(site, p.error.step), p)
            for p in self.places
            if (site := p.here.site) and p.error is not None
        ]
        return [place for _, place in sorted(errors, key=lambda pair: pair[0], reverse=True)]

    @cached_property
    def _first_uses(self) -> dict[int, Any]:
        """Of each argument's value, by its number, the place that uses it first: there its gradient is complete."""
        used: dict[int, Any] = {}
        for place in self.places:
            for number in place.here.site.inputs:
                if number is not None:
                    used.setdefault(number, (*(moment := _moment(place.here.site, 0))[:-1], moment[-1] - 0.5))
        return used

    def table(self, limit: int | None = 40) -> Printed:
        """Return the table of all places, in order.

        Args:
            limit: how many rows are shown, those that part first. None shows all.
        """
        chosen = list(self.places)
        notes = ["Differences are relative; * marks those that are more than rounding explains."]
        if limit is not None and len(chosen) > limit:
            first = sorted(range(len(chosen)), key=lambda i: (not chosen[i].parts, i))[:limit]
            notes = [f"{limit} of {len(chosen)} places; table(None) shows all.", *notes]
            chosen = [chosen[i] for i in sorted(first)]
        head = ("place", "line", "shape", "value RMS", "other", "differs", "error RMS", "other", "differs")
        return Printed(Table((head, *map(_cells, chosen)), right=range(3, 9), notes=notes))

    def __str__(self) -> str:
        return "\n".join(sentences(self))

    def __repr__(self) -> str:
        return f"{self}\n.table() shows every place."

    def _repr_html_(self) -> str:
        return f"{''.join(f'<p>{escape(line)}</p>' for line in sentences(self))}{self.table()._repr_html_()}"

    def json(self) -> dict[str, Any]:
        """Return the verdict as plain data for `json.dump`."""
        first = self.first
        found = None
        if first is not None:
            site, (mine, other) = first.place.here.site, first.measured
            found = {
                "kind": first.kind, "primitive": site.primitive, "scope": site.scope, "line": str(site.line or ""),
                "shape": first.place.here.shape, "step": first.difference.step,
                "relative": plain(first.difference.relative), "explained": plain(first.difference.explained),
                "rms": [plain(mine.rms), plain(other.rms)],
            }  # fmt: skip
        only = [[_named(site) for site in sites] for sites in (self.only_here, self.only_there)]
        return {"agree": first is None, "first": found, "places": len(self.places), "only": only, "text": str(self)}


def diff(report: Report | Reading, other: Report | Reading, *, rtol: float | None = None) -> Diff:
    r"""Compare two reports of one function place by place: the first place where they part.

    The reports may be of two precisions, two machines, two versions of JAX or of the function itself; `json` writes one
    on the other machine, and `Report.from_json` reads it here. Their equations are paired by what they compute, in
    which module and function; what only one program has is listed.

    Two arrays x and x′ are compared by their measures: RMS, largest, least and greatest number, how many are NaN and
    infinite, and a random projection, so that a few numbers in another order or with another sign show too. Relative to
    the larger RMS, the difference of the projections is about ‖x - x′‖ / ‖x‖. What rounding explains of it grows with
    the equations on the way: each adds a fifth of its dtype's epsilon, ε (of the coarser of the two), as a deviation,
    and more where numbers cancel; six deviations agree. On accelerators a float32 product is rounded further than that
    by default, and shows: see `jax.default_matmul_precision`.

    Args:
        report: of one run, by `report` or `Report.from_json`, or a reading of `program`.
        other: of the other run.
        rtol: the relative difference that agrees, in place of what rounding explains, except where numbers cancel so
            far that nothing but rounding is left.

    Raises:
        JaxpropError: one of them is no report, rtol is no such number, or no equation of the two is the same.

    >>> import jax.numpy as jnp
    >>> from jaxprop.xray import report
    >>> def f(slope):
    ...     return lambda w, x: jnp.sum(jnp.where(x @ w > 0, x @ w, slope * (x @ w)))
    >>> w, x = jnp.array([1.0, -2.0]), jnp.array([[1.0, 2.0], [3.0, 1.0]])
    >>> one, other = (report(f(slope))(w, x) for slope in (0.1, 0.2))
    >>> found = diff(one, other)
    >>> found.first.kind, found.first.place.here.name, diff(one, one).first
    ('value', 'mul', None)
    """
    if rtol is not None and not (isinstance(rtol, Real) and 0 <= rtol < math.inf):
        raise JaxpropError(f"diff: rtol must be a number from 0 on, such as 1e-3, found {rtol!r}")
    ours, theirs = (_report(each, name) for each, name in ((report, "report"), (other, "other")))
    pairs = aligned(ours.sites, theirs.sites)
    bounds = Bounds(rounding(ours), rounding(theirs), rtol)
    mine, others = ({(row.site.path, row.output): row for row in each.rows} for each in (ours, theirs))
    places = tuple(place for pair in pairs for place in _places(pair, mine, others, bounds))
    if all(place.here.is_argument for place in places):
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
    raise JaxpropError(
        f"diff: {name} must be what jp.xray.report(f)(*args) returns, found {type(given).__name__}{hint}"
    )


def _places(pair: Pair, mine: dict[Any, Row], others: dict[Any, Row], bounds: Bounds) -> Iterator[Place]:
    """The outputs of an equation that both measured."""
    here, there = pair
    if here is None or there is None:
        return
    for output in range(min(len(here.shapes), len(there.shapes))):
        ours, theirs = mine.get((here.path, output)), others.get((there.path, output))
        if ours is not None and theirs is not None:
            value = difference(ours.value, theirs.value, bounds.at(here, there, 0), here, last=False)
            yield Place(
                ours, theirs, value, difference(ours.error, theirs.error, bounds.at(here, there, 1), here, last=True)
            )


def _moment(site: Site, step: int | None) -> tuple[float, ...]:
    """When an equation runs: its path, with the step of the scan around it behind the scan's place."""
    scan = next((path for kind, _, path in site.loops if kind == "scan"), None)
    return site.path if step is None or scan is None else (*scan, step, *site.path[len(scan) :])


def _cells(place: Place) -> tuple[str, ...]:
    """A row of the table."""
    here, there = place.here, place.there
    cells = [" ".join(filter(None, (here.scope * (not here.is_argument), here.name))), str(here.line or ""), here.shape]
    for kind, found in (("value", place.value), ("error", place.error)):
        pair = [getattr(row, kind) for row in (here, there)]
        cells += ["" if each is None else shown(each.rms, 3) for each in pair]
        cells.append("" if found is None else f"{shown(found.relative, 2)}{'*' if found.parts else ''}")
    return tuple(cells)


def _named(site: Site) -> dict[str, Any]:
    return {"primitive": site.primitive, "scope": site.scope, "line": str(site.line or ""), "shapes": list(site.shapes)}
