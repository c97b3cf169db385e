"""A saved model is a folder: `model.json`, the validated description, and `params-<sha256>.safetensors`, the arrays.

Weights are written and fsynced first; `model.json` is replaced last, in one atomic step; the weights that the old one
named are removed after that. A reader sees the old model or the new one, whole. Loading runs no code, reads no pickle,
and checks every array's path, shape and dtype.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import ValidationError

from jaxprop.arrays.dtypes import enough_bits, has_64_bits
from jaxprop.arrays.paths import by_path
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, ModelError
from jaxprop.layers.layer import Layer
from jaxprop.saved.description import NAME, Description, Info, first_of, from_json, kinds_in, to_json, versions
from jaxprop.saved.folder import commit
from jaxprop.saved.weights import (
    ArraySpec,
    Weights,
    check_same,
    from_bytes,
    read_description,
    read_whole,
    to_arrays,
    to_bytes,
)


def save(path: Any, net: Layer, params: Any, *, inputs: Any, cost: Cost | None = None, info: Any = None) -> Path:
    """Write `net` and `params` to the folder `path`, so that a reader never sees half a model; return the folder.

    inputs: an example input `[N, ...]`, or a tuple of them, for shapes and dtypes.    cost: what it was trained with.
    info: a dict with any of 'classes', 'columns', 'target', 'data' (where rows came from) and 'training' (a summary).

    Raises ModelError if params are not net's, or the folder cannot be written; the old model then stays whole.

    >>> import jaxprop as jp, tempfile
    >>> net, x = jp.Chain(jp.Linear(2), jp.Tanh()), np.ones((1, 3), np.float32)
    >>> folder = save(tempfile.mkdtemp(), net, net.init(jax.random.key(0), x), inputs=x)
    >>> load(folder)[0]
    Chain(Linear(2), Tanh())
    """
    if not isinstance(net, Layer):
        raise ModelError(f"save: found {type(net).__name__}, expected a Layer: descriptions are saved, never code")
    arrays = to_arrays(params)
    data = to_bytes(arrays)
    weights = Weights.of(data)
    text = _described(net, arrays, inputs, cost, weights, info)
    folder = Path(path)
    commit(folder, {weights.file: data, NAME: text.encode()})
    return folder


def load(path: Any, kinds: Iterable[type] = ()) -> tuple[Layer, Any]:
    """Return (net, params) from the folder `path`, every array checked against the description and against net.

    kinds: classes of your own (layers, costs) that the description may name. Raises ModelError, naming the file and the
    array's path, for anything missing, truncated, altered, of another shape or dtype, or of a newer format.

    >>> load("no/such/folder")
    Traceback (most recent call last):
        ...
    jaxprop.errors.ModelError: no/such/folder: is not there; expected a folder that jaxprop.save or ... wrote
    """
    about, params = read(path, kinds)
    return about.net, on_device(path, about, params)


def read(path: Any, kinds: Iterable[type] = ()) -> tuple[Description, Any]:
    """Return (description, θ as numpy arrays), whatever JAX's 64 bits are set to: `describe` and `load` in one read."""
    folder, kinds = Path(path), tuple(kinds)
    about, (data,) = read_whole(folder, NAME, lambda: describe(folder, kinds), lambda about: (about.weights,))
    example = _each(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.dtype(x.dtype)), about.inputs)
    with enough_bits(*about.dtypes):
        tree = _check_tree(about.net, example, about.params, f"{folder / NAME}: params")
    arrays = from_bytes(data, folder / about.weights.file, about.params)
    return about, jax.tree.unflatten(jax.tree.structure(tree), [arrays[path] for path in by_path(tree)])


def on_device(path: Any, about: Description, params: Any) -> Any:
    """Return what `read` gave of θ as JAX arrays; ModelError where they or x need 64 bits, and JAX's are off."""
    for name, spec in [*(("x", spec) for spec in jax.tree.leaves(about.inputs)), *about.params.items()]:
        if has_64_bits(spec.dtype) and not has_64_bits(jnp.result_type(float)):
            raise ModelError(
                f"{path}: {name} is {spec}, and JAX's 64 bits are off: set JAX_ENABLE_X64=1, or call "
                "jax.config.update('jax_enable_x64', True) first"
            )
    return jax.tree.map(jnp.asarray, params)


def describe(path: Any, kinds: Iterable[type] = ()) -> Description:
    """Return what `model.json` says, without reading the arrays: net, cost, inputs, outputs, params, versions, info.

    >>> import jaxprop as jp, tempfile
    >>> net, x = jp.Linear(2), np.ones((1, 3), np.float32)
    >>> folder = save(tempfile.mkdtemp(), net, net.init(jax.random.key(0), x), inputs=x, cost=jp.HalfSquaredError())
    >>> about = describe(folder)
    >>> print(about.cost, about.inputs, "→", about.outputs)
    HalfSquaredError() float32[N, 3] → float32[N, 2]
    """
    folder = Path(path)
    return from_json(read_description(folder, NAME, "jaxprop.save or `jaxprop train --out`"), folder / NAME, kinds)


def _described(
    net: Layer, arrays: dict[str, np.ndarray], inputs: Any, cost: Cost | None, weights: Weights, info: Any
) -> str:
    """The text of model.json, once it is known that it can be read again and that params are net's."""
    try:
        example = _each(lambda x: jax.ShapeDtypeStruct((1, *np.shape(x)[1:]), jnp.result_type(x)), inputs)
    except TypeError:
        raise ModelError(f"save: inputs: found {type(inputs).__name__}, expected an example input [N, ...]") from None
    specs = {name: ArraySpec.of(array) for name, array in arrays.items()}
    tree = _check_tree(net, example, specs, "save: params")
    default = jnp.result_type(float)  # 64 bits stay on; arrays of numpy's may have them where they are off
    with enough_bits(default, *(array.dtype for array in arrays.values())):
        y = jax.eval_shape(net, example, tree)
    try:
        about = Info.model_validate(info or {}, strict=False)
        spec = (_specs(example), ArraySpec.of(y, examples=True), specs, weights, versions())
        text = to_json(Description(net, cost, *spec, about))
    except ValidationError as error:
        raise ModelError(f"save: {error.title.lower()}: {first_of(error)}") from None
    except ModelError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"save: settings and info must be plain JSON: {error}") from None
    kinds = kinds_in(net) | kinds_in(cost)
    if from_json(text, "save", kinds, hint="expected settings of the types that their class declares").net != net:
        raise ModelError(f"save: {net!r} does not come back from its description as it was")
    return text


def _each(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Of x, or of every array of a tuple x."""
    return tuple(map(function, inputs)) if isinstance(inputs, tuple) else function(inputs)


def _specs(example: Any) -> Any:
    """What model.json says of x."""
    return _each(lambda x: ArraySpec.of(x, examples=True), example)


def _check_tree(net: Layer, example: Any, found: dict[str, ArraySpec], where: str) -> Any:
    """Raise ModelError unless paths and shapes are those of net's own params; return their tree, of the found dtypes.

    Half precision parameters are as good as net's own."""
    try:
        tree = jax.eval_shape(net.init, jax.random.key(0), example)
    except JaxpropError as error:
        inputs = ", ".join(map(str, jax.tree.leaves(_specs(example))))
        raise ModelError(f"{where} for inputs {inputs}: {error}") from None
    paths = by_path(tree)
    dtypes = [jnp.dtype(found[path].dtype) if path in found else leaf.dtype for path, leaf in paths.items()]
    leaves = [jax.ShapeDtypeStruct(leaf.shape, dtype) for leaf, dtype in zip(paths.values(), dtypes, strict=True)]
    check_same(found, {path: ArraySpec.of(leaf) for path, leaf in zip(paths, leaves, strict=True)}, where)
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)
