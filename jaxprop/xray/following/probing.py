"""The visitor that lets an activation and the error that met it land, wherever a parameter is used."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.xray.following.follow import Place
from jaxprop.xray.following.kernels import convolved
from jaxprop.xray.planning import Path
from jaxprop.xray.probe import probe
from jaxprop.xray.versions import Equation, evaluate

Shape = jax.ShapeDtypeStruct


class Probing:
    """Puts a probe behind every meeting; what lands are the other operand and the error."""

    def __init__(self, places: dict[Path, Place], kernels: Collection[Path], enter: Any) -> None:
        self.places, self.kernels, self.enter = places, kernels, enter

    def sinks(self, path: Path, equation: Equation, errors: list[bool]) -> Any:
        """Want what lands at a meeting."""
        return landing(self.places[path]) if path in self.places else None

    def visit(self, path: Path, equation: Equation, inputs: list[Any], sinks: Any) -> tuple[list[Any], Any]:
        """Evaluate an equation; at a meeting, with a probe behind it."""
        if path in self.kernels:
            outputs = [convolved(equation, *inputs)]
        else:
            outputs = evaluate(equation, inputs)
        if sinks is None:
            return outputs, None
        meeting = self.places[path].meeting
        kept = () if meeting.kept is None else jnp.asarray(inputs[meeting.kept])
        ids = None if meeting.counted is None else inputs[meeting.counted]
        return [probe(_land, outputs[0], kept, sinks)], ids

    def join(self, before: Any, now: Any) -> Any:
        """See nothing in a `while`: errors do not come back through it."""


def landing(place: Place, among: Collection[Path] = ()) -> dict[str, Shape]:
    """Give the shapes of what lands at a place, with the steps of the scans around, but for those in `among`."""
    meeting = place.meeting
    steps = [scan.length for scan in place.scans if scan.path not in among]
    variables = {"delta": meeting.equation.outvars[0]}
    if meeting.kept is not None:
        variables["a"] = meeting.equation.invars[meeting.kept]
    return {name: Shape((*steps, *v.aval.shape), v.aval.dtype) for name, v in variables.items()}


def _land(kept: Any, error: Array) -> dict[str, Array]:
    return {"delta": error} if isinstance(kept, tuple) else {"delta": error, "a": kept}
