"""Where a program's errors pass, and what the probes there need: {path: shapes}, before anything runs.

An error comes back to an output of an equation if the differentiated inputs reach it through real numbers; a probe
anywhere else would ask for derivatives that nobody takes (of a `while`, of what lies behind a stop_gradient).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxprop.xray.versions import CALLS, REMATS, Equation, inner, is_literal, opened, scan_split

Path = tuple[int, ...]
Sinks = dict[Path, Any]
Wanted = Callable[[Path, Equation, list[bool]], Any]  # the shapes of what lands in an equation's probes, or None

STOPS = {"stop_gradient", "while"}


def plan(jaxpr: Any, reached: Sequence[bool], wanted: Wanted, path: Path = ()) -> tuple[Sinks, list[bool]]:
    """Collect what the probes of all equations need, those inside others included; say which outputs are reached."""
    active = {variable for variable, is_reached in zip(jaxpr.invars, reached, strict=True) if is_reached}
    sinks: Sinks = {}

    def is_active(variable: Any) -> bool:
        return not is_literal(variable) and variable in active

    for number, equation in enumerate(jaxpr.eqns):
        given = [is_active(variable) for variable in equation.invars]
        found, outputs = _equation(equation, given, wanted, (*path, number))
        sinks |= found
        active |= {v for v, is_reached in zip(equation.outvars, outputs, strict=True) if is_reached and is_real(v)}
    return sinks, [is_active(variable) for variable in jaxpr.outvars]


def _equation(equation: Equation, given: list[bool], wanted: Wanted, path: Path) -> tuple[Sinks, list[bool]]:
    """Do so for one equation."""
    name = equation.primitive.name
    if name in CALLS or name in REMATS:
        return plan(inner(equation).jaxpr, given, wanted, path)
    if name == "scan":
        return _scan(equation, given, wanted, path)
    if name == "cond":
        return _cond(equation, given, wanted, path)
    if name == "shard_map":
        sinks, outputs = plan(inner(equation).jaxpr, given, wanted, path)
        return _stacked(sinks, devices(equation)), outputs
    reached = name not in STOPS and any(given)
    outputs = [reached and is_real(variable) for variable in equation.outvars]
    sinks = wanted(path, equation, outputs) if any(outputs) else None  # a comparison has none
    return ({} if sinks is None else {path: sinks}), outputs


def _scan(equation: Equation, given: list[bool], wanted: Wanted, path: Path) -> tuple[Sinks, list[bool]]:
    """A step's state may be reached by the step before only: look again until nothing changes."""
    split = scan_split(equation)
    jaxpr = inner(equation).jaxpr
    while True:
        sinks, outputs = plan(jaxpr, given, wanted, path)
        state = given[split.consts : sum(split)]
        after = [a or b for a, b in zip(state, outputs[: split.carried], strict=True)]
        if after == state:
            return _stacked(sinks, equation.params["length"]), outputs
        given = [*given[: split.consts], *after, *given[sum(split) :]]


def _stacked(sinks: Sinks, length: int) -> Sinks:
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct((length, *s.shape), s.dtype), sinks)


def devices(equation: Equation) -> int:
    """Count the devices, or groups of devices, over which a shard_map lays its program out."""
    shape = equation.params["mesh"].shape
    return math.prod(shape[axis] for axis in equation.params["newly_manual_axes"])


def _cond(equation: Equation, given: list[bool], wanted: Wanted, path: Path) -> tuple[Sinks, list[bool]]:
    sinks: Sinks = {}
    reached = [False] * len(equation.outvars)
    for number, program in enumerate(equation.params["branches"]):
        found, outputs = plan(opened(program).jaxpr, given[1:], wanted, (*path, number))
        sinks |= found
        reached = [a or b for a, b in zip(reached, outputs, strict=True)]
    return sinks, reached


def is_real(variable: Any) -> bool:
    """Say whether errors can pass through a variable: real and complex numbers, not whole numbers and keys."""
    dtype = getattr(variable.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
