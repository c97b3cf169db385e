"""Curvature by products, against plain JAX, dense matrices and differences; its trace and largest eigenvalue."""

import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import DIFFERENCES
from jaxprop.network.call import environment
from tests.drawing import draw
from tests.stats.test_every_quantity import subjects

X = np.random.default_rng(0).normal(size=(5, 4))
LABELS = np.array([0, 2, 1, 2, 0])
W = np.array([0.1, 0.5, 0.2, 0.7, 0.3])
NET = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(3))
MIXING = jp.Chain(jp.Linear(3), jp.BatchNorm(), jp.Tanh(), jp.Linear(3))
COST = jp.SoftmaxCrossEntropy()


def dense(product, params):
    """The matrix of a product, a column for each direction."""
    flat, tree = ravel_pytree(params)
    return jax.vmap(lambda e: ravel_pytree(product(tree(e)))[0], out_axes=1)(jnp.eye(flat.size))


@functools.partial(jax.jit, static_argnums=(0, 1))
def by_jax(net, cost, x, params, targets, w):
    """G and H of Σ_n w_n C_n by explicit Jacobians and `jax.hessian`."""
    flat, tree = ravel_pytree(params)
    y = net(x, params)
    J = jax.jacobian(lambda p: net(x, tree(p)))(flat).reshape(len(y), -1, flat.size)
    each = jax.vmap(lambda y, t: jax.hessian(lambda y: cost(y[None], t[None])[0])(y))(y, targets)
    each = each.reshape(len(y), J.shape[1], J.shape[1])
    hessian = jax.hessian(lambda p: w @ cost(net(x, tree(p)), targets))(flat)
    return jnp.einsum("n,nip,nij,njq->pq", w, J, each, J), hessian


@functools.partial(jax.jit, static_argnums=(0, 1))
def by_products(net, cost, x, params, targets, weights):
    makers = (jp.stats.ggn_product, jp.stats.hessian_product)
    return [dense(lambda v, m=m: m(net, cost)(x, params, targets, v, weights=weights), params) for m in makers]


@pytest.mark.parametrize(
    "net, weights",
    [
        pytest.param(MIXING, W, id="one that mixes, weights"),
        pytest.param(NET.__call__, None, id="a function", marks=pytest.mark.slow),
        pytest.param(NET, None, id="a network", marks=pytest.mark.exhaustive),  # every layer is one, below
        pytest.param(NET, W, id="a network, weights", marks=pytest.mark.slow),
        pytest.param(MIXING, None, id="one that mixes", marks=pytest.mark.exhaustive),
        pytest.param(NET.__call__, W, id="a function, weights", marks=pytest.mark.exhaustive),
    ],
)
def test_products_are_those_of_the_dense_matrices(net, weights):
    params = draw(getattr(net, "__self__", net), X)
    found = by_products(net, COST, X, params, LABELS, weights)
    expected = by_jax(net, COST, X, params, LABELS, jnp.full(5, 0.2) if weights is None else weights)
    for one, other in zip(found, expected, strict=True):
        assert relative(one, other) <= 1e-12 and relative(one, one.T) <= 1e-12
    assert np.min(np.linalg.eigvalsh(found[0])) >= -1e-14 < 0 < -np.min(np.linalg.eigvalsh(found[1]))


def test_the_hessian_is_a_difference_of_gradients():
    params, v = draw(NET, X), draw(NET, X, 5)
    h, gradient = 1e-5, jax.jit(lambda params: jp.auto.value_and_grad(NET, COST)(X, params, LABELS)[1])
    up, down = (gradient(jax.tree.map(lambda p, d, s=s: p + s * h * d, params, v)) for s in (1, -1))
    expected = jax.tree.map(lambda a, b: (a - b) / (2 * h), up, down)
    product = jax.jit(jp.stats.hessian_product(NET, COST))
    assert relative(product(X, params, LABELS, v), expected) <= DIFFERENCES


def by_hand(name, kind, seen):
    """One row of each kind of layer, a network with a tie and one with a loop."""
    return name in ("gpt, direct", "lstm") if kind is None else kind not in seen


@pytest.mark.parametrize("make", list(subjects(by_hand)))
def test_by_hand_as_by_jax(make):
    """Every layer and network: a function has neither our way back nor our gradient."""
    problem = make()
    v = draw(problem.net, problem.x, 7)

    @jax.jit
    def run(x, params, targets, v):
        env = environment(problem.rng, problem.mask)
        ways = ((problem.net, {"rng": problem.rng, "mask": problem.mask}), (lambda x, p: problem.net(x, p, env), {}))
        return [
            [
                m(net, problem.cost)(x, params, targets, v, **given)
                for m in (jp.stats.ggn_product, jp.stats.hessian_product)
            ]
            for net, given in ways
        ]

    by_hand, by_jax = run(problem.x, problem.params, problem.targets, v)
    assert relative(by_hand, by_jax) <= 1e-10


def test_the_gauss_newton_matrix_is_the_hessian_of_a_linear_network():
    net, targets = jp.Chain(jp.Linear(2)), jnp.ones((5, 2))
    G, H = by_products(net, jp.HalfSquaredError(), X, draw(net, X), targets, None)
    assert relative(G, H) <= 1e-14


@hypothesis.given(seed=st.integers(0, 2**32 - 1), scale=st.floats(-3, 3))
@hypothesis.settings(max_examples=20, deadline=None)
def test_linear_symmetric_and_never_negative(seed, scale):
    rng = np.random.default_rng(seed)
    params, u, v = (jax.tree.map(lambda p: rng.normal(size=p.shape), drawn()) for _ in range(3))
    Gu, Gv, Guv = laws(params, u, v, scale)
    dot = lambda a, b: float(ravel_pytree(a)[0] @ ravel_pytree(b)[0])  # noqa: E731
    assert math.isclose(dot(u, Gv), dot(v, Gu), rel_tol=1e-9, abs_tol=1e-12)
    assert dot(v, Gv) >= -1e-13
    assert relative(Guv, jax.tree.map(lambda a, b: scale * a + b, Gu, Gv)) <= 1e-12


@functools.cache
def drawn():
    return draw(NET, X)


@jax.jit
def laws(params, u, v, scale):
    G = functools.partial(jp.stats.ggn_product(NET, COST), X, params, LABELS)
    return G(u), G(v), G(jax.tree.map(lambda a, b: scale * a + b, u, v))


@pytest.mark.slow
def test_with_examples_on_two_devices():
    net, params = MIXING, draw(MIXING, X[:4])
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    x, labels = jax.device_put((X[:4], LABELS[:4]), jax.NamedSharding(mesh, jax.P("n")))
    found = by_products(net, COST, x, params, labels, None)
    assert relative(found, by_products(net, COST, X[:4], params, LABELS[:4], None)) <= 1e-12


def test_a_vector_that_does_not_fit_is_refused():
    params = draw(NET, X)
    product = jp.stats.ggn_product(NET, COST)
    wrong = (params[0]._replace(W=jnp.ones((2, 2))), *params[1:])
    for vector, words in (
        (
            wrong,
            r"the vector must be of the tree and shapes of params, found an array float64\[2, 2\] at 0.W, expected",
        ),
        (params[:2], "found nothing at 2.W"),
        (ravel_pytree(params)[0], "found nothing at 0.W"),
    ):
        with pytest.raises(jp.ShapeError, match=words):
            product(X, params, LABELS, vector)
    with pytest.raises(jp.JaxpropError, match=r"stats.ggn_product needs a Cost, found .*Cost.of"):
        jp.stats.ggn_product(NET, lambda y, t: y)
    half = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    assert jax.eval_shape(product, X, params, LABELS, half)[0].W.dtype == jnp.float64


# Trace and largest eigenvalue


def curvature(kind, net=NET):
    params = draw(net, X)
    maker = {"ggn": jp.stats.ggn_product, "hessian": jp.stats.hessian_product}[kind]
    return params, functools.partial(maker(net, COST), X, params, LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_the_largest_eigenvalue_is_numpys(kind):
    params, product = curvature(kind)

    @jax.jit
    def run(key):
        found = jp.stats.largest_eigenvalue(product, params, key, tolerance=1e-8)
        lowest = jp.stats.largest_eigenvalue(lambda v: jax.tree.map(jnp.negative, product(v)), params, key)
        return found, lowest, dense(product, params)

    found, lowest, matrix = jax.device_get(run(jax.random.key(0)))
    values = np.linalg.eigvalsh(matrix)
    assert abs(float(found.value) - values[-1]) <= 1e-12 * values[-1]
    v = np.asarray(ravel_pytree(found.vector)[0])
    assert abs(np.linalg.norm(v) - 1) <= 1e-12 and jax.tree.structure(found.vector) == jax.tree.structure(params)
    residual = np.linalg.norm(matrix @ v - found.value * v)
    assert residual <= 1e-8 * values[-1] * (1 + 1e-6) and abs(residual - found.error) <= 1e-12
    assert found.products < len(v)
    assert abs(-float(lowest.value) - values[0]) <= 1e-5 * values[-1]


@functools.cache
def largest(n):
    """Of a matrix of n × n numbers: one program for all of them."""
    return jax.jit(lambda A, key: jp.stats.largest_eigenvalue(lambda v: A @ v, jnp.zeros(n), key, tolerance=0))


@pytest.mark.parametrize("n", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 40))])
@pytest.mark.parametrize("shift", [0.0, -9.0, 9.0])
def test_the_largest_eigenvalue_of_any_symmetric_matrix(n, shift):
    rng = np.random.default_rng(n)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    values = np.linspace(-4, 1, n) + shift
    found = jax.device_get(largest(n)(basis * values @ basis.T, jax.random.key(0)))
    assert abs(found.value - values[-1]) <= 1e-9 and found.error <= 1e-5 * abs(values[-1]) and found.products <= 101


def test_no_curvature_at_all_is_zero():
    params = draw(NET, X)
    nothing = jax.jit(lambda key: jp.stats.largest_eigenvalue(lambda v: jax.tree.map(jnp.zeros_like, v), params, key))(
        jax.random.key(0)
    )
    assert nothing.value == nothing.error == 0 and nothing.products == 2


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 0.1), ("float32", 1e-5)])
def test_the_largest_eigenvalue_in_few_bits(dtype, tolerance):
    """Where a product is all rounding the search stops; it does not run away."""
    x = jnp.ones((4, 4), dtype)
    params = jax.tree.map(lambda p: p.astype(dtype), draw(NET, X))
    product = functools.partial(jp.stats.ggn_product(NET, COST), x, params, LABELS[:4])
    found = jax.jit(lambda key: jp.stats.largest_eigenvalue(product, params, key, tolerance=0))(jax.random.key(0))
    wide = jax.tree.map(lambda p: p.astype("float64"), (x, params))
    matrix = by_products(NET, COST, *wide, LABELS[:4], None)[0]
    assert abs(float(found.value) / np.linalg.eigvalsh(matrix)[-1] - 1) <= tolerance
    assert found.vector[0].W.dtype == dtype and found.value.dtype == jnp.float32


@pytest.mark.slow
def test_the_trace_lies_within_its_stated_error():
    """Within 5 standard errors, which a right estimate leaves once in 10⁶ keys; and the error is Hutchinson's own."""
    params, product = curvature("hessian")
    matrix = np.asarray(jax.jit(lambda: dense(product, params))())
    found = jax.jit(lambda key: jp.stats.trace(product, params, key, samples=4000))(jax.random.key(3))
    assert abs(found.value - np.trace(matrix)) <= 5 * found.error
    off = matrix - np.diag(np.diag(matrix))
    assert 0.9 <= found.error / math.sqrt(2 * np.sum(off**2) / 4000) <= 1.1


def test_the_trace_of_a_diagonal_matrix_is_exact():
    A = {"a": jnp.arange(3.0), "b": jnp.ones((2, 2))}
    found = jp.stats.trace(lambda v: jax.tree.map(jnp.multiply, A, v), A, jax.random.key(0), samples=2)
    assert found == (7, 0)


def test_what_the_spectrum_refuses():
    params, product = curvature("ggn")
    key = jax.random.key(0)
    for act, words in (
        (lambda: jp.stats.trace(product, params, key, samples=1), "samples must be a whole number ≥ 2, found 1"),
        (lambda: jp.stats.largest_eigenvalue(product, params, key, iterations=0), "iterations must be a whole"),
        (lambda: jp.stats.largest_eigenvalue(product, params, key, tolerance=-1), "tolerance must be a number ≥ 0"),
        (
            lambda: jp.stats.trace(params, params, key),
            "product must be a function v -> A v, found (?s:.*)functools.partial",
        ),
    ):
        with pytest.raises(jp.JaxpropError, match=words):
            act()
