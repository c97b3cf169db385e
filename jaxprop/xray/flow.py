"""How values flow through a program: which equation makes each, which ones use it, from one step of a scan to the next.

Values have numbers. What a call, a remat or a shard_map is given keeps its number inside; what a scan or a `while`
carries has one inside that arrives from two sides: from before the loop, and from the step before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxprop.xray.planning import Path, devices
from jaxprop.xray.sites import Site
from jaxprop.xray.versions import CALLS, REMATS, Equation, inner, is_literal, opened, scan_split

When = Literal["same", "start", "before"]


@dataclass(frozen=True)
class Loop:
    """A loop around an equation, or the devices of a shard_map: what readings have an axis for, except of a `while`."""

    kind: str
    path: Path
    length: int = 0
    reverse: bool = False

    @property
    def has_axis(self) -> bool:
        """Whether readings have an axis for it."""
        return self.kind != "while"


@dataclass(frozen=True)
class Node:
    """An equation that holds no program. inputs, outputs: numbers of values. loops: outermost first."""

    path: Path
    primitive: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    loops: tuple[Loop, ...] = ()
    equation: Equation | None = None

    @property
    def in_while(self) -> bool:
        """Whether it lies in a `while`, whose turns readings have no axis for."""
        return any(not loop.has_axis for loop in self.loops)


@dataclass(frozen=True)
class Arrival:
    """Where a value comes from that no equation makes: another value, of this step, the start or the step before."""

    source: int
    when: When
    loop: Loop | None = None


@dataclass
class Flow:
    """The equations by path; for each value the equation that makes it, those that use it, or what arrives there."""

    nodes: dict[Path, Node] = field(default_factory=dict)
    made: dict[int, tuple[Path, int]] = field(default_factory=dict)
    used: dict[int, list[tuple[Path, int]]] = field(default_factory=dict)
    arrivals: dict[int, tuple[Arrival, ...]] = field(default_factory=dict)
    leads: dict[int, list[tuple[int, Arrival]]] = field(default_factory=dict)
    known: dict[int, Any] = field(default_factory=dict)  # constants and numbers that stand in the program
    outputs: tuple[int, ...] = ()
    count: int = 0

    def new(self) -> int:
        """Take the next number."""
        self.count += 1
        return self.count


def flow_of(jaxpr: Any, consts: Sequence[Any]) -> Flow:
    """Follow the values of a program. Its arguments are nodes too, at the paths (-1, i)."""
    flow = Flow()
    given = [flow.new() for _ in jaxpr.invars]
    for i, number in enumerate(given):
        _add(flow, Node((-1, i), "argument", (), (number,)))
    flow.outputs = tuple(_follow(flow, jaxpr, consts, given, (), ()))
    for number, arrivals in flow.arrivals.items():
        for arrival in arrivals:
            flow.leads.setdefault(arrival.source, []).append((number, arrival))
    return flow


def flow_of_sites(sites: Sequence[Site]) -> Flow:
    """Follow the values of a program of which only the sites are left: what a loop carries on is not known then."""
    flow = Flow(count=max((n for site in sites for n in (*site.inputs, *site.outputs) if n is not None), default=0))
    for site in sites:
        inputs = tuple(flow.new() if number is None else number for number in site.inputs)
        loops = (Loop(kind, path, length) for kind, length, path in site.loops)
        _add(flow, Node(site.path, site.primitive.split()[0], inputs, site.outputs, tuple(loops)))
    flow.outputs = sites[-1].outputs if sites else ()
    return flow


def _add(flow: Flow, node: Node) -> None:
    flow.nodes[node.path] = node
    flow.made |= {number: (node.path, j) for j, number in enumerate(node.outputs)}
    for k, number in enumerate(node.inputs):
        flow.used.setdefault(number, []).append((node.path, k))


def _follow(
    flow: Flow, jaxpr: Any, consts: Sequence[Any], given: Sequence[int], path: Path, loops: tuple[Loop, ...]
) -> list[int]:
    """Give every value of a program its number, those inside of its equations too; return the outputs' numbers."""
    numbers: dict[Any, int] = dict(zip(jaxpr.invars, given, strict=True))
    for variable, value in zip(jaxpr.constvars, consts, strict=True):
        numbers[variable] = _known(flow, value)

    def read(variable: Any) -> int:
        return _known(flow, variable.val) if is_literal(variable) else numbers[variable]

    for place, equation in enumerate(jaxpr.eqns):
        inputs = [read(variable) for variable in equation.invars]
        outputs = _equation(flow, equation, inputs, (*path, place), loops)
        numbers |= zip(equation.outvars, outputs, strict=True)
    return [read(variable) for variable in jaxpr.outvars]


def _known(flow: Flow, value: Any) -> int:
    number = flow.new()
    flow.known[number] = value
    return number


def _equation(flow: Flow, equation: Equation, inputs: list[int], path: Path, loops: tuple[Loop, ...]) -> list[int]:
    name, params = equation.primitive.name, equation.params
    if name in CALLS or name in REMATS:
        return _follow(flow, *inner(equation), inputs, path, loops)
    if name == "shard_map":
        return _follow(flow, *inner(equation), inputs, path, (*loops, Loop(name, path, devices(equation))))
    if name == "scan":
        fixed, carried = scan_split(equation)
        loop = Loop(name, path, params["length"], params["reverse"])
        return _loop(flow, inner(equation), inputs, slice(fixed, fixed + carried), path, (*loops, loop))
    if name == "while":
        to_do = inputs[params["cond_nconsts"] :]
        state = slice(params["body_nconsts"], len(to_do))
        return _loop(flow, opened(params["body_jaxpr"]), to_do, state, path, (*loops, Loop(name, path)))
    outputs = [flow.new() for _ in equation.outvars]
    if name == "cond":
        branches = [
            _follow(flow, *opened(program), inputs[1:], (*path, number), loops)
            for number, program in enumerate(params["branches"])
        ]
        flow.arrivals |= {
            number: tuple(Arrival(source, "same") for source in sources)
            for number, *sources in zip(outputs, *branches, strict=True)
        }
        return outputs
    _add(flow, Node(path, name, tuple(inputs), tuple(outputs), loops, equation))
    return outputs


def _loop(flow: Flow, program: Any, inputs: list[int], state: slice, path: Path, loops: tuple[Loop, ...]) -> list[int]:
    start = inputs[state]
    inside = [flow.new() for _ in start]
    outputs = _follow(
        flow, program.jaxpr, program.consts, [*inputs[: state.start], *inside, *inputs[state.stop :]], path, loops
    )
    for number, before, after in zip(inside, start, outputs, strict=False):
        again = () if after == number else (Arrival(after, "before", loops[-1]),)
        flow.arrivals[number] = (Arrival(before, "start", loops[-1]), *again)
    return outputs
