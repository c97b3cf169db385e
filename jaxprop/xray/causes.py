"""Why an equation made NaN or infinity of finite numbers: read off its own arrays, in plain words.

`Local` holds the arrays of one equation in one step: what entered and left, and the errors that came back to both.
`values_cause` (forward) and `errors_cause` (back) look at the first bad element, and name what happened there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxprop.tables import shown

WHERE = "jnp.where(mask, f(jnp.where(mask, x, 1.0)), 0.0): the inner where keeps f away from the bad x"
NORM = "optax.safe_norm(x, 1e-6), or a second where: n2 = jnp.sum(x**2); jnp.sqrt(jnp.where(n2 > 0, n2, 1.0))"
NANS = "0 · NaN under a where", "0 · NaN", "NaN among the values"  # of an error that meets a value that is NaN
NAMES = {"acos": "arccos", "asin": "arcsin", "acosh": "arccosh", "atanh": "arctanh"}  # as NumPy has them
LOSS = "scale the loss down, or compute this part in float32"
SCALE = "scale what enters down first, or compute this part in float32"


@dataclass(frozen=True)
class Cause:
    """Why a number stopped being finite.

    name: in a few words. why: a sentence, with the numbers. instead: what to write.
    """

    name: str
    why: str
    instead: str = ""


@dataclass(frozen=True)
class Local:
    """The arrays of one equation in one step, as NumPy holds them (half precision in float32).

    inputs, outputs: None for what is no number, such as a key.    errors: of the outputs; None where none came back.
    position: the input whose error is looked at.    error: that error: this equation's part of it alone.
    dtype: of what is looked at.    around: names of the calls around, such as "norm" and "_std".
    where: the line of a `where` that follows, if one does.    name: that of a function with a rule of its own.
    """

    primitive: str
    params: Mapping[str, Any]
    inputs: Sequence[np.ndarray | None]
    outputs: Sequence[np.ndarray | None]
    errors: Sequence[np.ndarray | None] = ()
    position: int | None = None
    error: np.ndarray | None = None
    dtype: str = "this dtype"
    around: Sequence[str] = ()
    where: str = ""
    follows_sum: bool = False  # whether what enters is a sum, as under the root of a norm; or divides by such a root
    name: str = ""

    @property
    def largest(self) -> float:
        """The largest number of the output's dtype."""
        return LARGEST.get(self.dtype, np.inf)


def _largest() -> dict[str, float]:
    import jax.numpy as jnp  # bfloat16 and the float8s are no dtypes of NumPy's own

    names = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64")
    return {name: float(jnp.finfo(name).max) for name in names}


LARGEST = _largest()


def has_nan(array: np.ndarray) -> bool:
    """Say whether there is NaN in an array, of numbers or of anything else."""
    return bool(np.issubdtype(array.dtype, np.inexact) and np.isnan(array).any())


def first_bad(array: np.ndarray, only_nan: bool = False) -> tuple[int, ...] | None:
    """Find the first element that is not finite: NaN before infinity."""
    for bad in (np.isnan(array), np.zeros_like(array, bool) if only_nan else np.isinf(array)):
        if bad.any():
            return tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    return None


def element(array: np.ndarray | None, index: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Take the element that meets another's at `index` (axes of 1 meet them all); None where shapes do not match."""
    if array is None or (array.ndim and array.ndim != len(shape)):
        return None
    if any(n not in (1, m) for n, m in zip(array.shape, shape, strict=False)):
        return None
    value = array[tuple(0 if n == 1 else i for n, i in zip(array.shape, index, strict=False))]
    return complex(value) if np.iscomplexobj(array) else float(value)


def number(value: Any) -> str:
    """Write a number as people do: ∞ and NaN too."""
    if isinstance(value, complex):
        return str(value)
    if np.isnan(value):
        return "NaN"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "−0" if np.signbit(value) else "0"
    return shown(float(value)).replace("-", "−", 1) if value < 0 else shown(float(value))


def at(index: tuple[int, ...]) -> str:
    """Say at which element: nothing for a single number."""
    return f" at [{', '.join(map(str, index))}]" if index else ""
