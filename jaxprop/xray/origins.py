"""Which equations made what is not finite of finite numbers: found in the marks alone, before anything runs again.

Forward, a value that is NaN is followed back to the equations of whose inputs none is NaN. If an infinity enters there,
that one is followed to where it was made. What was masked on the way is not on the path: it is never looked at.
Errors are followed the other way: from a gradient that is NaN towards the cost.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxprop.xray.marks import INF, NAN, Marks, Steps, Use, axes, explained_by, is_layout, when
from jaxprop.xray.planning import Path

MOST = 5  # as many origins are looked into


@dataclass(frozen=True)
class Origin:
    """Where a number that is not finite may have been made.

    path, steps: the equation and the step. bit: NAN or INF.
    uses: on the way back: the equations whose parts of the error meet there. layouts: those between.
    infinite: where an infinity that enters was made, the first one first.
    dropped: on the way back: where a NaN was made that is among the values there, and is dropped later on.
    """

    path: Path
    steps: Steps
    bit: int
    uses: tuple[Use, ...] = ()
    layouts: frozenset[Path] = frozenset()
    infinite: tuple["Origin", ...] = ()
    dropped: tuple["Origin", ...] = ()


def of_values(marks: Marks, outputs: Iterable[int]) -> list[Origin]:
    """Find where the NaN in some outputs was made, or if there is none the infinities; in the order of the program."""
    outputs = list(outputs)
    return _value_origins(marks, outputs, NAN) or _value_origins(marks, outputs, INF)


def _value_origins(marks: Marks, numbers: Iterable[int], bit: int, deep: bool = True) -> list[Origin]:
    live = _live_values(marks, numbers, bit)
    found = []
    for path in live:
        node = marks.flow.nodes[path]
        steps = _first_step(marks, path, bit)
        if steps is None:
            continue
        infinite: tuple[Origin, ...] = ()
        if bit == NAN and deep:
            sources = [n for n in node.inputs if marks.value(n, steps) & INF]
            infinite = tuple(_value_origins(marks, sources, INF, deep=False)[:2])
        steps = {} if node.in_while else steps
        found.append(Origin(path, steps, bit, (), _layouts_before(marks, node.inputs), infinite))
    found.sort(key=lambda origin: when(marks.flow.nodes[origin.path], origin.steps))
    return [origin for i, origin in enumerate(found) if i < MOST or marks.flow.nodes[origin.path].in_while]


def _first_step(marks: Marks, path: Path, bit: int) -> Steps | None:
    """Find the first step in which an equation made it, and not one in which it was dropped right there, if it can."""
    node, bad, first = marks.flow.nodes[path], explained_by(bit), None
    for steps in marks.steps_of(path, marks.values[path], bit):
        if any(marks.value(number, steps) & bad for number in node.inputs):
            continue
        if not axes(node) or _goes_on(marks, path, steps):
            return steps
        first = steps if first is None else first
    return first


def _goes_on(marks: Marks, path: Path, steps: Steps) -> bool:
    """Say whether what was made in a step of a scan is handed on in it: a `where`, say, may drop it."""
    stack, seen = list(marks.flow.nodes[path].outputs), set()
    used = False
    while stack:
        number = stack.pop()
        if number in seen:
            continue
        seen.add(number)
        for user, _ in marks.flow.used.get(number, ()):
            used = True
            if any(marks.value(output, steps) for output in marks.flow.nodes[user].outputs):
                return True
        for target, arrival in marks.flow.leads.get(number, ()):
            if arrival.when != "same":
                return True
            stack.append(target)
    return not used


def _live_values(marks: Marks, numbers: Iterable[int], bit: int) -> list[Path]:
    """Follow values that are not finite back through the program; list the measured equations on the way."""
    stack, seen, live = list(numbers), set(), {}
    while stack:
        number = stack.pop()
        if number in seen or not marks.value(number, {}) & bit:
            continue
        seen.add(number)
        stack += [arrival.source for arrival in marks.flow.arrivals.get(number, ())]
        if number in marks.flow.made:
            path, _ = marks.flow.made[number]
            stack += marks.flow.nodes[path].inputs
            if path in marks.values:
                live[path] = True
    return list(live)


def _layouts_before(marks: Marks, numbers: Iterable[int]) -> frozenset[Path]:
    found: set[Path] = set()
    stack = list(numbers)
    while stack:
        number = stack.pop()
        stack += [arrival.source for arrival in marks.flow.arrivals.get(number, ()) if arrival.when == "same"]
        path, _ = marks.flow.made.get(number, ((), 0))
        if path in marks.flow.nodes and is_layout(marks.flow.nodes[path]) and path not in found:
            found.add(path)
            stack += marks.flow.nodes[path].inputs
    return frozenset(found)


def before_outputs(marks: Marks, outputs: Iterable[int]) -> list[Origin]:
    """Where all that was measured is finite and an output is not, it was made in a cast at the end."""
    layouts = _layouts_before(marks, outputs)
    if not layouts:
        return []
    last = max(layouts, key=lambda path: when(marks.flow.nodes[path], {}))
    return [Origin(last, {}, NAN | INF, (), layouts)]


def of_errors(marks: Marks, arguments: Iterable[Path]) -> list[Origin]:
    """Find where the NaN in some gradients was made, or if there is none the infinities; the first on the way back."""
    arguments = list(arguments)
    return _error_origins(marks, arguments, NAN) or _error_origins(marks, arguments, INF)


def _error_origins(marks: Marks, paths: Iterable[Path], bit: int, deep: bool = True) -> list[Origin]:
    found = []
    for path in _live_errors(marks, paths, bit):
        node = marks.flow.nodes[path]
        for steps in marks.steps_of(path, marks.errors[path], bit, backward=True):
            pairs = [pair for number in node.outputs for pair in marks.uses(number, steps)]
            uses = [use for use, _ in pairs]
            back = [marks.error(use[0], use[2]) for use in uses]
            if any(mark & explained_by(bit) for mark in back):
                continue
            infinite: tuple[Origin, ...] = ()
            if bit == NAN and deep and any(mark & INF for mark in back):
                sources = [use[0] for use, mark in zip(uses, back, strict=True) if mark & INF]
                infinite = tuple(_error_origins(marks, sources, INF, deep=False)[:2])
            layouts = frozenset().union(*(via for _, via in pairs))
            entering = [(number, use[2]) for use in uses for number in marks.flow.nodes[use[0]].inputs]
            nans = [number for number, there in entering if bit == NAN and marks.value(number, there) & NAN]
            dropped = tuple(_value_origins(marks, nans, NAN)[:1])
            found.append(Origin(path, steps, bit, tuple(uses), layouts, infinite, dropped))
            break
    return sorted(found, key=lambda each: when(marks.flow.nodes[each.path], each.steps), reverse=True)[:MOST]


def _live_errors(marks: Marks, paths: Iterable[Path], bit: int) -> list[Path]:
    """Follow errors that are not finite back towards the cost; list the equations (or arguments) that they came to."""
    stack, live = list(paths), {}
    while stack:
        path = stack.pop()
        if path in live or not marks.error(path, {}) & bit:
            continue
        live[path] = True
        for number in marks.flow.nodes[path].outputs:
            stack += [use[0] for use, _ in marks.uses(number, {})]
    return list(live)
