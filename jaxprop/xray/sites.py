"""The equations of a program as a flat list, in the order in which they run: what a report has its rows from."""

import math
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from jaxprop.xray.evidence import Evidence, names_in
from jaxprop.xray.modules import Module, Modules, common
from jaxprop.xray.places import Line, Places, Stack, lines
from jaxprop.xray.planning import Path, devices
from jaxprop.xray.scopes import scopes
from jaxprop.xray.versions import CALLS, REMATS, Equation, inner, is_literal, opened, scan_split

# what only moves numbers or keeps them as they are
LAYOUT = frozenset({
    "broadcast_in_dim", "convert_element_type", "copy", "optimization_barrier", "pvary", "reshape", "rev",
    "sharding_constraint", "slice", "squeeze", "stop_gradient", "transpose",
})  # fmt: skip
FOLLOWED = LAYOUT | {"concatenate", "dynamic_slice"}  # a parameter that comes out of these is one still


@dataclass(frozen=True)
class Site:
    """One equation.

    path: its place, as in `rewriting`.
    primitive: what it computes, such as "dot_general"; of a function with a rule of its own, that function's name too.
    line: the user's line; a library's, where no line of the user's leads to the equation.
    scope: the path of the module that computed it, such as "Block_1/Dense_0" or "layers/1", "" outside of all; of an
        argument, the module whose parameter it is. Names that were set by `jax.named_scope` are parts of it.
    inputs, outputs: numbers of the values that enter and leave; the value that a scan's step is given has the number of
        the one outside. None for a number that stands in the program.
    shapes: of the outputs, such as "float32[8,128]".
    axes: what its readings have in front, outermost first: ("scan", 12) or ("shard_map", 4).
    around: the kinds of equations that it lies in, outermost first; of jitted functions the names.
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
    via: tuple[Line, ...] = field(default=(), hash=False)  # a reading is hashed with its sites, and often
    name: str = ""

    @property
    def is_argument(self) -> bool:
        """Say whether it is no equation but an argument of f."""
        return self.primitive == "argument"

    @property
    def elements(self) -> int:
        """Count the numbers in its largest output, of all steps."""
        return max(map(numbers_in, self.shapes), default=0) * math.prod(steps for _, steps in self.axes)

    @property
    def loops(self) -> tuple[tuple[str, int, Path], ...]:
        """List the equations around it that its readings have axes for, outermost first: kind, length and path."""
        found, depth = [], 0
        for kind in self.around:
            depth += 2 if kind == "cond" else 1  # the path of a cond has the number of the branch too
            if kind in ("scan", "shard_map"):
                found.append((*self.axes[len(found)], self.path[:depth]))
        return tuple(found)


def numbers_in(shape: str) -> int:
    """Count the numbers in an array, told as "float32[8,128]".

    >>> numbers_in("float32[8,128]"), numbers_in("int32[]")
    (1024, 1)
    """
    return math.prod(map(int, re.findall(r"\d+", shape.partition("[")[2])))


def sites(jaxpr: Any, names: Sequence[str] = (), modules: Modules | None = None) -> tuple[Site, ...]:
    """List the arguments of a program, at places of their own, (-1, i), and its equations that hold no program.

    Args:
        jaxpr: the program.
        names: of its arguments; without them no argument is listed.
        modules: the modules whose parameters its arguments are.
    """
    modules = modules or Modules((None,) * len(jaxpr.invars))
    listing = _Listing()
    found = list(listing.list(jaxpr, _Around(), [Value(None, module) for module in modules.of]))
    labels = scopes(listing.evidence, modules)
    shown: dict[Module, Module] = {}  # modules as equations show them: behind names that were set around them, say
    for each, label in zip(listing.evidence, labels, strict=True):
        if each.uses and label[-len(each.uses) :] == each.uses:
            shown.setdefault(each.uses, label)
    equations = (replace(site, scope="/".join(label)) for site, label in zip(found, labels, strict=True))
    arguments = _arguments(jaxpr, names, [shown.get(module, module) for module in (m or () for m in modules.of)])
    return (*arguments, *equations)


def _arguments(jaxpr: Any, names: Sequence[str], modules: Sequence[Module]) -> Iterator[Site]:
    """The arguments of a program, each with the module whose parameter it is."""
    for i, (v, name, module) in enumerate(zip(jaxpr.invars, names, modules, strict=False)):
        number, shape = i + 1 + len(jaxpr.constvars), str(v.aval.str_short())
        yield Site((-1, i), "argument", None, "/".join(module), (), (number,), (shape,), name=name)


class Value(NamedTuple):
    """A value of a program: its number, and the module whose parameter it is."""

    number: int | None
    module: Module | None = None


@dataclass(frozen=True)
class _Around:
    """What lies around the equations that are listed."""

    path: Path = ()
    scope: Module = ()
    stack: Stack = ()
    axes: tuple[tuple[str, int], ...] = ()
    names: tuple[str, ...] = ()

    def into(self, equation: Equation, stack: Stack, path: Path, axes: tuple[tuple[str, int], ...] = ()) -> "_Around":
        kind = equation.primitive.name
        name = str(equation.params.get("name", kind)) if kind in CALLS else kind
        if kind in CALLS and name in ("scan", "cond", "while", "shard_map"):  # a function of that name, as NumPy's cond
            name = kind
        return _Around(path, self.scoped(equation), stack, (*self.axes, *axes), (*self.names, name))

    def scoped(self, equation: Equation) -> Module:
        return (*self.scope, *names_in(str(equation.source_info.name_stack)))


class _Listing:
    """Numbers values as they come, and follows parameters."""

    def __init__(self) -> None:
        self.count = 0
        self.places = Places()
        self.evidence: list[Evidence] = []

    def new(self) -> Value:
        self.count += 1
        return Value(self.count)

    def list(self, jaxpr: Any, around: _Around, given: Sequence[Value]) -> Generator[Site, None, dict[Any, Value]]:
        """Give the equations of a program; return the values in it, by its variables."""
        values = {v: self.new() for v in (*jaxpr.constvars, *jaxpr.invars)}
        for v, (number, module) in zip(jaxpr.invars, given, strict=True):
            values[v] = Value(values[v].number if number is None else number, module)
        for place, equation in enumerate(jaxpr.eqns):
            path = (*around.path, place)
            inputs = [Value(None) if is_literal(v) else values[v] for v in equation.invars]
            stack = (*around.stack, *self.places.stack(equation))
            entered = list(_inside(equation, inputs, around, stack, path))
            for program, inside, into in entered:
                within = yield from self.list(program, into, inside)
                for outer, result in zip(equation.outvars, program.outvars, strict=False):
                    if not is_literal(result):
                        values[outer] = within[result] if len(entered) == 1 else Value(within[result].number)
            for v in equation.outvars:
                values.setdefault(v, self.new())
            if not entered:
                uses = _common(inputs)
                if equation.primitive.name in FOLLOWED:
                    values |= {v: Value(values[v].number, uses) for v in equation.outvars}
                self.evidence.append(Evidence(around.scoped(equation), stack, uses))
                yield self._site(equation, around, path, [values[v].number for v in equation.outvars], inputs, stack)
        return values

    def _site(
        self, equation: Equation, around: _Around, path: Path, outputs: Any, inputs: Sequence[Value], stack: Stack
    ) -> Site:
        line, via = lines(stack)
        shapes = tuple(str(v.aval.str_short()) for v in equation.outvars)
        numbers = tuple(value.number for value in inputs)
        return Site(path, _name(equation), line, "", numbers, tuple(outputs), shapes, around.axes, around.names, via)


def _common(inputs: Sequence[Value]) -> Module | None:
    """The path that the modules have in common whose parameters are among some values."""
    found = [value.module for value in inputs if value.module is not None]
    return common(found) if found else None


def _name(equation: Equation) -> str:
    """Name what an equation computes; a function with a rule of its own by that function too."""
    name = equation.primitive.name
    if not name.startswith("custom_") or "call_jaxpr" not in equation.params:
        return name
    info = getattr(opened(equation.params["call_jaxpr"]).jaxpr, "debug_info", None)
    return name if info is None else f"{name} {info.func_name}"


def _inside(
    equation: Equation, inputs: list[Value], around: _Around, stack: Stack, path: Path
) -> Iterator[tuple[Any, list[Value], _Around]]:
    """Give the programs in an equation, the values that enter each, and what then lies around."""
    name, params = equation.primitive.name, equation.params
    if name in CALLS or name in REMATS:
        yield inner(equation).jaxpr, inputs, around.into(equation, stack, path)
    elif name == "scan":
        split = scan_split(equation)
        carried = [Value(value.number) for value in inputs[split.consts : sum(split)]]  # a parameter at first only
        inputs = [*inputs[: split.consts], *carried, *inputs[sum(split) :]]
        yield inner(equation).jaxpr, inputs, around.into(equation, stack, path, (("scan", params["length"]),))
    elif name == "shard_map":
        yield inner(equation).jaxpr, inputs, around.into(equation, stack, path, (("shard_map", devices(equation)),))
    elif name == "cond":
        for number, program in enumerate(params["branches"]):
            yield opened(program).jaxpr, inputs[1:], around.into(equation, stack, (*path, number))
    elif name == "while":
        fixed = params["cond_nconsts"] + params["body_nconsts"]
        inputs = [*inputs[params["cond_nconsts"] : fixed], *(Value(value.number) for value in inputs[fixed:])]
        yield opened(params["body_jaxpr"]).jaxpr, inputs, around.into(equation, stack, path)
