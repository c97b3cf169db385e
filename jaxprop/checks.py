"""The checks that every room shares: whole numbers, keys, floating inputs, and rows of data.

Each raises an error of `jaxprop.errors` that names what was found, what was expected and what to do.
"""

from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprop.errors import DataError, JaxpropError, ShapeError

LARGEST = float(np.finfo(np.float32).max)
TO_FLOATING = "put Standardize(mean, std) first, or convert with x.astype(float)"


class Spec(Protocol):
    """Anything with a shape and a dtype: an array, a tracer or a `jax.ShapeDtypeStruct`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of every axis."""
        ...

    @property
    def dtype(self) -> Any:
        """The kind of its numbers."""
        ...

    @property
    def size(self) -> int:
        """How many numbers there are."""
        ...


def is_whole(value: object, least: float = 1) -> bool:
    """Tell whether `value` is an int (True and False are none) of at least `least`.

    >>> is_whole(3), is_whole(0), is_whole(0, least=0), is_whole(True), is_whole(2.0)
    (True, False, True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_whole(value: object, what: str, least: int = 1) -> None:
    """Raise JaxpropError unless `value` is a whole number of at least `least`.

    >>> check_whole(0, "Linear: features")
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: Linear: features must be a whole number ≥ 1, found 0
    """
    if not is_whole(value, least):
        raise JaxpropError(f"{what} must be a whole number ≥ {least}, found {value!r}")


def check_key(key: Array | None, what: str, drawn: str = "weights") -> Array:
    """Return `key`, or raise JaxpropError where there is none to draw θ from.

    >>> check_key(None, "Linear.init", "W")
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: Linear.init needs a key to draw W from: pass jax.random.key(0)
    """
    if key is None:
        raise JaxpropError(f"{what} needs a key to draw {drawn} from: pass jax.random.key(0)")
    return key


def kind_of(value: Any) -> str:
    """Return what an error calls a value that is not what it should be.

    >>> kind_of(None), kind_of({}), kind_of(jnp.ones(3)), kind_of(())
    ('None', 'a dict', 'an array float32[3]', 'a tuple of 0')
    """
    if value is None:
        return "None"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array {value.dtype}{list(value.shape)}"
    many = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{many}"


def is_real(x: Spec) -> bool:
    """Tell whether x holds real numbers: floating, whole, or True and False.

    >>> is_real(jnp.arange(3)), is_real(jnp.ones(3, complex))
    (True, False)
    """
    return any(jnp.issubdtype(x.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))


def check_array(x: Any, what: object, expected: str = "[N, ...]", least: int = 1) -> None:
    """Raise ShapeError unless x is one array with an example axis.

    >>> check_array({"a": 1}, "Flatten()")
    Traceback (most recent call last):
        ...
    jaxprop.errors.ShapeError: Flatten(): inputs must be one array [N, ...], found a dict
    """
    if not hasattr(x, "shape") or not hasattr(x, "dtype") or len(x.shape) < least:
        raise ShapeError(f"{what}: inputs must be one array {expected}, found {kind_of(x)}")


def check_theta(params: Any, kind: type[Any], what: object, optional: tuple[str, ...] = ()) -> None:
    """Raise ShapeError unless params hold the arrays of a NamedTuple such as `LinearParams`, None where `optional`.

    >>> from jaxprop import LinearParams
    >>> check_theta((), LinearParams, "Linear(3)")
    Traceback (most recent call last):
        ...
    jaxprop.errors.ShapeError: Linear(3): params must be LinearParams(W, b), found a tuple of 0; make them with ...
    """
    names, hint = kind._fields, "make them with init(key, x)"
    if not isinstance(params, tuple | list) or len(params) != len(names):
        made = f"{kind.__name__}({', '.join(names)})"
        raise ShapeError(f"{what}: params must be {made}, found {kind_of(params)}; {hint}")
    for name, array in zip(names, params, strict=True):
        if not (hasattr(array, "shape") or (array is None and name in optional)):
            raise ShapeError(f"{what}: {name} must be an array, found {kind_of(array)}; {hint}")


def is_floating(x: Spec) -> bool:
    """Tell whether x holds floating numbers, half precision included.

    >>> is_floating(jnp.ones(3)), is_floating(jnp.arange(3))
    (True, False)
    """
    return jnp.issubdtype(x.dtype, jnp.floating)


def as_rows(x: Spec) -> str:
    """Say how x is written where its example axis, or that of its features, is missing.

    >>> as_rows(jnp.ones(64))
    'one example is x[None], 64 examples of one number are x[:, None]'
    """
    rows = f", {x.shape[0]} examples of one number are x[:, None]" if len(x.shape) == 1 else ""
    return f"one example is x[None]{rows}"


def check_floating(x: Spec, what: object, axes: str = "", hint: str = "") -> None:
    """Raise ShapeError unless x is floating and has the axes named: `[N, T, I]` is three, `[N, ..., C]` two or more.

    Without axes any shape will do. `hint` says what the user can do about it, by default `as_rows`.

    >>> check_floating(jnp.ones(3), "Affine", "[N, ..., C]")
    Traceback (most recent call last):
        ...
    jaxprop.errors.ShapeError: Affine: inputs must be floating [N, ..., C], found float32[3]; one example ...
    """
    check_array(x, what, axes or "[N, ...]", least=0)
    letters = axes[1:].partition("]")[0].split(", ")
    rank, least = len(x.shape), len(letters) - letters.count("...")
    fits = not axes or rank == least or (rank > least and "..." in letters)
    if not (fits and is_floating(x)):
        expected, found = (f" {axes}", f"{x.dtype}{list(x.shape)}") if axes else ("", str(x.dtype))
        raise ShapeError(f"{what}: inputs must be floating{expected}, found {found}; {hint or as_rows(x)}")


def check_rows(x: Any, targets: Any, name: str = "data") -> None:
    """Raise DataError unless x `[N, ...]` and targets `[N, ...]` are finite numbers, one target a row.

    >>> check_rows([[1.0], [float("nan")]], [[0.0], [1.0]])
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: data: x row 1, column 0 is nan; expected finite numbers: remove or repair the row
    """
    x, targets = check_finite(x, f"{name}: x"), check_finite(targets, f"{name}: targets")
    if len(x) != len(targets):
        raise DataError(f"{name}: found {len(x)} rows of x and {len(targets)} of targets; expected one target per row")


def check_finite(values: Any, what: str) -> np.ndarray:
    """Return `values` as an array of finite real numbers with a first axis, or raise DataError saying where not."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise DataError(f"{what} has rows of different lengths; expected one shape for all: pad or cut them") from None
    if not (array.dtype.kind in "biu" or "float" in array.dtype.name):  # "float": bfloat16 has a kind of its own
        raise DataError(f"{what} is of dtype {array.dtype}; expected real numbers: convert with x.astype('float32')")
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"{what} is empty, of shape {list(array.shape)}; expected [N, ...] with at least one row")
    with np.errstate(invalid="ignore", over="ignore"):  # float16 does not hold LARGEST
        fits = -LARGEST <= array.min() and array.max() <= LARGEST  # NaN compares as false
    if not fits:
        _raise_for_nonfinite(array, what)
    return array


def _raise_for_nonfinite(array: np.ndarray, what: str) -> None:
    """Name the first number that float32 cannot hold; there may be none, for rounding."""
    with np.errstate(over="ignore"):  # what overflows float32 becomes inf here, not later in the network
        nonfinite = np.argwhere(~np.isfinite(array.astype(np.float32, copy=False)))
    if not len(nonfinite):
        return
    row, *rest = index = tuple(int(i) for i in nonfinite[0])
    where = f"row {row}" + (f", column {', '.join(map(str, rest))}" if rest else "")
    if np.isfinite(array[index]):
        raise DataError(
            f"{what} {where} is {array[index]}; float32 ends at {LARGEST:.2g}: rescale, as with a smaller unit"
        )
    raise DataError(f"{what} {where} is {array[index]}; expected finite numbers: remove or repair the row")
