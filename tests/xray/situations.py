"""Programs that make NaN or infinity, each with where and why; and healthy ones with the same things inside.

The line that is to be named ends with `# here`. Those with a number in their name stand in a tracker, and are written
anew, as small as they can be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@dataclass(frozen=True)
class Situation:
    """A program f(*args), and what is to be found in it: the primitive, words of the cause, and which way."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    primitive: str
    cause: str
    backward: bool = False
    steps: tuple[tuple[str, int, int | None], ...] = ()
    argnums: int | None = 0

    def __str__(self) -> str:
        return self.f.__name__


def where_of_norm_475(x):
    distance = jnp.sqrt(jnp.sum(x**2, axis=1))  # here
    return jnp.sum(jnp.where(distance > 0, distance, 0.0))


def norm_at_zero_3058(x):
    return jnp.sum(jnp.linalg.norm(x, axis=1))  # here


def power_7440(p, x):
    return jnp.sum(x**p)  # here


def largest_of_13600(x):
    angles = jnp.arccos(x)  # here
    return jnp.max(jnp.where(x < 1, angles, 0.5))


def force_inside_5698(x):
    def energy(r):
        return jnp.sum(jnp.where(r > 1, 0.0, jnp.where(r > 0, jnp.log(r), 0.0)))  # NaN inside, and masked

    return jnp.sum(jnp.where(x > 0, jax.grad(energy)(x), 0.0))


def loss_in_modules_24955(params, x):
    h = jnp.tanh(x @ params["first"])
    scores = h @ params["second"]
    p = jax.nn.softmax(scores)
    return -jnp.mean(jnp.log(p)[:, 0])  # here


def logsumexp_of_nothing_25701(x):
    return jax.nn.logsumexp(jnp.where(x > 0, x, -jnp.inf))


def double_where(x):
    safe = jnp.where(x > 0, x, 0.0)  # the inner where keeps the very number away that it should not
    return jnp.sum(jnp.where(x > 0, jnp.log(safe), 0.0))  # here


def solver_742(y):
    def step(y, _):
        dy = -jnp.sqrt(y)  # here
        return jnp.maximum(y + 0.5 * dy, 0.0), y

    return jax.lax.scan(step, y, None, length=5)[0]


def root_at_zero(x):
    return jnp.sum(jnp.sqrt(x))  # here


def root_under_where(x):
    return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))  # here


def log_under_where(x):
    return jnp.sum(jnp.where(x > 0, jnp.log(x), 0.0))  # here


def division_under_where(x):
    return jnp.sum(jnp.where(x > 0, 1 / x, 0.0))  # here


def exp_under_where(x):
    return jnp.sum(jnp.where(x < 10, jnp.exp(x), 0.0))  # here


def power_under_where(x):
    return jnp.sum(jnp.where(x > 0, x**0.3, 0.0))  # here


def log_at_zero(x):
    return jnp.sum(jnp.log(x))  # here


def log_of_negative(x):
    return jnp.sum(jnp.log(x - 5.0))  # here


def root_of_negative(x):
    return jnp.sum(jnp.sqrt(x - 5.0))  # here


def power_of_negative(x):
    return jnp.sum((x - 5.0) ** 1.5)  # here


def entropy(x):
    return -jnp.sum(x * jnp.log(x))  # here


def cross_entropy(x):
    return -jnp.log(jax.nn.softmax(x))[0]  # here


def softmax_by_hand(x):
    e = jnp.exp(x)  # here
    return e[0] / jnp.sum(e)


def zero_by_zero(x):
    return jnp.sum(x / jnp.sum(x))  # here


def divided_by_zero(x):
    return jnp.sum(1.0 / x)  # here


def normalised(x):
    return jnp.sum(x / jnp.linalg.norm(x))  # here


def layer_norm(x):
    centred = x - jnp.mean(x)
    return jnp.sum(centred * jax.lax.rsqrt(jnp.mean(centred**2)))  # here


def std_of_constant(x):
    return jnp.std(x)  # here


def masked_rows(x):
    scores = jnp.where(jnp.zeros(x.shape, bool), x, -jnp.inf)
    return jnp.sum(jnp.exp(scores - jnp.max(scores)))  # here


def masked_rows_softmax(x):
    return jax.nn.softmax(jnp.where(jnp.zeros(x.shape, bool), x, -jnp.inf))[0]  # here


def mask_by_product(x):
    return jnp.sum(jnp.array([1.0, 0.0]).astype(x.dtype) * jnp.array([1.0, jnp.inf]).astype(x.dtype) * x)  # here


def half_product(x):
    return jnp.sum(x * x).astype(jnp.float32)  # here


def half_sum(x):
    return lax.reduce(x, jnp.array(0, x.dtype), lax.add, (0,)).astype(jnp.float32)  # here


def half_cast(x):
    return jnp.sum(jnp.sqrt(x.astype(jnp.float16))).astype(x.dtype)  # here


def bfloat16_product(x):
    return jnp.sum(x * x).astype(jnp.float32)  # here


def half_matrices(x):
    return jnp.sum(x @ x).astype(jnp.float32)  # here


def arccos_at_edge(x):
    return jnp.sum(jnp.arccos(x))  # here


def arccos_outside(x):
    return jnp.sum(jnp.arccos(x * 1.5))  # here


def atanh_at_edge(x):
    return jnp.sum(jnp.arctanh(x))  # here


def angle_of_nothing(x):
    return jnp.arctan2(x[0], x[1])  # here


def equal_eigenvalues(x):
    return jnp.sum(jnp.linalg.eigh(x)[1][:, 0] ** 3)  # here


def cholesky_of_indefinite(x):
    return jnp.sum(jnp.linalg.cholesky(x))  # here


def index_out_of_bounds(x):
    return jnp.sum(jnp.take(x, jnp.array([0, 7])))  # here


@jax.custom_vjp
def clipped(x):
    return x


clipped.defvjp(lambda x: (x, x), lambda x, g: (g * x / jnp.abs(x),))


def custom_rule(x):
    return jnp.sum(clipped(x))  # here


@jax.custom_jvp
def root(x):
    return jnp.sqrt(x)


root.defjvp(lambda x, t: (root(x[0]), t[0] / (2 * root(x[0]))))


def custom_root(x):
    return jnp.sum(root(x))  # here


def scanned(x):
    def step(x, _):
        return jnp.sqrt(x - 1.0), x  # here

    return lax.scan(step, x, None, length=6)[0]


def scanned_rows(x):
    def step(total, row):
        return total + jnp.log(row), row  # here

    return lax.scan(step, jnp.zeros((), x.dtype), x)[0]


def scanned_backward(x):
    def step(total, row):
        return total + jnp.where(row > 0, jnp.sqrt(row), 0.0), row  # here

    return lax.scan(step, jnp.zeros((), x.dtype), x, reverse=True)[0]


def scans_in_scans(x):
    def outer(total, rows):
        return lax.scan(lambda t, row: (t + jnp.log(row), row), total, rows)[0], ()  # here

    return lax.scan(outer, jnp.zeros((), x.dtype), x)[0]


def mapped(x):
    return jnp.sum(jax.vmap(lambda row: jnp.linalg.norm(row))(x))  # here


def jitted(x):
    @jax.jit
    def outer(x):
        return jax.jit(jnp.log)(x)  # here

    return jnp.sum(outer(x))


def checkpointed(x):
    def inner(x):
        return jnp.sqrt(x)  # here

    return jnp.sum(jax.checkpoint(inner)(x))


def in_a_branch(x):
    return jnp.sum(lax.cond(x[0] > 0, lambda x: jnp.log(x), lambda x: x, x))  # here


def in_a_while(x):
    def body(state):
        i, x = state
        return i + 1, x * x  # here

    return lax.while_loop(lambda s: s[0] < 12, body, (0, x))[1]


def already_nan(x):
    return jnp.sum(x**2)


def nan_in_the_program(x):
    return jnp.sum(x * np.array([1.0, np.nan]).astype(x.dtype))  # here


def masked_first(x):
    masked = jnp.where(x > 0, jnp.log(x), 0.0)  # −∞ and NaN here are dropped
    return jnp.sum(masked + jnp.sqrt(x - 2.0))  # here


def chosen_infinity(x):
    return -jax.nn.log_softmax(jnp.where(jnp.array([True, False]), x, -jnp.inf))[1]


ONES, ZEROS = np.ones(2), np.zeros(2)
POINT = np.array([2.0, 0.0])

TRACKED = [
    Situation(where_of_norm_475, (np.array([[1.0, 2.0], [0.0, 0.0]]),), "sqrt", "0 · ∞ under a where", True),
    Situation(norm_at_zero_3058, (np.array([[3.0, 4.0], [0.0, 0.0]]),), "sqrt", "norm at 0", True),
    Situation(power_7440, (0.5, POINT - 1), "pow", "root of a negative number"),
    Situation(largest_of_13600, (np.array([0.5, 1.0]),), "acos", "0 · ∞ under a where", True),
    Situation(
        loss_in_modules_24955,
        ({"first": np.ones((2, 3)), "second": np.array([[-300.0, 300.0]] * 3)}, np.ones((1, 2))),
        "log", "log at 0",
    ),
    Situation(double_where, (POINT,), "log", "0 · ∞ under a where", True),
    Situation(solver_742, (0.2,), "sqrt", "√′(0)", True, (("scan", 3, 5),)),
]  # fmt: skip
