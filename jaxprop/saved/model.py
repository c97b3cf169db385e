"""A saved model is a folder: `model.json`, the validated description, and `params-<sha256>.safetensors`, the arrays.

Weights are written and fsynced first; `model.json` is replaced last, in one atomic step; the weights that the old one
named are removed after that. A reader sees the old model or the new one, whole. Loading runs no code, reads no pickle,
and checks every array's path, shape and dtype.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as to_safetensors

from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, ModelError
from jaxprop.layers.layer import Layer
from jaxprop.network import by_path
from jaxprop.saved.description import (
    DTYPES,
    ArraySpec,
    Description,
    Info,
    Weights,
    first_of,
    from_json,
    kinds_in,
    model_path,
    to_json,
    versions,
)
from jaxprop.saved.folder import commit


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
    arrays = {name: _as_numpy(name, leaf) for name, leaf in by_path(params).items()}
    data = to_safetensors(arrays)
    digest = hashlib.sha256(data).hexdigest()
    weights = Weights(file=f"params-{digest[:12]}.safetensors", sha256=digest)
    text = _described(net, arrays, inputs, cost, weights, info)
    folder = Path(path)
    commit(folder, {weights.file: data, model_path(folder).name: text.encode()})
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
    description, params = read(path, kinds)
    return description.net, params


def read(path: Any, kinds: Iterable[type] = ()) -> tuple[Description, Any]:
    """Return (description, params), both of one and the same model: `describe` and `load` at once."""
    kinds, file = tuple(kinds), Path(path)
    for _ in range(10):  # weights just gone were replaced between the two reads: look again
        description = describe(path, kinds)
        file = Path(path) / description.weights.file
        with contextlib.suppress(FileNotFoundError):
            return description, _params(file, _read(file), description)
    raise ModelError(f"{path}: {file.name}, which model.json names, is missing; save the model again")


def describe(path: Any, kinds: Iterable[type] = ()) -> Description:
    """Return what `model.json` says, without reading the arrays: net, cost, inputs, outputs, params, versions, info.

    >>> import jaxprop as jp, tempfile
    >>> net, x = jp.Linear(2), np.ones((1, 3), np.float32)
    >>> folder = save(tempfile.mkdtemp(), net, net.init(jax.random.key(0), x), inputs=x, cost=jp.HalfSquaredError())
    >>> about = describe(folder)
    >>> print(about.cost, about.inputs, "→", about.outputs)
    HalfSquaredError() float32[N, 3] → float32[N, 2]
    """
    file = model_path(path)
    try:
        text = _read(file)
    except FileNotFoundError:
        hint = "is not there" if not Path(path).exists() else "has no model.json"
        raise ModelError(
            f"{path}: {hint}; expected a folder that jaxprop.save or `jaxprop train --out` wrote"
        ) from None
    return from_json(text, file, kinds)


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
    wide = any(array.dtype.itemsize == 8 for array in arrays.values())  # arrays of numpy's, with JAX's 64 bits off
    with jax.enable_x64(wide or jax.config.jax_enable_x64), jax.numpy_dtype_promotion("standard"):  # pyright: ignore
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


def _as_numpy(name: str, leaf: Any) -> np.ndarray:
    """An array of params as its bytes will be written: in row-major order, the same bits."""
    with contextlib.suppress(TypeError, ValueError):
        array = np.asarray(leaf, order="C")
        if array.dtype.name in DTYPES:
            return array
    found = getattr(leaf, "dtype", type(leaf).__name__)
    raise ModelError(f"save: params: {name}: found {found}, expected an array of one of {', '.join(DTYPES)}")


def _params(file: Path, data: bytes, description: Description) -> Any:
    """The tree of arrays in a file's bytes."""
    if hashlib.sha256(data).hexdigest() != description.weights.sha256:
        raise ModelError(
            f"{file}: {len(data):,} bytes that do not hash to the sha256 in model.json: "
            "the file is truncated or was altered; save the model again"
        )
    specs = description.params
    for name, spec in [*(("x", spec) for spec in jax.tree.leaves(description.inputs)), *specs.items()]:
        if jax.dtypes.canonicalize_dtype(spec.dtype) != jnp.dtype(spec.dtype):
            raise ModelError(
                f"{file.parent}: {name} is {spec}, and JAX's 64 bits are off: set JAX_ENABLE_X64=1, or call "
                "jax.config.update('jax_enable_x64', True) first"
            )
    example = _each(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.dtype(x.dtype)), description.inputs)
    tree = _check_tree(description.net, example, specs, f"{file.parent / 'model.json'}: params")
    try:
        found = dict(deserialize(data))
    except SafetensorError as error:
        raise ModelError(f"{file}: not a safetensors file ({error}); save the model again") from None
    _same(_stored(found, file), specs, str(file))
    arrays = {p: jnp.asarray(np.frombuffer(found[p]["data"], s.dtype).reshape(s.shape)) for p, s in specs.items()}
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[path] for path in by_path(tree)])


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
    _same(found, {path: ArraySpec.of(leaf) for path, leaf in zip(paths, leaves, strict=True)}, where)
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def _stored(found: dict[str, Any], file: Path) -> dict[str, ArraySpec]:
    """What a safetensors file says of its arrays."""
    names = {tag: name for name, tag in DTYPES.items()}
    for path, array in found.items():
        if array["dtype"] not in names:
            raise ModelError(f"{file}: {path}: found {array['dtype']}, expected one of {', '.join(names)}")
    return {path: ArraySpec(shape=tuple(a["shape"]), dtype=names[a["dtype"]]) for path, a in found.items()}


def _same(found: dict[str, ArraySpec], expected: dict[str, ArraySpec], where: str) -> None:
    for path in [*expected, *found]:
        if found.get(path) != expected.get(path):
            raise ModelError(
                f"{where}: {path}: found {found.get(path, 'nothing')}, expected {expected.get(path, 'nothing')}"
            )


def _read(file: Path) -> bytes:
    """A file's bytes; what the operating system refuses, but for a missing file, is a ModelError."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from None
