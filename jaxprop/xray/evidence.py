"""What tells which module computed an equation, and where among equations another call begins."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from jaxprop.xray.modules import Module, common
from jaxprop.xray.places import Stack

_TURNED = re.compile(r"\b(?:vmap|jvp|transpose|pmap|jit|pjit|shard_map|remat|checkpoint)\(([^()]*)\)")
_OTHERS = re.compile(r"eqx\.|rematted_computation$|.*->|[A-Za-z.]+(,[A-Za-z.]+)+$")


class Evidence(NamedTuple):
    """What tells whose an equation is.

    names: the scopes around it.    stack: of calls, the outermost first.    uses: of its inputs that are parameters,
    their modules' common path; None where no input is one.
    """

    names: Module
    stack: Stack
    uses: Module | None


@lru_cache(maxsize=10_000)
def names_in(name_stack: str) -> Module:
    """Take a stack of names apart, without what was written into it by transformations, einsum and Equinox.

    Equinox writes names of classes there, which do not tell one layer from another.
    """
    before = ""
    while before != name_stack:
        before, name_stack = name_stack, _TURNED.sub(r"\1", name_stack)
    return tuple(name for name in name_stack.split("/") if name and not _OTHERS.match(name))


def parted(run: Sequence[int], owners: Mapping[int, Module], stacks: Sequence[Stack]) -> list[tuple[Module, list[int]]]:
    """Part equations into those of one owner after another; some are known to be an owner's."""
    parts: list[tuple[Module, list[int]]] = []
    waiting: list[int] = []
    for i in run:
        waiting.append(i)
        owner = owners.get(i)
        if owner is None:
            continue
        if not parts:
            parts.append((owner, waiting))
        elif parts[-1][0] == owner:
            parts[-1][1].extend(waiting)
        else:
            first = _begin([stacks[parts[-1][1][-1]], *(stacks[k] for k in waiting)])
            parts[-1][1].extend(waiting[:first])
            parts.append((owner, waiting[first:]))
        waiting = []
    if parts:
        parts[-1][1].extend(waiting)
    return parts


def _begin(stacks: Sequence[Stack]) -> int:
    """Find where, behind the first of some stacks, another call begins: where the outermost change is.

    In a function that is called again and again many changes are as far out: of these, at the place that stands first
    in the function, and of several such places, which a loop comes to, at the last.
    """
    shared = [len(common(pair)) for pair in pairwise(stacks)]
    begins = [k for k, depth in enumerate(shared) if depth == min(shared)]
    at = [[frame.at for frame in stack] for stack in stacks[1:]]
    first = begins[0]
    for k in begins[1:]:
        both = min(len(at[k]), len(at[first]))
        if at[k][:both] <= at[first][:both]:
            first = k
    return first
