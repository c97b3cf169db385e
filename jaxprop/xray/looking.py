"""A second look: the same program, of which a few equations keep all that entered and left them, and their errors.

An error that comes back to a value is a sum over all that used it. So the probes here stand on the inputs of an
equation too, where its own part of that sum passes alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprop.xray.planning import Path, is_real
from jaxprop.xray.probe import probe
from jaxprop.xray.program import Light, Traced, pull
from jaxprop.xray.rewriting import Visitor
from jaxprop.xray.versions import Equation, evaluate


@dataclass(frozen=True)
class Look:
    """What one equation kept, with axes of scans and devices in front.

    inputs, outputs, errors: errors are those of the outputs. parts: by input, the equation's part of its error.
    turn: in a `while`, the number of the first iteration, from 1, with something that is not finite.
    """

    inputs: list[np.ndarray | None]
    outputs: list[np.ndarray | None]
    errors: list[np.ndarray | None]
    parts: dict[int, np.ndarray]
    turn: np.ndarray


def measured_lightly(traced: Traced, places: frozenset[Path], backward: bool) -> tuple[Any, Any]:
    """Run a program once more, with light measures of all values at some places, and of all errors or of none."""
    return _again(traced, Light(places), backward)


def look(traced: Traced, wanted: Mapping[Path, set[int]]) -> dict[Path, Look]:
    """Run a program once more, and keep the arrays of the equations `wanted`, and the errors of their inputs named."""
    seen, landed = _again(traced, _Looking(wanted), any(wanted.values()))
    found = {}
    for path, (inputs, outputs, turn, _) in seen.items():
        parts, errors = landed.get(path, ({}, [None] * len(outputs)))
        found[path] = Look(list(inputs), list(outputs), list(errors), {int(k): e for k, e in parts.items()}, turn)
    return found


def _again(traced: Traced, visitor: Visitor, backward: bool) -> tuple[Any, Any]:
    """Run a program once more, with the way back or without: what was seen, and what landed."""
    flags = [flag and backward for flag in traced.differentiated]

    @jax.jit
    def again(inputs: list[Any]) -> Any:
        pulled = pull(traced._replace(inputs=inputs, differentiated=flags), visitor)
        return pulled.seen, pulled.landed

    return jax.device_get(jax.tree.map(_storable, again(traced.inputs)))


def _storable(array: Any) -> Any:
    """NumPy knows no half precision but float16: take it in float32."""
    half = jnp.issubdtype(array.dtype, jnp.inexact) and array.dtype.itemsize <= 2
    return array.astype(jnp.float32) if half else array


def _whole(kept: Any, error: Any) -> Any:
    return error


class _Looking:
    """Keep what enters and leaves a few equations."""

    def __init__(self, wanted: Mapping[Path, set[int]]) -> None:
        self.wanted = wanted

    def sinks(self, path: Path, equation: Equation, errors: list[bool]) -> Any:
        asked = self.wanted.get(path)
        if not asked:
            return None
        parts = {str(k): _shape(equation.invars[k]) for k in sorted(asked)}
        return parts, [_shape(v) if came else None for v, came in zip(equation.outvars, errors, strict=True)]

    def visit(self, path: Path, equation: Equation, inputs: list[Any], sinks: Any) -> tuple[list[Any], Any]:
        if path not in self.wanted:
            return evaluate(equation, inputs), None
        parts, errors = sinks if sinks is not None else ({}, [None] * len(equation.outvars))
        probed: list[Any] = [
            probe(_whole, x, (), parts[str(k)]) if str(k) in parts else x for k, x in enumerate(inputs)
        ]
        outputs = evaluate(equation, probed)
        bad = [jnp.any(~jnp.isfinite(y)) for y, v in zip(outputs, equation.outvars, strict=True) if is_real(v)]
        any_bad = jnp.any(jnp.stack(bad)) if bad else jnp.zeros((), bool)
        kept = [_kept(x) for x in inputs], [_kept(y) for y in outputs], jnp.ones((), jnp.int32), any_bad
        outputs = [y if e is None else probe(_whole, y, (), e) for y, e in zip(outputs, errors, strict=True)]
        return outputs, kept

    def join(self, before: Any, now: Any) -> Any:
        """Keep the first turn of a `while` that has something not finite; else the last, so that turns are counted."""
        (*kept, turns, bad), (*new, _, new_bad) = before, now
        whole = jax.tree.map(lambda a, b: _chosen(bad, a, b), kept, new)
        return *whole, jnp.where(bad, turns, turns + 1), bad | new_bad


def _chosen(bad: Any, a: Any, b: Any) -> Any:
    return jnp.where(jnp.reshape(bad, bad.shape + (1,) * (a.ndim - bad.ndim)), a, b)


def _kept(x: Any) -> Any:
    x = jnp.asarray(x)
    return None if jnp.issubdtype(x.dtype, jax.dtypes.extended) else x


def _shape(variable: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype)
