"""IDX files, gzipped or not, and the MNIST database stored in them."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from jaxprop.data.rows import Data, Rows, as_data, check, read_bytes
from jaxprop.errors import DataError

_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """Return the array in an IDX file, gzipped or not: magic 0 0 dtype ndim, sizes, then the values, big-endian.

    Source: Y. LeCun, the MNIST database, http://yann.lecun.com/exdb/mnist/, "The IDX file format".

    Raises:
        DataError: the file is missing, foreign, truncated, too long or corrupt.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "labels.idx1-ubyte")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    ...     read_idx(path)
    array([7, 8, 9], dtype=uint8)
    """
    raw = read_bytes(path)
    if raw[:2] == b"\x1f\x8b":  # the gzip magic: a name may have lost its .gz
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: a corrupt gzip file ({error}); download it again") from None
    ndim = raw[3] if len(raw) >= 4 else 0
    start = 4 + 4 * ndim
    if raw[:2] != b"\0\0" or len(raw) < start or raw[2] not in _IDX_DTYPES:
        raise DataError(
            f"{path}: not an IDX file: it begins with {raw[:4].hex(' ') or 'nothing'}, expected 00 00, a dtype (08 for "
            "bytes), the number of dimensions and their sizes; download it again"
        )
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", ndim, 4))
    dtype = np.dtype(_IDX_DTYPES[raw[2]])
    expected, found = math.prod(shape) * dtype.itemsize, len(raw) - start
    if found != expected:
        what = "truncated" if found < expected else "too long"
        raise DataError(
            f"{path}: {what}: found {found} bytes of values, expected {expected} for shape {list(shape)}; "
            "download it again"
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def mnist(folder: str | Path, validation: float = 10_000) -> Data:
    """Read MNIST's IDX files: x `[N, 784]`, bytes / 255, labels `[N]`; the t10k files, if there, are `test`.

    The split is the book's: the last 10,000 of 60,000 rows are held out, and the first 50,000 train.
    Source: http://yann.lecun.com/exdb/mnist/; Nielsen, "Neural Networks and Deep Learning".

    Args:
        folder: where the files lie, under their own names.
        validation: how many rows are held out, as a fraction below 1 or a number of rows.

    Raises:
        DataError: files are missing, malformed, or do not fit each other.

    >>> mnist("no-such-folder")
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: no-such-folder: not a folder; expected the folder that holds MNIST's IDX files
    """
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: not a folder; expected the folder that holds MNIST's IDX files")
    x, targets = _mnist_rows(Path(folder), "train")
    has_test = any(_idx_files(Path(folder), "t10k", "images", 3) + _idx_files(Path(folder), "t10k", "labels", 1))
    test = _mnist_rows(Path(folder), "t10k") if has_test else None
    if test is not None and test[0].shape[1:] != x.shape[1:]:
        raise DataError(f"{folder}: train images have {x.shape[1]} pixels, t10k images {test[0].shape[1]}; mixed sets?")
    names = {"test": test, "classes": tuple("0123456789"), "target": "digit"}
    return as_data(x, targets, validation, None, f"mnist (IDX, {len(x)} rows)", folder, **names)


def _idx_files(folder: Path, part: str, what: str, ndim: int) -> list[Path]:
    names = [f"{part}-{what}{dot}idx{ndim}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    return [folder / name for name in names if (folder / name).is_file()]


def _mnist_rows(folder: Path, part: str) -> Rows:
    arrays = {}
    for what, ndim in (("images", 3), ("labels", 1)):
        paths = _idx_files(folder, part, what, ndim)
        if not paths:
            raise DataError(
                f"{folder}: {part}-{what}-idx{ndim}-ubyte(.gz) is missing; expected MNIST's IDX files: download "
                "them there under their own names"
            )
        arrays[what] = array = read_idx(paths[0])
        if array.ndim != ndim or array.dtype != np.uint8:
            raise DataError(
                f"{paths[0]}: found {array.dtype} of shape {list(array.shape)}, expected bytes in {ndim} dimensions; "
                f"is this the file of {what}?"
            )
    images, labels = arrays["images"], arrays["labels"]
    if len(images) != len(labels):
        raise DataError(f"{folder}: {len(images)} {part} images, but {len(labels)} labels; expected as many of each")
    if (labels > 9).any():
        row = int(np.argmax(labels > 9))
        raise DataError(f"{folder}: {part} label {labels[row]} in row {row}; expected 0 to 9: not MNIST's digits")
    x = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    x /= 255
    check(x, labels, f"{folder}: {part}", training=False)
    return x, labels.astype(np.int32)
