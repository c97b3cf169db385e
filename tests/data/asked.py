"""What the tests of the data share: how a refusal is asked for, and when two sources are the same."""

import contextlib
import gzip
import re
import struct

import numpy as np
import pytest
from hypothesis import settings

from jaxprop.errors import DataError

few = settings(max_examples=20, deadline=None)
FLOWERS = "petal, sepal ,kind\n1.5,1,rose\n4.0,2,iris\n1e0,3,rose\n-2,4,iris\n+2,5,rose\n"
IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
MADE_UP = ["line", "square", "xor", "moons", "spirals", "ball"]


@contextlib.contextmanager
def refused(*parts):
    """A DataError whose text holds every part, in this order."""
    with pytest.raises(DataError, match="(?s)" + ".*".join(re.escape(part) for part in parts)):
        yield


def same(a, b):
    return np.array_equal(a.x, b.x) and np.array_equal(a.targets, b.targets)


def idx_bytes(array):
    code = IDX_CODES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder, train=30, test=10, form="{}-ubyte.gz", images=None, labels=None):
    """A folder of MNIST's form; row n shows a single grey value, n, and is of label n % 10."""
    for part, rows in (("train", train), ("t10k", test)):
        pixels = np.repeat(np.arange(rows, dtype=np.uint8), 28 * 28).reshape(rows, 28, 28)
        arrays = {"images-idx3": pixels, "labels-idx1": np.arange(rows, dtype=np.uint8) % 10}
        if part == "train":
            arrays |= {"images-idx3": pixels if images is None else images}
            arrays |= {"labels-idx1": arrays["labels-idx1"] if labels is None else labels}
        for kind, array in arrays.items():
            raw = idx_bytes(array)
            path = folder / form.format(f"{part}-{kind}")
            path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return folder
