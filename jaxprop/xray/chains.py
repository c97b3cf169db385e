"""The way from where a number was made to what the user sees, and what lies beside it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxprop.xray.flow import Flow, Node
from jaxprop.xray.marks import NAN, Marks, is_layout
from jaxprop.xray.planning import Path
from jaxprop.xray.sites import LAYOUT, Site

Sites = Mapping[Path, Site]
DROPS = {"select_n": "where", "max": "maximum", "min": "minimum", "clamp": "clip"}


def chain_of_values(marks: Marks, sites: Sites, path: Path, outputs: Iterable[int]) -> tuple[str, ...]:
    """Follow a value that is not finite to the outputs: the lines that it passes."""

    def onward(at: Path) -> Iterable[Path]:
        for number in marks.flow.nodes[at].outputs:
            for reached in with_arrivals(marks.flow, number):
                yield from (user for user, _ in marks.flow.used.get(reached, ()))

    def is_bad(at: Path) -> int:
        return max((marks.value(number, {}) for number in marks.flow.nodes[at].outputs), default=0)

    ends = {p for n in outputs for p in _makers(marks.flow, n)}
    return _said(_way(path, onward, is_bad, ends), is_bad, sites)


def chain_of_errors(
    marks: Marks, sites: Sites, path: Path, position: int, arguments: Iterable[Path]
) -> tuple[str, ...]:
    """Follow an error that is not finite to a gradient: the lines that it passes."""
    flow = marks.flow

    def onward(at: Path) -> Iterable[Path]:
        node = flow.nodes[at]
        inputs = node.inputs[position : position + 1] if at == path else node.inputs
        for number in inputs:
            yield from _makers(flow, number)

    def is_bad(at: Path) -> int:
        if at in marks.errors:
            return marks.error(at, {})
        return 1 if is_layout(flow.nodes[at]) else 0

    return _said(_way(path, onward, is_bad, set(arguments)), is_bad, sites)


def _way(
    start: Path, onward: Callable[[Path], Iterable[Path]], is_bad: Callable[[Path], int], ends: set[Path]
) -> list[Path]:
    """The shortest way through what is not finite, without its start."""
    came: dict[Path, Path | None] = {start: None}
    queue = [start]
    for at in queue:
        if at in ends and at != start:
            way: list[Path] = []
            here: Path | None = at
            while here is not None and here != start:
                way.append(here)
                here = came[here]
            return way[::-1]
        for after in onward(at):
            if after not in came and is_bad(after):
                came[after] = at
                queue.append(after)
    return []


def _said(way: list[Path], is_bad: Callable[[Path], int], sites: Sites) -> tuple[str, ...]:
    """A place where infinity turns into NaN is said, and of the others the last."""
    said: list[str] = []
    before = None
    for path in way:
        site, kind = sites[path], "NaN" if is_bad(path) & NAN else "∞"
        if site.line is None or path[0] == -1 or site.primitive in LAYOUT:
            continue
        if kind != before:
            said.append(f"{kind} in {site.primitive} at {site.line}")
        before = kind
    return tuple(said[:3])


def with_arrivals(flow: Flow, number: int) -> set[int]:
    """List the numbers that a value has on its way: that of a loop's next step too."""
    found, stack = set(), [number]
    while stack:
        here = stack.pop()
        if here not in found:
            found.add(here)
            stack += [target for target, _ in flow.leads.get(here, ())]
    return found


def _makers(flow: Flow, number: int) -> set[Path]:
    found, stack, seen = set(), [number], set()
    while stack:
        here = stack.pop()
        if here in seen:
            continue
        seen.add(here)
        if here in flow.made:
            found.add(flow.made[here][0])
        stack += [arrival.source for arrival in flow.arrivals.get(here, ())]
    return found


def where_after(flow: Flow, sites: Sites, path: Path) -> str:
    """Find the `where` (or maximum, or clip) that an equation's result goes to, element by element: its line."""
    queue, seen = [(path, 0)], {path}
    for at, depth in queue:
        for number in flow.nodes[at].outputs:
            for reached in with_arrivals(flow, number):
                for user, place in flow.used.get(reached, ()):
                    node = flow.nodes[user]
                    if node.primitive in DROPS and (place > 0 or node.primitive != "select_n"):
                        return f"{DROPS[node.primitive]} at {sites[user].line or sites[user].scope}"
                    if user not in seen and depth < 20 and _is_elementwise(node):
                        seen.add(user)
                        queue.append((user, depth + 1))
    return ""


def _is_elementwise(node: Node) -> bool:
    equation: Any = node.equation
    shape = equation.outvars[0].aval.shape
    return is_layout(node) or all(getattr(v.aval, "shape", ()) in (shape, ()) for v in equation.invars)


def follows_sum(flow: Flow, node: Node) -> bool:
    """Say whether what enters an equation is a sum of squares, as under the root of a norm; or divides by such a root.

    The norm of a tree is the root of a sum of sums.
    """
    if node.primitive == "div":
        root = _maker(flow, node.inputs[1:], ("sqrt",), ())
        return root is not None and follows_sum(flow, root)
    sums = ("reduce_sum", "dot_general")
    return node.primitive in ("sqrt", "rsqrt") and _maker(flow, node.inputs, sums, ("add", "add_any")) is not None


def _maker(flow: Flow, numbers: Iterable[int], primitives: Iterable[str], through: Iterable[str]) -> Node | None:
    """Find an equation of some kinds from which numbers come, moved only, or through equations of other kinds."""
    stack = list(numbers)
    while stack:
        path, _ = flow.made.get(stack.pop(), ((), 0))
        before = flow.nodes.get(path)
        if before is None:
            continue
        if before.primitive in primitives:
            return before
        if is_layout(before) or before.primitive in through:
            stack += before.inputs
    return None
