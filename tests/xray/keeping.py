"""What lies inside a function, twice: by `jaxprop.xray`'s rewriting with whole arrays kept, and by the witness."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprop.xray.probe import probe
from jaxprop.xray.program import Traced, pull, trace
from jaxprop.xray.versions import evaluate
from tests.xray import witness
from tests.xray.witness import Path


class Keeping:
    """A visitor who keeps every value, and has every error land whole."""

    def sinks(self, path: Path, equation: Any, errors: list[bool]) -> Any:
        return tuple(
            jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) if reached else None
            for v, reached in zip(equation.outvars, errors, strict=True)
        )

    def visit(self, path: Path, equation: Any, inputs: list[Any], sinks: Any) -> tuple[list[Any], Any]:
        outputs = evaluate(equation, inputs)
        seen = tuple(y if jnp.issubdtype(y.dtype, jnp.inexact) else None for y in outputs)
        for i, sink in enumerate(sinks or ()):
            if sink is not None:
                outputs[i] = probe(lambda _, error: error, outputs[i], (), sink)
        return outputs, seen if any(y is not None for y in seen) else None

    def join(self, before: Any, now: Any) -> Any:
        return jax.tree.map(jnp.add, before, now)


class Both(NamedTuple):
    """Two accounts of one function: (value, gradients of the inputs, values, errors), and which places ran."""

    ours: tuple[Any, Any, dict[Path, Any], dict[Path, Any]]
    theirs: tuple[Any, Any, dict[Path, Any], dict[Path, Any]]
    taken: dict[Path, Any]


def both(f: Callable[..., Any], *args: Any) -> tuple[Traced, Both]:
    """Look into f with respect to its first argument, in one program."""
    traced = trace(f, 0, args, {})
    asked = [i for i, flag in enumerate(traced.differentiated) if flag]

    def look(inputs: list[Any]) -> Both:
        pulled = pull(traced._replace(inputs=inputs), Keeping())
        ours = pulled.value, [pulled.gradients[i] for i in asked], pulled.seen, pulled.landed

        def unrolled(leaves: list[Any], added: dict[Path, Any]) -> Any:
            given = list(inputs)
            for i, leaf in zip(asked, leaves, strict=True):
                given[i] = leaf
            outputs, seen = witness.evaluate(traced.jaxpr, traced.consts, given, added)
            return outputs[0], seen

        leaves = [jnp.asarray(inputs[i]) for i in asked]
        shapes = jax.eval_shape(lambda leaves: unrolled(leaves, {})[1].values, leaves)
        whiles = _whiles(traced.jaxpr)
        added = {
            path: jax.tree.map(lambda y: jnp.zeros(y.shape, y.dtype), values)
            for path, values in shapes.items() if not any(path[: len(w)] == w for w in whiles)
        }  # fmt: skip
        value, back, seen = jax.vjp(lambda *given: _aux(unrolled(*given)), leaves, added, has_aux=True)
        gradients, errors = back(jnp.ones_like(value))
        values, taken = seen
        return Both(ours, (value, gradients, values, errors), taken)

    return traced, jax.tree.map(np.asarray, jax.jit(look)(traced.inputs))


def _aux(result: tuple[Any, witness.Seen]) -> Any:
    value, seen = result
    return value, (seen.values, seen.taken)


def _whiles(jaxpr: Any, path: Path = ()) -> list[Path]:
    """List the places of whiles, through which no error comes."""
    found = []
    for number, equation in enumerate(jaxpr.eqns):
        here = (*path, number)
        if equation.primitive.name == "while":
            found.append(here)
        for program in jax.tree.leaves(list(equation.params.get(key) for key in ("jaxpr", "call_jaxpr"))):
            found += _whiles(getattr(program, "jaxpr", program), here)
        for branch, program in enumerate(equation.params.get("branches", ())):
            found += _whiles(getattr(program, "jaxpr", program), (*here, branch))
    return found


def agree(found: Both) -> None:
    """Check that both accounts say the same: values, gradients, what every equation computes and every cotangent."""
    (value, gradients, values, errors), (value_, gradients_, values_, errors_) = found.ours, found.theirs
    overall = max((_largest(e) for es in errors_.values() for e in es if e is not None), default=1.0)
    close(value, value_)
    for i, (mine, other) in enumerate(zip(gradients, gradients_, strict=True)):
        close(mine, other, f"gradient {i}", overall)
    assert set(values) == {path for path, outputs in values_.items() if any(y is not None for y in outputs)}
    for path, outputs in values.items():
        for mine, other in zip(outputs, values_[path], strict=True):
            if mine is not None:
                close(mine, _ran(other, found.taken[path], mine.ndim), f"value at {path}")
    for path, outputs in errors.items():
        for mine, other in zip(outputs, errors_[path], strict=True):
            if mine is not None:
                close(mine, other, f"error at {path}", overall)


def _ran(value: Any, taken: Any, rank: int) -> Any:
    """Take zeros where a branch did not run, and the sum over the turns of a while."""
    ran = np.where(taken.reshape(taken.shape + (1,) * (value.ndim - taken.ndim)), value, 0)
    return ran.sum(taken.ndim - 1) if value.ndim > rank else ran


def close(mine: Any, other: Any, what: str = "value of f", overall: float = 0.0) -> None:
    """Compare in parts of the largest number, in the precision of the numbers.

    overall: the largest error of all; what cancels to nothing, such as the gradient of a key's bias, is its rounding.
    """
    assert mine.shape == other.shape and mine.dtype == other.dtype, (what, mine.shape, other.shape)
    rtol = 1e-12
    if mine.dtype in (np.float32, np.complex64):
        rtol = 1e-6
    elif mine.dtype.itemsize < 4:
        rtol = 1e-2
    wide = np.complex128 if np.iscomplexobj(mine) else np.float64
    tolerance = rtol * (_largest(other) + 1e-3 * overall) + 1e-300
    np.testing.assert_allclose(mine.astype(wide), other.astype(wide), rtol=0, atol=tolerance, err_msg=what)


def _largest(array: Any) -> float:
    return float(np.max(np.abs(array), initial=0))
