"""A layer as a value: frozen, hashable, plain settings, saved and loaded back."""

import copy
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprop.check.report import Check
from jaxprop.layers.layer import Env, Layer
from jaxprop.saved.kinds import describe_settings, kinds_in
from jaxprop.saved.model import load, save


def frozen(layer: Layer) -> Iterator[Check]:
    """A frozen dataclass that prints the same as its copy."""
    found = "frozen" if type(layer).__dataclass_params__.frozen else "not frozen"  # pyright: ignore
    yield Check("a frozen dataclass", "", found, "frozen", found == "frozen")
    text, again = repr(layer), copy.deepcopy(layer)
    readable = text == repr(again) and text.startswith(type(layer).__name__) and " at 0x" not in text
    yield Check("prints as what makes it", "", text[:60], f"{type(layer).__name__}(settings)", readable)


def hashable(layer: Layer) -> Iterator[Check]:
    """A value: what makes it a static argument of jit."""
    again = copy.deepcopy(layer)
    same = again == layer and hash(again) == hash(layer)
    yield Check("hashable, equal to its copy", "", "yes" if same else "no: its copy is another value", "yes", same)


def settings(layer: Layer) -> Iterator[Check]:
    """Settings that JSON knows: arrays and functions are none."""
    plain = describe_settings(layer)
    back = json.loads(json.dumps(plain, allow_nan=False))
    found = "yes" if back == json.loads(json.dumps(back)) == plain else "something that comes back otherwise"
    fields = ", ".join(field.name for field in dataclasses.fields(layer)) or "none"
    yield Check("settings are plain JSON", fields, found, "yes", found == "yes")


def comes_back(layer: Layer, x: Any, params: Any, env: Env | None) -> Iterator[Check]:
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
    yield Check(name, "", "as it was" if same else "something else", "as it was", bool(same))
