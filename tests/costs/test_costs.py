"""One battery over every cost of `cases.py`: C_n and its delta; then the shapes and values that are refused."""

import copy
import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import DIFFERENCES, tolerance
from jaxprop.errors import DataError, JaxpropError, ShapeError
from tests.cases import COSTS, exported
from tests.cases.basic import softmax
from tests.costs.rows import ROWS
from tests.drawing import draw

DTYPES = ["float64", "float32", "bfloat16"]


def test_every_exported_cost_has_a_case():
    missing = set(exported(jp.Cost)) - {type(case.cost).__name__ for case in COSTS}
    assert not missing, f"no row in tests/cases/costs.py: {sorted(missing)}"


def differences(cost, y, targets, h=1e-5):
    """Central differences of Σ_n C_n in every output."""

    def nudge(e):
        up, down = cost(y + h * e, targets), cost(y - h * e, targets)
        return jnp.sum(up - down) / (2 * h)

    return jax.vmap(nudge)(jnp.eye(y.size).reshape(-1, *y.shape)).reshape(y.shape)


@functools.partial(jax.jit, static_argnums=0)
def value_delta_and_grad(cost, y, targets):
    return cost(y, targets), cost.delta(y, targets), jax.grad(lambda y: jnp.sum(cost(y, targets)))(y)


@functools.partial(jax.jit, static_argnums=0)
def battery(cost, arguments):
    y, targets = arguments["float64"]
    stacked = jnp.stack([y, -y]), jnp.stack([targets, targets])
    return {
        "differences": differences(cost, y, targets),
        "alone": jax.vmap(lambda y, t: (cost(y[None], t[None])[0], cost.delta(y[None], t[None])[0]))(y, targets),
        "mapped": jax.vmap(cost)(*stacked)[0],
        "half": cost(y.astype(jnp.float32), targets),
    } | {dtype: value_delta_and_grad(cost, y, targets) for dtype, (y, targets) in arguments.items()}


@pytest.fixture(scope="module", params=ROWS)
def case(request):
    return request.param


def arguments(case, seed=0):
    return {dtype: (case.y(dtype, seed), case.targets(dtype, seed)) for dtype in DTYPES}


@pytest.fixture(scope="module")
def found(case):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return battery(case.cost, arguments(case))


def test_value_is_plain_numpy(case, found):
    y, targets = map(np.asarray, arguments(case)["float64"])
    expected = case.reference(y, targets)
    assert expected.shape == (len(y),)
    assert relative(found["float64"][0], expected) < 1e-14


@pytest.mark.parametrize("dtype", DTYPES)
def test_delta_is_jax_grad_and_keeps_the_dtype(case, found, dtype):
    value, delta, grad = found[dtype]
    assert value.shape == case.shape[:1] and delta.shape == case.shape
    assert value.dtype.name == delta.dtype.name == dtype
    assert relative(delta, grad) <= tolerance(dtype)
    assert relative(value, found["float64"][0]) <= tolerance(dtype)


def test_delta_is_central_differences_in_every_direction(found):
    assert relative(found["float64"][1], found["differences"]) <= DIFFERENCES


def test_an_example_does_not_see_the_others(found):
    assert relative(found["alone"], found["float64"][:2]) <= 1e-14


def test_vmap(found):
    assert relative(found["mapped"], found["float64"][0]) <= 1e-14


def test_targets_may_be_of_another_dtype(found):
    assert found["half"].dtype == jnp.float32
    assert relative(found["half"], found["float64"][0]) <= tolerance("float32")


def test_an_equal_cost_compiles_nothing(case, found, compilations):
    again, others = copy.deepcopy(case.cost), arguments(case, seed=9)
    with compilations() as count:
        jax.block_until_ready(battery(again, others))
    assert count[0] == 0


def test_the_description_is_a_value(case):
    cost, again = case.cost, copy.deepcopy(case.cost)
    assert again == cost and hash(again) == hash(cost)
    json.dumps(dataclasses.asdict(cost), allow_nan=False)
    assert eval(repr(cost), vars(jp).copy()) == cost


def test_right_targets_pass_the_checks(case):
    y, targets = arguments(case)["float64"]
    case.cost.check(y, targets)
    case.cost.check_values(y, targets)


@pytest.mark.slow
@pytest.mark.parametrize("case", {type(case.cost): case for case in reversed(COSTS)}.values(), ids=str)
def test_eager_and_of_numpy(case):
    """Outside of jit too, as the examples in their docstrings are by default."""
    y, targets = arguments(case)["float64"]
    expected = value_delta_and_grad(case.cost, y, targets)[:2]
    for t in (targets, np.asarray(targets)):
        assert relative((case.cost(y, t), case.cost.delta(y, t)), expected) <= 1e-14


# Far out, and against optax


# the first row of every class with numbers for targets; e^10000 and the inverse of such a variance are not finite
FAR = {
    type(case.cost).__name__: case.cost
    for case in reversed(COSTS)
    if not case.kind[1] and case.cost.outputs_per_target == 1 and case.cost.applies != "the exponential"
}


FIRST = "SigmoidCrossEntropy"


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == FIRST else pytest.mark.slow) for n in FAR])
def test_finite_far_out(name):
    y = [[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4], [0, 0]]

    @jax.jit
    def run(arguments):
        return {dtype: value_delta_and_grad(FAR[name], *both) for dtype, both in arguments.items()}

    found = run({dtype: (jnp.asarray(y, dtype), jnp.asarray([[1, 0]] * 5, dtype)) for dtype in DTYPES})
    assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(found))
    for dtype, (value, delta, grad) in found.items():
        assert relative(delta, grad) <= tolerance(dtype)
        far = float(np.asarray(1e4, jnp.dtype(dtype)).astype(float))
        expected = {
            "SoftmaxCrossEntropy": [0, 2 * far, np.log(2), np.log(2), np.log(2)],
            "SigmoidCrossEntropy": [0, 2 * far, far, far, 2 * np.log(2)],
        }
        assert name not in expected or relative(value, np.array(expected[name])) <= tolerance(dtype)


def test_the_costs_of_optax():
    rng = np.random.default_rng(0)
    y, numbers = jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(rng.normal(size=(5, 3)))
    labels, p = jnp.asarray([0, 2, 1, 2, 0]), jnp.asarray(softmax(np.asarray(numbers)))

    def theirs():
        return [
            optax.l2_loss(y, numbers).sum(axis=1),
            optax.squared_error(y, numbers).mean(axis=1),
            optax.softmax_cross_entropy(y, p),
            optax.softmax_cross_entropy_with_integer_labels(y, labels),
            optax.sigmoid_binary_cross_entropy(y, p).sum(axis=1),
            optax.huber_loss(y, numbers, delta=0.7).sum(axis=1),
            optax.hinge_loss(y, jnp.sign(numbers)).sum(axis=1),
            optax.losses.multiclass_hinge_loss(y, labels),
            optax.losses.kl_divergence(jax.nn.log_softmax(y), p),
            optax.softmax_cross_entropy(y, optax.smooth_labels(jax.nn.one_hot(labels, 3), 0.3)),
        ]

    def ours():
        return [
            jp.HalfSquaredError()(y, numbers),
            jp.MeanSquaredError()(y, numbers),
            jp.SoftmaxCrossEntropy()(y, p),
            jp.SoftmaxCrossEntropy()(y, labels),
            jp.SigmoidCrossEntropy()(y, p),
            jp.Huber(0.7)(y, numbers),
            jp.Hinge()(y, jnp.sign(numbers)),
            jp.Hinge()(y, labels),
            jp.KLDivergence()(y, p),
            jp.SoftmaxCrossEntropy(label_smoothing=0.3)(y, labels),
        ]

    found = jax.jit(ours)()
    with jax.numpy_dtype_promotion("standard"):
        expected = jax.jit(theirs)()
    for mine, reference in zip(found, expected, strict=True):
        assert relative(mine, reference) <= 1e-14


def test_labels_are_one_hot_probabilities():
    y, labels = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3))), np.array([0, 2, 1, 2])
    by_label, by_chance = (value_delta_and_grad(jp.SoftmaxCrossEntropy(), y, t) for t in (labels, np.eye(3)[labels]))
    assert relative(by_label, by_chance) <= 1e-15


@pytest.mark.parametrize(
    "cost, y, targets, slopes",
    [
        (jp.AbsoluteError(), [2.0], [2.0], [1.0]),
        (jp.Huber(0.5), [0.5, -0.5, 0.0], [0.0, 0.0, 0.0], [0.5, -0.5, 0.0]),
        (jp.Hinge(), [1.0, -1.0], [1.0, -1.0], [0.0, 0.0]),
    ],
    ids=str,
)
def test_kinks_are_jaxs_own(cost, y, targets, slopes):
    _, delta, grad = value_delta_and_grad(cost, np.array(y)[:, None], np.array(targets)[:, None])
    assert delta.ravel().tolist() == grad.ravel().tolist() == slopes


def test_hinge_shares_the_slope_among_equal_rivals():
    y = np.array([[2.0, 1.0, 0.0], [1, 1, 1]])
    _, delta, grad = value_delta_and_grad(jp.Hinge(), y, np.array([0, 0]))
    assert delta.tolist() == grad.tolist() == [[-0.5, 0.5, 0], [-1, 0.5, 0.5]]


@pytest.mark.slow
def test_hinge_keeps_its_margin_where_scores_are_large():
    y = jnp.asarray([[1e4, 1e4]], jnp.bfloat16)
    assert jp.Hinge()(y, jnp.array([0])).tolist() == [1] and jp.Hinge().delta(y, jnp.array([0])).tolist() == [[-1, 1]]


def test_kl_divergence_is_zero_where_softmax_is_right_and_differs_from_cross_entropy_by_the_entropy():
    y = np.random.default_rng(0).normal(size=(4, 3))
    p = softmax(y[::-1])
    assert relative(value_delta_and_grad(jp.KLDivergence(), y, softmax(y))[0], np.zeros(4)) < 1e-15
    entropy = -np.sum(p * np.log(p), axis=1)
    divergence, delta, _ = value_delta_and_grad(jp.KLDivergence(), y, p)
    crossed, slopes, _ = value_delta_and_grad(jp.SoftmaxCrossEntropy(), y, p)
    assert relative(divergence + entropy, crossed) < 1e-14 and relative(delta, slopes) < 1e-15


def test_likelihoods_are_those_of_jax():
    rng = np.random.default_rng(0)
    y, k, numbers = rng.normal(size=(4, 6)), rng.poisson(2.0, (4, 6)), rng.normal(size=(4, 3))

    @jax.jit
    def run(y, k, numbers):
        poisson = -jax.scipy.stats.poisson.logpmf(k.astype(float), jnp.exp(y)).sum(axis=1)
        normal = -jax.scipy.stats.norm.logpdf(numbers, y[:, :3], jnp.exp(y[:, 3:] / 2)).sum(axis=1)
        ours = jp.PoissonNegativeLogLikelihood()(y, k), jp.GaussianNegativeLogLikelihood()(y, numbers)
        return ours, (poisson, normal)

    assert relative(*run(y, k, numbers)) < 1e-14


def test_what_the_outputs_speak_for():
    y = np.log([[1.0, 3.0]])
    assert relative(jp.SoftmaxCrossEntropy().expected(y), np.array([[0.25, 0.75]])) < 1e-15
    assert relative(jp.KLDivergence().expected(y), np.array([[0.25, 0.75]])) < 1e-15
    assert relative(jp.SigmoidCrossEntropy().expected(y), np.array([[0.5, 0.75]])) < 1e-15
    assert relative(jp.PoissonNegativeLogLikelihood().expected(y), np.array([[1.0, 3.0]])) < 1e-15
    assert jp.GaussianNegativeLogLikelihood().expected(y).tolist() == [[0.0]]
    assert jp.HalfSquaredError().expected(y) is y


# Cross-entropy with settings


def test_ignored_positions_change_nothing_and_the_mean_is_over_the_others():
    rng = np.random.default_rng(0)
    y, labels = rng.normal(size=(3, 4, 3)), rng.integers(0, 3, (3, 4))
    cost, plain = jp.SoftmaxCrossEntropy(ignore=-100), jp.SoftmaxCrossEntropy()
    masked, further, wrong = labels.copy(), y.copy(), labels.copy()
    masked[0, 2:] = masked[1] = wrong[0, 2:] = wrong[1] = -100
    further[0, 3] += 9
    wrong[0, 0] = -1
    value, delta = jax.device_get(value_delta_and_grad(cost, y, masked)[:2])
    alone, alone_delta = jax.device_get(value_delta_and_grad(plain, y[:1, :2], labels[:1, :2])[:2])
    whole, whole_delta = jax.device_get(value_delta_and_grad(plain, y, labels)[:2])
    assert relative(value, np.array([alone[0], 0, whole[2]])) < 1e-15
    assert relative(delta[0, :2], alone_delta[0]) < 1e-15 and relative(delta[2], whole_delta[2]) < 1e-15
    assert not np.any(delta[0, 2:]) and not np.any(delta[1])
    assert relative(value_delta_and_grad(cost, further, masked)[0], value) == 0
    cost.check_values(y, masked)
    assert "label -100" in said(DataError, lambda: plain.check_values(y, masked))
    only_that = value_delta_and_grad(cost, y, wrong)[0]
    assert np.isnan(only_that).tolist() == [True, False, False]  # only what was named is ignored


def test_class_weights_are_torchs_before_its_mean():
    """torch: Σ_n w_label l_n / Σ_n w_label; C_n here is w_label l_n, whatever the other examples are."""
    y, labels = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 2, 1, 2])
    w, plain = np.array([0.5, 2.0, 3.0]), jp.SoftmaxCrossEntropy()
    cost = jp.SoftmaxCrossEntropy(class_weights=w)
    assert cost == jp.SoftmaxCrossEntropy(class_weights=(0.5, 2, 3)) and hash(cost)
    (value, delta, _), (unweighted, slopes, _) = (value_delta_and_grad(c, y, labels) for c in (cost, plain))
    assert relative(value, w[labels] * unweighted) < 1e-15
    assert relative(delta, w[labels][:, None] * slopes) < 1e-15


def test_a_cost_prints_only_what_was_set():
    assert [repr(cost) for cost in (jp.SoftmaxCrossEntropy(), jp.Huber(), jp.Hinge())] == [
        "SoftmaxCrossEntropy()", "Huber()", "Hinge()",
    ]  # fmt: skip
    assert repr(jp.SoftmaxCrossEntropy(ignore=-1)) == "SoftmaxCrossEntropy(ignore=-1)"
    assert repr(jp.Huber(2)) == "Huber(threshold=2.0)"


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: jp.Huber(0), "threshold must be a finite number > 0, found 0"),
        (lambda: jp.Huber(np.inf), "threshold must be"),
        (lambda: jp.SoftmaxCrossEntropy(1.0), "label_smoothing must be from 0 to below 1, found 1.0"),
        (lambda: jp.SoftmaxCrossEntropy(class_weights=(1, -1)), "class_weights must be finite numbers ≥ 0"),
        (lambda: jp.SoftmaxCrossEntropy(class_weights=()), "class_weights must be"),
        (lambda: jp.SoftmaxCrossEntropy(ignore=0.5), "ignore must be a whole number or None, found 0.5"),
    ],
)
def test_settings_that_make_no_cost(make, words):
    assert words in said(JaxpropError, make)


@pytest.mark.parametrize(
    "cost, y, targets, words",
    [
        (jp.SoftmaxCrossEntropy(ignore=0), (4, 3), jnp.ones((4, 3)), "ignore=0 is a label: give integer labels"),
        (jp.SoftmaxCrossEntropy(class_weights=(1,)), (4, 3), jnp.zeros(4, int), "found 1 class_weights for 3 outputs"),
        (jp.GaussianNegativeLogLikelihood(), (4, 3), jnp.ones((4, 3)), "the means and then the log-variances"),
        (jp.GaussianNegativeLogLikelihood(), (4, 2), jnp.ones((4, 2)), "targets (4, 2) do not fit outputs (4, 2)"),
        (jp.Hinge(), (4, 3), jnp.zeros((4, 1), int), "expected integer labels (4,), or the same shape"),
        (jp.KLDivergence(), (4, 3), jnp.zeros(4, int), "integer labels need SoftmaxCrossEntropy"),
    ],
)
def test_shapes_that_settings_and_new_costs_refuse(cost, y, targets, words):
    for act in (cost, cost.delta, cost.check):
        assert words in said(ShapeError, functools.partial(act, jnp.ones(y), targets))


@pytest.mark.parametrize(
    "cost, targets, words",
    [
        (jp.Hinge(), np.zeros((2, 3)), "targets hold 0.0, expected −1 and 1"),
        (jp.Hinge(), np.array([0, 3]), "targets hold label 3, expected 0 to 2 for 3 outputs"),
        (jp.PoissonNegativeLogLikelihood(), -np.ones((2, 3)), "targets hold -1.0, expected counts ≥ 0"),
        (jp.KLDivergence(), np.full((2, 3), 0.5), "add up to 1.5, expected 1"),
        (jp.KLDivergence(), np.array([[1.5, -0.5, 0.0]] * 2), "negative probability"),
        (jp.Huber(), np.full((2, 3), np.nan), "targets hold NaN"),
    ],
)
def test_values_that_new_costs_refuse(cost, targets, words):
    assert words in said(DataError, lambda: cost.check_values(jnp.zeros((2, 3)), targets))


def test_hinge_of_a_label_out_of_range_is_nan():
    value, delta, _ = value_delta_and_grad(jp.Hinge(), np.ones((3, 3)), np.array([0, -1, 3]))
    assert np.isnan(value).tolist() == np.isnan(delta).all(axis=1).tolist() == [False, True, True]


def test_accuracy_leaves_ignored_positions_out_and_r2_is_of_what_outputs_speak_for():
    y = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    labels = np.array([[1, -1]])
    cost = jp.SoftmaxCrossEntropy(ignore=-1)
    assert jp.evaluate(lambda x, _: x, cost)(y, (), labels)["accuracy"] == 1
    assert "accuracy" not in jp.evaluate(lambda x, _: x, cost)(y, (), labels * 0 - 1)
    counts = np.array([[1.0], [5.0]])
    assert jp.evaluate(lambda x, _: x, jp.PoissonNegativeLogLikelihood())(np.log(counts), (), counts)["r2"] == 1
    both = np.concatenate([counts, counts], axis=1)
    assert jp.evaluate(lambda x, _: x, jp.GaussianNegativeLogLikelihood())(both, (), counts)["r2"] == 1


def test_the_article_halves_and_doubles():
    """½(a − ŷ)²: half of the squared error; its derivative has no 2 left."""
    a, label = jnp.array([[0.79413]]), jnp.array([[1.0]])
    cost = jp.HalfSquaredError()
    assert abs(float(cost(a, label)[0]) - 0.5 * 0.20587**2) < 1e-15
    assert abs(float(cost.delta(a, label)[0, 0]) + 0.20587) < 1e-15
    with jax.numpy_dtype_promotion("standard"):
        assert relative(2 * cost(a, label), optax.squared_error(a, label)[:, 0]) < 1e-15
    assert relative(2 * cost.delta(a, label), jp.MeanSquaredError().delta(a, label)) < 1e-15
    assert abs(float(cost(jnp.array([[0.12]]), jnp.array([[2.0]]))[0]) - 1.7672) < 1e-15


# What is refused, and how it is said

WAYS = [jp.auto.value_and_grad, jp.manual.value_and_grad, jp.manual.uses, jp.manual.trace, jp.compare]


def small_net(outputs):
    net, x = jp.Chain(jp.Linear(outputs)), jnp.ones((5, 3))
    return net, x, draw(net, x)


def said(error, act):
    """The message of the error that `act` raises."""
    with pytest.raises(error) as caught:
        act()
    return str(caught.value)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.__module__}.{way.__name__}".split(".", 2)[-1])
@pytest.mark.parametrize("cost", [jp.HalfSquaredError(), jp.MeanSquaredError(), jp.SigmoidCrossEntropy()], ids=repr)
def test_targets_that_numpy_would_broadcast_to_a_square(way, cost):
    net, x, params = small_net(1)
    expected = (
        f"{type(cost).__name__}: targets (5,) do not fit outputs (5, 1): expected the same shape; "
        "numpy would broadcast them to a square: write targets[:, None]"
    )
    assert said(ShapeError, lambda: way(net, cost)(x, params, jnp.ones(5))) == expected
    if way is not jp.compare:  # at trace time
        assert said(ShapeError, lambda: jax.jit(way(net, cost))(x, params, jnp.ones(5))) == expected
        assert said(ShapeError, lambda: jax.eval_shape(way(net, cost), x, params, jnp.ones(5))) == expected


@pytest.mark.parametrize("cost", [case.cost for case in COSTS if case.shape == (4, 3)], ids=lambda c: type(c).__name__)
def test_value_and_delta_refuse_the_same_targets(cost):
    y = jnp.ones((4, 3))
    wrong_shapes = [(4, 2), (3, 3), (4, 1), (3,), (), (1, 4, 3)]
    for act, shape in itertools.product((cost, cost.delta, cost.check), wrong_shapes):
        with pytest.raises(ShapeError) as caught:
            act(y, jnp.ones(shape))
        assert f"targets {shape} do not fit outputs (4, 3)" in str(caught.value)


@pytest.mark.parametrize("cost", [jp.HalfSquaredError(), jp.MeanSquaredError(), jp.SigmoidCrossEntropy()], ids=repr)
def test_integer_labels_where_numbers_belong(cost):
    text = said(ShapeError, lambda: cost(jnp.ones((5, 3)), jnp.array([0, 1, 2, 0, 1])))
    assert text.endswith("integer labels need SoftmaxCrossEntropy, or jax.nn.one_hot(targets, classes)")


@pytest.mark.parametrize("targets", [jnp.ones(5), jnp.ones((5, 3), jnp.int32), jnp.ones((5, 2))], ids=str)
def test_softmax_says_what_it_expects(targets):
    kind = "integer labels" if targets.dtype == jnp.int32 else "probabilities"
    text = said(ShapeError, lambda: jp.SoftmaxCrossEntropy()(jnp.ones((5, 3)), targets))
    assert f"expected {kind} of shape" in text and "labels are integers [N], probabilities floating [N, C]" in text


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_nan_under_jit_and_named_before(label):
    cost, y, targets = jp.SoftmaxCrossEntropy(), np.zeros((5, 3)), np.array([0, 1, label, 2, 0])
    value, delta, _ = value_delta_and_grad(cost, y, targets)
    assert np.isnan(value).tolist() == [False, False, True, False, False]
    assert np.isnan(delta).all(axis=1).tolist() == np.isnan(delta).any(axis=1).tolist() == np.isnan(value).tolist()
    expected = f"targets hold label {label}, expected 0 to 2 for 3 outputs"
    assert expected in said(DataError, lambda: cost.check_values(y, targets))
    net, x, params = small_net(3)
    assert expected in said(DataError, lambda: jp.compare(net, cost)(x, params, targets))


@pytest.mark.parametrize(
    "cost, wrong, expected",
    [
        (jp.SoftmaxCrossEntropy(), -0.1, "targets hold a negative probability"),
        (jp.SigmoidCrossEntropy(), -0.1, "targets hold -0.1, expected values from 0 to 1"),
        (jp.SigmoidCrossEntropy(), 1.1, "targets hold 1.1, expected values from 0 to 1"),
        (jp.SoftmaxCrossEntropy(), np.nan, "targets hold NaN or infinity"),
        (jp.SigmoidCrossEntropy(), np.inf, "targets hold NaN or infinity"),
        (jp.HalfSquaredError(), np.nan, "targets hold NaN or infinity"),
        (jp.MeanSquaredError(), -np.inf, "targets hold NaN or infinity"),
    ],
)
def test_targets_that_no_output_can_match(cost, wrong, expected):
    targets = np.full((5, 3), 0.5)
    targets[2, 1] = wrong
    assert expected in said(DataError, lambda: cost.check_values(jnp.zeros((5, 3)), targets))
    net, x, params = small_net(3)
    assert expected in said(DataError, lambda: jp.compare(net, cost)(x, params, jnp.asarray(targets)))


@pytest.mark.parametrize("cost", [jp.SoftmaxCrossEntropy(), jp.SoftmaxCrossEntropy(ignore=-1), jp.Hinge()], ids=repr)
def test_labels_may_be_of_any_integer_dtype_whatever_the_number_of_classes(cost):
    """As bytes, 1 and 257 are one label, and 200 classes do not fit into an int8."""
    y, labels = np.random.default_rng(0).normal(size=(2, 300)), np.array([1, 100])
    given = [labels.astype(dtype) for dtype in ("uint8", "int8", "uint16", "uint32", "int64")]
    *found, expected = jax.jit(lambda y, given: [(cost(y, t), cost.delta(y, t)) for t in given])(y, given)
    assert [relative(one, expected) for one in found] == [0] * 4


def test_a_class_that_cannot_be_costs_nothing():
    y = np.array([[1.0, 2.0, -np.inf]])
    labels, p = np.array([0]), np.array([[1.0, 0.0, 0.0]])
    for cost, targets in ((jp.SoftmaxCrossEntropy(), labels), (jp.SoftmaxCrossEntropy(), p), (jp.KLDivergence(), p)):
        value, delta, slope = value_delta_and_grad(cost, y, targets)
        assert abs(float(value[0]) - np.log1p(np.exp(1.0))) < 1e-12 and relative(slope, delta) < 1e-12
    value, *_ = value_delta_and_grad(jp.SoftmaxCrossEntropy(), y, np.array([2]))
    assert np.isinf(value[0])  # it was that one after all
