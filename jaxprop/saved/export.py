"""A network for programs without its Python code: StableHLO by `jax.export`, for any number of examples.

The folder holds `export.json` (names, shapes, dtypes, hashes, versions), `model-<hash>.stablehlo` and
`params-<hash>.safetensors`. As with `save`, the new files are written first and `export.json` is replaced last, so a
reader sees the old model or the new one. JAX reads an export for six months after it was written: keep `save`'s folder.
"""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.export as jax_export
import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as to_safetensors

from jaxprop.errors import JaxpropError, ModelError
from jaxprop.network import by_path
from jaxprop.saved.description import ArraySpec, Weights, first_of, versions
from jaxprop.saved.folder import commit
from jaxprop.saved.model import _as_numpy, _read, _same, _stored


class Program(BaseModel):
    """The StableHLO file, and what it must hash to."""

    model_config = ConfigDict(extra="forbid", strict=True)

    file: str = Field(pattern=r"^model-[0-9a-f]{12}\.stablehlo$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ExportDescription(BaseModel):
    """`export.json`. Inputs and outputs by name, −1 for the examples; `named` says which of them f has as a dict."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal[1]
    inputs: dict[str, ArraySpec] = Field(min_length=1)
    outputs: dict[str, ArraySpec] = Field(min_length=1)
    named: tuple[Literal["inputs", "outputs"], ...]
    params: dict[str, ArraySpec]
    program: Program
    weights: Weights
    versions: dict[str, str]


class Exported(NamedTuple):
    """What `load_exported` gives: f(inputs by name, params by path) → outputs by name, and the arrays of params.

    `differentiable`: whether `jax.grad` goes through f, once; it does if it went through the function exported.
    """

    f: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
    params: dict[str, np.ndarray]
    description: ExportDescription
    differentiable: bool

    def __call__(self, x: Any) -> Any:
        """y = f(x, θ), arrays or dicts as the exported function had them."""
        about = self.description
        given = x if "inputs" in about.named else {"x": x}
        with wide(about.inputs, about.params, about.outputs):
            y = self.f({name: jnp.asarray(value) for name, value in given.items()}, self.params)
        return y if "outputs" in about.named else y["y"]


def export(path: Any, f: Callable[[Any, Any], Any], params: Any, *, inputs: Any) -> Path:
    """Write f(x, θ) with its θ to the folder `path` as StableHLO; return the folder.

    f: a Layer, or any JAX function (x, params) → y, each row of y from the same row of x.    params: its θ.
    inputs: an example x `[N, ...]`, or a dict of named arrays; y is one array `[N, ...]` or a dict of them, too.

    Raises ModelError for a network whose rows depend on each other, for outputs that are not `[N, ...]`, and where the
    folder cannot be written; a model that was there then stays whole.

    >>> import jaxprop as jp, tempfile
    >>> net, x = jp.Chain(jp.Linear(2), jp.Tanh()), np.ones((1, 3), np.float32)
    >>> folder = export(tempfile.mkdtemp(), net, net.init(jax.random.key(0), x), inputs=x)
    >>> load_exported(folder)(np.zeros((5, 3), np.float32)).shape
    (5, 2)
    """
    if getattr(f, "mixes_examples", False):
        raise ModelError(f"export: {f!r}: its rows depend on each other: jp.freeze_statistics(net, params, x) first")
    arrays = {name: _as_numpy(name, leaf) for name, leaf in by_path(params).items()}
    program, described = _lowered(f, params, arrays, inputs)
    data = to_safetensors(arrays)
    digests = [hashlib.sha256(part).hexdigest() for part in (program, data)]
    about = ExportDescription(
        format=1,
        **described,
        params={name: ArraySpec.of(array) for name, array in arrays.items()},
        program=Program(file=f"model-{digests[0][:12]}.stablehlo", sha256=digests[0]),
        weights=Weights(file=f"params-{digests[1][:12]}.safetensors", sha256=digests[1]),
        versions=versions(),
    )
    folder = Path(path)
    weights = {about.program.file: program, about.weights.file: data}
    commit(folder, {**weights, "export.json": about.model_dump_json(indent=1).encode()})
    return folder


def load_exported(path: Any) -> Exported:
    """Return the exported model in the folder `path`: `load_exported(path)(x)` is y. No Python code is run.

    Raises ModelError for anything missing, truncated, altered, too old for this JAX, or that calls what is not in the
    file: Python functions, or native ones that JAX does not vouch for.

    >>> load_exported("no/such/folder")
    Traceback (most recent call last):
        ...
    jaxprop.errors.ModelError: no/such/folder: has no export.json; expected a folder that jaxprop.export wrote
    """
    folder = Path(path)
    about = describe_exported(folder)
    program = _checked(folder / about.program.file, about.program.sha256)
    data = _checked(folder / about.weights.file, about.weights.sha256)
    try:
        exported = jax_export.deserialize(bytearray(program))
        vjp = exported.vjp() if exported.has_vjp() else None
    except Exception as error:  # whatever its parsers raise
        raise ModelError(
            f"{folder / about.program.file}: this JAX ({jax.__version__}) cannot read it ({str(error)[:200]}); "
            "export the model again"
        ) from None
    f = _function(exported, folder)
    _check_calls(f, about, folder / about.program.file)
    if vjp is not None:
        _check_calls_of_vjp(vjp, about, folder / about.program.file)
    return Exported(f, _arrays(folder, about, data), about, vjp is not None)


def describe_exported(path: Any) -> ExportDescription:
    """What `export.json` in the folder says."""
    file = Path(path) / "export.json"
    try:
        return ExportDescription.model_validate_json(_read(file))
    except FileNotFoundError:
        raise ModelError(f"{path}: has no export.json; expected a folder that jaxprop.export wrote") from None
    except ValidationError as error:
        raise ModelError(f"{file}: {first_of(error, 'export the model again')}") from None


@contextlib.contextmanager
def wide(*specs: dict[str, ArraySpec]) -> Any:
    """JAX as these arrays need it, whatever is set outside: 64 bits if one of them has them, standard promotion."""
    is_wide = any(spec.dtype in ("float64", "int64", "uint64") for found in specs for spec in found.values())
    with jax.enable_x64(is_wide), jax.numpy_dtype_promotion("standard"):  # pyright: ignore
        yield


def _lowered(f: Any, params: Any, arrays: dict[str, np.ndarray], inputs: Any) -> tuple[bytes, dict[str, Any]]:
    """The program of f for any number of examples, and what goes in and out."""
    given = inputs if isinstance(inputs, dict) else {"x": inputs}
    tree, named = jax.tree.structure(params), ["inputs"] if isinstance(inputs, dict) else []
    (b,) = jax_export.symbolic_shape("b")
    if not given or any(np.ndim(value) == 0 for value in given.values()):
        raise ModelError("export: inputs: expected an example [N, ...], or a dict of them")
    x = {name: jax.ShapeDtypeStruct((b, *np.shape(v)[1:]), np.dtype(jnp.result_type(v))) for name, v in given.items()}
    specs = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in arrays.items()}

    def g(by_name: dict[str, Any], flat: dict[str, Any]) -> dict[str, Any]:
        y = f(
            by_name if isinstance(inputs, dict) else by_name["x"],
            jax.tree.unflatten(tree, [flat[name] for name in arrays]),
        )
        if not isinstance(y, dict):
            return {"y": y}
        named.append("outputs")
        return y

    spec_of = {name: ArraySpec.of(value, examples=True) for name, value in x.items()}
    with wide(spec_of, {name: ArraySpec.of(value) for name, value in specs.items()}):
        try:
            exported = jax_export.export(jax.jit(g), platforms=("cpu", "cuda", "tpu"))(x, specs)
            program = _serialized(exported)
        except (JaxpropError, ImportError):
            raise
        except Exception as error:  # whatever tracing f raises
            raise ModelError(f"export: f cannot be traced for any number of examples: {str(error)[:500]}") from error
        y = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    for name, value in y.items():
        if not value.shape or value.shape[0] != b or not all(isinstance(size, int) for size in value.shape[1:]):
            raise ModelError(
                f"export: output {name!r}: found the shape {value.shape}, expected [b, ...], b the examples"
            )
    outputs = {name: ArraySpec.of(value, examples=True) for name, value in y.items()}
    return program, {"inputs": spec_of, "outputs": outputs, "named": tuple(dict.fromkeys(named))}


def _serialized(exported: Any) -> bytes:
    """With the program of its derivative, unless it has none."""
    try:
        return bytes(exported.serialize(vjp_order=1))
    except Exception:  # whatever differentiating f raises, such as a ValueError for a while_loop
        return bytes(exported.serialize())


def _function(exported: Any, folder: Path) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
    def f(inputs: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        try:
            return exported.call(inputs, params)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{folder}: {str(error)[:500]}") from None

    return f


def _check_calls(f: Any, about: ExportDescription, file: Path) -> None:
    """Refuse a program that calls out of itself: exporting it again, JAX looks at each call it makes."""

    def one(spec: ArraySpec) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct([1 if size == -1 else size for size in spec.shape], jnp.dtype(spec.dtype))

    x, params = ({name: one(spec) for name, spec in specs.items()} for specs in (about.inputs, about.params))
    _export_again(f, (x, params), about, file)


def _check_calls_of_vjp(vjp: Any, about: ExportDescription, file: Path) -> None:
    """The same for the program of the derivative, for one example."""
    sizes = [[size if isinstance(size, int) else 1 for size in aval.shape] for aval in vjp.in_avals]
    flat = [jax.ShapeDtypeStruct(size, aval.dtype) for size, aval in zip(sizes, vjp.in_avals, strict=True)]
    _export_again(vjp.call, jax.tree.unflatten(vjp.in_tree, flat)[0], about, file)


def _export_again(f: Any, specs: tuple[Any, ...], about: ExportDescription, file: Path) -> None:
    with wide(about.inputs, about.params, about.outputs):
        try:
            jax_export.export(jax.jit(f))(*specs)
        except JaxpropError:
            raise
        except Exception as error:  # a ValueError for calls, whatever else JAX makes of a program it did not write
            raise ModelError(f"{file}: refused: {str(error)[:500]}") from None


def _arrays(folder: Path, about: ExportDescription, data: bytes) -> dict[str, np.ndarray]:
    try:
        found = dict(deserialize(data))
    except SafetensorError as error:
        raise ModelError(f"{folder / about.weights.file}: not a safetensors file ({error})") from None
    file = folder / about.weights.file
    _same(_stored(found, file), about.params, str(file))
    return {
        p: np.frombuffer(found[p]["data"], jnp.dtype(s.dtype)).reshape(s.shape) for p, s in about.params.items()
    }  # fmt: skip


def _checked(file: Path, sha256: str) -> bytes:
    try:
        data = _read(file)
    except FileNotFoundError:
        raise ModelError(f"{file}: which export.json names, is missing; export the model again") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ModelError(f"{file}: does not hash to the sha256 in export.json: truncated or altered; export it again")
    return data
