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
from jax.sharding import Mesh, PartitionSpec as P


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


def force_5698(x):
    def energy(r):
        return jnp.sum(jnp.where(r > 0, jnp.log(r), 0.0))  # its gradient has NaN inside

    return jnp.sum(jnp.where(x > 0, jax.grad(energy)(x), 0.0))


@jax.jit
def room_left_24955(x, y):
    left = jnp.cos(x) - y * y
    return 3 * jnp.log(left)  # here


def fixed_25701():
    return jnp.log(-7)  # here


def only_its_gradient_25701(x):
    return jnp.sqrt(jnp.abs(x) + jnp.square(x))  # here


def negative_log_likelihood(params, x):
    scores = jnp.tanh(x @ params["first"]) @ params["second"]
    p = jax.nn.softmax(scores)
    return -jnp.mean(jnp.log(p)[:, 0])  # here


def infinite_factor_2630(x):
    return jnp.where(x > 0, 0.0, x * jnp.inf)  # here


def repaired_8247(x):
    return jnp.sum(jnp.nan_to_num(x / jnp.linspace(-1, 1, 3, dtype=x.dtype), posinf=0.0))  # here


def angles_1052(a):
    return jnp.sum(jnp.where(a == 0, 0.0, jnp.arctan2(a, a)))  # here


def pairs_3407(x):
    distance = jnp.sqrt(jnp.sum((x[:, None] - x[None]) ** 2, axis=-1))  # here
    others = ~jnp.eye(len(x), dtype=bool)
    distance = jnp.where(others, distance, 0.0)
    return jnp.sum(jnp.where(others, 1 / distance, 0.0))


def solver_742(y):
    def step(y, _):
        dy = -jnp.sqrt(y)  # here
        return jnp.maximum(y + 0.5 * dy, 0.0), y

    return lax.scan(step, y, None, length=5)[0]


def root_at_zero(x):
    return jnp.sum(jnp.sqrt(x))  # here


def missing_labels(x, y):
    apart = (x - y) ** 2  # here
    return jnp.sum(jnp.where(jnp.isnan(y), 0.0, apart))


def rows_without_any(x):
    some = jnp.array([[True, True], [False, False]])
    p = jax.nn.softmax(jnp.where(some, jnp.outer(x, x), -jnp.inf))
    return jnp.sum(jnp.where(some[:, 0], p @ x, 0.0))  # here


def root_of_negative_under_where(x):
    return jnp.sum(jnp.where(x > 1, jnp.sqrt(x - 1), 0.0))  # here


def norm_of_a_tree(x):
    return jnp.sqrt(sum(jnp.sum(part**2) for part in (x[:1], x[1:])))  # here


def determinant(x):
    return jnp.linalg.slogdet(x)[1]  # here


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


def power_zero(x):
    return jnp.sum(x**0.0)  # here


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
        return jnp.sqrt(x) - 1.0, x  # here

    return lax.scan(step, x, None, length=6)[0]


def scanned_under_where(x):
    def step(total, row):
        root = jnp.sqrt(row)  # here
        return total + jnp.where(row > -2, root, 0.0), row

    return lax.scan(step, jnp.zeros((), x.dtype), x)[0]


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


def turns_of_a_while(x):
    def body(state):
        i, a, b = state
        return i + 1, b * 2.0, jnp.log(a - 3.0)  # here

    return lax.while_loop(lambda s: s[0] < 9, body, (0, x, x))[1]


def scan_in_a_while(x):
    def step(x, _):
        return jnp.sqrt(x - 0.5), ()  # here

    def body(state):
        i, x = state
        return i + 1, lax.scan(step, x, None, length=3)[0]

    return lax.while_loop(lambda s: s[0] < 4, body, (0, x))[1]


def already_nan(x):
    return jnp.sum(x**2)


def nan_in_the_program(x):
    return jnp.sum(x * np.array([1.0, np.nan]).astype(x.dtype))  # here


def masked_first(x):
    masked = jnp.where(x > 0, jnp.log(x), 0.0)  # −∞ here is dropped
    return jnp.sum(masked + jnp.sqrt(x - 2.0))  # here


def chosen_infinity(x):
    return -jax.nn.log_softmax(jnp.where(jnp.array([True, False]), x, -jnp.inf))[1]  # here


def inside_a_rule(x):
    return jnp.sum(root(x))  # here


def cast_on_the_way_back(x):
    return jnp.sum(x.astype(jnp.float16)).astype(x.dtype) * 1e6  # here


def product_of_half_errors(x):
    return jnp.sum(x * jnp.array(300.0, x.dtype)).astype(jnp.float32) * 1000  # here


def sum_of_half_errors(x):
    y = x + 0
    return jnp.sum(y).astype(jnp.float32) * 4e4 + jnp.sum(y).astype(jnp.float32) * 4e4


def two_nans(x):
    a = jnp.sqrt(x[0] - 5.0)  # here
    return a + jnp.log(x[1] - 5.0)


def on_devices(x):
    mesh = Mesh(np.array(jax.devices()[:2]), ("rows",))
    return jnp.sum(jax.shard_map(lambda x: jnp.log(x), mesh=mesh, in_specs=P("rows"), out_specs=P("rows"))(x))  # here


def on_devices_backward(x):
    def rows(x):
        return jnp.where(x > 0, jnp.sqrt(x), 0.0)  # here

    mesh = Mesh(np.array(jax.devices()[:2]), ("rows",))
    return jnp.sum(jax.shard_map(rows, mesh=mesh, in_specs=P("rows"), out_specs=P("rows"))(x))


TWO, ONES, ZEROS = np.array([2.0, 0.0]), np.ones(2), np.zeros(2)


def half(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float16)


PARAMS = {"first": np.ones((2, 3)), "second": np.array([[-300.0, 300.0]] * 3)}
DROPPED, NAN_DROPPED = "0 · ∞ under a where", "0 · NaN under a where"

# one of each kind: these run by default
COMMON = [
    Situation(where_of_norm_475, (np.array([[1.0, 2.0], [0.0, 0.0]]),), "sqrt", DROPPED, True),
    Situation(norm_at_zero_3058, (np.array([[3.0, 4.0], [0.0, 0.0]]),), "sqrt", "norm at 0", True),
    Situation(power_7440, (0.5, TWO - 1), "pow", "root of a negative number"),
    Situation(solver_742, (0.2,), "sqrt", "√′(0)", True, (("scan", 4, 5),)),
    Situation(log_under_where, (TWO,), "log", DROPPED, True),
    Situation(missing_labels, (ONES, np.array([0.5, np.nan])), "integer_pow", NAN_DROPPED, True),
    Situation(softmax_by_hand, (TWO * 400,), "exp", "exp overflow"),
    Situation(masked_rows, (ONES,), "sub", "∞ − ∞"),
    Situation(half_product, (half(300, 1),), "mul", "overflow"),
    Situation(scanned, (3.0,), "sqrt", "root of a negative number", False, (("scan", 2, 6),)),
    Situation(
        scanned_under_where,
        (np.array([-3.0, 1.0, -1.0]),),
        "sqrt",
        "root of a negative number",
        steps=(("scan", 2, 3),),
    ),
    Situation(scanned_backward, (np.array([1.0, 0.0, 2.0]),), "sqrt", DROPPED, True, (("scan", 1, 3),)),
    Situation(turns_of_a_while, (4.0,), "log", "log of a negative number", steps=(("while", 3, None),), argnums=None),
    Situation(custom_rule, (TWO,), "custom_vjp_call clipped", "rule of clipped", True),
    Situation(masked_first, (TWO + 1,), "sqrt", "root of a negative number"),
    Situation(already_nan, (np.array([1.0, np.nan]),), "argument", "already NaN"),
    Situation(sum_of_half_errors, (half(1, 1),), "add", "overflow of a sum", True),
]
# they came with JAX's own switches on, and are run with them
SWITCHED = [
    Situation(room_left_24955, (1.0, 4.0), "log", "log of a negative number"),
    Situation(fixed_25701, (), "log", "log of a negative number", argnums=None),
    Situation(only_its_gradient_25701, (0.0,), "sqrt", "√′(0)", True),
]
RARE = [
    Situation(largest_of_13600, (np.array([0.5, 1.0]),), "acos", DROPPED, True),
    Situation(negative_log_likelihood, (PARAMS, np.ones((1, 2))), "log", "log at 0"),
    Situation(infinite_factor_2630, (1.0,), "mul", DROPPED, True),
    Situation(repaired_8247, (np.float64(2.0),), "div", DROPPED, True),
    Situation(angles_1052, (np.array([3.0, 0.0]),), "atan2", DROPPED, True),
    Situation(pairs_3407, (np.array([[1.0, 2.0], [0.2, 4.0]]),), "sqrt", DROPPED, True),
    Situation(root_at_zero, (TWO,), "sqrt", "√′(0)", True),
    Situation(rows_without_any, (ONES,), "dot_general", NAN_DROPPED, True),
    Situation(norm_of_a_tree, (ZEROS,), "sqrt", "norm at 0", True),
    Situation(determinant, (np.ones((2, 2)),), "custom_jvp_call _slogdet_small", "singular matrix"),
    Situation(power_zero, (TWO,), "pow", "x ** 0 at 0", True),
    Situation(log_at_zero, (TWO,), "log", "log at 0"),
    Situation(entropy, (TWO,), "log", "log at 0"),
    Situation(normalised, (ZEROS,), "div", "0/0"),
    Situation(std_of_constant, (ONES,), "sqrt", "standard deviation of a constant", True),
    Situation(mask_by_product, (ONES,), "mul", "0 · ∞"),
    Situation(half_cast, (np.array([1e5]),), "convert_element_type", "overflow in a cast"),
    Situation(arccos_at_edge, (np.array([1.0, 0.5]),), "acos", "edge of arccos", True),
    Situation(angle_of_nothing, (ZEROS,), "atan2", "0/0", True),
    Situation(equal_eigenvalues, (np.eye(2),), "eigh", "equal eigenvalues", True),
    Situation(cholesky_of_indefinite, (np.array([[1.0, 2.0], [2.0, 1.0]]),), "cholesky", "not positive definite"),
    Situation(index_out_of_bounds, (ONES,), "gather", "index out of bounds"),
    Situation(custom_root, (TWO,), "custom_jvp_call root", "rule of root", True),
    Situation(inside_a_rule, (-ONES,), "custom_jvp_call root", "root of a negative number"),
    Situation(
        scans_in_scans, (np.array([[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]]),), "log", "log at 0",
        steps=(("scan", 1, 3), ("scan", 1, 2)),
    ),
    Situation(mapped, (np.array([[1.0, 2.0], [0.0, 0.0]]),), "sqrt", "norm at 0", True),
    Situation(in_a_branch, (TWO,), "log", "log at 0"),
    Situation(
        scan_in_a_while, (2.0,), "sqrt", "root of a negative number",
        steps=(("while", 2, None), ("scan", 1, 3)), argnums=None,
    ),
    Situation(nan_in_the_program, (ONES,), "constant", "constant NaN"),
    Situation(chosen_infinity, (ONES,), "constant", "constant infinity"),
    Situation(cast_on_the_way_back, (ONES,), "convert_element_type", "overflow in a cast", True),
    Situation(product_of_half_errors, (half(1, 2),), "mul", "overflow of an error", True),
    Situation(two_nans, (TWO,), "sqrt", "root of a negative number"),
    Situation(on_devices_backward, (TWO,), "sqrt", DROPPED, True, (("shard_map", 1, 2),)),
]  # fmt: skip
# their rules are tested alone too
ALIKE = [
    Situation(root_of_negative_under_where, (TWO,), "sqrt", NAN_DROPPED, True),
    Situation(root_under_where, (TWO,), "sqrt", DROPPED, True),
    Situation(division_under_where, (TWO,), "div", DROPPED, True),
    Situation(exp_under_where, (TWO * 1000,), "exp", DROPPED, True),
    Situation(power_under_where, (TWO,), "pow", DROPPED, True),
    Situation(log_of_negative, (TWO,), "log", "log of a negative number"),
    Situation(root_of_negative, (TWO,), "sqrt", "root of a negative number"),
    Situation(power_of_negative, (TWO,), "pow", "root of a negative number"),
    Situation(cross_entropy, (np.array([-400.0, 400.0]),), "log", "log at 0"),
    Situation(zero_by_zero, (ZEROS,), "div", "0/0"),
    Situation(divided_by_zero, (TWO,), "div", "division by zero"),
    Situation(layer_norm, (ONES,), "rsqrt", "division by zero"),
    Situation(masked_rows_softmax, (ONES,), "sub", "∞ − ∞"),
    Situation(half_sum, (half(60000, 60000),), "reduce", "overflow"),
    Situation(bfloat16_product, (jnp.array([1e30, 1], jnp.bfloat16),), "mul", "overflow"),
    Situation(half_matrices, (np.full((2, 2), 300, np.float16),), "dot_general", "overflow"),
    Situation(arccos_outside, (np.array([1.0, 0.5]),), "acos", "outside of arccos"),
    Situation(atanh_at_edge, (np.array([1.0, 0.5]),), "atanh", "edge of arctanh"),
    Situation(scanned_rows, (np.array([1.0, 0.0, 1.0]),), "log", "log at 0", False, (("scan", 1, 3),)),
    Situation(jitted, (TWO,), "log", "log at 0"),
    Situation(checkpointed, (TWO,), "sqrt", "√′(0)", True),
    Situation(in_a_while, (10.0,), "mul", "overflow", steps=(("while", 9, None),), argnums=None),
    Situation(on_devices, (TWO,), "log", "log at 0", steps=(("shard_map", 1, 2),)),
]  # fmt: skip


def double_where(x):
    return jnp.sum(jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), 0.0))


def causal_attention(x):
    scores = x[:, None] * x[None]
    p = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((2, 2), bool)), scores, -jnp.inf))
    return jnp.sum(p @ x)


def logsumexp_of_masked(x):
    return jax.nn.logsumexp(jnp.where(x > 0, x, -jnp.inf))


def log_softmax_of_masked(x):
    return -jax.nn.log_softmax(jnp.where(jnp.array([True, False]), x, -jnp.inf))[0]


def running_maximum(x):
    return lax.scan(lambda most, row: (jnp.maximum(most, row), ()), jnp.full((), -jnp.inf, x.dtype), x)[0]


def best_of_masked(x):
    return x[jnp.argmax(jnp.where(x < 2, x, -jnp.inf))]


def dies_in_exp(x):
    return jnp.sum(jnp.exp(jnp.log(jnp.where(x > 0, 0.0, 1.0))) * x)


def power_two(x):
    return jnp.sum(x**2.0 + x**1.0)


def mean_of_numbers_that_are_there(x):
    return jnp.nanmean(jnp.where(x > 0, x, jnp.nan))


def masked_then_dropped(x):
    return jnp.sum(jnp.where(x > 0, lax.stop_gradient(jnp.log(x - 1)), 0.0)[1:])


HEALTHY = [
    double_where, causal_attention, logsumexp_of_masked, log_softmax_of_masked, running_maximum, best_of_masked,
    dies_in_exp, power_two, mean_of_numbers_that_are_there, masked_then_dropped, force_5698,
]  # fmt: skip
