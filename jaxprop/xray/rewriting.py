"""Run a program (a jaxpr) equation by equation under the eyes of a visitor, within all that it calls.

    outputs, seen = run(jaxpr, consts, inputs, sinks, visitor)      the same numbers, and {path: what the visitor took}

A path is a tuple of whole numbers: the place of an equation, then its place inside that one, and so on (a cond has the
number of the branch between). What is planned or seen inside a scan has the scan's steps as its first axis; inside a
shard_map, its devices. Everything stays traceable: the rewritten program is jitted, differentiated and vmapped as the
first one.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxprop.arrays.varying import varying
from jaxprop.xray.planning import Path, Sinks
from jaxprop.xray.versions import CALLS, REMATS, Equation, evaluate, inner, is_literal, opened, scan_split

Seen = dict[Path, Any]


class Visitor(Protocol):
    """Who looks on: says what its probes need, and evaluates the equations that hold no program."""

    def sinks(self, path: Path, equation: Equation, errors: list[bool]) -> Any:
        """Give the shapes of what lands in the probes of one equation (None: it has none).

        `errors` says which of its outputs the differentiated inputs reach, so that an error comes back to them.
        """
        ...

    def visit(self, path: Path, equation: Equation, inputs: list[Any], sinks: Any) -> tuple[list[Any], Any]:
        """Evaluate one equation, and return its outputs and what is to be seen of it (None: nothing)."""
        ...

    def join(self, before: Any, now: Any) -> Any:
        """Put together what was seen in the turns of a `while`, whose number is not known."""
        ...

    # A visitor may have `enter(path, sinks)` too: it returns the sinks of a scan's step, made of those given to it.


def run(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any], sinks: Sinks, visitor: Visitor, path: Path = ()
) -> tuple[list[Any], Seen]:
    """Evaluate a program under the eyes of `visitor`: its outputs, and what was seen."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
    seen: Seen = {}

    def read(variable: Any) -> Any:
        return variable.val if is_literal(variable) else values[variable]

    for number, equation in enumerate(jaxpr.eqns):
        here = (*path, number)
        given = [read(variable) for variable in equation.invars]
        if (enter := _ENTER.get(equation.primitive.name)) is not None:
            outputs, kept = enter(equation, given, _under(sinks, here), visitor, here)
            seen |= kept
        else:
            outputs, kept = visitor.visit(here, equation, given, sinks.get(here))
            if kept is not None:
                seen[here] = kept
        values |= zip(equation.outvars, outputs, strict=True)
    return [read(variable) for variable in jaxpr.outvars], seen


def _under(sinks: Sinks, path: Path) -> Sinks:
    return {place: sink for place, sink in sinks.items() if place[: len(path)] == path}


def _call(equation: Equation, inputs: list[Any], sinks: Sinks, visitor: Visitor, path: Path) -> tuple[Any, Seen]:
    return run(*inner(equation), inputs, sinks, visitor, path)


def _remat(equation: Equation, inputs: list[Any], sinks: Sinks, visitor: Visitor, path: Path) -> tuple[Any, Seen]:
    jaxpr, consts = inner(equation)
    params = equation.params

    def again(inputs: list[Any], sinks: Sinks) -> tuple[Any, Seen]:
        return run(jaxpr, consts, inputs, sinks, visitor, path)

    return jax.checkpoint(again, prevent_cse=params["prevent_cse"], policy=params["policy"])(inputs, sinks)


def _scan(equation: Equation, inputs: list[Any], sinks: Sinks, visitor: Visitor, path: Path) -> tuple[Any, Seen]:
    jaxpr, consts = inner(equation)
    params = equation.params
    split = scan_split(equation)
    enter = getattr(visitor, "enter", lambda path, sinks: sinks)
    fixed, state, rows = inputs[: split.consts], inputs[split.consts : sum(split)], inputs[sum(split) :]

    def step(state: list[Any], turn: tuple[list[Any], Sinks]) -> tuple[list[Any], Any]:
        row, sinks = turn
        outputs, seen = run(jaxpr, consts, [*fixed, *state, *row], enter(path, sinks), visitor, path)
        return outputs[: split.carried], (outputs[split.carried :], seen)

    state, (stacked, seen) = lax.scan(
        step, state, (rows, sinks), length=params["length"], reverse=params["reverse"], unroll=params["unroll"]
    )
    return [*state, *stacked], seen


def _cond(equation: Equation, inputs: list[Any], sinks: Sinks, visitor: Visitor, path: Path) -> tuple[Any, Seen]:
    index, *inputs = inputs
    branches = [opened(program) for program in equation.params["branches"]]

    def branch(number: int, inputs: list[Any], sinks: Sinks) -> tuple[Any, Seen]:
        here = (*path, number)
        return run(*branches[number], inputs, _under(sinks, here), visitor, here)

    shapes: Seen = {}
    for number in range(len(branches)):
        shapes |= jax.eval_shape(lambda *given, number=number: branch(number, *given)[1], inputs, sinks)
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def taken(number: int) -> Any:
        def of(inputs: list[Any], sinks: Sinks) -> tuple[Any, Seen]:
            outputs, seen = branch(number, inputs, sinks)
            return outputs, nothing | seen

        return of

    return lax.switch(index, [taken(number) for number in range(len(branches))], inputs, sinks)


def _while(equation: Equation, inputs: list[Any], sinks: Sinks, visitor: Visitor, path: Path) -> tuple[Any, Seen]:
    params = equation.params
    asking, doing = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    to_ask, to_do, state = inputs[:asking], inputs[asking:doing], inputs[doing:]
    question, body = opened(params["cond_jaxpr"]), opened(params["body_jaxpr"])

    def turn(state: list[Any]) -> tuple[Any, Seen]:
        return run(*body, [*to_do, *state], {}, visitor, path)

    shapes = jax.eval_shape(lambda state: turn(state)[1], state)
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def go_on(carry: tuple[list[Any], Seen]) -> Any:
        return unseen(question, [*to_ask, *carry[0]])[0]

    def step(carry: tuple[list[Any], Seen]) -> tuple[list[Any], Seen]:
        state, before = carry
        state, now = turn(state)
        return state, {place: visitor.join(before[place], now[place]) for place in now}

    return lax.while_loop(go_on, step, (state, nothing))


def _shard_map(equation: Equation, inputs: list[Any], sinks: Sinks, visitor: Visitor, path: Path) -> tuple[Any, Seen]:
    """A device has its own sinks, and shows what it sees, along a first axis."""
    params = equation.params
    axes = tuple(params["newly_manual_axes"])
    each = PartitionSpec(axes)

    def on_one_device(inputs: list[Any], sinks: Sinks) -> tuple[Any, Seen]:
        sinks = jax.tree.map(lambda sink: sink[0], sinks)
        outputs, seen = run(*inner(equation), inputs, sinks, visitor, path)
        return outputs, jax.tree.map(lambda s: varying(s, axes)[None], seen)

    laid_out = jax.shard_map(
        on_one_device, mesh=params["mesh"], in_specs=(list(params["in_specs"]), each),
        out_specs=(list(params["out_specs"]), each), axis_names=set(axes), check_vma=params["check_vma"],
    )  # fmt: skip
    explicit = _explicit(params["mesh"], axes)
    if explicit:  # such axes are in the types, and must be as in_specs says
        placed = NamedSharding(params["mesh"], PartitionSpec(explicit))
        sinks = jax.tree.map(lambda sink: jax.reshard(sink, placed), sinks)
    return laid_out(inputs, sinks)


def _explicit(mesh: Any, axes: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the axes of a mesh are explicit."""
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    return tuple(axis for axis in axes if kinds[axis] == AxisType.Explicit)


def unseen(program: Any, inputs: list[Any]) -> list[Any]:
    """Evaluate a program unseen."""
    return run(program.jaxpr, program.consts, inputs, {}, _Nobody())[0]


class _Nobody:
    """A visitor who looks at nothing."""

    def sinks(self, path: Path, equation: Equation, errors: list[bool]) -> None:
        return None

    def visit(self, path: Path, equation: Equation, inputs: list[Any], sinks: Any) -> tuple[list[Any], None]:
        return evaluate(equation, inputs), None

    def join(self, before: Any, now: Any) -> Any:
        return now


_ENTER = {
    **dict.fromkeys(CALLS, _call),
    **dict.fromkeys(REMATS, _remat),
    "scan": _scan,
    "cond": _cond,
    "while": _while,
    "shard_map": _shard_map,
}
