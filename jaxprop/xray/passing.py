"""What passes from line to line and from module to module: the places where a light X-ray measures."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from jaxprop.xray.planning import Path
from jaxprop.xray.sites import LAYOUT, Site


def passing(sites: Sequence[Site]) -> frozenset[Path]:
    """Return the places of equations whose result is used on another line or in another module, or is returned.

    Who uses what an equation returns that only moves numbers uses what entered that one.
    """
    origin: dict[int, int] = {}
    users: dict[int, set[Any]] = defaultdict(set)
    for site in sites:
        moved = site.primitive in LAYOUT and len(site.inputs) == 1 and site.inputs[0] is not None
        for number in filter(None, site.inputs):
            if moved:
                origin[site.outputs[0]] = origin.get(number, number)
            else:
                users[origin.get(number, number)].add(_together(site))

    def passes(site: Site) -> bool:
        return any(users[number] != {_together(site)} for number in site.outputs)

    return frozenset(site.path for site in sites if site.primitive not in LAYOUT and passes(site))


def _together(site: Site) -> Any:
    return site.line, site.scope
