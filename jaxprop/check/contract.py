"""What a layer must be before anything is computed: a value, saved and loaded, with the right shapes and dtypes."""

import copy
import dataclasses
import json
import tempfile
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.check.report import Check
from jaxprop.check.subject import At, backward, other_dtypes
from jaxprop.layers.layer import Env, Layer
from jaxprop.saved.kinds import describe_settings, kinds_in
from jaxprop.saved.model import load, save
from jaxprop.uses import is_use


def frozen(layer: Layer) -> Iterator[Check]:
    """A frozen dataclass that prints the same as its copy."""
    found = "frozen" if type(layer).__dataclass_params__.frozen else "not frozen"  # pyright: ignore
    yield _same("a frozen dataclass", found, "frozen")
    text, again = repr(layer), copy.deepcopy(layer)
    readable = text == repr(again) and text.startswith(type(layer).__name__) and " at 0x" not in text
    yield Check("prints as what makes it", "", text[:60], f"{type(layer).__name__}(settings)", readable)


def hashable(layer: Layer) -> Iterator[Check]:
    """A value: what makes it a static argument of jit."""
    again = copy.deepcopy(layer)
    same = again == layer and hash(again) == hash(layer)
    yield _same("hashable, equal to its copy", "yes" if same else "no: its copy is another value", "yes")


def settings(layer: Layer) -> Iterator[Check]:
    """Settings that JSON knows: arrays and functions are none."""
    plain = describe_settings(layer)
    back = json.loads(json.dumps(plain, allow_nan=False))
    found = "yes" if back == json.loads(json.dumps(back)) == plain else "something that comes back otherwise"
    fields = ", ".join(field.name for field in dataclasses.fields(layer)) or "none"
    yield Check("settings are plain JSON", fields, found, "yes", found == "yes")


def comes_back(layer: Layer, x: PyTree, params: PyTree, env: Env | None) -> Iterator[Check]:
    """Saved and loaded: the same layer, the same bits, the same answer."""
    name = "saved and loaded back"
    if not isinstance(x, jax.Array | tuple):
        yield Check(name, "", "x is a tree: jp.save describes an array, or a tuple of them", "", None)
        return
    with tempfile.TemporaryDirectory() as folder:
        save(folder, layer, params, inputs=x)
        net, loaded = load(folder, kinds_in(layer))
    arrays = [jax.tree.leaves(tree) for tree in (loaded, params)]
    same = net == layer and all(np.array_equal(a, jnp.asarray(b), equal_nan=True) for a, b in zip(*arrays, strict=True))
    same = same and np.array_equal(net(x, loaded, env), layer(x, params, env), equal_nan=True)
    yield _same(name, "as it was" if same else "something else", "as it was")


def answers_by_example(layer: Layer, at: At) -> Iterator[Check]:
    """y is one array of N examples."""
    y = jax.eval_shape(layer, *at[:3])
    found = f"{y.dtype.name}{list(y.shape)}" if hasattr(y, "shape") else type(y).__name__
    yield Check(
        "y is [N, ...]", "", found, f"[{at.examples}, ...]", hasattr(y, "shape") and y.shape[:1] == (at.examples,)
    )


def shapes(layer: Layer, at: At) -> Iterator[Check]:
    """What comes back has which shape and dtype; nothing is computed."""
    _, dx, uses = jax.eval_shape(lambda at: backward(layer, at), at)
    if at.has_gradient:
        yield _same("dx is like x", _spec(dx), _spec(at.x))
    else:
        yield _same("integers have no gradient", "dx " + ("is None" if dx is None else _spec(dx)), "dx is None")
    found = jax.tree.leaves(uses, is_leaf=is_use)
    if not all(map(is_use, found)):
        names = ", ".join(sorted({type(use).__name__ for use in found if not is_use(use)}))
        yield Check("a use for every array of θ", "", names, "Outer, Shift, ..., or Dense(per example)", False)
        return
    grads = jax.eval_shape(lambda uses: jax.tree.map(lambda use: use.gradient(), uses, is_leaf=is_use), uses)
    yield _same("a use for every array of θ", _spec(grads), _spec(at.params))
    examples = sorted({use.examples for use in found} | {at.examples})
    yield _same("uses are of N examples", str(examples), str([at.examples]))


def dtypes(layer: Layer, at: At) -> Iterator[Check]:
    """What goes in in a dtype comes out in it."""
    for dtype in ("float32", "bfloat16"):
        name = f"{dtype} in, {dtype} out"
        if at.has_gradient:
            yield _same(name, ", ".join(other_dtypes(layer, at, dtype)) or dtype, dtype)
        else:
            yield Check(name, "", "x is of integers", "", None)


def compiles_once(layer: Layer, at: At) -> Iterator[Check]:
    """An equal layer is the same static argument: nothing is traced again."""
    traced = []

    def run(layer: Layer, at: At) -> PyTree:
        traced.append(layer)
        return layer(*at[:3])

    program = jax.jit(run, static_argnums=0)
    for each in (layer, copy.deepcopy(layer)):
        program.trace(each, at)
    yield _same("an equal layer compiles nothing", f"{len(traced) - 1} more", "0 more")


def _spec(tree: PyTree) -> str:
    """Paths, dtypes and shapes of a tree."""
    spec = [f"{path} {a.dtype.name}{list(a.shape)}".strip() for path, a in by_path(tree).items()]
    return ", ".join(spec) or "nothing"


def _same(name: str, found: str, expected: str) -> Check:
    return Check(name, "", found, expected, found == expected)
