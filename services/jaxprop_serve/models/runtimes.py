"""What can be served, and how it is compiled: one executable for each number of rows, made ahead of time.

Neither of the two runtimes here runs code that a model's folder brings: a folder describes layers that are installed,
or holds StableHLO.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.arrays.dtypes import enough_bits, has_64_bits
from jaxprop.columns import Number, Table
from jaxprop.costs import Cost
from jaxprop.entry_points import load_all
from jaxprop.errors import ModelError
from jaxprop.layers import Layer
from jaxprop.network import by_path
from jaxprop.saved import description, export
from jaxprop.saved.export import load_exported
from jaxprop.saved.model import read
from jaxprop.saved.weights import ArraySpec
from jaxprop_serve.protocol.tensors import DATATYPES, Signature, TensorSpec

Arrays = dict[str, np.ndarray]
Executable = Callable[[Arrays], Arrays]
Function = Callable[[dict[str, jax.Array], PyTree], dict[str, jax.Array]]  # outputs by name = f(inputs by name, θ)
MOST_CONSTANT = 1 << 20  # bytes of θ
NAMES = {dtype.name: name for name, dtype in DATATYPES.items() if name != "BYTES"}


@dataclass(frozen=True)
class Loaded:
    """A model in memory. `compile(rows)` gives the executable for exactly that many rows.

    example: rows of every input, by name, to try it with before it answers: for strings that must be of some form, such
    as pictures. Without them it is tried with made-up numbers, which in BYTES are text.
    classes: names of the outputs' columns, if known.    cost: what it was trained with, if known.
    f, params: outputs by name = f(inputs by name, θ) as a JAX function, and its θ, where there is one.
    differentiable: whether jax.grad goes through f.    net: the network itself, where there is one.
    """

    signature: Signature
    compile: Callable[[int], Executable]
    info: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    cost: Cost | None = None
    f: Function | None = None
    params: PyTree = None
    differentiable: bool = False
    net: Layer | None = None
    example: Arrays | None = None


class Runtime(Protocol):
    """Loads folders of one kind. The first of those allowed that accepts a folder loads it."""

    name: str

    def accepts(self, path: Path) -> bool:
        """Return whether it can load this folder, by a glance at its files."""
        ...

    def load(self, path: Path) -> Loaded:
        """Read and check it, in the loader's thread. ModelError says what is wrong with it.

        `compiler(f, params, signature)` makes `Loaded.compile` of a JAX function; any other function of numpy arrays
        will do. Rows must not depend on each other, which is checked.
        """
        ...


class SavedRuntime:
    """Loads folders that `jaxprop.save` or `jaxprop train` wrote. Their tensors are called x and y."""

    name = "jaxprop"

    def accepts(self, path: Path) -> bool:
        """Return whether the folder holds such a model."""
        return (Path(path) / description.NAME).is_file()

    def load(self, path: Path) -> Loaded:
        """Read and check it. Rows that depend on each other and NaN in θ are a ModelError too."""
        about, params = read(path, load_all("jaxprop.layers"))
        net = about.net
        if net.mixes_examples:
            raise ModelError(
                f"{path}: {net!r} mixes the rows of a batch, so an answer would depend on who else asks: save what "
                "jp.freeze_statistics(net, x, params) returns"
            )
        _finite(path, by_path(params))
        x = _tensors({"x": about.one_input})
        signature = Signature(x, _tensors({"y": about.outputs}), "jaxprop_jax", _table(about.info, x[0], path))
        params = _on_device(params)

        def f(inputs: dict[str, jax.Array], params: PyTree) -> dict[str, jax.Array]:
            return {"y": net(inputs["x"], params)}

        info = about.info.model_dump(exclude_none=True) | {"versions": about.versions}
        return Loaded(
            signature, compiler(f, params, signature), info, about.info.classes, about.cost,
            f=f, params=params, differentiable=True, net=net,
        )  # fmt: skip


class ExportRuntime:
    """Loads folders that `jaxprop.export` wrote."""

    name = "export"

    def accepts(self, path: Path) -> bool:
        """Return whether the folder holds such a model."""
        return (Path(path) / export.NAME).is_file()

    def load(self, path: Path) -> Loaded:
        """Read and check it."""
        f, params, about, differentiable = load_exported(path)
        _finite(path, params)
        signature = Signature(_tensors(about.inputs), _tensors(about.outputs), "jaxprop_stablehlo")
        params = _on_device(params)
        return Loaded(
            signature, compiler(f, params, signature), {"versions": about.versions},
            f=f, params=params, differentiable=differentiable,
        )  # fmt: skip


saved = SavedRuntime()
exported = ExportRuntime()


def compiler(f: Function, params: PyTree, signature: Signature) -> Callable[[int], Executable]:
    """compile(rows) for f(inputs by name, θ) → outputs by name, `inputs` being those that `signature` names.

    Whatever JAX is set to outside, 64 bits are on if a tensor has them.
    """
    dtypes = [spec.dtype for spec in (*signature.inputs, *signature.outputs)]
    dtypes += [np.dtype(leaf.dtype) for leaf in jax.tree.leaves(params)]
    names = [spec.name for spec in signature.inputs]
    leaves, tree = jax.tree.flatten(_on_device(params))
    # A call costs less with every argument less: a small θ is part of the program, once in every executable.
    if sum(leaf.nbytes for leaf in leaves) <= MOST_CONSTANT:
        constant, leaves = leaves, []
    else:
        constant = []
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]

    def flat(*arrays: jax.Array) -> dict[str, jax.Array]:  # plain arrays cost less in a call than a dict and a tree
        return f(dict(zip(names, arrays, strict=False)), jax.tree.unflatten(tree, constant or arrays[len(names) :]))

    def compile(rows: int) -> Executable:
        inputs = [jax.ShapeDtypeStruct((rows, *spec.shape[1:]), spec.dtype) for spec in signature.inputs]
        with enough_bits(*dtypes):
            compiled = jax.jit(flat).lower(*inputs, *shapes).compile()
        _check_memory(compiled, rows)

        def execute(inputs: Arrays) -> Arrays:
            outputs = compiled(*[inputs[name] for name in names], *leaves)
            return {name: np.asarray(y) for name, y in outputs.items()}

        def execute_wide(inputs: Arrays) -> Arrays:
            with enough_bits("float64"):
                return execute(inputs)

        return execute_wide if has_64_bits(*dtypes) else execute

    return compile


def _on_device(params: PyTree) -> PyTree:
    with enough_bits(*(leaf.dtype for leaf in jax.tree.leaves(params))):  # each keeps its dtype
        return jax.tree.map(jnp.asarray, params)


def _check_memory(compiled: jax.stages.Compiled, rows: int) -> None:
    """Raise ModelError for what could only end in the system killing the server."""
    found = compiled.memory_analysis() if jax.default_backend() == "cpu" else None
    if found is None:
        return
    needed = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ModelError(
            f"{rows} rows need {needed / 2**30:,.1f} GiB, this machine has {there / 2**30:,.1f}: serve it elsewhere, "
            "or with a smaller max_batch"
        )


def _tensors(specs: dict[str, ArraySpec]) -> tuple[TensorSpec, ...]:
    for name, spec in specs.items():
        if spec.dtype not in NAMES:
            raise ModelError(f"tensor {name!r}: {spec.dtype} is no datatype of the Open Inference Protocol")
    return tuple(TensorSpec(name, NAMES[spec.dtype], spec.shape) for name, spec in specs.items())


def _table(info: description.Info, x: TensorSpec, path: Path) -> Table | None:
    """Return the table that makes x of columns, if the model has one, or names its columns, which are numbers then."""
    table = info.table
    if table is None and info.columns is not None:
        table = Table(tuple(Number(name) for name in info.columns))
    if table is None:
        return None
    if x.shape == (-1, len(table.features)) and x.datatype in ("FP16", "BF16", "FP32", "FP64"):
        return table
    if info.table is None:  # x is made of its columns in some other way
        return None
    raise ModelError(
        f"{path}: info: table makes {len(table.features)} features, but x is {x.datatype} {list(x.shape)}; save the "
        "model with the table that its x was made with"
    )


def _finite(path: Path, arrays: Mapping[str, jax.Array | np.ndarray]) -> None:
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.inexact) and not np.isfinite(np.asarray(array)).all():
            raise ModelError(f"{path}: params: {name}: found NaN or infinity, expected finite numbers; train it again")
