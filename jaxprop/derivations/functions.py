"""The functions that formulas know, a row each: what they are called, their value, their slope, how they are printed.

Slopes are written as a person would type them, in u (and v, where there is a second argument), and read by `parse`.
Where a function has a corner, its slope there is `jax.grad`'s: 0 for relu at 0, +1 for |x| at 0, and a tie of max or
min goes half to each.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Function(NamedTuple):
    """One function: `slopes` are its derivatives by each argument, `exact` places where its value is a whole number.

    `needs` says in words which numbers have a value, and `allowed` tests one. `text`, `latex` and `mathml` are what is
    printed instead of its name, or templates. `corner` says which slope is taken where there is none.
    """

    value: Callable[..., float]
    jax: Callable[..., Any]
    slopes: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    exact: dict[float, float] = {}
    text: str = ""
    latex: str = ""
    needs: str = ""
    allowed: Callable[[float], bool] = lambda x: True
    corner: str = ""
    typed: bool = True
    mathml: str = ""

    def __call__(self, *arguments: float) -> float:
        """Return the value, a float; raise ValueError where there is none."""
        if not self.allowed(arguments[0]):
            raise ValueError(f"{self.needs} and finds {arguments[0]:g}")
        return self.value(*arguments)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _above(u: float, v: float) -> float:
    return (float(u > v) + float(u >= v)) / 2


ROOT, LOG, ARC = "the square root needs a number of at least 0", "the logarithm needs a positive number", "from -1 to 1"
TIE = "{} has a corner where its arguments are equal; there jax.grad gives half to each, by convention."
LOG_OF = "<msub><mi>log</mi><mn>{}</mn></msub><mo>\u2061</mo>"  # the sign for a function that is applied
BARS = '<mrow><mo form="prefix" fence="true">|</mo>{}<mo form="postfix" fence="true">|</mo></mrow>'
CORNER = "{} has a corner at 0 and no derivative there: {} is what jax.grad uses, by convention."
FUNCTIONS: dict[str, Function] = {
    "sin": Function(math.sin, jnp.sin, ("cos(u)",), exact={0: 0}, latex=r"\sin"),
    "cos": Function(math.cos, jnp.cos, ("-sin(u)",), exact={0: 1}, latex=r"\cos"),
    "tan": Function(math.tan, jnp.tan, ("1/cos(u)^2",), exact={0: 0}, latex=r"\tan"),
    "asin": Function(
        math.asin, jnp.arcsin, ("1/sqrt(1 - u^2)",), ("arcsin",), {0: 0}, latex=r"\arcsin",
        needs=f"asin needs a number {ARC}", allowed=lambda x: abs(x) <= 1,
    ),
    "acos": Function(
        math.acos, jnp.arccos, ("-1/sqrt(1 - u^2)",), ("arccos",), {1: 0}, latex=r"\arccos",
        needs=f"acos needs a number {ARC}", allowed=lambda x: abs(x) <= 1,
    ),
    "atan": Function(math.atan, jnp.arctan, ("1/(1 + u^2)",), ("arctan",), {0: 0}, latex=r"\arctan"),
    "sinh": Function(math.sinh, jnp.sinh, ("cosh(u)",), exact={0: 0}, latex=r"\sinh"),
    "cosh": Function(math.cosh, jnp.cosh, ("sinh(u)",), exact={0: 1}, latex=r"\cosh"),
    "tanh": Function(math.tanh, jnp.tanh, ("1 - tanh(u)^2",), exact={0: 0}, latex=r"\tanh"),
    "asinh": Function(math.asinh, jnp.arcsinh, ("1/sqrt(u^2 + 1)",), ("arcsinh", "arsinh"), {0: 0}),
    "acosh": Function(
        math.acosh, jnp.arccosh, ("1/sqrt(u^2 - 1)",), ("arccosh", "arcosh"), {1: 0},
        needs="acosh needs a number of at least 1", allowed=lambda x: x >= 1,
    ),
    "atanh": Function(
        math.atanh, jnp.arctanh, ("1/(1 - u^2)",), ("arctanh", "artanh"), {0: 0},
        needs="atanh needs a number between -1 and 1", allowed=lambda x: abs(x) < 1,
    ),
    "exp": Function(math.exp, jnp.exp, ("exp(u)",), exact={0: 1}, latex=r"\exp"),
    "log": Function(
        math.log, jnp.log, ("1/u",), ("ln",), {1: 0}, latex=r"\log", needs=LOG, allowed=lambda x: x > 0
    ),
    "log2": Function(
        math.log2, jnp.log2, ("1/(u*log(2))",), (), {1: 0, 2: 1}, latex=r"\log_{2}", needs=LOG, allowed=lambda x: x > 0,
        mathml=LOG_OF.format(2),
    ),
    "log10": Function(
        math.log10, jnp.log10, ("1/(u*log(10))",), (), {1: 0, 10: 1}, latex=r"\log_{10}", needs=LOG,
        allowed=lambda x: x > 0, mathml=LOG_OF.format(10),
    ),
    "sqrt": Function(
        math.sqrt, jnp.sqrt, ("1/(2*sqrt(u))",), ("√",), {0: 0, 1: 1}, "√({})", r"\sqrt{{{}}}", ROOT, lambda x: x >= 0,
        mathml="<msqrt>{}</msqrt>",
    ),
    "abs": Function(
        lambda x: abs(x), jnp.abs, ("sign(u)",), ("absolute", "fabs"), {0: 0}, "|{}|", r"\left|{}\right|",
        corner=CORNER.format("abs", 1), mathml=BARS,
    ),
    "sigmoid": Function(
        _sigmoid, jax.nn.sigmoid, ("sigmoid(u)*(1 - sigmoid(u))",), ("σ", "logistic", "expit"), text="σ",
        latex=r"\sigma",
    ),
    "softplus": Function(_softplus, jax.nn.softplus, ("sigmoid(u)",)),
    "relu": Function(
        lambda x: max(x, 0.0), jax.nn.relu, ("step(u)",), exact={0: 0}, corner=CORNER.format("relu", 0)
    ),
    "max": Function(max, jnp.maximum, ("above(u, v)", "above(v, u)"), ("maximum",), latex=r"\max",
                    corner=TIE.format("max")),
    "min": Function(min, jnp.minimum, ("above(v, u)", "above(u, v)"), ("minimum",), latex=r"\min",
                    corner=TIE.format("min")),
    # the slopes of those with corners; they cannot be typed
    "step": Function(lambda x: float(x > 0), lambda x: jnp.where(x > 0, 1.0, 0.0), ("0",), typed=False),
    "sign": Function(lambda x: 1.0 if x >= 0 else -1.0, lambda x: jnp.where(x >= 0, 1.0, -1.0), ("0",), typed=False),
    "above": Function(
        _above, lambda u, v: jnp.heaviside(u - v, 0.5), ("0", "0"), text="[{} > {}]", latex=r"\left[{} > {}\right]",
        typed=False, mathml="<mrow><mo>[</mo>{}<mo>&gt;</mo>{}<mo>]</mo></mrow>",
    ),
}  # fmt: skip
