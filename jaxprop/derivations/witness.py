"""Two other ways to the same derivative: `jax.grad` of the same tree, and a central difference."""

import math

import jax
import jax.numpy as jnp

from .evaluate import Arithmetic, UndefinedError, evaluate
from .formula import Formula, Symbol

LARGEST_INTEGER_POWER = 1024
STEP = 2.0**-17  # near the cube root of float64's epsilon, where truncation and rounding are in balance


def _power(base, exponent):
    whole = isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= LARGEST_INTEGER_POWER
    return base ** (int(exponent) if whole else exponent)


JAX = Arithmetic(
    total=sum,
    product=math.prod,
    quotient=lambda top, bottom: top / bottom,
    power=_power,
    functions={
        **{"sin": jnp.sin, "cos": jnp.cos, "exp": jnp.exp, "log": jnp.log, "sqrt": jnp.sqrt, "tanh": jnp.tanh},
        **{"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu},
    },
)


def jax_grad(formula: Formula, x: Symbol, at: float) -> float:
    """Return df/dx by `jax.grad` in float64; it may be NaN or infinite.

    >>> x = Symbol("x")
    >>> jax_grad(3 * (x**2 + 1), x, 2.0)
    12.0
    """
    with jax.enable_x64(True):
        return float(jax.jit(jax.grad(lambda value: jnp.asarray(evaluate(formula, {x: value}, JAX))))(at))


def central_difference(formula: Formula, x: Symbol, at: float) -> tuple[float, float] | None:
    """Return (f(x + h) - f(x - h)) / 2h and h, None where f has no value beside x.

    >>> x = Symbol("x")
    >>> central_difference(3 * (x**2 + 1), x, 2.0)
    (12.0, 1.52587890625e-05)
    """
    for scale in dict.fromkeys((max(1.0, abs(at)), abs(at))):
        right, left = at + STEP * scale, at - STEP * scale
        try:
            rise = evaluate(formula, {x: right}) - evaluate(formula, {x: left})
        except UndefinedError:
            continue
        if right > left and math.isfinite(rise / (right - left)):
            return rise / (right - left), (right - left) / 2
    return None
