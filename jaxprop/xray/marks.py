"""Where measured values and errors are not finite, step by step: what a search through the flow asks for."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxprop.xray.flow import Arrival, Flow, Loop, Node
from jaxprop.xray.measures import not_finite
from jaxprop.xray.planning import Path
from jaxprop.xray.sites import LAYOUT

INF, NAN = 1, 2
MOST_STEPS = 1000  # as many steps of a loop are looked into: what was made once goes on being there
Steps = Mapping[Path, int]  # of the loops around, by the loop's own path; a loop that is missing stands for any step
Use = tuple[Path, int, Steps]  # an equation, which of its inputs, and in which step
Measures = Mapping[Path, tuple[Any, ...]]


def marks_of(measured: np.ndarray) -> np.ndarray:
    """Say of each measure whether it has infinities (1), NaN (2) or both (3): `[*axes]`."""
    nan, inf = not_finite(measured)
    return nan * NAN + inf * INF


def marks_of_array(array: Any) -> int:
    """Say so of an array, or of a number that stands in a program."""
    dtype = getattr(array, "dtype", None) or np.result_type(array)
    if not np.issubdtype(dtype, np.inexact) and "float" not in str(dtype):
        return 0
    array = np.asarray(array)
    array = array if np.issubdtype(array.dtype, np.inexact) else array.astype(np.float32)
    return int(np.isnan(array).any()) * NAN + int(np.isinf(array).any()) * INF


def explained_by(bit: int) -> int:
    """Give the marks that must not enter where a number of this mark was made: of NaN comes NaN, of infinity either."""
    return NAN if bit == NAN else NAN | INF


def axes(node: Node) -> list[Loop]:
    """List the loops that a node's readings have axes for."""
    return [loop for loop in node.loops if loop.has_axis]


def when(node: Node, steps: Steps) -> tuple[Any, ...]:
    """Make a key that orders nodes and steps as they run; devices of a shard_map, which run together, come last."""
    key: list[int] = []
    depth = 0
    devices = []
    for loop in axes(node):
        if loop.kind == "shard_map":
            devices.append(steps.get(loop.path, 0))
            continue
        key += node.path[depth : len(loop.path)]
        step = steps.get(loop.path, 0)
        key.append(loop.length - 1 - step if loop.reverse else step)
        depth = len(loop.path)
    return (*key, *node.path[depth:]), tuple(devices)


class Marks:
    """What is known of values and errors of a flow: which are not finite, and how."""

    def __init__(self, flow: Flow, values: Measures, errors: Measures, is_sparse: bool = False) -> None:
        """is_sparse: not everything was measured, and what was not hands on what enters."""
        self.flow, self.is_sparse = flow, is_sparse
        self.values = {p: [None if m is None else marks_of(np.asarray(m)) for m in ms] for p, ms in values.items()}
        self.errors = {p: [None if m is None else marks_of(np.asarray(m)) for m in ms] for p, ms in errors.items()}
        self._known = {number: marks_of_array(value) for number, value in flow.known.items()}

    def value(self, number: int, steps: Steps, above: frozenset[int] = frozenset()) -> int:
        """Mark a value in a step; what only moves numbers has the marks of what enters it."""
        if number in self._known:
            return self._known[number]
        if number in above:
            return 0
        found = 0
        for arrival in self.flow.arrivals.get(number, ()):
            if (there := earlier(arrival, steps)) is not None:
                found |= self.value(arrival.source, there, above | {number})
        if number not in self.flow.made:
            return found
        path, place = self.flow.made[number]
        node, read = self.flow.nodes[path], self.values.get(path, [None] * (place + 1))[place]
        if any(not loop.has_axis and loop.path in steps for loop in node.loops):
            return 0
        if read is not None:
            return self.read(read, node, steps)
        if is_layout(node) or self.is_sparse:
            for source in node.inputs:
                found |= self.value(source, steps, above | {number})
        return found

    def error(self, path: Path, steps: Steps) -> int:
        """Mark the errors of an equation's outputs in a step."""
        node = self.flow.nodes[path]
        return int(np.bitwise_or.reduce([self.read(m, node, steps) for m in self.errors[path] if m is not None] or [0]))

    def read(self, marks: np.ndarray, node: Node, steps: Steps) -> int:
        """Put together the marks of the steps that are meant."""
        index = tuple(steps.get(loop.path, slice(None)) for loop in axes(node))
        return int(np.bitwise_or.reduce(np.ravel(marks[index]), initial=0))

    def steps_of(self, path: Path, marks: list[np.ndarray | None], bit: int, backward: bool = False) -> Iterator[Steps]:
        """List the steps in which an equation has this mark, in the order in which they run (or the other way)."""
        node = self.flow.nodes[path]
        any_output = np.bitwise_or.reduce([m for m in marks if m is not None])
        # of the turns of a `while` it is not known which one made what: a second look tells
        turns = {loop.path: 0 for loop in node.loops if not loop.has_axis}
        found = [
            turns | {loop.path: int(i) for loop, i in zip(axes(node), index, strict=True)}
            for index in np.argwhere(np.asarray(any_output) & bit)
        ]
        yield from sorted(found, key=lambda steps: when(node, steps), reverse=backward)[:MOST_STEPS]

    def uses(self, number: int, steps: Steps, via: frozenset[Path] = frozenset(), above: frozenset[int] = frozenset()):
        """Find the equations to which a value goes and that have errors: (use, the layout equations between)."""
        if number in above:
            return
        above = above | {number}
        for path, place in self.flow.used.get(number, ()):
            node = self.flow.nodes[path]
            if any(m is not None for m in self.errors.get(path, ())):
                yield (path, place, steps), via
            elif is_layout(node) or self.is_sparse:
                for output in node.outputs:
                    yield from self.uses(output, steps, via | {path}, above)
        for target, arrival in self.flow.leads.get(number, ()):
            if (there := later(arrival, steps)) is not None:
                yield from self.uses(target, there, via, above)


def is_layout(node: Node) -> bool:
    """Say whether an equation only moves numbers, and is not measured."""
    return node.primitive in LAYOUT


def earlier(arrival: Arrival, steps: Steps) -> Steps | None:
    """Give the step in which a value was made that arrives in this one; None where it does not."""
    loop = arrival.loop
    if arrival.when == "same" or loop is None or loop.path not in steps:
        return steps
    before = steps[loop.path] + (1 if loop.reverse else -1)
    is_first = not loop.has_axis or not 0 <= before < loop.length
    if arrival.when == "start":
        return {path: step for path, step in steps.items() if path != loop.path} if is_first else None
    return None if is_first else {**steps, loop.path: before}


def later(arrival: Arrival, steps: Steps) -> Steps | None:
    """Give the step in which a value arrives that was made in this one; None where it does not."""
    loop = arrival.loop
    if arrival.when == "same" or loop is None or not loop.has_axis or not loop.length:
        return steps
    if arrival.when == "start":
        return {**steps, loop.path: loop.length - 1 if loop.reverse else 0}
    if loop.path not in steps:
        return steps
    after = steps[loop.path] + (-1 if loop.reverse else 1)
    return {**steps, loop.path: after} if 0 <= after < loop.length else None
