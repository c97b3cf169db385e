"""Why an error is not finite though the errors behind it were: the rules by primitive, on the way back."""

import math
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from jaxprop.xray.causes import (
    LARGEST,
    LOSS,
    NAMES,
    NANS,
    NORM,
    SCALE,
    WHERE,
    Cause,
    Local,
    at,
    element,
    first_bad,
    has_nan,
    number,
)


def errors_cause(local: Local) -> Cause:
    """Say why this equation's part of the error of its input is not finite, at the first bad element."""
    assert local.error is not None and local.position is not None
    index = first_bad(local.error)
    if index is None:
        return Cause("overflow of a sum", "each part of this error is finite, and their sum is not", SCALE)
    where = at(index)
    entered = any(array is not None and has_nan(array) for array in local.inputs)
    if entered and (found := _of_nan(local, index)) is not None:
        return found
    whole = WHOLE.get(local.primitive)
    if whole is not None and (found := whole(local, where)) is not None:
        return found
    if (found := _elementwise(local, index)) is not None:
        return found
    if (found := _of_nan(local, index)) is not None:
        return found
    if local.name:
        result = number(element(local.error, index, local.error.shape))
        why = f"the errors that enter it are finite; it returns {result}{where}"
        return Cause(f"rule of {local.name}", why, f"mend the derivative rule of {local.name}, or see where it divides")
    return _measured(local, index, where)


def sum_cause(parts: Sequence[np.ndarray], dtype: str) -> Cause | None:
    """Say why the sum of errors that come back to one value is not finite; None where it is."""
    parts = [np.asarray(part, np.float64) for part in parts if part.shape == parts[0].shape]
    if len(parts) < 2:
        return None
    with np.errstate(invalid="ignore"):
        total = np.abs(sum(parts, np.zeros(())))
    if np.isnan(total).any():
        return Cause("∞ − ∞", "infinite errors of opposite signs come back to this value, and their sum is NaN")
    if (most := float(total.max(initial=0))) > LARGEST.get(dtype, np.inf):
        why = f"{len(parts)} errors come back to this value, each of them finite; their sum, up to {number(most)}, "
        return Cause("overflow of a sum", f"{why}does not fit {dtype}", LOSS)
    return None


def _of_nan(local: Local, index: tuple[int, ...]) -> Cause | None:
    """A value that is NaN and does not reach what f returns, for a `where` drops it: an error of 0 times NaN is NaN."""
    output = local.outputs[0]
    if output is None or not has_nan(output):
        return None
    mixes = local.primitive in ("dot_general", "conv_general_dilated")
    if not mixes and all(a is None or a.shape == output.shape for a in (local.error, *local.inputs)):
        place = index  # of one element only
    else:
        place = first_bad(output, only_nan=True) or ()
    if not np.isnan(output[place]):
        return None
    met = [None if mixes else element(array, place, output.shape) for array in local.inputs]
    back = None if not local.errors else element(local.errors[0], place, output.shape)
    if any(array is not None and has_nan(array) for array in local.inputs):
        why = f"a NaN enters here among the values{at(place)}"
    else:
        numbers = ", ".join(number(x) for x in met if x is not None)
        why = f"{local.name or local.primitive}{f'({numbers})' if numbers else ''} is NaN{at(place)}"
    if back != 0:
        return Cause(NANS[2], f"{why}, and so is what it hands back", WHERE)
    end = "; the error that comes back there is 0, and 0 · NaN is NaN"
    if local.where:
        return Cause(NANS[0], f"the {local.where} drops this element, but {why}{end}", WHERE)
    return Cause(NANS[1], f"{why}{end}", WHERE)


def _elementwise(local: Local, index: tuple[int, ...]) -> Cause | None:
    """Look at the element; where a number met an array, so that its error is a sum, at the first that explains it."""
    output, rule = local.outputs[0], DERIVATIVES.get(local.primitive)
    if output is None or rule is None or local.error is None or local.position is None:
        return None
    places = [index] if local.error.shape == output.shape else islice(np.ndindex(*output.shape), 10_000)
    for place in places:
        met = [element(array, place, output.shape) for array in local.inputs]
        if any(x is None or isinstance(x, complex) for x in met):
            return None
        derivative = rule(met, local.position, element(output, place, output.shape), local)
        if derivative is not None:
            return _product(local, derivative, element(local.errors[0], place, output.shape), at(place))
    return None


def _product(local: Local, derivative: tuple[str, str, str], back: Any, where: str) -> Cause:
    """An infinite derivative: times 0 it is NaN."""
    name, why, instead = derivative
    if back is None or back != 0:
        back = "" if back is None else f"; the error that comes back there is {number(back)}"
        return Cause(name, f"{why}{where}{back}", instead)
    end = f"{where}; the error that comes back there is 0, and 0 · ∞ is NaN"
    if local.where:
        return Cause("0 · ∞ under a where", f"the {local.where} drops this element, but {why}{end}", WHERE)
    if name in ("norm at 0", "standard deviation of a constant"):
        return Cause(name, f"{why}{end}", instead)
    return Cause("0 · ∞", f"{why}{end}", instead)


def _measured(local: Local, index: tuple[int, ...], where: str) -> Cause:
    """No rule: the numbers themselves."""
    assert local.error is not None
    result = element(local.error, index, local.error.shape)
    if math.isinf(abs(result)):
        most = max((float(np.abs(e).max(initial=0)) for e in local.errors if e is not None), default=0.0)
        why = (
            f"the error overflows {local.dtype}{where}, whose largest number is {number(local.largest)}: "
            f"the errors that come back are at most {number(most)}"
        )
        return Cause("overflow of an error", why, LOSS)
    met = [x for x in (element(array, index, local.error.shape) for array in local.inputs) if x is not None]
    numbers = f" at {', '.join(map(number, met))}" if met else ""
    return Cause("NaN", f"the derivative of {local.primitive}{numbers} gives {number(result)}{where}")


Derivative = tuple[str, str, str] | None


def _root(x: list[Any], position: int, out: Any, local: Local) -> Derivative:
    if x[0] != 0:
        return None
    if local.primitive == "rsqrt":
        return "division by zero", "the derivative of 1/√x is infinite at 0", "jax.lax.rsqrt(x + eps)"
    if any(name.strip("_") in ("std", "nanstd") for name in local.around):
        return (
            "standard deviation of a constant", "all numbers are the same, and √′(0) = ∞",
            "jnp.sqrt(jnp.var(x) + eps)",
        )  # fmt: skip
    if local.follows_sum or any(name.strip("_") in ("norm", "safe_norm") for name in local.around):
        return "norm at 0", "the norm of zeros has no derivative: √′(0) = ∞", NORM
    sign = "∛" if local.primitive == "cbrt" else "√"
    return f"{sign}′(0)", f"{sign}′(0) = ∞", "jnp.sqrt(x + eps), or a second where that keeps 0 away from the root"


def _log(x: list[Any], position: int, out: Any, local: Local) -> Derivative:
    edge = -1 if local.primitive == "log1p" else 0
    if x[0] != edge:
        return None
    instead = "jnp.log(x + eps), jax.scipy.special.xlogy(p, p) for p * log(p), jax.nn.log_softmax for log(softmax)"
    name = "log at 0" if edge == 0 else "log1p at −1"
    return name, f"the derivative of {local.primitive} at {number(edge)} is 1/0 = ∞", instead


def _div(x: list[Any], position: int, out: Any, local: Local) -> Derivative:
    if x[1] == 0:
        name = "0/0" if x[0] == 0 and position == 1 else "division by zero"
        why = f"the derivative of {number(x[0])} / 0 is not finite"
        return name, why, "a / jnp.where(b == 0, 1.0, b), inside the where as well as outside"
    if abs(x[1]) < 1:
        why = f"the derivative of {number(x[0])} / {number(x[1])} divides by {number(x[1])}"
        more = " squared, which" if position == 1 else ", and the quotient is more than"
        end = f"{local.dtype} does not hold" if position == 1 else f"{local.dtype} holds"
        return "overflow of an error", f"{why}{more} {end}", "a / jnp.maximum(b, eps)"
    return None


def _mul(x: list[Any], position: int, out: Any, local: Local) -> Derivative:
    other = x[1 - position]
    return ("0 · ∞", f"the other factor is {number(other)}", WHERE) if math.isinf(other) else None


def _exp(x: list[Any], position: int, out: Any, local: Local) -> Derivative:
    if out is None or math.isfinite(out):
        return None
    why = f"{local.primitive}({number(x[0])}) overflowed {local.dtype}, and its derivative is as large"
    return "exp overflow", why, "jnp.exp(jnp.minimum(x, limit)), or the inner where of a double where"


def _pow(x: list[Any], position: int, out: Any, local: Local) -> Derivative:
    power = x[1] if len(x) == 2 else float(local.params.get("y", 2))
    if x[0] == 0 and position == 0 and power < 1:
        why = f"the derivative of x ** {number(power)} at 0 is infinite"
        if power == 0:
            why = "the derivative of x ** 0 is 0 · x ** −1, at 0 that is 0 · ∞ = NaN"
        return f"x ** {number(power)} at 0", why, "(x + eps) ** p, or a second where that keeps 0 away"
    if x[0] <= 0 and position == 1:
        why = f"the derivative of a ** p by p is a ** p · log(a), and a is {number(x[0])}"
        return "log at 0" if x[0] == 0 else "log of a negative number", why, "(a + eps) ** p"
    return None


def _edge(x: list[Any], position: int, out: Any, local: Local) -> Derivative:
    name = NAMES.get(local.primitive, local.primitive)
    if abs(x[0]) != 1:
        return None
    why = f"the derivative of {name} at {number(x[0])} is infinite"
    return f"edge of {name}", why, f"{'jnp.' if name.startswith('arc') else ''}{name}(jnp.clip(x, -1 + eps, 1 - eps))"


def _angle(x: list[Any], position: int, out: Any, local: Local) -> Derivative:
    if x == [0, 0]:
        return (
            "0/0",
            "arctan2(0, 0) has no derivative: it divides by x² + y² = 0",
            "a double where that keeps (0, 0) away",
        )
    return None


def _spectrum(local: Local, where: str) -> Cause | None:
    """Eigenvectors turn without limit where two eigenvalues are equal."""
    values = next((o for o in local.outputs if o is not None and o.ndim and _is_spectrum(o, local)), None)
    if values is None:
        return None
    sorted_values = np.sort(values, axis=-1)
    gap = float(np.min(np.diff(sorted_values, axis=-1), initial=np.inf))
    least = float(sorted_values.min())
    if local.primitive == "svd" and least == 0 and gap > 0:
        why = "a singular value is 0, and the derivative divides by it"
        return Cause("singular value 0", why, "add a small multiple of the identity")
    what = "singular values" if local.primitive == "svd" else "eigenvalues"
    nearest = int(np.argmin(np.diff(sorted_values, axis=-1).reshape(-1)))
    value = number(float(sorted_values.reshape(-1, sorted_values.shape[-1])[0][nearest % (values.shape[-1] - 1)]))
    why = f"two {what} are equal ({value}; the gap is {number(gap)}), and the derivative of the vectors divides by it"
    alone = "jnp.linalg.svd(A, compute_uv=False)" if local.primitive == "svd" else "eigvalsh"
    distinct = "a small distinct diagonal, A + jnp.diag(eps * jnp.arange(n))"
    return Cause(f"equal {what}", why, f"{alone} where the vectors are not needed; else {distinct}")


def _is_spectrum(output: np.ndarray, local: Local) -> bool:
    matrix = next(a for a in local.inputs if a is not None)
    return output.ndim == matrix.ndim - 1 and output.shape[-1] > 1


def _matrix(local: Local, where: str) -> Cause | None:
    matrix = next((a for a in local.inputs if a is not None and a.ndim >= 2), None)
    if matrix is None or not np.isfinite(matrix).all():
        return None
    rank, size = int(np.min(np.linalg.matrix_rank(matrix))), min(matrix.shape[-2:])
    if rank == size:
        return None
    why = f"the derivative of {local.primitive} divides by a matrix of rank {rank}, expected {size}"
    return Cause("singular matrix", why, "A + jitter * jnp.eye(n)")


def _layout(local: Local, where: str) -> Cause | None:
    error = local.errors[0] if local.errors else None
    if error is None or local.primitive != "convert_element_type":
        return None
    why = (
        f"the error {number(float(np.abs(error).max(initial=0)))} does not fit the dtype before this cast, "
        f"{local.dtype}, whose largest number is {number(local.largest)}"
    )
    return Cause("overflow in a cast", why, "scale the loss down, or keep float32 before it")


DERIVATIVES: dict[str, Callable[[list[Any], int, Any, Local], Derivative]] = {
    **dict.fromkeys(("sqrt", "rsqrt", "cbrt"), _root),
    **dict.fromkeys(("log", "log1p"), _log),
    **dict.fromkeys(("exp", "exp2", "expm1", "cosh", "sinh"), _exp),
    **dict.fromkeys(("pow", "integer_pow"), _pow),
    **dict.fromkeys(("acos", "asin", "atanh", "acosh", "erf_inv"), _edge),
    "div": _div,
    "mul": _mul,
    "atan2": _angle,
}
WHOLE: dict[str, Callable[[Local, str], Cause | None]] = {
    **dict.fromkeys(("eigh", "svd", "eig"), _spectrum),
    **dict.fromkeys(("cholesky", "lu", "qr", "triangular_solve", "householder_product"), _matrix),
    "convert_element_type": _layout,
}
