"""The curvature of every cost: H = S Sᵀ against JAX's Hessian and central differences, and what is drawn from a model.

E[δ̲ δ̲ᵀ] = H is tried exactly, over all outcomes, where they can be counted, and otherwise by a mean over draws that must
lie within 5 of its standard errors of H in every entry: for a right formula a failure has a chance below 10⁻⁴ for all
entries together (normal tails), and the keys are fixed.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import DIFFERENCES, tolerance
from tests.cases import COSTS
from tests.cases.basic import sigmoid, softmax
from tests.costs.rows import ROWS

GAUSSIAN = jp.GaussianNegativeLogLikelihood
NO_MODEL = (jp.AbsoluteError, jp.Huber, jp.Hinge)


def squares(columns):
    """Σ_v S_vn S_vnᵀ, `[N, F, F]`, of `[V, N, ...]`."""
    flat = columns.reshape(*columns.shape[:2], -1)
    return jnp.einsum("vnf,vng->nfg", flat, flat)


def blocks(cost, y, targets, product):
    """`[N, F, F]` of a product with H: one direction after another."""
    F = y[0].size
    each = jnp.broadcast_to(jnp.eye(F)[:, None], (F, len(y), F)).reshape(F, *y.shape)
    return jnp.moveaxis(jax.vmap(product)(each).reshape(F, len(y), F), 0, 2)


@functools.partial(jax.jit, static_argnums=0)
def battery(cost, y, targets):
    hessian = jax.vmap(lambda y, t: jax.hessian(lambda y: cost(y[None], t[None])[0])(y))(y, targets)
    h = 1e-5

    def differences(e):
        return (cost.delta(y + h * e, targets) - cost.delta(y - h * e, targets)) / (2 * h)

    root = cost.hessian_root(y, targets)
    return {
        "root": root,
        "squares": squares(root),
        "product": blocks(cost, y, targets, lambda v: cost.hessian_product(y, targets, v)),
        "hessian": hessian.reshape(len(y), y[0].size, y[0].size),
        "differences": blocks(cost, y, targets, differences),
        "half": cost.hessian_root(y.astype("bfloat16"), targets),
        "default": jp.Cost.hessian_root(cost, y, targets),
    }


# by default those whose curvature has terms of its own: of classes, of a model that is not convex, of a kink
FIRST = ("SoftmaxCrossEntropy, labels", "GaussianNegativeLogLikelihood", "Huber")
# positions are flattened in one place for these: the mean square, and what has roots of its own, are tried with T
FLAT = ("HalfSquared", "Sigmoid", "Absolute", "Huber", "Hinge")


def marks(row):
    if row.id in FIRST:
        return ()
    if row.id.endswith(", T") and row.id.startswith(FLAT):
        return pytest.mark.exhaustive
    return row.marks or pytest.mark.slow


CASES = [pytest.param(*row.values, marks=marks(row), id=row.id) for row in ROWS]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def found(case):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return battery(case.cost, case.y("float64"), case.targets("float64"))


def test_the_root_is_the_hessians(case, found):
    assert found["root"].shape[1:] == case.shape
    assert relative(found["product"], found["squares"]) <= 1e-14
    if type(case.cost) is GAUSSIAN:  # its Hessian is indefinite: the Fisher stands in its place
        s = np.asarray(case.y("float64"))[..., case.shape[-1] // 2 :]
        fisher = np.concatenate([np.exp(-s), np.full_like(s, 0.5)], axis=-1).reshape(len(s), -1)
        assert relative(found["squares"], fisher[:, :, None] * np.eye(fisher.shape[1])) <= 1e-14
    else:
        assert relative(found["squares"], found["hessian"]) <= 1e-12
        assert relative(found["squares"], found["differences"]) <= DIFFERENCES


def test_the_root_of_any_cost_is_the_one_written_by_hand(found):
    assert relative(squares(found["default"]), found["squares"]) <= 1e-12


def test_the_root_keeps_the_dtype(found):
    assert found["half"].dtype == jnp.bfloat16
    assert relative(squares(found["half"].astype(jnp.float64)), found["squares"]) <= 2 * tolerance("bfloat16")


# Errors of targets that are drawn


@functools.partial(jax.jit, static_argnums=0)
def drawn(cost, y, targets, keys):
    """The mean of δ̲ δ̲ᵀ over draws, and its standard error."""

    def one(key):
        flat = cost.sampled_delta(y, targets, key).reshape(len(y), -1)
        return flat[:, :, None] * flat[:, None, :]

    each = jax.vmap(one)(keys)
    return jnp.mean(each, axis=0), jnp.std(each, axis=0) / np.sqrt(len(keys))


SLOW = [pytest.param(*row.values, marks=row.marks or pytest.mark.slow, id=row.id) for row in CASES]


@pytest.mark.parametrize("case", SLOW, indirect=True)
def test_the_mean_square_of_drawn_errors_is_the_hessian(case, found):
    y, targets = case.y("float64"), case.targets("float64")
    if isinstance(case.cost, NO_MODEL):
        with pytest.raises(jp.JaxpropError, match=rf"{type(case.cost).__name__}.*no model here.*define sample\(y, key"):
            case.cost.sampled_delta(y, targets, jax.random.key(0))
        return
    mean, error = drawn(case.cost, y, targets, jax.random.split(jax.random.key(1), 4000))
    assert np.all(np.abs(mean - found["squares"]) <= 5 * error + 1e-12)
    assert np.max(error) < 0.2 * np.max(found["squares"])


class Given:
    """A cost that draws what it is told: the key is the outcome."""

    def sample(self, y, key):
        return key


class GivenSoftmax(Given, jp.SoftmaxCrossEntropy):
    pass


class GivenSigmoid(Given, jp.SigmoidCrossEntropy):
    pass


def expectation(cost, y, targets, outcomes, chances):
    """E[δ̲ δ̲ᵀ] over all outcomes, and S Sᵀ."""

    @jax.jit
    def run(outcomes):
        each = jax.vmap(lambda outcome: squares(cost.sampled_delta(y, targets, outcome)[None]))(outcomes)
        return each, squares(cost.hessian_root(y, targets))

    each, expected = run(np.array(outcomes))
    return np.sum(np.array(chances) * each, axis=0), expected


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"label_smoothing": 0.2, "class_weights": (0.5, 2.0, 1.0), "ignore": -1},
    ],
)
def test_over_all_labels_the_mean_square_is_exactly_the_hessian(settings):
    """Two positions of three classes: nine outcomes."""
    y, targets = np.random.default_rng(0).normal(size=(2, 2, 3)), np.array([[2, 0], [1, -1]])
    targets = targets if settings else abs(targets)
    p = softmax(y)
    outcomes = list(itertools.product(range(3), repeat=2))
    chances = [(p[:, 0, one] * p[:, 1, other])[:, None, None] for one, other in outcomes]
    outcomes = [np.tile(outcome, (2, 1)) for outcome in outcomes]
    assert relative(*expectation(GivenSoftmax(**settings), y, targets, outcomes, chances)) <= 1e-14


def test_over_all_yes_and_no_the_mean_square_is_exactly_the_hessian():
    y = np.random.default_rng(0).normal(size=(2, 3))
    p = sigmoid(y)
    outcomes = list(itertools.product([0.0, 1.0], repeat=3))
    chances = [np.prod(np.where(np.array(o) == 1, p, 1 - p), axis=1)[:, None, None] for o in outcomes]
    outcomes = [np.tile(o, (2, 1)) for o in outcomes]
    assert relative(*expectation(GivenSigmoid(), y, y, outcomes, chances)) <= 1e-14


@pytest.mark.slow
def test_targets_are_drawn_from_the_model_that_the_cost_speaks_for():
    """In frequency and moments, within 5 standard errors."""
    n, key = 20_000, jax.random.key(2)
    y = jnp.asarray([[0.3, -0.5, 1.2]])

    def draw(cost, y):
        return np.asarray(jax.jit(jax.vmap(lambda k: cost.sample(y, k)))(jax.random.split(key, n)))

    def close(found, expected, error):
        return np.all(np.abs(found - expected) <= 5 * error / np.sqrt(n))

    labels, p = draw(jp.SoftmaxCrossEntropy(), y), np.asarray(jax.nn.softmax(y))[0]
    assert labels.shape == (n, 1) and labels.dtype.kind == "i"
    assert close(np.mean(labels == np.arange(3), axis=0), p, np.sqrt(p * (1 - p)))
    assert np.all(np.sum(draw(jp.KLDivergence(), y), axis=-1) == 1)
    for cost, variance in ((jp.HalfSquaredError(), 1.0), (jp.MeanSquaredError(), 1.5)):
        noise = draw(cost, y) - np.asarray(y)
        assert close(noise.mean(axis=0), 0, variance**0.5) and close(noise.var(axis=0), variance, 2**0.5 * variance)
    counts = draw(jp.PoissonNegativeLogLikelihood(), y)
    assert close(counts.mean(axis=0), np.exp(y), np.exp(y / 2)) and np.all(counts == np.round(counts))
    numbers = draw(GAUSSIAN(), jnp.asarray([[3.0, -1.0]]))
    assert numbers.shape == (n, 1, 1) and close(numbers.mean(), 3, np.exp(-0.5))
    assert close(numbers.var(), np.exp(-1.0), 2**0.5 * np.exp(-1.0))


# Costs of one's own


def test_a_cost_of_ones_own_has_a_root_and_an_indefinite_one_is_nan():
    y, labels = np.random.default_rng(0).normal(size=(3, 4)), np.array([0, 3, 1])
    logs = jp.Cost.of(lambda y, label: jax.nn.logsumexp(y) - y[label])

    @jax.jit
    def run(y):
        half = logs.hessian_root(y.astype("bfloat16"), labels)
        return half, [squares(cost.hessian_root(y, labels)) for cost in (logs, jp.SoftmaxCrossEntropy())]

    half, (found, expected) = run(y)
    assert relative(found, expected) < 1e-12 and half.dtype == jnp.bfloat16
    saddle = jp.Cost.of(lambda y, t: t * y[0] ** 2 + y[1] ** 2)
    root = jax.jit(saddle.hessian_root)(y, np.array([1.0, -1.0, 0.0]))
    assert np.isnan(root).any(axis=(0, 2)).tolist() == [False, True, False]
    with pytest.raises(jp.JaxpropError, match=r"Cost.of\(.*\): there is no model here"):
        logs.sample(y, jax.random.key(0))


def test_what_does_not_fit_is_refused_as_everywhere():
    for cost in {type(case.cost): case.cost for case in COSTS}.values():
        with pytest.raises(jp.ShapeError, match=r"targets \(5, 1\) do not fit outputs \(4, 6\)"):
            cost.hessian_root(np.ones((4, 6)), np.ones((5, 1)))


@pytest.mark.slow
def test_a_far_off_output_has_a_finite_root():
    y = jnp.asarray([[1e4, -1e4], [-jnp.inf, 0.0]], jnp.float32)
    targets = np.full((2, 2), 0.5, np.float32)

    @jax.jit
    def run(y, key):
        costs = jp.SoftmaxCrossEntropy(), jp.SigmoidCrossEntropy(), jp.KLDivergence()
        return [(cost.hessian_root(y, targets), cost.sampled_delta(y, targets, key)) for cost in costs]

    assert all(np.isfinite(found).all() for found in jax.tree.leaves(run(y, jax.random.key(0))))
