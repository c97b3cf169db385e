"""The files beside a description: each is named by its sha256, and arrays are safetensors. One reader for all of them.

A description (`model.json`, `export.json`) is replaced last when a model is saved; old files are removed after that.
So a reader that finds a file just gone reads the description again, and gets the old model or the new one, whole.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as to_safetensors

from jaxprop.arrays.paths import by_path
from jaxprop.errors import ModelError

DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "complex64": "C64", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip  # by the names that safetensors has for them
TAGS = {tag: name for name, tag in DTYPES.items()}
Described = jax.Array | np.ndarray | jax.ShapeDtypeStruct
About = TypeVar("About")


class Strict(BaseModel):
    """A part of a description: unknown fields and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ArraySpec(Strict):
    """Shape and dtype of an array; −1 stands for the number of examples."""

    shape: tuple[int, ...]
    dtype: str = Field(pattern=f"^({'|'.join(DTYPES)})$")

    @classmethod
    def of(cls, array: Described, examples: bool = False) -> "ArraySpec":
        """Describe an array or ShapeDtypeStruct; with `examples` its first axis is any N."""
        shape = (-1, *array.shape[1:]) if examples else array.shape
        return cls(shape=tuple(int(s) for s in shape), dtype=np.dtype(array.dtype).name)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('N' if s < 0 else str(s) for s in self.shape)}]"


Specs = dict[str, ArraySpec]


class NamedFile(Strict):
    """A file beside the description: its name holds the start of the sha256 that its bytes hash to."""

    name: ClassVar[str]
    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The file that these bytes are written to."""
        digest = hashlib.sha256(data).hexdigest()
        return cls(file=cls.name.format(digest[:12]), sha256=digest)


class Weights(NamedFile):
    """The file of the arrays."""

    name = "params-{}.safetensors"
    file: str = Field(pattern=r"^params-[0-9a-f]{12}\.safetensors$")


def to_arrays(params: PyTree) -> dict[str, np.ndarray]:
    """Return the arrays of θ by path, as their bytes will be written: in row-major order, the same bits."""
    return {path: _to_array(path, leaf) for path, leaf in by_path(params).items()}


def _to_array(path: str, leaf: object) -> np.ndarray:
    with contextlib.suppress(TypeError, ValueError):
        array = np.asarray(leaf, order="C")
        if array.dtype.name in DTYPES:
            return array
    found = getattr(leaf, "dtype", type(leaf).__name__)
    raise ModelError(f"save: params: {path}: found {found}, expected an array of one of {', '.join(DTYPES)}")


def to_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """Return the bytes of a weights file, the same for the same arrays."""
    return to_safetensors(arrays)


def read_whole(
    folder: Path, name: str, describe: Callable[[], About], files: Callable[[About], Sequence[NamedFile]]
) -> tuple[About, list[bytes]]:
    """Return what `describe` reads of `folder`/`name`, and the bytes of the `files` it names: all of one model.

    Raises ModelError for a file that stays missing, that cannot be read, or that does not hash to its sha256.
    """
    again = f"{'export' if name == 'export.json' else 'save'} the model again"
    missing = folder
    for _ in range(10):  # what has just gone was replaced between two reads: look again
        about, found = describe(), []
        for part in files(about):
            try:
                data = read_file(folder / part.file)
            except FileNotFoundError:
                missing = folder / part.file
                break
            if hashlib.sha256(data).hexdigest() != part.sha256:
                raise ModelError(
                    f"{folder / part.file}: {len(data):,} bytes that do not hash to the sha256 in {name}: "
                    f"the file is truncated or was altered; {again}"
                )
            found.append(data)
        else:
            return about, found
    raise ModelError(f"{folder}: {missing.name}, which {name} names, is missing; {again}")


def read_description(folder: Path, name: str, writers: str) -> bytes:
    """Return the bytes of a folder's description; ModelError, naming what writes one, where there is none."""
    try:
        return read_file(folder / name)
    except FileNotFoundError:
        hint = f"has no {name}" if folder.exists() else "is not there"
        raise ModelError(f"{folder}: {hint}; expected a folder that {writers} wrote") from None


def read_file(file: Path) -> bytes:
    """Return a file's bytes; what the operating system refuses, but for a missing file, is a ModelError."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from None


def from_bytes(data: bytes, file: Path, expected: Specs) -> dict[str, np.ndarray]:
    """Return the arrays in a weights file's bytes by path; ModelError unless they are exactly those expected."""
    try:
        found = dict(deserialize(data))
    except SafetensorError as error:
        raise ModelError(f"{file}: not a safetensors file ({error}); save the model again") from None
    for path, array in found.items():
        if array["dtype"] not in TAGS:
            raise ModelError(f"{file}: {path}: found {array['dtype']}, expected one of {', '.join(TAGS)}")
    specs = {path: ArraySpec(shape=tuple(a["shape"]), dtype=TAGS[a["dtype"]]) for path, a in found.items()}
    check_same(specs, expected, str(file))
    return {p: np.frombuffer(found[p]["data"], jnp.dtype(s.dtype)).reshape(s.shape) for p, s in expected.items()}


def check_same(found: Specs, expected: Specs, where: str) -> None:
    """Raise ModelError, naming the first path, unless both have the same arrays."""
    for path in [*expected, *found]:
        if found.get(path) != expected.get(path):
            raise ModelError(
                f"{where}: {path}: found {found.get(path, 'nothing')}, expected {expected.get(path, 'nothing')}"
            )
