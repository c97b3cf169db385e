"""Arrays saved by `np.savez`."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxprop.checks import check_finite
from jaxprop.data.rows import Data, as_data, as_labels, read_bytes
from jaxprop.errors import DataError


def npz(path: str | Path, validation: float = 0.2, seed: int | None = 0) -> Data:
    """Read arrays of `np.savez`: `x` and `targets` (or `y`); `x_validation` and `targets_validation` replace the split.

    Targets `[N]` of integers or text are labels, renumbered from 0; anything else is numbers, and `[N]` becomes
    `[N, 1]`, as in x. No pickle is read. Source: `numpy.lib.format`.

    Args:
        path: the file.
        validation: how many rows are held out, as a fraction below 1 or a number of rows.
        seed: what chooses them; None for the last rows.

    Raises:
        DataError: the file or one of its arrays is wrong; the text names the array.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "rows.npz")
    ...     np.savez(path, x=np.ones((10, 3)), targets=np.arange(10) % 2)
    ...     npz(path)
    Data(rows.npz (10 rows): x [8, 3], targets [8], 2 for validation)
    """
    arrays = _arrays(path)
    for end in ("", "_validation"):
        x, targets = arrays.get(f"x{end}", ()), arrays.get(f"targets{end}", ())
        if len(x) != len(targets):
            raise DataError(f"{path}: {len(x)} rows of x{end}, but {len(targets)} of targets{end}; expected as many")
    x, targets, classes = _joined(path, arrays, "x"), _joined(path, arrays, "targets"), None
    if targets.ndim == 1 and targets.dtype.kind in "biuU":
        targets, classes = as_labels(targets.tolist(), f"{path}: targets")
    elif targets.ndim == 1:
        targets = targets[:, None]
    x = x[:, None] if x.ndim == 1 else x
    if "x_validation" in arrays:  # now the last rows
        validation, seed = len(arrays["x_validation"]), None
    return as_data(x, targets, validation, seed, f"{Path(path).name} ({len(x)} rows)", path, classes=classes)


def _joined(path: str | Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The training rows, then those for validation, if stored."""
    array, held = arrays[name], arrays.get(f"{name}_validation", arrays[name][:0])
    if array.shape[1:] != held.shape[1:] or array.dtype.kind != held.dtype.kind:
        kinds = f"{name} is {array.dtype} {list(array.shape)}, {name}_validation {held.dtype} {list(held.shape)}"
        raise DataError(f"{path}: {kinds}; expected the same kind of rows in both")
    return np.concatenate([array, held])


_NPZ_NAMES = {"x": "x", "targets": "targets", "y": "targets"}
_NPZ_NAMES |= {f"{name}_validation": f"{known}_validation" for name, known in _NPZ_NAMES.items()}


BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError)  # KeyError: not named .npy


def _arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file that `npz` knows, each checked; `y` is read as `targets`."""
    arrays, found, what = {}, [], "not a whole npz file"
    raw = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as file:
            found = [name.removesuffix(".npy") for name in file.namelist()]
            for name in (name for name in found if name in _NPZ_NAMES):
                what = f"array {name!r} cannot be read"
                if _NPZ_NAMES[name] in arrays:
                    raise ValueError(f"{_NPZ_NAMES[name]!r} is there already: y is another name for targets")
                with file.open(f"{name}.npy") as member:
                    arrays[_NPZ_NAMES[name]] = np.lib.format.read_array(member, allow_pickle=False)
    except (*BROKEN_ZIP, ValueError, OSError, MemoryError) as error:
        hint = "save it again with np.savez(path, x=x, targets=targets)"
        if "Object arrays" in str(error):
            error, hint = "Python objects are stored as a pickle, which may run any code", "save numbers or text"
        raise DataError(f"{path}: {what} ({error}); {hint}") from None
    if set(arrays) not in ({"x", "targets"}, set(_NPZ_NAMES.values())):
        raise DataError(
            f"{path}: found the arrays {', '.join(found) or '(none)'}; expected x and targets, and both or neither of "
            "x_validation and targets_validation: np.savez(path, x=x, targets=targets)"
        )
    for name, array in arrays.items():
        if not (name.startswith("targets") and array.dtype.kind == "U" and array.ndim == 1):  # text stands for labels
            check_finite(array, f"{path}: {name}")
    return arrays
