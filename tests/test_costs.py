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
from jaxprop.errors import DataError, ShapeError
from tests.cases import COSTS, exported
from tests.tolerances import DIFFERENCES, relative, tolerance

DTYPES = ["float64", "float32", "bfloat16"]


def test_every_exported_cost_has_a_case():
    missing = set(exported(jp.Cost)) - {type(case.cost).__name__ for case in COSTS}
    assert not missing, f"exported, but not in tests/cases.py: {sorted(missing)}"


def differences(cost, y, targets, h=1e-5):
    """Central differences of Σ_n C_n in every output."""

    def nudge(e):
        up, down = cost(y + h * e, targets), cost(y - h * e, targets)
        return jnp.sum(up - down) / (2 * h)

    return jax.vmap(nudge)(jnp.eye(y.size).reshape(-1, *y.shape)).reshape(y.shape)


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
    } | {dtype: value_delta_and_grad(cost, y, targets) for dtype, (y, targets) in arguments.items()}


@pytest.fixture(scope="module", params=COSTS, ids=str)
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


def test_vmap_and_eager(case, found):
    assert relative(found["mapped"], found["float64"][0]) <= 1e-14
    y, targets = arguments(case)["float64"]
    assert relative((case.cost(y, targets), case.cost.delta(y, targets)), found["float64"][:2]) <= 1e-14


def test_targets_may_be_numpy_and_of_another_dtype(case, found):
    y, targets = arguments(case)["float64"]
    assert relative(case.cost(y, np.asarray(targets)), found["float64"][0]) <= 1e-14
    half = case.cost(y.astype(jnp.float32), targets)
    assert half.dtype == jnp.float32 and relative(half, found["float64"][0]) <= tolerance("float32")


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


# Far out, and against optax


@pytest.mark.parametrize("dtype", DTYPES)
def test_finite_far_out(dtype):
    y = jnp.asarray([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4], [0, 0]], dtype)
    targets = jnp.asarray([[1, 0]] * 5, dtype)

    @jax.jit
    def run(y, targets):
        costs = jp.SoftmaxCrossEntropy(), jp.SigmoidCrossEntropy(), jp.HalfSquaredError(), jp.MeanSquaredError()
        return [value_delta_and_grad(cost, y, targets) for cost in costs]

    found = run(y, targets)
    assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(found))
    for _, delta, grad in found:
        assert relative(delta, grad) <= tolerance(dtype)
    far = float(np.asarray(1e4, jnp.dtype(dtype)).astype(float))
    softmax, sigmoid = (np.asarray(found[i][0], np.float64) for i in (0, 1))
    assert relative(softmax, np.array([0, 2 * far, np.log(2), np.log(2), np.log(2)])) <= tolerance(dtype)
    assert relative(sigmoid, np.array([0, 2 * far, far, far, 2 * np.log(2)])) <= tolerance(dtype)


def test_the_costs_of_optax():
    rng = np.random.default_rng(0)
    y, numbers = jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(rng.normal(size=(5, 3)))
    labels, p = jnp.asarray([0, 2, 1, 2, 0]), jax.nn.softmax(numbers)
    with jax.numpy_dtype_promotion("standard"):
        theirs = [
            optax.l2_loss(y, numbers).sum(axis=1),
            optax.squared_error(y, numbers).mean(axis=1),
            optax.softmax_cross_entropy(y, p),
            optax.softmax_cross_entropy_with_integer_labels(y, labels),
            optax.sigmoid_binary_cross_entropy(y, p).sum(axis=1),
        ]
    softmax = jp.SoftmaxCrossEntropy()
    ours = [
        jp.HalfSquaredError()(y, numbers),
        jp.MeanSquaredError()(y, numbers),
        softmax(y, p),
        softmax(y, labels),
        jp.SigmoidCrossEntropy()(y, p),
    ]
    for mine, reference in zip(ours, theirs, strict=True):
        assert relative(mine, reference) <= 1e-14


def test_labels_are_one_hot_probabilities():
    y, labels = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3))), jnp.asarray([0, 2, 1, 2])
    cost, p = jp.SoftmaxCrossEntropy(), jax.nn.one_hot(labels, 3)
    assert relative((cost(y, labels), cost.delta(y, labels)), (cost(y, p), cost.delta(y, p))) <= 1e-15


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
    return net, x, net.init(jax.random.key(0), x)


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
    cost, y, targets = jp.SoftmaxCrossEntropy(), jnp.zeros((5, 3)), jnp.array([0, 1, label, 2, 0])
    value, delta = jax.jit(lambda y, t: (cost(y, t), cost.delta(y, t)))(y, targets)
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
