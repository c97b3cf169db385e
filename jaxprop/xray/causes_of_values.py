"""Why a value is not finite though what entered was: the rules by primitive, forward."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxprop.xray.causes import NAMES, NORM, SCALE, Cause, Local, at, element, first_bad, has_nan, number


def values_cause(local: Local, only_nan: bool = False) -> Cause:
    """Say why the outputs of an equation are not finite, from its inputs at the first bad element.

    only_nan: look for NaN only, where infinities are another equation's.
    """
    for output in local.outputs:
        if output is None or not np.issubdtype(output.dtype, np.inexact):
            continue
        index = first_bad(output, only_nan)
        if index is None:
            continue
        met = [element(array, index, output.shape) for array in local.inputs]
        result = element(output, index, output.shape)
        where, numbers = at(index), ", ".join(number(x) for x in met if x is not None)
        rule = ELEMENTWISE.get(local.primitive)
        if rule is not None and all(x is not None and not isinstance(x, complex) for x in met):
            found = rule(met, result, local, where)
            if found is not None:
                return found
        whole = WHOLE.get(local.primitive)
        found = whole(local, result, where) if whole is not None else None
        return found or _otherwise(local, result, where, numbers)
    return Cause("not finite", f"{local.primitive} gave a number that is not finite")


def _otherwise(local: Local, result: Any, where: str, numbers: str) -> Cause:
    of = f" of {numbers}" if numbers else ""
    if any(array is not None and has_nan(array) for array in local.inputs):
        return Cause("constant NaN", f"a NaN that stands in the program enters here{where}")
    if local.name:
        name = local.name
        return Cause(f"rule of {name}", f"{name}, which has a rule of its own, gives {number(result)}{where}{of}")
    if np.isnan(result):
        if any(array is not None and _has_inf(array) for array in local.inputs):
            return Cause("of an infinity", f"{local.primitive} gives NaN{where}{of}: an infinity enters")
        return Cause("NaN", f"{local.primitive} gives NaN{where}{of}")
    if any(array is not None and _has_inf(array) for array in local.inputs):
        return Cause("an infinity put there", f"an infinity that stands in the program enters here{where}")
    if isinstance(result, complex) or "callback" in local.primitive or "ffi" in local.primitive:
        return Cause("an infinity", f"{local.primitive} gives an infinity{where}{of}")
    return _overflow(local, "the result", where, numbers)


def _overflow(local: Local, what: str, where: str, numbers: str) -> Cause:
    of = f" of {numbers}" if numbers else ""
    why = f"{what}{of}{where} overflows {local.dtype}, whose largest number is {number(local.largest)}"
    return Cause("overflow", why, SCALE)


def _overflow_of_two(local: Local, what: str, where: str, x: list[Any]) -> Cause | None:
    return _overflow(local, what, where, " and ".join(map(number, x))) if all(map(math.isfinite, x)) else None


def _has_inf(array: np.ndarray) -> bool:
    return bool(np.issubdtype(array.dtype, np.inexact) and np.isinf(array).any())


def _log(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    edge, name = (-1.0, "log1p") if local.primitive == "log1p" else (0.0, "log")
    if x[0] == edge:
        why = f"{name}({number(edge)}) = −∞{where}"
        instead = (
            "jax.nn.log_softmax(logits) instead of log(softmax), jax.scipy.special.xlogy(p, p) instead of p * log(p), "
            "or jnp.log(jnp.maximum(x, tiny))"
        )
        return Cause("log at 0" if edge == 0 else "log1p at −1", why, instead)
    if x[0] < edge:
        why = f"{name}({number(x[0])}) is NaN{where}"
        return Cause("log of a negative number", why, "see why the number is negative; jnp.log(jnp.maximum(x, tiny))")
    return None


def _sqrt(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    if x[0] < 0:
        instead = "jnp.sqrt(jnp.maximum(x, 0.0) + eps): a small negative number is often rounding of a variance"
        return Cause("root of a negative number", f"√({number(x[0])}) is NaN{where}", instead)
    if local.primitive == "rsqrt" and x[0] == 0:
        return Cause("division by zero", f"1/√0 = ∞{where}", "jax.lax.rsqrt(x + eps)")
    return None


def _exp(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    if not math.isinf(result) or math.isinf(x[0]):
        return None
    limit = math.log2(local.largest) if local.primitive == "exp2" else math.log(local.largest)
    called = local.primitive if local.primitive != "exp2" else "2**x"
    why = f"{called}({number(x[0])}) overflows {local.dtype}{where}: it does so beyond {number(limit)}"
    instead = (
        "jax.nn.logsumexp, jax.nn.softmax or jax.nn.softplus, which take off the largest first; "
        "else jnp.exp(jnp.minimum(x, limit))"
    )
    return Cause("exp overflow", why, instead)


def _div(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    a, b = x
    if b == 0:
        name = "0/0" if a == 0 else "division by zero"
        why = f"{number(a)} / {number(b)} is {number(result)}{where}"
        instead = "a / jnp.where(b == 0, 1.0, b), or a / (b + eps) where b ≥ 0"
        return Cause(name, why, f"divide by {NORM}" if local.follows_sum else instead)
    if math.isinf(a) and math.isinf(b):
        why = f"{number(a)} / {number(b)} is NaN{where}"
        return Cause("∞/∞", why, "jax.nn.softmax, which takes off the largest first")
    return _overflow_of_two(local, "the quotient", where, x)


def _mul(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    if math.isnan(result) and sorted(map(abs, x)) == [0, math.inf]:
        why = f"{number(x[0])} · {number(x[1])} is NaN{where}"
        return Cause(
            "0 · ∞", why, "jnp.where(mask, x, 0.0) instead of mask * x; jax.scipy.special.xlogy for p * log(p)"
        )
    return _overflow_of_two(local, "the product", where, x)


def _add(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    if math.isnan(result) and all(map(math.isinf, x)):
        sign = "−" if local.primitive == "sub" else "+"
        why = f"{number(x[0])} {sign} {number(x[1])} is NaN{where}"
        instead = (
            "a large finite number such as -1e9 for masks, or keep one entry of each row unmasked; "
            "jnp.where(jnp.isfinite(m), m, 0.0) for a maximum that is −∞"
        )
        return Cause("∞ − ∞", why, instead)
    return _overflow_of_two(local, "the sum", where, x)


def _pow(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    base, power = x if len(x) == 2 else (x[0], float(local.params.get("y", 2)))
    if base == 0 and power < 0:
        return Cause("division by zero", f"0 ** {number(power)} = ∞{where}", "(x + eps) ** p where x ≥ 0")
    if base < 0 and not power.is_integer():
        why = f"({number(base)}) ** {number(power)} is NaN{where}"
        return Cause("root of a negative number", why, "jnp.abs(x) ** p, or jnp.maximum(x, 0.0) ** p")
    return _overflow_of_two(local, "the power", where, [base, power])


def _arc(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    name = NAMES.get(local.primitive, local.primitive)
    edge = abs(x[0]) == 1
    why = (
        f"{name}({number(x[0])}) is {number(result)}{where}: " + ("the edge" if edge else "outside") + " of its domain"
    )
    return Cause(f"edge of {name}" if edge else f"outside of {name}", why, "jnp.clip(x, -1 + eps, 1 - eps) before it")


def _remainder(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    if x[1] == 0:
        return Cause("division by zero", f"{number(x[0])} % 0 is NaN{where}", "x % jnp.where(m == 0, 1, m)")
    return None


def _wave(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    if math.isinf(x[0]):
        return Cause("of an infinity", f"{local.primitive}({number(x[0])}) is NaN{where}")
    return None


def _pole(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    return Cause("a pole", f"{local.primitive}({number(x[0])}) is {number(result)}{where}")


def _cast(x: list[Any], result: float, local: Local, where: str) -> Cause | None:
    if not math.isfinite(result) and math.isfinite(x[0]):  # some of 8 bits have NaN for infinity
        why = f"{number(x[0])}{where} does not fit {local.dtype}, whose largest number is {number(local.largest)}"
        return Cause("overflow in a cast", why, "scale what enters down first, or keep float32 here")
    return None


def _sum(local: Local, result: Any, where: str) -> Cause | None:
    array = next((a for a in local.inputs if a is not None), None)
    if array is None or not np.issubdtype(array.dtype, np.floating):
        return None
    if np.isposinf(array).any() and np.isneginf(array).any():
        return Cause("∞ − ∞", f"∞ and −∞ meet in one sum{where}", "see where both infinities come from")
    return _overflow_of_many(local, array, "the sum", where)


def _product_of_many(local: Local, result: Any, where: str) -> Cause | None:
    array = next((a for a in local.inputs if a is not None), None)
    if array is None or not np.issubdtype(array.dtype, np.floating):
        return None
    if math.isnan(result) and _has_inf(array) and not has_nan(array):
        return Cause("0 · ∞", f"0 and an infinity meet in one product{where}", "see where the infinity comes from")
    return _overflow_of_many(local, array, "the product", where)


def _overflow_of_many(local: Local, array: np.ndarray, what: str, where: str) -> Cause | None:
    if _has_inf(array) or has_nan(array):
        return None
    terms = array.size if local.outputs[0] is None else array.size // max(local.outputs[0].size, 1)
    counted = f"{terms} numbers" if terms > 1 else "numbers"  # cumsum and scatter-add have as many as they return
    return _overflow(local, what, where, f"{counted} up to {number(float(np.abs(array).max(initial=0)))}")


def _contraction(local: Local, result: Any, where: str) -> Cause | None:
    """A product of matrices or a convolution."""
    arrays = [a for a in local.inputs[:2] if a is not None]
    if any(has_nan(a) for a in arrays):
        return None
    if any(_has_inf(a) for a in arrays):
        return Cause("0 · ∞ or ∞ − ∞", f"an infinity enters a product of matrices{where}: it meets 0, or −∞ in the sum")
    numbers = " and ".join(number(float(np.abs(a).max(initial=0))) for a in arrays)
    return _overflow(local, "a sum of products", where, f"numbers up to {numbers}")


def _gather(local: Local, result: Any, where: str) -> Cause | None:
    operand, indices = local.inputs[:2]
    if operand is None or indices is None or has_nan(operand) or _has_inf(operand):
        return None
    reach = f"found {int(indices.min())} to {int(indices.max())} in an array {list(operand.shape)}"
    why = f"an index lies outside: {reach}; JAX fills what it does not find with NaN{where}"
    return Cause("index out of bounds", why, "jnp.take(x, i, mode='clip') if clipping is meant; else mend the indices")


def _cholesky(local: Local, result: Any, where: str) -> Cause | None:
    matrix = local.inputs[0]
    if matrix is None or not np.isfinite(matrix).all():
        return None
    least = float(np.linalg.eigvalsh(0.5 * (matrix + np.swapaxes(matrix, -1, -2).conj())).min())
    why = f"the matrix is not positive definite: its least eigenvalue is {number(least)}"
    return Cause("not positive definite", why, "A + jitter * jnp.eye(n), with 1e-6 times the mean of the diagonal")


def _singular(local: Local, result: Any, where: str) -> Cause | None:
    matrix = next((a for a in local.inputs if a is not None and a.ndim >= 2), None)
    if matrix is None or not np.isfinite(matrix).all():
        return None
    if local.primitive == "triangular_solve":
        least = float(np.abs(np.diagonal(matrix, axis1=-2, axis2=-1)).min(initial=np.inf))
        why = f"the system is singular: the least entry of its diagonal is {number(least)}"
    else:
        why = f"{local.primitive} of a matrix of rank {int(np.min(np.linalg.matrix_rank(matrix)))}"
    return Cause("singular matrix", why, "jnp.linalg.lstsq or pinv, or A + jitter * jnp.eye(n)")


Elementwise = Callable[[list[Any], float, Local, str], Cause | None]
ELEMENTWISE: dict[str, Elementwise] = {
    **dict.fromkeys(("log", "log1p", "log2"), _log),
    **dict.fromkeys(("sqrt", "rsqrt"), _sqrt),
    **dict.fromkeys(("exp", "exp2", "expm1", "cosh", "sinh"), _exp),
    **dict.fromkeys(("add", "sub", "add_any"), _add),
    **dict.fromkeys(("pow", "integer_pow", "square"), _pow),
    **dict.fromkeys(("acos", "asin", "atanh", "acosh", "erf_inv"), _arc),
    **dict.fromkeys(("sin", "cos", "tan"), _wave),
    **dict.fromkeys(("lgamma", "digamma", "polygamma"), _pole),
    "div": _div,
    "mul": _mul,
    "rem": _remainder,
    "convert_element_type": _cast,
}
WHOLE: dict[str, Callable[[Local, Any, str], Cause | None]] = {
    **dict.fromkeys(("reduce", "reduce_sum", "cumsum", "reduce_window_sum", "scatter-add"), _sum),
    **dict.fromkeys(("reduce_prod", "cumprod", "scatter-mul"), _product_of_many),
    **dict.fromkeys(("dot_general", "conv_general_dilated"), _contraction),
    **dict.fromkeys(("lu", "triangular_solve", "qr", "householder_product", "custom_linear_solve"), _singular),
    "gather": _gather,
    "cholesky": _cholesky,
}
