"""What a second look kept, step by step; and a third one, into a function with a rule of its own."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxprop.xray.causes import Cause, Local
from jaxprop.xray.chains import follows_sum, where_after
from jaxprop.xray.flow import Flow, Node
from jaxprop.xray.looking import Look
from jaxprop.xray.marks import Steps, axes, marks_of_array, when
from jaxprop.xray.origins import Origin
from jaxprop.xray.planning import Path
from jaxprop.xray.rewriting import unseen
from jaxprop.xray.sites import Site
from jaxprop.xray.versions import opened


class Kept(NamedTuple):
    """Hold what was kept of some equations of a program, by their paths."""

    flow: Flow
    sites: Mapping[Path, Site]
    looks: Mapping[Path, Look]

    def bad_steps(self, path: Path, origin: Origin) -> Iterator[Steps]:
        """Give the steps of an equation, as far as the origin's say, in which an output has the origin's mark."""
        if path not in self.looks:
            return
        node, kept = self.flow.nodes[path], self.looks[path]
        for steps in sorted(self.all_steps(path, origin.steps), key=lambda steps: self.turn(path, steps)):
            outputs = [self.at(a, node, steps) for a in kept.outputs if a is not None]
            if any(marks_of_array(a) & origin.bit for a in outputs):
                yield steps

    def all_steps(self, path: Path, steps: Steps, backward: bool = False) -> list[Steps]:
        """List the steps of an equation that are among these, in the order in which they run (or the other way)."""
        node, shape = self.flow.nodes[path], self.looks[path].turn.shape
        loops = [loop.path for loop in axes(node)]
        each = [[steps[loop]] if loop in steps else range(n) for loop, n in zip(loops, shape, strict=True)]
        every = [dict(zip(loops, index, strict=True)) for index in itertools.product(*each)]
        return sorted(every, key=lambda steps: when(node, steps), reverse=backward)

    def at(self, array: np.ndarray, node: Node, steps: Steps) -> np.ndarray:
        """Take the step of an array that was kept of all."""
        return np.asarray(array)[tuple(steps[loop.path] for loop in axes(node))]

    def turn(self, path: Path, steps: Steps) -> int:
        """Give the iteration of a `while` in which something was not finite first; 0 outside of any."""
        if path not in self.looks:
            return 0
        node = self.flow.nodes[path]
        return int(self.at(self.looks[path].turn, node, steps)) if node.in_while else 0

    def local(self, path: Path, steps: Steps, place: int | None = None) -> Local:
        """Give an equation's arrays in one step; with `place`, the input whose error is looked at."""
        node, kept, site = self.flow.nodes[path], self.looks[path], self.sites[path]

        def taken(arrays: list[Any]) -> list[Any]:
            return [None if a is None else self.at(a, node, steps) for a in arrays]

        equation: Any = node.equation
        of = equation.invars[place] if place is not None else equation.outvars[0]
        name = site.primitive.partition(" ")[2] or (node.primitive if node.primitive.startswith("custom_") else "")
        return Local(
            node.primitive, equation.params, taken(kept.inputs), taken(kept.outputs), taken(kept.errors), place,
            None if place is None else self.at(kept.parts[place], node, steps), str(of.aval.dtype), site.around,
            where_after(self.flow, self.sites, path) if place is not None else "", follows_sum(self.flow, node), name,
        )  # fmt: skip

    def inside(self, path: Path, local: Local) -> Cause | None:
        """Look into a function with a rule of its own, which ran as one equation: at what it computes, not its rule."""
        from jaxprop.xray.report import report  # which imports `nonfinite`, and that this file

        equation: Any = self.flow.nodes[path].equation
        if not local.name or "call_jaxpr" not in equation.params or any(array is None for array in local.inputs):
            return None
        of = [getattr(v.aval, "dtype", None) for v in equation.invars]
        inputs = [np.asarray(array).astype(dtype) for array, dtype in zip(local.inputs, of, strict=True)]
        inner = opened(equation.params["call_jaxpr"])
        found = report(lambda *given: unseen(inner, list(given)), None)(*inputs).nonfinite()
        if not found:
            return None
        first = found[0]
        if "slogdet" in local.name and first.cause == "log at 0":
            return Cause("singular matrix", f"the determinant in {local.name} is 0", "A + jitter * jnp.eye(n)")
        return Cause(first.cause, f"inside {local.name}, in {first.primitive}: {first.why}", first.instead)
