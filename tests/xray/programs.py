"""Small functions that between them hold most of what JAX's programs are made of: {name: (f, arguments)}.

Every f returns one number, and is differentiated with respect to its first argument.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

X = np.arange(1.0, 5.0) / 3
SQUARE = np.cos(np.arange(16.0)).reshape(4, 4) + 3 * np.eye(4)
PROGRAMS: dict[str, tuple[Any, tuple[Any, ...]]] = {}


def _program(*args: Any) -> Any:
    def keep(f: Any) -> Any:
        PROGRAMS[f.__name__.strip("_")] = f, args or (X,)
        return f

    return keep


@_program()
def plain(x):
    return jnp.sum(jnp.log(x)) ** 2


@_program()
def jit_in_jit(x):
    return jnp.sum(jax.jit(lambda y: jax.jit(jnp.sin)(y) * y)(x) + jax.jit(jnp.sin)(x * x))


@_program()
def scan(x):
    return jnp.sum(lax.scan(lambda c, t: (jnp.sin(c) * t, c), x, x)[1])


@_program()
def scan_of_nothing(x):
    """A scan without rows or results, whose state is reached by its second step only."""

    def step(state, _):
        _, b, n = state
        return (b, b * x, n + 1), None

    return jnp.sum(lax.scan(step, (jnp.zeros_like(x), jnp.cos(x), 0), None, length=3)[0][0])


@_program()
def scan_fed_late(x):
    """A scan whose second state is reached through the first, from the second step on."""

    def step(state, row):
        a, b = state
        return (a * row, jnp.sin(b) + a), jnp.sum(b * b)

    (a, b), ys = lax.scan(step, (x, jnp.ones_like(x)), jnp.asarray([0.5, 1.5, 2.0]), reverse=True, unroll=2)
    return jnp.sum(b) + jnp.sum(ys) + jnp.sum(a)


@_program()
def nest(x):
    def outer(c, i):
        def inner(c, j):
            return lax.cond(j > 1, jnp.sin, lambda v: v * 2, c), jnp.sum(c)

        c, y = lax.scan(jax.checkpoint(inner), c, jnp.arange(3))
        return jax.jit(jnp.tanh)(c) + jnp.sum(y) * i, c

    c, ys = lax.scan(outer, x, jnp.arange(2.0), reverse=True)
    return jnp.sum(c) + jnp.sum(ys**2)


@_program()
def cond(x):
    return jnp.sum(lax.cond(x[0] > 0, jnp.sin, lambda v: jnp.cos(v) * v, x))


@_program()
def switch(x):
    """A switch whose number is out of range, with a branch that returns a constant and one that returns its input."""
    branches = [jnp.sin, lambda v: v, lambda v: jnp.ones_like(v), lambda v: lax.exp(v) * v]
    numbers = jnp.asarray([-1, 1, 2, 7])
    return jnp.sum(jnp.stack([lax.switch(numbers[i], branches, x * (i + 1.0)) for i in range(4)]))


@_program()
def cond_of_jit_and_scan(x):
    def long(v):
        return lax.scan(lambda c, r: (jax.jit(jnp.cos)(c) * r, c), v, v)[0]

    return jnp.sum(lax.map(lambda i: lax.cond(i % 2 == 0, long, lambda v: v / 3, x), jnp.arange(3)))


@_program()
def remat(x):
    return jax.checkpoint(lambda x: jnp.sum(jnp.sin(jnp.sin(x))))(x)


@_program()
def remat_with_policy(x):
    f = jax.checkpoint(lambda x: jnp.sin(x @ jnp.sin(x)), policy=jax.checkpoint_policies.dots_saveable)
    return f(x) * f(2 * x)


@_program()
def remat_with_names(x):
    from jax.ad_checkpoint import checkpoint_name

    def f(x):
        return jnp.sum(jnp.sin(checkpoint_name(jnp.exp(x), "kept")) ** 2)

    return jax.checkpoint(f, policy=jax.checkpoint_policies.save_only_these_names("kept"))(x)


@jax.custom_vjp
def _three_times(x):
    return jnp.sin(x)


_three_times.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (3 * dy * jnp.cos(x),))


@jax.custom_jvp
def _five_times(x):
    return jnp.sin(x)


_five_times.defjvp(lambda primals, tangents: (_five_times(*primals), 5 * tangents[0] * jnp.cos(primals[0])))


@_program()
def custom_rules(x):
    return jnp.sum(_three_times(x) + _five_times(x) + jax.nn.relu(x) + jax.nn.gelu(x) + jax.nn.silu(x))


@_program()
def custom_rules_in_scan(x):
    return jnp.sum(lax.scan(lambda c, t: (_three_times(c) * t, _five_times(c)), x, x)[1])


@_program()
def while_beside(x):
    """A while that no error goes through."""
    turned = lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, lax.stop_gradient(x)))[1]
    return jnp.sum(x * turned)


@_program()
def while_in_scan(x):
    def step(c, i):
        turned = lax.while_loop(lambda s: s[0] < i, lambda s: (s[0] + 1, s[1] * 2.0), (0, 1.0))[1]
        return c * turned, turned

    c, _ = lax.scan(step, x, jnp.arange(3))
    return jnp.sum(jnp.log(c))


@_program()
def fori(x):
    return jnp.sum(lax.fori_loop(0, 3, lambda i, c: c * jnp.sin(c), x))


@_program()
def vmap_of_cond(x):
    return jnp.sum(jax.vmap(lambda a: lax.cond(a > 0.5, jnp.sin, jnp.cos, a))(x))


@_program()
def vmap_of_scan(x):
    return jnp.sum(jax.vmap(lambda a: lax.scan(lambda c, t: (c * t + a, c), a, X)[0])(x))


@_program()
def solve(x):
    return jnp.sum(jnp.linalg.solve(jnp.outer(x, x) + jnp.eye(4), x))


@_program()
def custom_linear_solve(x):
    a = jnp.asarray(SQUARE)
    found = lax.custom_linear_solve(
        lambda v: a @ v * x[0], x, lambda mv, b: jnp.linalg.solve(jax.jacobian(mv)(b), b),
        transpose_solve=lambda mv, b: jnp.linalg.solve(jax.jacobian(mv)(b), b),
    )  # fmt: skip
    return jnp.sum(found**2)


@_program()
def custom_root(x):
    def newton(f, guess):
        return lax.fori_loop(0, 6, lambda _, y: y - f(y) / (2 * y), guess)

    root = lax.custom_root(lambda y: y * y - jnp.sum(x), 1.5, newton, lambda g, y: y / g(1.0))
    return root**3


@_program()
def gradient_inside(x):
    return jnp.sum(jax.grad(lambda y: jnp.sum(jnp.sin(y) ** 3))(x))


@_program()
def jacobian_and_jvp_inside(x):
    j = jax.jacfwd(lambda y: jnp.tanh(y @ jnp.asarray(SQUARE)))(x)
    return jnp.sum(j**2) + jnp.sum(jax.jvp(jnp.exp, (x,), (x,))[1])


@_program()
def norms(x):
    return jax.nn.logsumexp(jax.nn.log_softmax(x)) + jnp.linalg.norm(x) + jnp.var(x)


@_program(X, jax.random.key(0))
def dropout(x, key):
    first, second = jax.random.split(key)
    return jnp.sum(
        x * jax.random.bernoulli(first, 0.5, (4,)).astype(x.dtype) + jax.random.normal(second, (4,), x.dtype)
    )


@_program(X, np.arange(4))
def whole_numbers(x, number):
    return jnp.sum(x[number[::-1]] * number.astype(x.dtype)) + jnp.sum(x.at[number[:2]].add(x[2:]) ** 2)


@_program()
def complex_numbers(x):
    z = jnp.exp(lax.complex(x, x * x))
    return jnp.real(jnp.sum(z * jnp.conj(z) * z)) + jnp.sum(jnp.abs(jnp.fft.fft(z)))


@_program()
def fourier(x):
    return jnp.sum(jnp.abs(jnp.fft.rfft(x)) ** 3)


@_program()
def sorting(x):
    values, order = lax.top_k(x, 2)
    return (
        jnp.sum(jnp.sort(jnp.sin(9 * x)) * x)
        + jnp.sum(values * order.astype(x.dtype))
        + x[jnp.argmax(x)]
        + jnp.median(x)
    )


@_program(X, np.asarray([0, 1, 0, 2]))
def segments(x, segment):
    return jnp.sum(jax.ops.segment_sum(jnp.sin(x), segment, num_segments=3) ** 2)


@_program(X, np.int32(1))
def dynamic_slices(x, start):
    part = lax.dynamic_slice(x, (start,), (2,))
    return jnp.sum(lax.dynamic_update_slice(jnp.sin(x), part * part, (start + 1,)))


@_program()
def associative_scan(x):
    return jnp.sum(lax.associative_scan(lambda a, b: a * b + a, x) ** 2)


@_program()
def cumulative(x):
    return jnp.sum(jnp.cumsum(x) * jnp.cumprod(x) + lax.cumlogsumexp(x) + lax.cummax(jnp.sin(4 * x)))


@_program()
def map_in_batches(x):
    return jnp.sum(lax.map(lambda a: jnp.sin(a) * a, x, batch_size=3))


@_program(SQUARE)
def eigenvalues(x):
    values, vectors = jnp.linalg.eigh(x + x.T)
    return jnp.sum(values**3) + jnp.sum(vectors[:, 0] ** 4)


@_program(SQUARE)
def cholesky(x):
    return jnp.sum(jnp.linalg.cholesky(x @ x.T)) + jnp.linalg.slogdet(x)[1]


@_program(SQUARE)
def singular_values(x):
    u, s, v = jnp.linalg.svd(x)
    return jnp.sum(s) + u[0, 0] ** 2 + v[0, 0] ** 2 + jnp.sum(jnp.linalg.qr(x)[1] ** 2)


@_program()
def named_and_vectorized(x):
    f = jnp.vectorize(lambda a, b: jnp.sum(a * b), signature="(n),(n)->()")
    with jax.named_scope("outside"):
        return jax.named_call(lambda x: jnp.sum(f(x, jnp.stack([x, x * x]))), name="inside")(x)


@_program()
def barrier(x):
    y, z = lax.optimization_barrier((jnp.sin(x), jnp.cos(x)))
    return jnp.sum(y * z)


@_program(X, X)
def callbacks(x, other):
    jax.debug.print("", ordered=False)
    jax.debug.callback(lambda _: None, x, ordered=False)
    y = jax.pure_callback(np.cos, jax.ShapeDtypeStruct((4,), x.dtype), other, vmap_method="sequential")
    return jnp.sum(x * y)


@_program(np.asarray(X, np.float32), np.asarray(X, np.float16))
def half_precision(x, h):
    y = x.astype(jnp.bfloat16) * h.astype(jnp.bfloat16)
    return jnp.sum(y.astype(jnp.float32) ** 2) + jnp.sum(lax.dot(h, x.astype(jnp.float16)).astype(jnp.float32))


@_program()
def weak_types(x):
    return 2 * jnp.sum(jnp.where(x > 1, 3.0, x) ** 2.5) / 7 + lax.full((), 1.0, x.dtype)


@_program({"used": X, "unused": SQUARE, "twice": (X, X)}, 3)
def unused_and_repeated(params, power):
    a, b = params["twice"]
    return jnp.sum(params["used"] ** power) * jnp.sum(a * b) + jnp.sum(a)


@_program(2.0)
def returns_its_argument(x):
    return x


@_program(2.0)
def returns_a_constant(x):
    return 3.0


@_program()
def returns_what_a_jit_returns(x):
    """A jit that returns its input, the same value twice, and a number that stands in it."""
    a, b, c, d = jax.jit(lambda x: (x, jnp.sin(x), jnp.sin(x), 2.0))(x)
    return jnp.sum(a * b + c) * d


@_program()
def duplicates(x):
    a, b = jax.jit(lambda x: (lambda y: (y, y))(jnp.sin(x)))(x)
    (c, d), (e, f) = lax.scan(lambda s, _: ((s[0], s[0]), (s[1], s[1])), (a, b), None, length=2)
    return jnp.sum(a * b * c + d + jnp.sum(e * f, 0))


@_program()
def large_constant(x):
    return jnp.sum(x @ jnp.asarray(np.linspace(-1, 1, 4 * 50).reshape(4, 50)))


@_program()
def reduce_precision_and_integer_pow(x):
    return jnp.sum(lax.reduce_precision(x, 8, 10) ** 3) + jnp.sum(x**-2) + jnp.prod(x) + jnp.max(x) + jnp.min(x)


@_program(np.sin(np.arange(36.0)).reshape(1, 6, 6, 1))
def convolution_and_pools(x):
    kernel = jnp.asarray(np.cos(np.arange(9.0)).reshape(3, 3, 1, 1))
    y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    highest = lax.reduce_window(y, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    total = lax.reduce_window(y * y, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "SAME")
    return jnp.sum(highest) + jnp.sum(total)


@_program()
def attention(x):
    q = jnp.stack([x, x * x, jnp.sin(x)])[None, :, None, :].astype(jnp.float32)
    return jnp.sum(jax.nn.dot_product_attention(q, q, q, is_causal=True)).astype(x.dtype)


@_program()
def einsums(x):
    a = jnp.asarray(SQUARE)
    return jnp.einsum("i,ij,kj,k->", x, a, a, x) + jnp.sum(jnp.tensordot(a, jnp.outer(x, x), 2)) + jnp.trace(a * x)


@_program()
def partial_function(x):
    return jnp.sum(jax.jit(partial(jnp.power, jnp.asarray(2.0)))(x))
