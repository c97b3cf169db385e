"""The whole battery on one layer in one call."""

import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from jaxprop.check import contract
from jaxprop.check.report import TINY, Check, LayerReport
from jaxprop.check.subject import At, in_float64
from jaxprop.check.witnesses import WITNESSES, Inputs, compute
from jaxprop.checks import is_floating
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer


def check_layer(
    layer: Layer, x: PyTree, params: PyTree = None, *, key: Key[Array, ""] | None = None, env: Env | None = None
) -> LayerReport:
    """Try everything that a layer must be and do, at inputs x `[N, ...]`, and say what is wrong, down to the factor.

    The contract (frozen, hashable, plain settings, saved and loaded back; shapes and dtypes), the backward pass
    against `jax.vjp`, central differences and ⟨Jv, w⟩ = ⟨v, Jᵀw⟩ in float64, its linearity in dy, the uses against
    `jax.vmap(jax.grad)`, jit, vmap, a `Repeat`, float32 and bfloat16, and that an equal layer compiles nothing. What is
    wrong elsewhere than at these x, and on several devices, is not seen. All of it is one compiled program.

    params: θ; without it, what `layer.init(key, x)` draws, moved a little so that zeros and ones are no special case.
    env: rng and mask, where the layer takes them. Give x of more than one example, small, and with positions
    `[N, T, I]` if the layer takes them: a sum over T that is missing shows only there.

    Returns a report: `.ok`, `.rows` and `.wrong`; `print(report)` is a table. An error that the layer raises is a
    failed check. Raises JaxpropError if it is no Layer, ShapeError for fewer than two examples.

    >>> import jaxprop as jp
    >>> x = jax.random.normal(jax.random.key(0), (4, 3))
    >>> check_layer(jp.Tanh(), x).ok
    True
    """
    if not isinstance(layer, Layer):
        raise JaxpropError(f"check_layer: found {type(layer).__name__}, expected a Layer such as MyLayer(...)")
    x = jax.tree.map(jnp.asarray, x)
    shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
    examples = {shape[:1] for shape in shapes}
    if len(examples) != 1 or examples <= {(), (0,), (1,)}:
        raise ShapeError(
            f"check_layer: found x of shapes {shapes}, expected [N, ...] with one N ≥ 2: with one example a wrong "
            "division by N does not show"
        )
    rows: list[Check] = []
    _try(rows, "a frozen dataclass", lambda: contract.frozen(layer))
    _try(rows, "hashable, equal to its copy", lambda: contract.hashable(layer))
    _try(rows, "settings are plain JSON", lambda: contract.settings(layer))
    drawn = [params]
    if params is None:
        drawn = []
        _try(rows, "init(key, x)", lambda: drawn.append(_draw(layer, x, key)) or ())
    if drawn:
        with jax.enable_x64(True):
            _numbers(rows, layer, At(in_float64(x), in_float64(drawn[0]), env, None))
        _try(rows, "saved and loaded back", lambda: contract.comes_back(layer, x, drawn[0], env))
    return LayerReport(repr(layer), tuple(rows))


def _numbers(rows: list[Check], layer: Layer, at: At) -> None:
    """Everything that is computed, in float64; nothing after shapes that are wrong."""
    if not _try(rows, "y is [N, ...]", lambda: contract.answers_by_example(layer, at)):
        return
    y = jax.eval_shape(layer, *at[:3])
    if not is_floating(y):
        rows.append(Check("backward", "", f"y is of {y.dtype.name}: nothing to differentiate", "", None))
        return
    at = at._replace(dy=jnp.asarray(np.random.default_rng(7).normal(size=y.shape), y.dtype))
    if not _try(rows, "dx is like x", lambda: contract.shapes(layer, at)):
        return
    _try(rows, "float32 in, float32 out", lambda: contract.dtypes(layer, at))
    found = compute(layer, Inputs.of(at), WITNESSES)
    for witness in WITNESSES:
        for name in witness.names:
            match found.get(name):
                case None:  # of several names the first one tells what was raised
                    pass
                case str(why):
                    rows.append(Check(name, "", why, "", None))
                case Exception() as error:
                    rows.append(_raised(name, error))
                case numbers:
                    _try(rows, name, functools.partial(witness.judge, name, numbers, layer, at, TINY))
    _try(rows, "an equal layer compiles nothing", lambda: contract.compiles_once(layer, at))


def _draw(layer: Layer, x: PyTree, key: Key[Array, ""] | None) -> PyTree:
    """θ from `init`, each array moved by a little noise."""
    rng, params = np.random.default_rng(5), layer.init(jax.random.key(0) if key is None else key, x)
    return jax.tree.map(lambda p: jnp.asarray(np.asarray(p) + 0.1 * rng.normal(size=p.shape), p.dtype), params)


def _try(rows: list[Check], name: str, check: Callable[[], Iterable[Check]]) -> bool:
    """Add what a check says, and whether all of it passed; what the layer raises is said as well."""
    before = len(rows)
    try:
        for row in check():
            rows.append(row)
    except Exception as error:  # whatever a layer under test may do
        rows.append(_raised(name, error))
    return all(row.ok is not False for row in rows[before:])


def _raised(name: str, error: Exception) -> Check:
    said = str(error).strip().splitlines() or [""]
    return Check(name, "", f"raised {type(error).__name__}: {said[0][:200]}", "", False)
