"""Tensors on the wire: the Open Inference Protocol's datatypes, and what a model takes and gives."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives; `table`, if there is one, makes its one input of columns (by_column.py)."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    platform: str
    table: Table | None = None
