"""Tensors on the wire: the Open Inference Protocol's datatypes, and what a model takes and gives."""

import math
from dataclasses import dataclass
from functools import cached_property

import ml_dtypes
import numpy as np

from jaxprop.columns import Table

DATATYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "BYTES": np.dtype(object),
}


# The most bytes of a value and its comma in JSON; what a string has is seen when it is there.
_IN_JSON = {
    "BOOL": 6, "UINT8": 4, "UINT16": 6, "UINT32": 11, "UINT64": 21, "INT8": 5, "INT16": 7, "INT32": 12, "INT64": 21,
    "FP16": 16, "BF16": 16, "FP32": 16, "FP64": 25, "BYTES": 3,
}  # fmt: skip


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's name, datatype and shape; shape[0] is -1, the rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """The numpy dtype."""
        return DATATYPES[self.datatype]

    def row_bytes(self, binary: bool) -> int:
        """Return the most bytes that the values of a row have in an answer.

        >>> TensorSpec("y", "FP32", (-1, 10)).row_bytes(binary=True), TensorSpec("y", "FP32", (-1, 10)).row_bytes(False)
        (40, 160)
        """
        each = self.dtype.itemsize if binary and self.datatype != "BYTES" else _IN_JSON[self.datatype]
        return each * math.prod(self.shape[1:])


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives; `table`, if there is one, makes its one input of columns (by_column.py)."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    platform: str
    table: Table | None = None

    @cached_property
    def answer_row_bytes(self) -> int:
        """The most bytes that the values of a row have in an answer of any kind."""
        return sum(spec.row_bytes(binary=False) for spec in self.outputs)

    @cached_property
    def answers_strings(self) -> bool:
        """Whether outputs are strings, of which nobody knows the length before they are there."""
        return any(spec.datatype == "BYTES" for spec in self.outputs)
