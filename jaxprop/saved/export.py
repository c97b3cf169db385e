"""A network for programs without its Python code: StableHLO by `jax.export`, for any number of examples.

The folder holds `export.json` (names, shapes, dtypes, hashes, versions), `model-<hash>.stablehlo` and
`params-<hash>.safetensors`. As with `save`, the new files are written first and `export.json` is replaced last, so a
reader sees the old model or the new one. JAX reads an export for six months after it was written: keep `save`'s folder.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.export as jax_export
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree
from pydantic import Field, ValidationError

from jaxprop.arrays.dtypes import enough_bits
from jaxprop.errors import JaxpropError, ModelError
from jaxprop.saved.description import first_of, versions
from jaxprop.saved.folder import Place, commit
from jaxprop.saved.weights import (
    ArraySpec,
    NamedFile,
    Specs,
    Strict,
    Weights,
    from_bytes,
    read_description,
    read_whole,
    to_arrays,
    to_bytes,
)

NAME = "export.json"
Arrays = Mapping[str, ArrayLike]
Shapes = dict[str, jax.ShapeDtypeStruct]


class Program(NamedFile):
    """The file of StableHLO."""

    name = "model-{}.stablehlo"
    file: str = Field(pattern=r"^model-[0-9a-f]{12}\.stablehlo$")


class ExportDescription(Strict):
    """`export.json`. Inputs and outputs by name, −1 for the examples; `named` says which of them f has as a dict."""

    format: Literal[1]
    inputs: Specs = Field(min_length=1)
    outputs: Specs = Field(min_length=1)
    named: tuple[Literal["inputs", "outputs"], ...]
    params: Specs
    program: Program
    weights: Weights
    versions: dict[str, str]

    @property
    def dtypes(self) -> list[str]:
        """The dtypes of all arrays that it names."""
        return [spec.dtype for specs in (self.inputs, self.params, self.outputs) for spec in specs.values()]


class Exported(NamedTuple):
    """What `load_exported` gives: f(inputs by name, params by path) → outputs by name, and the arrays of params.

    `differentiable`: whether `jax.grad` goes through f, once; it does if it went through the function exported.
    """

    f: Callable[[Arrays, Arrays], dict[str, Array]]
    params: dict[str, np.ndarray]
    description: ExportDescription
    differentiable: bool

    def __call__(self, x: ArrayLike | Arrays) -> Array | dict[str, Array]:
        """y = f(x, θ), arrays or dicts as the exported function had them."""
        about = self.description
        given: Any = x if "inputs" in about.named else {"x": x}
        with enough_bits(*about.dtypes):
            y = self.f({name: jnp.asarray(value) for name, value in given.items()}, self.params)
        return y if "outputs" in about.named else y["y"]


def export(path: Place, f: Callable[[Any, Any], Any], params: PyTree, *, inputs: ArrayLike | Arrays) -> Path:
    """Write f(x, θ) with its θ to a folder as StableHLO, for any number of examples.

    Args:
        path: the folder; it is made if it is not there, and an export in it is replaced.
        f: a Layer, or any JAX function (x, params) → y, each row of y from the same row of x; y is one array
            `[N, ...]`, or a dict of them.
        params: its θ.
        inputs: an example x `[N, ...]`, or a dict of named arrays.

    Returns:
        The folder.

    Raises:
        ModelError: the network's rows depend on each other, its outputs are not `[N, ...]`, or the folder cannot be
            written; a model that was there then stays whole.

    >>> import jaxprop as jp, tempfile
    >>> net, x = jp.Chain(jp.Linear(2), jp.Tanh()), np.ones((1, 3), np.float32)
    >>> folder = export(tempfile.mkdtemp(), net, net.init(jax.random.key(0), x), inputs=x)
    >>> load_exported(folder)(np.zeros((5, 3), np.float32)).shape
    (5, 2)
    """
    if getattr(f, "mixes_examples", False):
        raise ModelError(f"export: {f!r}: its rows depend on each other: jp.freeze_statistics(net, x, params) first")
    arrays = to_arrays(params)
    program, described = _lowered(f, params, arrays, inputs)
    data = to_bytes(arrays)
    about = ExportDescription(
        format=1,
        **described,
        params={name: ArraySpec.of(array) for name, array in arrays.items()},
        program=Program.of(program),
        weights=Weights.of(data),
        versions=versions(),
    )
    folder = Path(path)
    text = about.model_dump_json(indent=1).encode()
    commit(folder, {about.program.file: program, about.weights.file: data, NAME: text})
    return folder


def load_exported(path: Place) -> Exported:
    """Return the exported model in a folder: `load_exported(path)(x)` is y. No Python code is run.

    Args:
        path: a folder that `export` wrote.

    Raises:
        ModelError: something is missing, truncated, altered, too old for this JAX, or calls what is not in the file:
            Python functions, or native ones that JAX does not vouch for.

    >>> load_exported("no/such/folder")
    Traceback (most recent call last):
        ...
    jaxprop.errors.ModelError: no/such/folder: is not there; expected a folder that jaxprop.export wrote
    """
    folder = Path(path)
    about, (program, data) = read_whole(
        folder, NAME, lambda: describe_exported(folder), lambda about: (about.program, about.weights)
    )
    arrays = from_bytes(data, folder / about.weights.file, about.params)
    try:
        exported = jax_export.deserialize(bytearray(program))
        vjp = exported.vjp() if exported.has_vjp() else None
    except Exception as error:  # whatever its parsers raise
        raise ModelError(
            f"{folder / about.program.file}: this JAX ({jax.__version__}) cannot read it ({str(error)[:200]}); "
            "export the model again"
        ) from None
    f, file = _function(exported, folder), folder / about.program.file
    _check_calls(f, _one_row(about), about, file)
    if vjp is not None:
        _check_calls(vjp.call, _one_row_of(vjp), about, file)
    return Exported(f, arrays, about, vjp is not None)


def describe_exported(path: Place) -> ExportDescription:
    """Return what `export.json` in a folder says; ModelError where it is missing or damaged."""
    folder = Path(path)
    try:
        return ExportDescription.model_validate_json(read_description(folder, NAME, "jaxprop.export"))
    except ValidationError as error:
        raise ModelError(f"{folder / NAME}: {first_of(error, 'export the model again')}") from None


def _lowered(
    f: Callable[[Any, Any], Any], params: PyTree, arrays: dict[str, np.ndarray], inputs: ArrayLike | Arrays
) -> tuple[bytes, dict[str, Any]]:
    """The program of f for any number of examples, and what goes in and out."""
    given = inputs if isinstance(inputs, Mapping) else {"x": inputs}
    tree, named = jax.tree.structure(params), ["inputs"] if isinstance(inputs, Mapping) else []
    (b,) = jax_export.symbolic_shape("b")
    if not given or any(np.ndim(value) == 0 for value in given.values()):
        raise ModelError("export: inputs: expected an example [N, ...], or a dict of them")
    x = {name: jax.ShapeDtypeStruct((b, *np.shape(v)[1:]), np.dtype(jnp.result_type(v))) for name, v in given.items()}
    specs = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in arrays.items()}

    def g(by_name: Arrays, flat: Arrays) -> dict[str, Array]:
        y = f(
            by_name if isinstance(inputs, Mapping) else by_name["x"],
            jax.tree.unflatten(tree, [flat[name] for name in arrays]),
        )
        if not isinstance(y, dict):
            return {"y": y}
        named.append("outputs")
        return y

    spec_of = {name: ArraySpec.of(value, examples=True) for name, value in x.items()}
    with enough_bits(*(spec.dtype for spec in (*x.values(), *specs.values()))):
        try:
            exported = jax_export.export(jax.jit(g), platforms=("cpu", "cuda", "tpu"))(x, specs)
            program = _serialized(exported)
        except (JaxpropError, ImportError):
            raise
        except Exception as error:  # whatever tracing f raises
            raise ModelError(f"export: f cannot be traced for any number of examples: {str(error)[:500]}") from error
        y = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    _check_outputs(y, b)
    outputs = {name: ArraySpec.of(value, examples=True) for name, value in y.items()}
    return program, {"inputs": spec_of, "outputs": outputs, "named": tuple(dict.fromkeys(named))}


def _check_outputs(y: dict[str, Any], b: Any) -> None:
    """Refuse outputs that are not one row an example."""
    for name, value in y.items():
        if not value.shape or value.shape[0] != b or not all(isinstance(size, int) for size in value.shape[1:]):
            raise ModelError(
                f"export: output {name!r}: found the shape {value.shape}, expected [b, ...], b the examples"
            )


def _serialized(exported: jax_export.Exported) -> bytes:
    """With the program of its derivative, unless it has none."""
    try:
        return bytes(exported.serialize(vjp_order=1))
    except Exception:  # whatever differentiating f raises, such as a ValueError for a while_loop
        return bytes(exported.serialize())


def _function(exported: jax_export.Exported, folder: Path) -> Callable[[Arrays, Arrays], dict[str, Array]]:
    def f(inputs: Arrays, params: Arrays) -> dict[str, Array]:
        try:
            y: Any = exported.call(inputs, params)  # a dict, which JAX's types do not know
            return y
        except (TypeError, ValueError) as error:
            raise ModelError(f"{folder}: {str(error)[:500]}") from None

    return f


def _one_row(about: ExportDescription) -> tuple[Shapes, Shapes]:
    """What the program takes for one example."""

    def one(spec: ArraySpec) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct([1 if size == -1 else size for size in spec.shape], jnp.dtype(spec.dtype))

    inputs, params = ({name: one(spec) for name, spec in specs.items()} for specs in (about.inputs, about.params))
    return inputs, params


def _one_row_of(vjp: jax_export.Exported) -> tuple[PyTree, ...]:
    """What the program of the derivative takes for one example."""
    sizes = [[size if isinstance(size, int) else 1 for size in aval.shape] for aval in vjp.in_avals]
    flat = [jax.ShapeDtypeStruct(size, aval.dtype) for size, aval in zip(sizes, vjp.in_avals, strict=True)]
    return jax.tree.unflatten(vjp.in_tree, flat)[0]


def _check_calls(f: Callable[..., PyTree], row: tuple[PyTree, ...], about: ExportDescription, file: Path) -> None:
    """Refuse a program that calls out of itself: exporting it again, JAX looks at each call it makes."""
    with enough_bits(*about.dtypes):
        try:
            jax_export.export(jax.jit(f))(*row)
        except JaxpropError:
            raise
        except Exception as error:  # a ValueError for calls, whatever else JAX makes of a program it did not write
            raise ModelError(f"{file}: refused: {str(error)[:500]}") from None
