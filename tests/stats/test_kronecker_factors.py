"""Kronecker factors of whole networks: equal to the GGN where theory says so, unbiased where they are sampled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError
from jaxprop.stats import Factors, KroneckerFactors, collect
from jaxprop.uses import is_use
from tests.cases import LAYERS
from tests.drawing import draw
from tests.stats.test_every_quantity import of_a_layer, of_a_network, says_something


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def is_factors(node):
    return isinstance(node, Factors)


def linear(*widths, bias=False):
    return jp.Chain(*[jp.Linear(width, bias=bias) for width in widths])


def blocks_of_ggn(net, cost, x, params, targets, weights=None):
    """Σ_n w_n J_nᵀ H_n J_n of every array alone, a tree of `[P, P]`: by JAX's Jacobian and Hessian."""
    w = jnp.full(len(x), 1 / len(x)) if weights is None else jnp.asarray(weights)
    shape = jax.eval_shape(net, x, params).shape[1:]

    @jax.jit
    def run(x, params, targets):
        J = jax.vmap(jax.jacrev(lambda params, x: net(x[None], params).ravel()), (None, 0))(params, x)
        H = jax.vmap(jax.hessian(lambda y, target: cost(y.reshape(1, *shape), target[None])[0]))(
            net(x, params).reshape(len(x), -1), targets
        )
        flat = jax.tree.map(lambda j: j.reshape(*j.shape[:2], -1), J)
        return jax.tree.map(lambda j: jnp.einsum("n,nfp,nfg,ngq->pq", w, j, H, j), flat)

    return run(x, params, targets)


def matrices(net, cost, x, params, targets, weights=None, rng=None, **settings):
    @jax.jit
    def run(x, params, targets, weights, rng):
        (factors,) = collect(net, cost, [KroneckerFactors(**settings)])(
            x, params, targets, weights=weights, rng=rng
        ).found
        return jax.tree.map(lambda f: f.matrix(), factors, is_leaf=is_factors)

    return jax.device_get(run(x, params, targets, weights, rng))


def zeros_like(net, x, params):
    return np.zeros(jax.eval_shape(net, x, params).shape)


POOLED = jp.Chain(jp.Linear(3, bias=False), jp.GlobalAvgPool(), jp.Linear(2, bias=False))
CONVOLUTION = jp.Chain(jp.Conv(3, (2,), bias=False), jp.GlobalAvgPool(), jp.Linear(2, bias=False))
DEEP = jp.Chain(jp.Linear(3), jp.Tanh(), jp.LayerNorm(), jp.Linear(4), jp.Sigmoid(), jp.Linear(3))
HALF, SOFTMAX = jp.HalfSquaredError(), jp.SoftmaxCrossEntropy()

EXACT = {
    "deep linear regression": (linear(3, 4, 2), HALF, normal(5, 3), None, "expand"),
    "deep linear regression with biases": (linear(3, 2, bias=True), HALF, normal(5, 3), None, "reduce"),
    "deep linear regression at every position": (linear(3, 2), HALF, normal(4, 3, 2), None, "expand"),
    "weighted": (linear(3, 2), HALF, normal(4, 3, 2), np.array([0.5, 0.0, 2.0, 1.0]), "expand"),
    "positions averaged before the cost": (POOLED, HALF, normal(4, 3, 2), None, "reduce"),
    "a convolution averaged before the cost": (CONVOLUTION, HALF, normal(4, 5, 2), None, "reduce"),
    "one example of any network": (DEEP, SOFTMAX, normal(1, 4), None, "expand"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if "position" in name else [pytest.mark.slow]) for name in EXACT]
)
def test_factors_are_the_ggn_where_theory_says_so(name):
    net, cost, x, weights, kind = EXACT[name]
    x, given = jnp.asarray(x), None if weights is None else jnp.asarray(weights)
    params = draw(net, x)
    targets = jnp.zeros(len(x), int) if cost is SOFTMAX else zeros_like(net, x, params)
    found = matrices(net, cost, x, params, targets, weights=given, kind=kind, errors="exact")
    expected = blocks_of_ggn(net, cost, x, params, targets, weights)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert relative(one, other) < 1e-10


def test_the_other_kind_is_not_exact():
    """Which says that the test above can tell the kinds apart."""
    net, cost, x, *_ = EXACT["positions averaged before the cost"]
    x = jnp.asarray(x)
    params = draw(net, x)
    targets = zeros_like(net, x, params)
    found = matrices(net, cost, x, params, targets, kind="expand", errors="exact")
    assert relative(found[0].W, blocks_of_ggn(net, cost, x, params, targets)[0].W) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("cost", [SOFTMAX, HALF, jp.SigmoidCrossEntropy()], ids=repr)
def test_sampled_factors_are_unbiased(cost):
    """The mean of B over 4,000 draws is within 5 standard errors of the exact one, entry by entry.

    For normal errors that fails by chance once in 100,000 keys for 20 entries; the key is fixed.
    """
    net, x = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(3)), jnp.asarray(normal(4, 2))
    params = draw(net, x)
    targets = jnp.zeros(4, int) if cost is SOFTMAX else jnp.full((4, 3), 0.5)

    def factors(rng, errors):
        (found,) = collect(net, cost, [KroneckerFactors(errors=errors)])(x, params, targets, rng=rng).found
        return [jnp.concatenate([f.B.ravel(), f.A.ravel()]) for f in (found[0].W, found[2].b)]

    @jax.jit
    def run(keys):
        return jax.vmap(lambda key: factors(key, "sampled"))(keys), factors(None, "exact")

    for some, exact in zip(*jax.device_get(run(jax.random.split(jax.random.key(0), 4000))), strict=True):
        error = np.std(some, axis=0) / 4000**0.5
        assert np.all(np.abs(np.mean(some, axis=0) - exact) <= 5 * error + 1e-12)


def test_samples_are_averaged():
    net, x = linear(3, 2), jnp.asarray(normal(4, 2))
    params, targets = draw(net, x), jnp.zeros((4, 2))
    sampled = matrices(net, HALF, x, params, targets, rng=jax.random.key(0), samples=500)
    assert relative(sampled, matrices(net, HALF, x, params, targets, errors="exact")) < 0.2


def test_rows_of_weight_0_do_not_count():
    net, x = linear(3, 2, bias=True), jnp.asarray(normal(5, 3, 2))
    params, targets = draw(net, x), jnp.zeros((5, 3, 2))
    few = matrices(net, HALF, x[:3], params, targets[:3], errors="cost")
    weights = jnp.array([1, 1, 1, 0, 0]) / 3
    assert relative(matrices(net, HALF, x, params, targets, weights=weights, errors="cost"), few) < 1e-13


def test_a_tie_has_one_block_for_its_array():
    net = jp.Shared(linear(3, 3), ties=(("0.W", "1.W", False),))
    x = jnp.asarray(normal(4, 3))
    params = draw(net, x)
    found = matrices(net, HALF, x, params, jnp.zeros((4, 3)), errors="exact")
    apart = matrices(net.inner, HALF, x, net.filled(params, ""), jnp.zeros((4, 3)), errors="exact")
    assert found.inner[1].W is None
    assert relative(np.trace(found.inner[0].W), np.trace(apart[0].W) + np.trace(apart[1].W)) < 1e-12


def layers():
    """The first row of every kind of layer, slow but for two; the other rows behind their own marker."""
    seen = set()
    for case in filter(says_something, LAYERS):
        slow = pytest.mark.exhaustive if case.kind in seen else pytest.mark.slow
        yield pytest.param(case, id=str(case), marks=[] if str(case) in ("Linear", "Embedding") else [slow])
        seen.add(case.kind)


@pytest.mark.parametrize("case", list(layers()))
def test_every_layer_has_factors_of_its_parameters_shape(case):
    """A ⊗ B has θ's size, both are positive semidefinite, and collect finds what the uses themselves say."""
    problem = of_a_layer(case)
    given = {"rng": problem.rng, "mask": problem.mask}

    @jax.jit
    def run(x, params, targets):
        """Of both kinds: the factors, the same of the uses themselves, and θ after a way to matrices and back."""
        answers = []
        _, uses = jp.manual.uses(problem.net, problem.cost)(x, params, targets, **given)
        for kind in ("expand", "reduce"):
            asked = [KroneckerFactors(kind=kind, errors="true")]
            (found,) = collect(problem.net, problem.cost, asked)(x, params, targets, **given).found
            assert jax.tree.structure(found, is_leaf=is_factors) == jax.tree.structure(params)
            of_uses = jax.tree.map(lambda use, k=kind: use.kronecker_factors(kind=k).settled(), uses, is_leaf=is_use)
            same = jax.tree.map(
                lambda f, theta: f.as_theta(f.as_matrix(theta), theta.shape), found, params, is_leaf=is_factors
            )
            times = jax.tree.map(lambda f, theta: f.times(theta), found, params, is_leaf=is_factors)
            assert jax.tree.map(jnp.shape, times) == jax.tree.map(jnp.shape, params)
            answers.append((found, of_uses, same))
        return answers

    for found, of_uses, same in jax.device_get(run(problem.x, problem.params, problem.targets)):
        assert relative(same, problem.params) == 0
        for factors, expected in zip(
            *(jax.tree.leaves(tree, is_leaf=is_factors) for tree in (found, of_uses)), strict=True
        ):
            assert relative((factors.A, factors.B), (expected.A, expected.B)) < 1e-12
            for side, diagonal in zip((factors.A, factors.B), factors.diagonal, strict=True):
                values = side if diagonal else np.linalg.eigvalsh(side)
                assert np.min(values) >= -1e-10 * np.max(np.abs(side))


@pytest.mark.parametrize(
    "settings, said", [({"kind": "exact"}, "kind"), ({"errors": "true "}, "errors"), ({"samples": 0}, "samples")]
)
def test_wrong_settings_are_named(settings, said):
    with pytest.raises(JaxpropError, match=said):
        KroneckerFactors(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mean-pooled", "resnet", "lstm"])
def test_factors_are_the_same_with_examples_on_two_devices(name):
    problem = of_a_network(name)
    run = jax.jit(collect(problem.net, problem.cost, [KroneckerFactors(errors="exact")]))
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    x, targets = jax.device_put((problem.x, problem.targets), jax.NamedSharding(mesh, jax.P("n")))
    params = jax.device_put(problem.params, jax.NamedSharding(mesh, jax.P()))
    assert len(x.sharding.device_set) == 2
    alone = run(problem.x, problem.params, problem.targets).found
    assert relative(run(x, params, targets).found, alone) <= 1e-11
