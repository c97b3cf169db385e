"""Follow every parameter through a program, to the equations where it meets an activation, or where it is lost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxprop.xray.following.examples import OneExample
from jaxprop.xray.following.meetings import Meeting, Sum
from jaxprop.xray.following.parts import Level, Lost, Part, Parts, moved
from jaxprop.xray.following.recognised import meeting_at
from jaxprop.xray.places import Line, line_of
from jaxprop.xray.planning import Path, is_real, plan
from jaxprop.xray.versions import CALLS, REMATS, Equation, inner, is_literal, opened, scan_split

AFFINE = ("add", "add_any", "sub")


class Place(NamedTuple):
    """Where parameters meet an activation: the meeting, the parts that do, and the scans around, outermost first."""

    meeting: Meeting
    parts: Parts
    scans: tuple["Scan", ...]


class Scan(NamedTuple):
    """A scan around a place; `chosen` where it lies in a branch of a cond."""

    path: Path
    length: int
    chosen: bool


class Reason(NamedTuple):
    """Why a parameter is not followed, and the user's line."""

    why: str
    line: Line | None

    def __str__(self) -> str:
        return f"{self.why}, {self.line}" if self.line is not None else self.why


@dataclass
class Followed:
    """Where all parameters came: their places, and those that were lost, by their number among the inputs."""

    places: dict[Path, Place] = field(default_factory=dict)
    kernels: set[Path] = field(default_factory=set)  # of convolutions that what was lost reaches
    lost: dict[int, Reason] = field(default_factory=dict)
    unreached: set[int] = field(default_factory=set)  # to which no error comes back: they are unused, or held fixed

    def lose(self, parts: Sequence[Part], why: str, line: Line | None = None) -> None:
        """Note that the leaves of these parts cannot be followed."""
        for part in parts:
            self.lost.setdefault(part.leaf, Reason(why, line))


class _Around(NamedTuple):
    """What lies around the equations that are followed."""

    path: Path = ()
    scans: tuple[Scan, ...] = ()
    equations: tuple[Equation, ...] = ()  # from the inside out
    chosen: bool = False

    def into(self, equation: Equation, path: Path, scans: tuple[Scan, ...] = (), chosen: bool = False) -> "_Around":
        return _Around(path, (*self.scans, *scans), (equation, *self.equations), self.chosen or chosen)

    def line(self, equation: Equation) -> Line | None:
        return line_of((equation, *self.equations))


Outputs = tuple[list[Parts], list[bool]]  # what each holds of θ, and whether it depends on the example


def follow(traced: OneExample) -> Followed:
    """Follow all parameters of a function of one example."""
    found = Followed()
    held: list[Parts] = [()] * len(traced.inputs)
    for i in traced.asked:
        if is_complex(traced.one(i)):
            found.lost[i] = Reason("it is of complex numbers", None)
        elif math.prod(traced.one(i).shape):  # an array of no numbers has no gradient
            held[i] = (Part.whole(i, traced.one(i).shape),)
    mapped = [axis is not None for axis in traced.axes]
    outputs, _ = _program(traced.jaxpr, held, mapped, _Around(), found)
    for parts in outputs:
        found.lose(parts, "f returns it")
    _settle(found, traced)
    return found


def _settle(found: Followed, traced: OneExample) -> None:
    """Lose what no one use can be made of, and forget the places of what is lost."""
    for leaf in traced.asked:
        over = {
            tuple(level[2] for level in part.levels if level[0] == "over")
            for place in found.places.values()
            for part in place.parts
            if part.leaf == leaf
        }
        if len(over) > 1:
            found.lost.setdefault(
                leaf, Reason("a scan goes over it in one place, and it is used whole in another", None)
            )
        if not over:
            found.unreached |= {leaf} - found.lost.keys()
    for path, place in list(found.places.items()):
        parts = tuple(part for part in place.parts if part.leaf not in found.lost)
        if parts:
            found.places[path] = place._replace(parts=parts)
        else:
            del found.places[path]

    def note(path: Path, equation: Equation, errors: list[bool]) -> None:
        if equation.primitive.name == "conv_general_dilated":
            found.kernels.add(path)

    plan(traced.jaxpr, [i in found.lost for i in range(len(traced.inputs))], note)


def _program(jaxpr: Any, held: Sequence[Parts], mapped: Sequence[bool], around: _Around, found: Followed) -> Outputs:
    parts = {v: each for v, each in zip(jaxpr.invars, held, strict=True) if each}
    examples = {v for v, is_mapped in zip(jaxpr.invars, mapped, strict=True) if is_mapped}

    def of(variable: Any) -> Parts:
        return () if is_literal(variable) else parts.get(variable, ())

    def depends(variable: Any) -> bool:
        return not is_literal(variable) and variable in examples

    for number, equation in enumerate(jaxpr.eqns):
        given = [of(variable) for variable in equation.invars]
        from_examples = [depends(variable) for variable in equation.invars]
        if any(given):
            outputs, dependent = _equation(equation, given, from_examples, (*around.path, number), around, found)
        else:
            outputs, dependent = [()] * len(equation.outvars), [any(from_examples)] * len(equation.outvars)
        parts |= {v: each for v, each in zip(equation.outvars, outputs, strict=True) if each and is_real(v)}
        examples |= {v for v, is_mapped in zip(equation.outvars, dependent, strict=True) if is_mapped}
    return [of(variable) for variable in jaxpr.outvars], [depends(variable) for variable in jaxpr.outvars]


def _equation(
    equation: Equation, held: list[Parts], mapped: list[bool], path: Path, around: _Around, found: Followed
) -> Outputs:
    name = equation.primitive.name
    if name in CALLS or name in REMATS:
        return _program(inner(equation).jaxpr, held, mapped, around.into(equation, path), found)
    if name == "scan":
        return _scan(equation, held, mapped, path, around, found)
    if name == "cond":
        return _cond(equation, held, mapped, path, around, found)
    dependent = [any(mapped)] * len(equation.outvars)
    nothing: list[Parts] = [()] * len(equation.outvars)
    if not any(map(is_real, equation.outvars)):
        return nothing, dependent
    try:
        return _simple(equation, held, mapped, path, around, found), dependent
    except Lost as lost:
        why = f"it goes through {lost}"
    except _Unknown:
        why = f"it goes through {_named(equation)}"
    found.lose([part for parts in held for part in parts], why, around.line(equation))
    return nothing, dependent


class _Unknown(Exception):  # noqa: N818
    """No rule is known for an equation."""


def _simple(
    equation: Equation, held: list[Parts], mapped: list[bool], path: Path, around: _Around, found: Followed
) -> list[Parts]:
    """Move parts, or let them meet."""
    # the norm of a real part is no product of norms
    if any(is_complex(variable.aval) for variable in equation.outvars):
        raise Lost(f"{_named(equation)} with complex numbers")
    outputs = moved(equation, held)
    if outputs is not None:
        if equation.primitive.name not in ("concatenate", "stack") or not any(mapped):
            return outputs
        meeting: Meeting | None = Sum(equation, None)  # part of an array of activations
        parts = outputs[0]
    elif equation.primitive.name in AFFINE and not any(mapped):
        return [(*_spread(equation, held, 0), *_spread(equation, held, 1))]
    else:
        meeting = meeting_at(equation, held, mapped)
        if meeting is None:
            raise _Unknown
        assert meeting.side is not None
        parts = _spread(equation, held, meeting.side) if meeting.by_number else held[meeting.side]
    for part in parts:
        meeting.check(part)
    found.places[path] = Place(meeting, parts, around.scans)
    return [()] * len(equation.outvars)


def _spread(equation: Equation, held: list[Parts], side: int) -> Parts:
    """What an operand of arithmetic holds, said of the result."""
    before, after = equation.invars[side].aval.shape, equation.outvars[0].aval.shape
    sign = -1.0 if equation.primitive.name == "sub" and side == 1 else 1.0
    return tuple(part.spread(before, after).times(sign) for part in held[side])


def _named(equation: Equation) -> str:
    name = equation.primitive.name
    if "call_jaxpr" in equation.params:
        info = getattr(opened(equation.params["call_jaxpr"]).jaxpr, "debug_info", None)
        return f"{info.func_name}, a function with a rule of its own" if info is not None else name
    return name


def _scan(
    equation: Equation, held: list[Parts], mapped: list[bool], path: Path, around: _Around, found: Followed
) -> Outputs:
    """Constants are closed over, rows are gone over; what is carried on unchanged is a constant too."""
    split = scan_split(equation)
    consts, rows = slice(split.consts), slice(sum(split), None)
    carried = range(split.consts, sum(split))
    scan = Scan(path, equation.params["length"], around.chosen)
    inside = around.into(equation, path, (scan,))
    line = around.line(equation)
    given: list[Parts] = [()] * len(held)
    given[consts] = [_entered(parts, "closed over", scan) for parts in held[consts]]
    given[rows] = [_over(parts, scan, line, found) for parts in held[rows]]
    constant = [i for i in carried if held[i]]
    while True:
        for i in carried:
            given[i] = _entered(held[i], "closed over", scan) if i in constant else ()
        of_rows = [any(mapped) if i in carried and i not in constant else flag for i, flag in enumerate(mapped)]
        trial = Followed(dict(found.places), lost=dict(found.lost))
        outputs, _ = _program(inner(equation).jaxpr, given, of_rows, inside, trial)
        changed = [i for i in constant if outputs[i - split.consts] != given[i]]
        if not changed:
            break
        constant = [i for i in constant if i not in changed]
    found.places, found.lost = trial.places, trial.lost
    for i in carried:
        if i not in constant:
            found.lose(held[i], "a scan carries it on, changed", line)
            found.lose(outputs[i - split.consts], "a scan carries it on", line)
    for parts in outputs[split.carried :]:
        found.lose(parts, "a scan returns it at every step", line)
    back: list[Parts] = [held[i] if i in constant else () for i in carried]
    return [*back, *[()] * (len(outputs) - split.carried)], [any(mapped)] * len(outputs)


def _entered(parts: Parts, how: str, scan: Scan) -> Parts:
    level: Level = (how, scan.path, scan.length)
    return tuple(replace(part, levels=(*part.levels, level)) for part in parts)


def _over(parts: Parts, scan: Scan, line: Line | None, found: Followed) -> Parts:
    """A scan goes over the first axis of a leaf that is still as it was."""
    plain = tuple(part for part in parts if part.is_plain)
    found.lose([part for part in parts if not part.is_plain], "a scan goes over a view of it", line)
    rest = tuple(
        replace(Part.whole(part.leaf, part.view.shape[1:]), levels=part.levels, factor=part.factor) for part in plain
    )
    return _entered(rest, "over", scan)


def _cond(
    equation: Equation, held: list[Parts], mapped: list[bool], path: Path, around: _Around, found: Followed
) -> Outputs:
    for number, branch in enumerate(equation.params["branches"]):
        inside = around.into(equation, (*path, number), chosen=True)
        outputs, _ = _program(opened(branch).jaxpr, held[1:], mapped[1:], inside, found)
        for parts in outputs:
            found.lose(parts, "a branch of a cond returns it", around.line(equation))
    return [()] * len(equation.outvars), [any(mapped)] * len(equation.outvars)


def is_complex(array: Any) -> bool:
    """Say whether what has a dtype is of complex numbers."""
    return jnp.issubdtype(array.dtype, jnp.complexfloating)
