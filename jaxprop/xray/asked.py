"""Which place of a report is asked for: a module, as far as it takes to know which, or a line."""

import difflib
from collections.abc import Iterable, Sequence

from jaxprop.errors import JaxpropError
from jaxprop.xray import groups
from jaxprop.xray.sites import Site


def sites_at(sites: Sequence[Site], place: str) -> tuple[str, tuple[Site, ...]]:
    """Return the whole name of a place, and the equations and arguments there.

    Args:
        sites: of a report.
        place: a module such as "Block_1/Dense_0", or "Dense_0", the outermost of this name; or a line such as
            "model.py:12"; or an argument such as "params['w']".

    Raises:
        JaxpropError: nothing is there, or the place is in several modules.
    """
    if not isinstance(place, str):
        raise JaxpropError(f"at: found {place!r}, expected a name, such as 'Block_1/Dense_0' or 'model.py:12'")
    lines = tuple(site for site in sites if site.line is not None and site.line.short == place)
    named = tuple(site for site in sites if site.name == place)
    if lines or named:
        return place, lines or named
    whole = _module({site.scope for site in sites}, place.strip("/"))
    if whole is None:
        raise JaxpropError(f"at: nothing is at {place!r}; {_near(sites, place)}")
    return whole, tuple(site for site in sites if groups.within(site.scope, whole))


def _module(scopes: Iterable[str], place: str) -> str | None:
    """The module that is meant: the outermost of this name."""
    wanted = place.split("/")
    found: dict[str, int] = {}
    for scope in scopes:
        parts = scope.split("/")
        starts = [i for i in range(len(parts)) if parts[i : i + len(wanted)] == wanted]
        if starts:
            found["/".join(parts[: starts[0] + len(wanted)])] = starts[0]
    outermost = sorted(whole for whole, start in found.items() if start == min(found.values()))
    if len(outermost) > 1:
        raise JaxpropError(f"at: {place!r} is in several places: {_listed(outermost)}; say which")
    return outermost[0] if outermost else None


def _near(sites: Iterable[Site], place: str) -> str:
    sites = list(sites)
    scopes = groups.scopes(site.scope for site in sites)[1:]
    ends = {"/".join(scope.split("/")[i:]): None for scope in scopes for i in range(scope.count("/") + 1)}
    lines = {site.line.short: None for site in sites if site.line is not None}
    near = difflib.get_close_matches(place, [*ends, *lines], n=3, cutoff=0.5)
    if near:
        return f"near it: {_listed(near)}"
    if scopes:
        return f"the modules are {_listed(scopes)}; .scopes() shows all"
    return f"no module has a name in this program; the lines are {_listed(lines)}"


def _listed(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
