"""The equations of a program as a flat list, in the order in which they run: what a report has its rows from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaxprop.xray.places import Line, Places, Stack
from jaxprop.xray.planning import Path, devices
from jaxprop.xray.versions import CALLS, REMATS, Equation, inner, is_literal, opened


@dataclass(frozen=True)
class Site:
    """One equation.

    path: its place, as in `rewriting`.
    primitive: what it computes, such as "dot_general"; of a function with a rule of its own, that function's name too.
    line: the user's line; a library's, where no line of the user's leads to the equation.
    scope: the modules around it, as their library named them, joined by "/".
    inputs, outputs: numbers of the values that enter and leave; the value that a scan's step is given has the number of
        the one outside. None for a number that stands in the program.
    shapes: of the outputs, such as "float32[8,128]".
    axes: what its readings have in front, outermost first: ("scan", 12) or ("shard_map", 4).
    around: the kinds of equations that it lies in, outermost first.
    via: the user's lines that called the one at `line`, from the inside out. Two callers of one jitted function differ
        in them.
    name: of an argument, as one writes it inside f, such as params['Dense_0']['kernel'].
    """

    path: Path
    primitive: str
    line: Line | None
    scope: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    shapes: tuple[str, ...]
    axes: tuple[tuple[str, int], ...] = ()
    around: tuple[str, ...] = ()
    via: tuple[Line, ...] = ()
    name: str = ""


def argument_sites(jaxpr: Any, names: Sequence[str]) -> tuple[Site, ...]:
    """Give the arguments of a program places of their own, (-1, i), with their names as scopes."""
    return tuple(
        Site(
            (-1, i), "argument", None, name, (), (i + 1 + len(jaxpr.constvars),), (str(v.aval.str_short()),), name=name
        )
        for i, (v, name) in enumerate(zip(jaxpr.invars, names, strict=True))
    )


def sites(jaxpr: Any) -> tuple[Site, ...]:
    """List the equations of a program that hold no program."""
    return tuple(_Listing().list(jaxpr, _Around()))


@dataclass(frozen=True)
class _Around:
    """What lies around the equations that are listed."""

    path: Path = ()
    scope: str = ""
    stack: Stack = ()
    axes: tuple[tuple[str, int], ...] = ()
    names: tuple[str, ...] = ()

    def into(self, equation: Equation, stack: Stack, path: Path, axes: tuple[tuple[str, int], ...] = ()) -> "_Around":
        name = equation.primitive.name
        return _Around(
            path, self.scoped(equation), stack, (*self.axes, *axes),
            (*self.names, str(equation.params.get("name", name)) if name in CALLS else name),
        )  # fmt: skip

    def scoped(self, equation: Equation) -> str:
        return "/".join(filter(None, (self.scope, str(equation.source_info.name_stack))))


class _Listing:
    """Numbers values as they come."""

    def __init__(self) -> None:
        self.count = 0
        self.places = Places()

    def new(self) -> int:
        self.count += 1
        return self.count

    def list(self, jaxpr: Any, around: _Around, given: Sequence[int | None] | None = None) -> Iterator[Site]:
        numbers = {v: self.new() for v in (*jaxpr.constvars, *jaxpr.invars)}
        if given is not None:
            numbers |= {v: n for v, n in zip(jaxpr.invars, given, strict=True) if n is not None}
        self.last = numbers
        for place, equation in enumerate(jaxpr.eqns):
            path = (*around.path, place)
            inputs = [None if is_literal(v) else numbers[v] for v in equation.invars]
            stack = (*around.stack, *self.places.stack(equation))
            entered = list(_inside(equation, inputs, around, stack, path))
            for program, inside, into in entered:
                yield from self.list(program, into, inside)
                inner_numbers = self.last
                for outer, result in zip(equation.outvars, program.outvars, strict=False):
                    if not is_literal(result):
                        numbers[outer] = inner_numbers[result]
            for v in equation.outvars:
                numbers.setdefault(v, self.new())
            if not entered:
                line, via = self.places.lines(stack)
                yield Site(
                    path, _name(equation), line, around.scoped(equation),
                    tuple(inputs), tuple(numbers[v] for v in equation.outvars),
                    tuple(str(v.aval.str_short()) for v in equation.outvars), around.axes, around.names, via,
                )  # fmt: skip
        self.last = numbers


def _name(equation: Equation) -> str:
    """Name what an equation computes; a function with a rule of its own by that function too."""
    name = equation.primitive.name
    if not name.startswith("custom_") or "call_jaxpr" not in equation.params:
        return name
    info = getattr(opened(equation.params["call_jaxpr"]).jaxpr, "debug_info", None)
    return name if info is None else f"{name} {info.func_name}"


def _inside(
    equation: Equation, inputs: list[int | None], around: _Around, stack: Stack, path: Path
) -> Iterator[tuple[Any, list[int | None], _Around]]:
    """Give the programs in an equation, the values that enter each, and what then lies around."""
    name, params = equation.primitive.name, equation.params
    if name in CALLS or name in REMATS:
        yield inner(equation).jaxpr, inputs, around.into(equation, stack, path)
    elif name == "scan":
        yield inner(equation).jaxpr, inputs, around.into(equation, stack, path, (("scan", params["length"]),))
    elif name == "shard_map":
        yield inner(equation).jaxpr, inputs, around.into(equation, stack, path, (("shard_map", devices(equation)),))
    elif name == "cond":
        for number, program in enumerate(params["branches"]):
            yield opened(program).jaxpr, inputs[1:], around.into(equation, stack, (*path, number))
    elif name == "while":
        yield opened(params["body_jaxpr"]).jaxpr, inputs[params["cond_nconsts"] :], around.into(equation, stack, path)
