"""A saved model is a folder: `model.json`, the validated description, and `params-<sha256>.safetensors`, the arrays.

Weights are written and fsynced first; `model.json` is replaced last, in one atomic step; the weights that the old one
named are removed after that. A reader sees the old model or the new one, whole. Loading runs no code, reads no pickle,
and checks every array's path, shape and dtype.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.flax import load as arrays_from_bytes, save as arrays_to_bytes

from jaxprop.costs import Cost
from jaxprop.description import (
    ArraySpec,
    Description,
    Info,
    Weights,
    dtype_of,
    from_json,
    model_path,
    to_json,
    versions,
)
from jaxprop.errors import ModelError
from jaxprop.layers.layer import Layer


def save(path: Any, net: Layer, params: Any, *, inputs: Any, cost: Cost | None = None, info: Any = None) -> Path:
    """Write `net` and `params` to the folder `path`, so that a reader never sees half a model; return the folder.

    inputs: an example input `[N, ...]`, for its shape and dtype.    cost: what it was trained with.
    info: a dict with any of 'classes', 'columns', 'target', 'data' (where rows came from) and 'training' (a summary).

    Raises ModelError if params are not net's, or the folder cannot be written; the old model then stays whole.

    >>> import jaxprop as jp
    >>> net, x = jp.Chain(jp.Linear(2), jp.Tanh()), np.ones((1, 3), np.float32)
    >>> folder = save(tempfile.mkdtemp(), net, net.init(jax.random.key(0), x), inputs=x)
    >>> load(folder)[0]
    Chain(Linear(2), Tanh())
    """
    if not isinstance(net, Layer):
        raise ModelError(f"save: found {type(net).__name__}, expected a Layer: descriptions are saved, never code")
    arrays = by_path(params)
    example = jax.ShapeDtypeStruct((1, *np.shape(inputs)[1:]), jax.numpy.result_type(inputs))
    specs = {name: ArraySpec.of(array) for name, array in arrays.items()}
    _check_tree(net, example, specs, "save: params")
    y = jax.eval_shape(net, example, params)
    data = arrays_to_bytes({name: jax.numpy.asarray(array) for name, array in arrays.items()})
    digest = hashlib.sha256(data).hexdigest()
    weights = Weights(file=f"params-{digest[:12]}.safetensors", sha256=digest)
    spec = (ArraySpec.of(example, examples=True), ArraySpec.of(y, examples=True), specs, weights, versions())
    try:
        text = to_json(Description(net, cost, *spec, Info.model_validate(info or {}, strict=False)))
    except (ValidationError, ValueError, TypeError) as error:
        raise ModelError(f"save: info cannot be written as JSON: {error}") from None
    folder = Path(path)
    kinds = {type(layer) for layer in _with_children(net)} | ({type(cost)} - {type(None)})
    from_json(text, "save", kinds)  # what cannot be read again is not written
    with writing(folder):
        old = _named_weights(folder)
        _write(folder / weights.file, data)
        _write(model_path(folder), text.encode())
        if old not in (None, weights.file):
            (folder / old).unlink(missing_ok=True)
    return folder


def load(path: Any, kinds: Iterable[type] = ()) -> tuple[Layer, Any]:
    """Return (net, params) from the folder `path`, every array checked against the description and against net.

    kinds: classes of your own (layers, costs) that the description may name. Raises ModelError, naming the file and the
    array's path, for anything missing, truncated, altered, of another shape or dtype, or of a newer format.
    """
    for attempt in range(3):
        description = describe(path, kinds)
        try:
            data = (Path(path) / description.weights.file).read_bytes()
            break
        except FileNotFoundError:
            if attempt == 2:  # else it was replaced between the two reads: look again
                raise ModelError(
                    f"{path}: {description.weights.file}, which model.json names, is missing; save the model again"
                ) from None
    return description.net, _params(Path(path) / description.weights.file, data, description)


def describe(path: Any, kinds: Iterable[type] = ()) -> Description:
    """Return what `model.json` says, without reading the arrays: net, cost, inputs, outputs, params, versions, info."""
    file = model_path(path)
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        hint = "is not there" if not Path(path).exists() else "has no model.json"
        raise ModelError(
            f"{path}: {hint}; expected a folder that jaxprop.save or `jaxprop train --out` wrote"
        ) from None
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from None
    return from_json(text, file, kinds)


def by_path(params: Any) -> dict[str, Any]:
    """Every array of a tree under its dotted path.

    >>> by_path(({"W": 1.0, "b": 2.0}, ()))
    {'0.W': 1.0, '0.b': 2.0}
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make the folder, and turn what the operating system refuses into a ModelError that says what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="."):
            pass
        yield
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from None


def _params(file: Path, data: bytes, description: Description) -> Any:
    """The tree of arrays in a file's bytes."""
    if hashlib.sha256(data).hexdigest() != description.weights.sha256:
        raise ModelError(
            f"{file}: {len(data):,} bytes that do not hash to the sha256 in model.json: "
            "the file is truncated or was altered; save the model again"
        )
    example = jax.ShapeDtypeStruct((1, *description.inputs.shape[1:]), dtype_of(description.inputs))
    tree = _check_tree(description.net, example, description.params, f"{file.parent / 'model.json'}: params")
    wide = [
        spec.dtype
        for spec in description.params.values()
        if jax.dtypes.canonicalize_dtype(dtype_of(spec)) != spec.dtype
    ]
    if wide:
        raise ModelError(f"{file}: holds {wide[0]} arrays; enable them with jax.config.update('jax_enable_x64', True)")
    try:
        arrays = arrays_from_bytes(data)
    except SafetensorError as error:
        raise ModelError(f"{file}: not a safetensors file ({error}); save the model again") from None
    found = {name: ArraySpec.of(array) for name, array in arrays.items()}
    _same(found, description.params, str(file))
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[name] for name in by_path(tree)])


def _check_tree(net: Layer, example: Any, found: dict[str, ArraySpec], where: str) -> Any:
    """Raise ModelError unless paths and shapes are those of net's own params; return their tree."""
    tree = jax.eval_shape(net.init, jax.random.key(0), example)
    expected = {
        path: ArraySpec(shape=leaf.shape, dtype=found[path].dtype if path in found else leaf.dtype.name)
        for path, leaf in by_path(tree).items()
    }  # dtypes are the saved ones: half precision parameters are as good
    _same(found, expected, where)
    return tree


def _same(found: dict[str, ArraySpec], expected: dict[str, ArraySpec], where: str) -> None:
    for path in [*expected, *found]:
        if found.get(path) != expected.get(path):
            raise ModelError(
                f"{where}: {path}: found {found.get(path, 'nothing')}, expected {expected.get(path, 'nothing')}"
            )


def _with_children(layer: Layer) -> Iterator[Layer]:
    yield layer
    for child in getattr(layer, "children", tuple)():
        yield from _with_children(child)


def _named_weights(folder: Path) -> Any:
    """The weights file of the model that is there now, if it can be read at all."""
    with contextlib.suppress(OSError, ModelError, ValueError, KeyError, TypeError):
        return describe(folder).weights.file
    return None


def _write(file: Path, data: bytes) -> None:
    """Write a file whole, durably, or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
