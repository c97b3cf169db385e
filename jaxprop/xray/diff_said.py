"""A diff in a few sentences: how far two runs agree, and where they part."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from jaxprop.tables import shown
from jaxprop.xray.differences import NOISE
from jaxprop.xray.sites import Site

if TYPE_CHECKING:
    from jaxprop.xray.diff import Diff, Parting, Place


def sentences(found: "Diff") -> Iterator[str]:
    """Say what two reports have in common, and where they part."""
    first = found.first
    if first is None:
        yield f"They agree at all {len(found.places)} places: {_agree(found.places)}."
    elif first.kind == "value":
        yield from _parting(found, first, "values")
    else:
        values = [place for place in found.places if place.value is not None]
        yield f"The values agree at all {len(values)} places{_to(values, 'value')}."
        yield from _parting(found, first, "errors")
    for sites, who in ((found.only_here, "the first"), (found.only_there, "the other")):
        for site in sites[:1]:
            more = f", and {len(sites) - 1} more" if len(sites) > 1 else ""
            yield f"Only {who} has {named(site)}{more}."


def _agree(places: Sequence["Place"]) -> str:
    parts = [f"the {kind}s{_to(places, kind)}" for kind in ("value", "error") if _worst(places, kind) is not None]
    return " and ".join(parts)


def _parting(found: "Diff", first: "Parting", what: str) -> Iterator[str]:
    """The sentences on where they part."""
    order = found.in_order(first.kind)
    at = order.index(first.place)
    difference, (mine, other) = first.difference, first.measured
    if at:
        before = order[at - 1].here
        yield f"The {what}{_from(first.kind)} agree{_to(order[:at], first.kind)} up to {named(before.site)}."
    step = f", in step {difference.step}" if difference.step is not None else ""
    figures = f"RMS {_digits(mine.rms, other.rms)}"
    if mine.trouble != other.trouble:
        figures += f", {mine.trouble or 'all finite'} against {other.trouble or 'all finite'}"
    if math.isfinite(difference.relative):
        figures += f", a relative difference of {difference.relative:.1e} where up to {difference.explained:.1e} agrees"
    yield f"They part at {named(first.place.here.site)}{step}: {figures}."
    if first.place.here.name != first.place.there.name or first.place.here.scope != first.place.there.scope:
        yield f"In the other it is {named(first.place.there.site)}."
    if first.kind == "value" and at:
        yield from _between(found, order[at - 1].here.site, first.place.here.site)


def _between(found: "Diff", before: Site, after: Site) -> Iterator[str]:
    """What only one of them computes between the last place that agrees and the first that parts."""
    there = {place.here.site.path: place.there.site.path for place in found.places}
    ranges = ((found.only_here, before.path, after.path), (found.only_there, there[before.path], there[after.path]))
    for (sites, start, stop), who in zip(ranges, ("the first", "the other"), strict=True):
        names = [site.primitive for site in sites if start < site.path < stop]
        if names:
            yield f"Between these two, only {who} has {', '.join(names[:6])}{', …' if len(names) > 6 else ''}."


def _from(kind: str) -> str:
    return "" if kind == "value" else ", from the cost back,"


def _worst(places: Iterable["Place"], kind: str) -> float | None:
    found = [getattr(place, kind) for place in places]
    return max((each.relative for each in found if each is not None and each.explained < NOISE), default=None)


def _to(places: Iterable["Place"], kind: str) -> str:
    worst = _worst(places, kind)
    return "" if worst is None else " exactly" if worst == 0 else f" to {worst:.1e}"


def _digits(a: float, b: float) -> str:
    """Two numbers, with as many digits as it takes to tell them apart."""
    digits = next((n for n in range(3, 10) if shown(a, n) != shown(b, n)), 3)
    return f"{shown(a, digits)} against {shown(b, digits)}"


def named(site: Site) -> str:
    """Name an equation in a sentence: what it computes, its module and its line."""
    name = f"the argument {site.name}" if site.name else site.primitive
    where = ", ".join(filter(None, ("" if site.name else site.scope, str(site.line or ""))))
    return f"{name} {site.shapes[0]}{f' of {where}' if where else ''}"
