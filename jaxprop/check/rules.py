"""The numbers of a layer: shapes and dtypes, three witnesses for its backward pass, and what JAX may do to it."""

import copy
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxprop.arrays.tolerances import DIFFERENCES, tolerance
from jaxprop.check.differences import central_differences, choose
from jaxprop.check.factors import ACTIVATION, VALUE, factor_errors
from jaxprop.check.report import Check, agree, factor_of
from jaxprop.check.subject import At, answer, as_dtype, backward, by_hand, by_jax, compiled, each_use
from jaxprop.layers.activations import Activation
from jaxprop.layers.layer import Layer
from jaxprop.network import Inner, Repeat, by_path
from jaxprop.uses import is_use

EXACT = tolerance("float64", "cpu")
DRAWS = 16
ENTRIES = 32  # nudged in each array, half of them those of the largest gradient


def shapes(layer: Layer, at: At) -> Iterator[Check]:
    """What has which shape and dtype; nothing is computed."""
    _, dx, uses = jax.eval_shape(functools.partial(backward, layer), at)
    N = at.dy.shape[0]
    found = jax.tree.leaves(uses, is_leaf=is_use)
    if at.has_gradient:
        yield _same("dx is like x", _spec(dx), _spec(at.x))
    else:
        yield _same("integers have no gradient", "dx " + ("is None" if dx is None else _spec(dx)), "dx is None")
    if not all(map(is_use, found)):
        names = ", ".join(sorted({type(use).__name__ for use in found if not is_use(use)}))
        yield Check("a use for every array of θ", "", names, "Outer, Shift, ..., or Dense(per example)", False)
        return
    grads = jax.eval_shape(lambda uses: each_use(uses, lambda use: use.total(None)), uses)
    yield _same("a use for every array of θ", _spec(grads), _spec(at.params))
    yield _same("uses are of N examples", *(str(sorted(set(ns) | {N})) for ns in ([u.examples for u in found], [N])))


def _spec(tree: Any) -> str:
    """Paths, dtypes and shapes of a tree."""
    spec = [f"{path} {a.dtype.name}{list(a.shape)}".strip() for path, a in by_path(tree).items()]
    return ", ".join(spec) or "nothing"


def _same(name: str, found: str, expected: str) -> Check:
    return Check(name, "", found, expected, found == expected)


def forward_is_the_call(layer: Layer, at: At) -> Iterator[Check]:
    """The cache changes nothing."""
    pair = compiled(
        lambda layer, at: (layer.forward(at.x, at.params, at.env)[0], layer(at.x, at.params, at.env)), layer
    )
    found, called = pair(at)
    yield from agree("forward is the call", {VALUE: found}, {VALUE: called}, EXACT, len(at.dy), each=True)


def vjp(layer: Layer, at: At) -> Iterator[Check]:
    """Every factor against `jax.vjp` of this layer alone."""
    (_, mine), (_, theirs) = compiled(lambda layer, at: (by_hand(layer, at), by_jax(layer, at)), layer)(at)
    if isinstance(layer, Activation):
        error = float(compiled(lambda layer, at: factor_errors(layer, *at[:3]), layer)(at)[ACTIVATION])
        yield Check("jax.vjp", ACTIVATION, f"{error:.2g}", f"{EXACT:.0e}", error <= EXACT)
    yield from agree("jax.vjp", mine, theirs, EXACT, len(at.dy), each=True)


def differences(layer: Layer, at: At) -> Iterator[Check]:
    """Every factor against nudges of x and θ by h = 1e-5; entries whose nudge crosses a kink are left out."""
    name = "central differences"
    mine = {path: np.asarray(a) for path, a in by_path(compiled(by_hand, layer)(at)[1]).items()}
    if not mine:
        yield Check(name, "", "nothing to differentiate", "", None)
        return

    def C(primals: Any) -> Any:
        return jnp.sum(at.dy * answer(layer, at)(primals))

    # no difference can see below the round-off of C's terms
    size = float(jnp.sum(jnp.abs(at.dy * answer(layer, at)(at.primals))))
    round_off = 1e-15 * size / 1e-5 / DIFFERENCES
    chosen = {path: choose(g, ENTRIES) for path, g in mine.items()}
    for path, slopes in central_differences(C, at.primals, chosen, watch=jax.grad(C)).items():
        scale = max(float(np.max(np.abs(mine[path]), initial=0)), round_off)
        error = float(np.max(np.abs(mine[path].ravel()[slopes.entries] - slopes.slopes), initial=0)) / scale
        count = len(slopes.entries)
        found = f"{error:.2g} ({count} nudged)" if count else "kinks everywhere"
        ok = count > 0 and error <= DIFFERENCES
        yield Check(name, factor_of(path), found, f"{DIFFERENCES:.0e}", ok)


def adjoint(layer: Layer, at: At) -> Iterator[Check]:
    """⟨Jv, w⟩ = ⟨v, Jᵀw⟩: truth that needs no reference, J by forward mode."""
    name, key = "⟨Jv, dy⟩ = ⟨v, dx⟩", jax.random.key(11)
    flat, unravel = ravel_pytree(at.primals)
    if not flat.size:
        yield Check(name, "", "nothing to differentiate", "", None)
        return
    v = unravel(jax.random.normal(key, flat.shape, flat.dtype))

    def both(layer: Layer, at: At) -> Any:
        Jv = jax.jvp(answer(layer, at), (at.primals,), (v,))[1]
        mine = ravel_pytree(by_hand(layer, at)[1])[0]
        return jnp.sum(Jv * at.dy), ravel_pytree(v)[0] @ mine, jnp.linalg.norm(Jv) * jnp.linalg.norm(at.dy)

    there, back, size = map(float, compiled(both, layer)(at))
    error = abs(there - back) / (size or 1.0)
    yield Check(name, "all of them", f"{error:.2g}", f"{EXACT:.0e}", error <= EXACT)


def linear(layer: Layer, at: At) -> Iterator[Check]:
    """Twice the error gives twice the gradients, a sum their sum."""

    def run(layer: Layer, at: At) -> Any:
        other = at.dy[::-1]
        once, twice, both = (by_hand(layer, at._replace(dy=dy))[1] for dy in (at.dy, other, 2 * at.dy - 3 * other))
        return both, jax.tree.map(lambda a, b: 2 * a - 3 * b, once, twice)

    of_the_sum, sum_of = compiled(run, layer)(at)
    yield from agree("linear in dy", of_the_sum, sum_of, EXACT, len(at.dy))


def alone(layer: Layer, at: At) -> Iterator[Check]:
    """y_n depends on x_n alone, unless the layer says that it mixes examples."""
    name = "no example sees another"
    why = _no_example(layer, at)
    if why:
        yield Check(name, "", why, "", None)
        return

    def run(layer: Layer, at: At) -> Any:
        return jax.vmap(lambda one: layer(*_batch_of_one(one)[:3])[0], (_each(at),))(at), layer(*at[:3])

    single, whole = compiled(run, layer)(at)
    yield from agree(name, {"y": whole}, {"y": single}, EXACT, len(at.dy), each=True)


def uses(layer: Layer, at: At) -> Iterator[Check]:
    """What is said of single examples, against `jax.vmap(jax.grad)`."""
    names = ("per-example gradients", "squared norms", "weighted gradient")
    why = _no_example(layer, at) or ("" if jax.tree.leaves(at.params) else "no parameters")
    if why:
        yield from (Check(name, "", why, "", None) for name in names)
        return

    def run(layer: Layer, at: At) -> Any:
        def C(params: Any, one: At) -> Any:
            one = _batch_of_one(one)
            return jnp.sum(one.dy * layer(one.x, params, one.env))

        found, weights = backward(layer, at)[2], jnp.cos(jnp.arange(len(at.dy), dtype=at.dy.dtype))
        theirs = jax.vmap(jax.grad(C), (None, _each(at)))(at.params, at)
        return (
            (each_use(found, lambda use: use.per_example()), theirs),
            (
                each_use(found, lambda use: use.squared_norms()),
                jax.tree.map(lambda g: jnp.sum(g.reshape(len(g), -1) ** 2, axis=1), theirs),
            ),
            (
                each_use(found, lambda use: use.gradient(weights)),
                jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), theirs),
            ),
        )

    for name, (mine, theirs) in zip(names, compiled(run, layer)(at), strict=True):
        yield from agree(name, {"params": mine}, {"params": theirs}, EXACT, len(at.dy))


def _no_example(layer: Layer, at: At) -> str:
    """Why there is no quantity of one example, if so."""
    if layer.mixes_examples:
        return "the layer mixes examples: no quantity of one exists"
    return "rng draws for the whole batch" if at.env is not None and at.env.rng is not None else ""


def _batch_of_one(one: At) -> At:
    """One example as a batch; θ is no example's."""
    return jax.tree.map(lambda a: a[None], one._replace(params=()))._replace(params=one.params)


def _each(at: At) -> At:
    """The axes that vmap goes over."""
    return At(0, None, None if at.env is None else at.env._replace(mask=None if at.env.mask is None else 0), 0)


def jit(layer: Layer, at: At) -> Iterator[Check]:
    """Compiled, the same numbers."""
    fast, slow = ({"y": y, **grads} for y, grads in (compiled(by_hand, layer)(at), by_hand(layer, at)))
    yield from agree("jit is eager", fast, slow, EXACT, len(at.dy))


def vmap(layer: Layer, at: At) -> Iterator[Check]:
    """Two batches and two θ at once, as one after the other."""
    other = jax.tree.map(lambda a: a[::-1], at.x), jax.tree.map(lambda p: p * 0.9, at.params)
    stacked = jax.tree.map(lambda *both: jnp.stack(both), (at.x, at.params), other)

    def run(layer: Layer, at: At) -> Any:
        def one(x: Any, params: Any) -> Any:
            y, grads = by_hand(layer, at._replace(x=x, params=params))
            return {"y": y, **grads}

        return jax.vmap(one)(*stacked), jax.tree.map(lambda *a: jnp.stack(a), one(at.x, at.params), one(*other))

    mapped, apart = compiled(run, layer)(at)
    yield from agree("vmap over x and θ", mapped, apart, EXACT, len(at.dy))


def repeat(layer: Layer, at: At) -> Iterator[Check]:
    """Two of it in one scan, which makes tracers of whatever numbers a cache holds."""
    if isinstance(at.x, tuple | list) or _spec(at.x) != _spec(at.dy):
        yield Check("twice, in a Repeat", "", "it does not keep x's shape and dtype", "", None)
        return
    stacked = Inner(jax.tree.map(lambda p: jnp.stack([p, 0.9 * p]), at.params))
    twice = Repeat(layer, 2), at._replace(params=stacked)
    mine, theirs = compiled(lambda layer, at: (by_hand(layer, at)[1], by_jax(layer, at)[1]), twice[0])(twice[1])
    yield from agree("twice, in a Repeat", mine, theirs, EXACT, len(at.dy), each=True)


def dtypes(layer: Layer, at: At) -> Iterator[Check]:
    """What goes in in a dtype comes out in it; float32 is right, and bfloat16 as close to float64 as JAX's own is."""
    for dtype in ("float32", "bfloat16"):
        if not at.has_gradient:
            yield Check(f"{dtype} in, {dtype} out", "", "x is of integers", "", None)
            continue
        low = as_dtype(at, dtype)
        y, grads = jax.eval_shape(functools.partial(by_hand, layer), low)
        out = {"y": y, **grads}
        wrong = [f"{path} {a.dtype.name}" for path, a in by_path(out).items() if a.dtype.name != dtype]
        yield Check(f"{dtype} in, {dtype} out", "", ", ".join(wrong) or dtype, dtype, not wrong)
        if wrong:
            continue
        if dtype == "float32":
            mine, theirs = compiled(lambda layer, at: (by_hand(layer, at)[1], by_jax(layer, at)[1]), layer)(low)
            # each array was judged in float64: here one that cancels down to round-off would be nothing else
            yield from agree("float32 against jax.vjp", mine, theirs, tolerance(dtype), len(at.dy), floor=1.0)
        else:
            yield _half_precision(layer, low)


def _half_precision(layer: Layer, low: At) -> Check:
    """Whether the layer's rule is as close to float64 as JAX's: over many draws, for one has few roundings."""

    def run(layer: Layer, keys: Array) -> Any:
        def one(key: Array) -> Any:
            near = jax.tree.map(lambda a: a * (1 + 0.1 * jax.random.normal(key, a.shape)).astype(a.dtype), low.x)
            at = low._replace(x=near, dy=jax.random.normal(key, low.dy.shape, low.dy.dtype))
            return by_hand(layer, at)[1], by_jax(layer, at)[1], by_jax(layer, as_dtype(at, "float64"))[1]

        return jax.vmap(one)(keys)

    mine, theirs, truth = compiled(run, layer)(jax.random.split(jax.random.key(13), DRAWS))
    error, jaxs = (_rms(way, truth) for way in (mine, theirs))
    allowed = 1.25 * jaxs + 2**-9  # half a unit in the last place, and a quarter for chance
    return Check("bfloat16 against float64", "all of them", f"{error:.2g}", f"{allowed:.2g}", error <= allowed)


def _rms(found: Any, reference: Any) -> float:
    """√(Σ Δ² / Σ g²)."""
    found, reference = (np.asarray(ravel_pytree(as_dtype(tree, "float64"))[0]) for tree in (found, reference))
    size = float(np.linalg.norm(reference))
    return float(np.linalg.norm(found - reference)) / (size or 1.0)


def compiles_once(layer: Layer, at: At) -> Iterator[Check]:
    """An equal layer is the same static argument: nothing is traced again."""
    traced = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(layer: Layer, at: At) -> Any:
        traced.append(layer)
        return layer(at.x, at.params, at.env)

    for each in (layer, copy.deepcopy(layer)):
        run(each, at)
    again = len(traced) - 1
    yield Check("an equal layer compiles nothing", "", f"{again} more", "0 more", not again)
