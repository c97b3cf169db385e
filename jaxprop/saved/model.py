"""A saved model is a folder: `model.json`, the validated description, and `params-<sha256>.safetensors`, the arrays.

Weights are written and fsynced first; `model.json` is replaced last, in one atomic step; the weights that the old one
named are removed after that. A reader sees the old model or the new one, whole. Loading runs no code, reads no pickle,
and checks every array's path, shape and dtype.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree
from pydantic import ValidationError

from jaxprop.arrays.dtypes import enough_bits, has_64_bits
from jaxprop.arrays.paths import by_path
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, ModelError
from jaxprop.layers.layer import Layer
from jaxprop.saved.description import NAME, Description, Info, InputSpec, first_of, from_json, plain, to_json, versions
from jaxprop.saved.folder import Place, commit
from jaxprop.saved.kinds import kinds_in
from jaxprop.saved.weights import (
    ArraySpec,
    Specs,
    Weights,
    check_same,
    from_bytes,
    read_description,
    read_whole,
    to_arrays,
    to_bytes,
)


def save(
    path: Place,
    net: Layer,
    params: PyTree,
    *,
    inputs: ArrayLike | tuple[ArrayLike, ...],
    cost: Cost | None = None,
    info: dict[str, Any] | None = None,
) -> Path:
    """Write `net` and `params` to the folder `path`, so that a reader never sees half a model.

    Args:
        path: the folder; it is made if it is not there, and a model in it is replaced.
        net: the network.
        params: its θ.
        inputs: an example x `[N, ...]`, or a tuple of them, for shapes and dtypes.
        cost: what it was trained with.
        info: any of 'classes', 'columns', 'target', 'table', 'data' (where rows came from) and 'training' (a summary).

    Returns:
        The folder.

    Raises:
        ModelError: params are not net's, or the folder cannot be written; the old model then stays whole.

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
    weights, specs = Weights.of(data), {name: ArraySpec.of(array) for name, array in arrays.items()}
    text = _text(net, cost, _spec_of(inputs), specs, weights, info)
    folder = Path(path)
    commit(folder, {weights.file: data, NAME: text.encode()})
    return folder


def load(path: Place, kinds: Iterable[type] = ()) -> tuple[Layer, PyTree]:
    """Return (net, params) from a folder, every array checked against the description and against net.

    Args:
        path: a folder that `save` or `jaxprop train --out` wrote.
        kinds: classes of your own (layers, costs) that the description may name.

    Raises:
        ModelError: something is missing, truncated, altered, of another shape or dtype, or of a newer format; the text
            names the file and the array's path.

    >>> load("no/such/folder")
    Traceback (most recent call last):
        ...
    jaxprop.errors.ModelError: no/such/folder: is not there; expected a folder that jaxprop.save or ... wrote
    """
    about, params = read(path, kinds)
    return about.net, on_device(path, about, params)


def read(path: Place, kinds: Iterable[type] = ()) -> tuple[Description, PyTree]:
    """Return (description, θ as numpy arrays), whatever JAX's 64 bits are set to: `describe` and `load` in one read."""
    folder, kinds = Path(path), tuple(kinds)
    about, (data,) = read_whole(folder, NAME, lambda: describe(folder, kinds), lambda about: (about.weights,))
    with enough_bits(*about.dtypes):
        tree = _tree(about.net, about.inputs, about.params, f"{folder / NAME}: params")
    arrays = from_bytes(data, folder / about.weights.file, about.params)
    return about, jax.tree.unflatten(jax.tree.structure(tree), [arrays[path] for path in by_path(tree)])


def on_device(path: Place, about: Description, params: PyTree) -> PyTree:
    """Return what `read` gave of θ as JAX arrays; ModelError where they or x need 64 bits, and JAX's are off."""
    for name, spec in [*(("x", spec) for spec in about.all_inputs), *about.params.items()]:
        if has_64_bits(spec.dtype) and not has_64_bits(jnp.result_type(float)):
            raise ModelError(
                f"{path}: {name} is {spec}, and JAX's 64 bits are off: set JAX_ENABLE_X64=1, or call "
                "jax.config.update('jax_enable_x64', True) first"
            )
    return jax.tree.map(jnp.asarray, params)


def describe(path: Place, kinds: Iterable[type] = ()) -> Description:
    """Return what `model.json` says, without reading the arrays: net, cost, inputs, outputs, params, versions, info.

    Args:
        path: a folder that `save` or `jaxprop train --out` wrote.
        kinds: classes of your own (layers, costs) that the description may name.

    Raises:
        ModelError: there is no such model, or `model.json` is damaged or of a newer format.

    >>> import jaxprop as jp, tempfile
    >>> net, x = jp.Linear(2), np.ones((1, 3), np.float32)
    >>> folder = save(tempfile.mkdtemp(), net, net.init(jax.random.key(0), x), inputs=x, cost=jp.HalfSquaredError())
    >>> about = describe(folder)
    >>> print(about.cost, about.inputs, "→", about.outputs)
    HalfSquaredError() float32[N, 3] → float32[N, 2]
    """
    folder = Path(path)
    return from_json(read_description(folder, NAME, "jaxprop.save or `jaxprop train --out`"), folder / NAME, kinds)


def _spec_of(inputs: Any) -> Any:
    """What model.json says of an example x."""
    if isinstance(inputs, tuple):
        return tuple(map(_spec_of, inputs))
    try:
        return ArraySpec(shape=(-1, *np.shape(inputs)[1:]), dtype=jnp.result_type(inputs).name)
    except (TypeError, ValidationError):
        raise ModelError(f"save: inputs: found {type(inputs).__name__}, expected an example input [N, ...]") from None


def _text(net: Layer, cost: Cost | None, inputs: InputSpec, params: Specs, weights: Weights, info: Any) -> str:
    """The text of model.json, once it is known that it can be read again and that params are net's."""
    tree = _tree(net, inputs, params, "save: params")
    default = jnp.result_type(float)  # 64 bits stay on; arrays of numpy's may have them where they are off
    with enough_bits(default, *(spec.dtype for spec in params.values())):
        y = jax.eval_shape(net, _row(inputs), tree)
    try:
        given = plain(info or {})
        if isinstance(given, dict) and isinstance(given.get("classes"), list):  # labels of numbers are names too
            given["classes"] = [str(name) if isinstance(name, int | float) else name for name in given["classes"]]
        known = Info.model_validate(given, strict=False)
        outputs = ArraySpec.of(y, examples=True)
        text = to_json(Description(net, cost, inputs, outputs, params, weights, versions(), known))
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


def _row(inputs: InputSpec) -> Any:
    """One row of x, in shape and dtype."""
    if isinstance(inputs, tuple):
        return tuple(map(_row, inputs))
    return jax.ShapeDtypeStruct((1, *inputs.shape[1:]), jnp.dtype(inputs.dtype))


def _tree(net: Layer, inputs: InputSpec, found: Specs, where: str) -> PyTree:
    """Raise ModelError unless paths and shapes are those of net's own params; return their tree, of the found dtypes.

    Half precision parameters are as good as net's own.
    """
    try:
        tree = jax.eval_shape(net.init, jax.random.key(0), _row(inputs))
    except JaxpropError as error:
        given = ", ".join(map(str, inputs if isinstance(inputs, tuple) else [inputs]))
        raise ModelError(f"{where} for inputs {given}: {error}") from None
    paths = by_path(tree)
    dtypes = [jnp.dtype(found[path].dtype) if path in found else leaf.dtype for path, leaf in paths.items()]
    leaves = [jax.ShapeDtypeStruct(leaf.shape, dtype) for leaf, dtype in zip(paths.values(), dtypes, strict=True)]
    check_same(found, {path: ArraySpec.of(leaf) for path, leaf in zip(paths, leaves, strict=True)}, where)
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)
