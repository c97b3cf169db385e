"""The whole battery on one layer in one call."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.check import contract, rules
from jaxprop.check.report import Check, LayerReport
from jaxprop.check.subject import At, as_dtype
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer

NUMBERS = (
    ("forward is the call", rules.forward_is_the_call),
    ("jax.vjp", rules.vjp),
    ("central differences", rules.differences),
    ("⟨Jv, dy⟩ = ⟨v, dx⟩", rules.adjoint),
    ("linear in dy", rules.linear),
    ("no example sees another", rules.alone),
    ("per-example gradients", rules.uses),
    ("jit is eager", rules.jit),
    ("vmap over x and θ", rules.vmap),
    ("twice, in a Repeat", rules.repeat),
    ("dtype in, dtype out", rules.dtypes),
    ("an equal layer compiles nothing", rules.compiles_once),
)


def check_layer(
    layer: Layer, x: Any, params: Any = None, *, key: Array | None = None, env: Env | None = None
) -> LayerReport:
    """Try everything that a layer must be and do, at inputs x `[N, ...]`, and say what is wrong, down to the factor.

    The contract (frozen, hashable, plain settings, saved and loaded back; shapes and dtypes), the backward pass
    against `jax.vjp`, central differences and ⟨Jv, w⟩ = ⟨v, Jᵀw⟩ in float64, its linearity in dy, the uses against
    `jax.vmap(jax.grad)`, jit, vmap, a `Repeat`, float32 and bfloat16, and that an equal layer compiles nothing. What is
    wrong elsewhere than at these x, and on several devices, is not seen.

    params: θ; without it, what `layer.init(key, x)` draws, moved a little so that zeros and ones are no special case.
    env: rng and mask, where the layer takes them. Give x of more than one example, small, and with positions
    `[N, T, I]` if the layer takes them: a sum over T that is missing shows only there. An error that the layer raises
    is a failed check. Raises JaxpropError if it is no Layer, ShapeError for fewer than two examples.

    >>> import jaxprop as jp
    >>> x = jax.random.normal(jax.random.key(0), (4, 3))
    >>> check_layer(jp.Tanh(), x).ok
    True
    """
    if not isinstance(layer, Layer):
        raise JaxpropError(f"check_layer: found {type(layer).__name__}, expected a Layer such as MyLayer(...)")
    x = jax.tree.map(jnp.asarray, x)
    examples = {leaf.shape[:1] for leaf in jax.tree.leaves(x)}
    if len(examples) != 1 or examples <= {(), (0,), (1,)}:
        raise ShapeError(
            f"check_layer: found x of shapes {[leaf.shape for leaf in jax.tree.leaves(x)]}, expected [N, ...] with one "
            "N ≥ 2: with one example a wrong division by N does not show"
        )
    rows: list[Check] = []
    _try(rows, "a frozen dataclass", lambda: contract.frozen(layer))
    _try(rows, "hashable, equal to its copy", lambda: contract.hashable(layer))
    _try(rows, "settings are plain JSON", lambda: contract.settings(layer))
    drawn: list[Any] = [params]
    if params is None:
        drawn = []
        _try(rows, "init(key, x)", lambda: drawn.append(_draw(layer, x, key)) or ())
    if drawn:
        _numbers(rows, layer, x, drawn[0], env)
        _try(rows, "saved and loaded back", lambda: contract.comes_back(layer, x, drawn[0], env))
    return LayerReport(repr(layer), tuple(rows))


def _numbers(rows: list[Check], layer: Layer, x: Any, params: Any, env: Env | None) -> None:
    """Everything that is computed, in float64; nothing after shapes that are wrong."""
    with jax.enable_x64(True):
        x, params = (as_dtype(jax.tree.map(jnp.asarray, tree), "float64") for tree in (x, params))
        at: list[At] = []
        _try(rows, "y is [N, ...]", lambda: _errors(at, layer, x, params, env))
        if not at:
            return
        if not jnp.issubdtype(at[0].dy.dtype, jnp.floating):
            rows.append(Check("backward", "", f"y is of {at[0].dy.dtype.name}: nothing to differentiate", "", None))
            return
        before = len(rows)
        _try(rows, "dx is like x", lambda: rules.shapes(layer, at[0]))
        if all(row.ok for row in rows[before:]):
            for name, rule in NUMBERS:
                _try(rows, name, lambda rule=rule: rule(layer, at[0]))


def _errors(at: list[At], layer: Layer, x: Any, params: Any, env: Env | None) -> Iterable[Check]:
    """Draw an error dy of y's shape, if y is one array of N examples."""
    y = jax.eval_shape(layer, x, params, env)
    N = jax.tree.leaves(x)[0].shape[0]
    found = f"{y.dtype.name}{list(y.shape)}" if hasattr(y, "shape") else type(y).__name__
    ok = hasattr(y, "shape") and y.shape[:1] == (N,)
    yield Check("y is [N, ...]", "", found, f"[{N}, ...]", ok)
    if ok:
        is_floating = jnp.issubdtype(y.dtype, jnp.floating)
        dy = jax.random.normal(jax.random.key(7), y.shape, y.dtype) if is_floating else jnp.zeros(y.shape, y.dtype)
        at.append(At(x, params, env, dy))


def _draw(layer: Layer, x: Any, key: Array | None) -> Any:
    """θ from `init`, each array moved by a little noise."""
    params = layer.init(jax.random.key(0) if key is None else key, x)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), max(len(leaves), 1))
    moved = [p + 0.1 * jax.random.normal(k, p.shape, p.dtype) for p, k in zip(leaves, keys, strict=False)]
    return jax.tree.unflatten(tree, moved)


def _try(rows: list[Check], name: str, check: Callable[[], Iterable[Check]]) -> None:
    """Add what a check says; what the layer raises is said as well."""
    try:
        for row in check():
            rows.append(row)
    except Exception as error:  # whatever a layer under test may do
        said = str(error).strip().splitlines() or [""]
        rows.append(Check(name, "", f"raised {type(error).__name__}: {said[0][:200]}", "", False))
