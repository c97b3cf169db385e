"""Which equations of two programs are the same: of two precisions, JAX versions or versions of a model's code."""

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from jaxprop.xray.sites import LAYOUT, Site

PLACED = re.compile(r"@(\([^)]*\)|\w+)|\{.*\}")  # float32[8@data,3], and {V:data} of what differs between devices


class Pair(NamedTuple):
    """An equation of one program and the same one of the other; None where only one of them has it."""

    here: Site | None
    there: Site | None


def aligned(here: Sequence[Site], there: Sequence[Site]) -> list[Pair]:
    """Pair the equations of two programs, in the order in which they run.

    What only moves or converts numbers is left out: precisions and JAX versions differ in it. Equations are the same if
    they compute the same of the same shapes, whatever the dtype, in the same module and function; then, between those
    that were found so, if they are in the same module; and then if they compute the same at all. Arguments are paired
    by their names first.
    """
    arguments = _arguments([s for s in here if s.is_argument], [s for s in there if s.is_argument])
    ours = [s for s in here if not s.is_argument and s.primitive not in LAYOUT]
    theirs = [s for s in there if not s.is_argument and s.primitive not in LAYOUT]
    return [*arguments, *_paired(ours, theirs, KEYS)]


def computed(site: Site) -> Hashable:
    """Say what an equation computes, whatever the dtype and however it lies on devices: its primitive, its shapes and
    the axes around it."""
    return site.primitive, tuple(PLACED.sub("", shape[shape.find("[") :]) for shape in site.shapes), site.axes


def _in_module(site: Site) -> Hashable:
    return computed(site), site.scope


def _in_function(site: Site) -> Hashable:
    return _in_module(site), site.line and site.line.function


Key = Callable[[Site], Hashable]
KEYS: tuple[Key, ...] = (_in_function, _in_module, computed)


def _arguments(here: list[Site], there: list[Site]) -> list[Pair]:
    named = {(site.name, computed(site)): site for site in there}
    pairs = [Pair(site, named.pop((site.name, computed(site)), None)) for site in here]
    rest = [site for site in there if (site.name, computed(site)) in named]
    alone = [pair.here for pair in pairs if pair.there is None and pair.here is not None]
    return [*(pair for pair in pairs if pair.there is not None), *_paired(alone, rest, (computed,))]


def _paired(here: Sequence[Site], there: Sequence[Site], keys: tuple[Key, ...]) -> Iterator[Pair]:
    """Pair by the first key; between the blocks that are equal by it, by the next one."""
    if not keys or not here or not there:
        yield from (Pair(site, None) for site in here)
        yield from (Pair(None, site) for site in there)
        return
    key, *rest = keys
    ours, theirs = list(map(key, here)), list(map(key, there))
    before = next(
        (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    yield from map(Pair, here[:before], there[:before])  # most of two programs: what follows takes time
    a = b = before
    for block in SequenceMatcher(None, ours[before:], theirs[before:], autojunk=False).get_matching_blocks():
        start, other = block.a + before, block.b + before
        yield from _paired(here[a:start], there[b:other], tuple(rest))
        a, b = start + block.size, other + block.size
        yield from map(Pair, here[start:a], there[other:b])
