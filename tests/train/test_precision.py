"""`fit(precision=)`: what is rounded, what is not, and that float16 skips what overflows and goes on."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import tolerance
from jaxprop.errors import JaxpropError, TrainingError
from jaxprop.train import precision as precisions
from jaxprop.train.precision import computed, parts, scaling
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe, begin, step
from tests.drawing import draw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 3)).astype(np.float32)
SQUARES = np.sum(X**2, axis=1, keepdims=True)
NET = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(1))
HALF, SOFTMAX, SGD = jp.HalfSquaredError(), jp.SoftmaxCrossEntropy(), optax.sgd(0.05)
KEPT = {"float64": jnp.float64, "float32": jnp.float32, "bfloat16": jnp.float32, "float16": jnp.float32}
NEAR = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 0.25, "float16": 0.03}  # a smooth network to itself in float64
KINKED = ("convnet", "resnet")  # where rounding decides which of two units is the larger


def fit(precision, net=NET, cost=HALF, data=(X, SQUARES), optimizer=SGD, **options):
    usual = {"epochs": 2, "batch_size": 16, "key": jax.random.key(3), "progress": False}
    return jp.fit(net, cost, optimizer, data, precision=precision, **usual | options)


def dtypes(tree):
    found = {jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)}
    return {dtype for dtype in found if jnp.issubdtype(dtype, jnp.floating)}


def as_a_user():
    """JAX's 64 bits off, as they are unless somebody turns them on."""
    return jax.enable_x64(False)


IDS = RNG.integers(0, 7, (4, 5))
IMAGES, SEQUENCES = RNG.normal(size=(4, 8, 8, 3)), RNG.normal(size=(4, 5, 3))
NETWORKS = {
    "mlp": (jp.models.mlp((3, 16, 2), jp.Tanh()), SEQUENCES[:, 0], (2,)),
    "convnet": (jp.models.convnet(2, width=4), IMAGES, (2,)),
    "resnet": (jp.models.resnet(2, width=4), IMAGES, (2,)),
    "gpt": (jp.models.gpt(7, 8, 2, 2, 6), IDS, (5, 7)),
    "lstm": (jp.models.rnn_classifier("lstm", 4, 2), SEQUENCES, (2,)),
    "batch norm": (jp.Chain(jp.Linear(8, bias=False), jp.BatchNorm(), jp.Tanh(), jp.Linear(2)), SEQUENCES[:, 0], (2,)),
}


def marks(name, precision):
    """The smallest in each precision, the others in bfloat16; in float16 what sums over rows or tokens."""
    telling = name == "mlp" or (name, precision) in (("gpt", "float16"), ("batch norm", "float16"))
    telling |= precision == "bfloat16" and name != "resnet"  # a convnet with batch norm
    default = name == "mlp" and precision.endswith("16")
    return [] if default else pytest.mark.slow if telling else pytest.mark.exhaustive


EACH = [pytest.param(name, precision, marks=marks(name, precision)) for name in NETWORKS for precision in KEPT]


@functools.cache
def in_float64(name):
    """A network's rows, θ and labels, and what JAX makes of its cost and gradient in float64."""
    net, x, shape = NETWORKS[name]
    x = jnp.asarray(x)
    params = draw(net, x)
    labels = jnp.asarray(np.random.default_rng(1).integers(0, shape[-1], (4, *shape[:-1])))
    return x, params, labels, jax.jit(jp.auto.value_and_grad(net, SOFTMAX))(x, params, labels)


@pytest.mark.parametrize(("name", "precision"), EACH)
def test_manual_is_auto_and_near_float64_in_each(name, precision):
    x, params, labels, exact = in_float64(name)
    given = Rows(x, labels), precisions.kept(params, precision)
    scale = None if precision != "float16" else scaling(precision).scale
    found = {}
    for way in ("manual", "auto"):
        run = jax.jit(Recipe(NETWORKS[name][0], SOFTMAX, SGD, way, None, precision).value_and_grad)
        found[way] = run(*given, None, None, scale)
        assert dtypes(found[way]) == {jnp.dtype(KEPT[precision])}, "sums and gradients are as wide as θ is"
    by_hand, by_jax = map(as_float64, found.values())
    assert relative(by_hand, by_jax) <= tolerance(precision)
    if name not in KINKED:
        assert relative(by_jax, exact) <= NEAR[precision]


def as_float64(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)


ALL = [pytest.param(p, marks=[] if p == "bfloat16" else pytest.mark.slow) for p in KEPT]
HALVES = ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)]
WAYS = ["manual", pytest.param("auto", marks=pytest.mark.slow)]


@pytest.mark.parametrize("precision", ALL)
def test_a_plain_function_computes_in_it_and_theta_is_kept_wide(precision):
    seen = []

    def f(x, w):
        seen.append({x.dtype.name, w.dtype.name})
        return x * w

    result = fit(precision, f, data=(X[:, :1], X[:, :1]), params=2.0, validation=(X[:, :1], X[:, :1]))
    assert {precision} in seen and seen[-1] == {jnp.dtype(KEPT[precision]).name}, "validation is of θ as it is kept"
    assert dtypes((result.params, result.state)) == {jnp.dtype(KEPT[precision])}


@pytest.mark.parametrize("precision", HALVES)
def test_updates_too_small_for_half_precision_add_up(precision):
    ones = np.ones((16, 1), np.float32)
    cost = jp.Cost.of(lambda y, t: y[0])  # ∂C/∂w = 1
    result = fit(precision, lambda x, w: w * x, cost, (ones, ones), optax.sgd(1e-4), params=1.0, epochs=100)
    assert np.isclose(result.params, 0.99, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_ids_and_labels_are_not_rounded(precision):
    ids = np.array([[3001], [3002]] * 8)  # alike in both
    net = jp.Chain(jp.Embedding(3003, 2), jp.Flatten(), jp.Linear(3003))
    result = fit(precision, net, SOFTMAX, (ids, ids[:, 0]), optax.adam(0.1), epochs=20)
    assert jp.evaluate(net, SOFTMAX)(ids, result.params, ids[:, 0])["accuracy"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("grad", ["manual", "auto"])
def test_raw_units_are_not_rounded(grad):
    years, prices = 2024 + 2 * X[:, :1], 30000 + 100 * X[:, :1]  # 16 apart and 128 apart in bfloat16
    net = jp.Chain(jp.Chain(jp.Standardize.of(years), jp.Linear(1)), jp.Unstandardize.of(prices))
    result = fit("bfloat16", net, jp.MeanSquaredError(), (years, prices), optax.adam(0.1), epochs=60, grad=grad)
    assert jp.evaluate(net, HALF)(years, result.params, prices)["r2"] > 0.999
    with as_a_user():  # whole numbers become float32
        whole = fit("bfloat16", net, data=(np.array([[2023], [2025]] * 8), prices[:16]), grad=grad)
    assert dtypes(whole.params) == {jnp.dtype("float32")}


def test_parts_of_a_network_are_found_where_they_are():
    begin, inner, end = parts(
        jp.Chain(jp.Chain(jp.Standardize(1.0, 2.0), jp.Tanh()), jp.Chain(jp.Unstandardize(3.0, 4.0)))
    )
    assert (begin, end) == (jp.Standardize(1.0, 2.0), jp.Unstandardize(3.0, 4.0))
    assert inner == jp.Chain(jp.Chain(jp.Identity(), jp.Tanh()), jp.Chain(jp.Identity()))
    assert parts(NET) == (None, NET, None)


SETTINGS = {
    "weights, validation, callback": {
        "weights": np.arange(1.0, 49), "validation": (X, SQUARES), "on_epoch": lambda row, state: row["epoch"] == 2,
        "epochs": 9,
    },
    "monitor": {"monitor": {"noise": jp.stats.NoiseScale(), "update": jp.stats.UpdateToWeight()}, "every": 2},
    "rule": {"rule": jp.rules.FeedbackAlignment()},
    "dropout": {"net": jp.Chain(jp.Linear(8), jp.Dropout(0.3), jp.Linear(1)), "grad": "manual"},
    "lookahead": {"optimizer": optax.lookahead(optax.sgd(0.05), 3, 0.5)},
    "line search": {"optimizer": optax.lbfgs()},
    "moments in bfloat16": {"optimizer": optax.adam(0.01, mu_dtype=jnp.bfloat16)},
}  # fmt: skip


IN_FLOAT16 = ("monitor", "rule", "lookahead")  # the others in bfloat16; the rest is exhaustive
TAKEN = [
    pytest.param(name, precision, marks=getattr(pytest.mark, "slow" if half == precision else "exhaustive"))
    for name in SETTINGS
    for half in ["float16" if name in IN_FLOAT16 else "bfloat16"]
    for precision in ("bfloat16", "float16")
]


@pytest.mark.parametrize(("name", "precision"), TAKEN)
def test_all_that_fit_takes_is_near_float32(name, precision):
    gentle = {"data": (X, SQUARES / 8)}
    low, high = (fit(p, **gentle | SETTINGS[name]) for p in (precision, "float32"))
    assert relative(low.params, high.params) <= 0.05
    assert low.steps == high.steps and low.stopped == high.stopped
    for a, b in zip(low.history, high.history, strict=True):
        for column in set(b) - {"seconds"}:
            assert np.isclose(a[column], b[column], rtol=0.1, atol=0.02), column
    again = fit(precision, **gentle | SETTINGS[name] | {"epochs": 1})
    further = fit(precision, **gentle | SETTINGS[name] | {"epochs": 1, "state": again.state})
    assert relative(further.params, low.params) == 0, "two runs of one epoch are one of two, bit for bit"


@pytest.mark.slow
def test_a_mask_in_half_precision():
    net = jp.Chain(jp.RNN(4, sequence=False), jp.Linear(1))
    x, mask = RNG.normal(size=(48, 5, 3)), np.arange(5) < RNG.integers(1, 6, (48, 1))
    low, high = (fit(p, net, data=(x, SQUARES), mask=mask) for p in ("bfloat16", "float32"))
    assert 0 < relative(low.params, high.params) <= 0.05


@pytest.mark.slow
def test_float64_by_itself():
    with jax.enable_x64(True):
        expected = fit(None, data=(X.astype(float), SQUARES.astype(float)), params=draw(NET, jnp.asarray(X, float)))
        start = jax.tree.map(np.asarray, draw(NET, jnp.asarray(X, float)))
    with as_a_user():
        result = fit("float64", params=start, data=(X.astype(float), SQUARES.astype(float)), validation=(X, SQUARES))
        assert dtypes((result.params, result.state, result.best.params)) == {jnp.dtype("float64")}
        assert relative(result.params, expected.params) <= 1e-12
        with pytest.raises(JaxpropError, match='float64 while JAX\'s 64 bits are off: say precision="float64"'):
            fit(None, state=result.state)
        on = fit("float64", state=result.state, data=(X.astype(float), SQUARES.astype(float)))
        narrow = fit("float32", state=result.state)
    assert on.state.epochs == 4 and dtypes(on.params) == {jnp.dtype("float64")}
    assert dtypes(narrow.state) == {jnp.dtype("float32")}


def test_a_pure_step_in_float64_says_what_it_needs():
    with as_a_user(), pytest.raises(JaxpropError, match=r"needs JAX's 64 bits here: write with jax.enable_x64\(True\)"):
        computed("float64", NET, HALF, Rows(X, SQUARES), draw(NET, X))


def test_an_unknown_precision_is_named():
    with pytest.raises(JaxpropError, match="unknown precision 'half'; known: bfloat16, float16, float32, float64"):
        fit("half")
    with pytest.raises(JaxpropError, match=r"unknown precision <class .*float16'>; known: bfloat16"):
        fit(np.float16)


# float16: the loss scale


TINY = jp.Cost.of(lambda y, t: 1e-7 * jnp.sum((y - t) ** 2))  # errors below what float16 holds


def tiny(way):
    return Recipe(NET, TINY, SGD, way, None, "float16")


@pytest.mark.parametrize("way", WAYS)
def test_small_errors_are_kept_by_the_scale(way):
    params, rows = precisions.kept(draw(NET, X), "float16"), Rows(jnp.asarray(X), jnp.asarray(SQUARES))
    run = jax.jit(tiny(way).value_and_grad)
    exact = jax.jit(jp.auto.value_and_grad(NET, TINY))(
        jnp.asarray(X, float), as_float64(params), jnp.asarray(SQUARES, float)
    )
    bare, scaled = run(rows, params, None), run(rows, params, None, None, scaling("float16").scale)
    assert np.isclose(scaled[0], exact[0], rtol=1e-2) and relative(as_float64(scaled[1]), exact[1]) < 0.01
    assert relative(as_float64(bare[1]), exact[1]) > 0.05


@pytest.mark.parametrize("grad", WAYS)
def test_steps_that_overflow_are_skipped_and_counted(grad):
    large_rows = X, 1000 * SQUARES
    large = fit("float16", data=large_rows, optimizer=optax.sgd(1e-6), grad=grad, epochs=8)
    found, row = large.state.scaling, large.history[-1]
    assert 2 <= int(found.skipped) <= 14 and float(found.scale) == 2.0 ** (15 - int(found.skipped))
    assert (row["skipped_steps"], row["loss_scale"]) == (int(found.skipped), float(found.scale))
    assert int(found.since) == large.steps - int(found.skipped) == 24 - int(found.skipped)
    on = fit("float16", data=large_rows, optimizer=optax.sgd(1e-6), grad=grad, epochs=1, state=large.state)
    assert on.state.scaling == found._replace(since=found.since + 3), "it goes on at the scale that it had"


def test_a_skipped_step_changes_nothing_but_the_scale():
    recipe = Recipe(NET, HALF, optax.adam(0.1), "auto", None, "float16")
    state = begin(recipe, precisions.kept(draw(NET, X), "float16"))
    run = jax.jit(functools.partial(step, recipe))
    after, value = run(state, Rows(jnp.asarray(X), jnp.asarray(1e6 * SQUARES)), None)
    assert np.isfinite(value) and int(after.scaling.skipped) == 1 and float(after.scaling.scale) == 2.0**14
    assert relative(after[:2], state[:2]) == 0
    after, _ = run(after, Rows(jnp.asarray(X), jnp.asarray(SQUARES)), None)
    assert relative(after.params, state.params) > 0 and int(after.scaling.since) == 1


def test_the_scale_grows_again(monkeypatch):
    monkeypatch.setattr(precisions, "GROWS_AFTER", 3)
    found = scaling("float16")
    for good in (True, True, True, False, True, True):
        found = found.after(good, 1.0)
    assert (float(found.scale), int(found.since), int(found.skipped)) == (2.0**15, 2, 1)
    assert float(found.after(True, 1.0).scale) == 2.0**16


@pytest.mark.slow
def test_a_row_that_overflows_is_left_out_and_costs_no_scale():
    x = X.copy()
    x[7] = 6e4  # its sum with weights is beyond float16
    net = jp.Chain(jp.Linear(8, init="ones"), jp.ReLU(), jp.Linear(1))
    result = fit("float16", net, data=(x, SQUARES / 8), epochs=40)
    halved = int(result.state.scaling.skipped) - 40  # at the start, by gradients
    assert 0 <= halved <= 4 and float(result.state.scaling.scale) == 2.0 ** (15 - halved)
    assert all(np.isfinite(row["cost"]) for row in result.history)
    assert result.history[-1]["cost"] < result.history[0]["cost"]


def test_a_training_that_never_recovers_ends_with_an_error():
    with pytest.raises(TrainingError) as failed:
        fit("float16", jp.Chain(jp.Linear(8), jp.Linear(1)), data=(2e4 * X, SQUARES), epochs=30)
    said = str(failed.value)
    assert "the first not finite is" in said and "layer" in said and 'precision="bfloat16"' in said
    assert np.all(np.isfinite(failed.value.result.params[0].W))


@pytest.mark.slow
def test_what_diverges_in_bfloat16_is_explained():
    with pytest.raises(TrainingError, match=r"the first not finite is the cost, HalfSquaredError\(\)"):
        fit("bfloat16", jp.Chain(jp.Linear(8), jp.ReLU(), jp.Linear(1)), optimizer=optax.sgd(1e12), epochs=9)


@pytest.mark.slow
def test_what_was_trained_in_half_precision_is_saved_and_comes_back(tmp_path):
    with as_a_user():
        result = fit("float16", data=(X, SQUARES))
        jp.save(tmp_path / "net", NET, result.params, inputs=X, cost=HALF)
        net, params = jp.load(tmp_path / "net")
        assert relative(params, result.params) == 0 and dtypes(params) == {jnp.dtype("float32")}
        assert jp.predict(net, X, params).dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_on_two_devices_it_is_the_same(precision):
    one, two = (
        fit(precision, mesh=mesh, data=(X, 1000 * SQUARES), optimizer=optax.sgd(1e-6)) for mesh in (None, "data=2")
    )
    assert relative(one.params, two.params) <= tolerance(precision)
    assert jax.tree.all(jax.tree.map(lambda a, b: a == b, one.state.scaling, two.state.scaling))


MNIST = pathlib.Path(__file__).parents[2] / "../shared/data/mnist"  # beside a developer's checkout only


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST is not here")
def test_mnist_is_learnt_as_well_as_in_float32():
    """Means over seeds, to the same start and order of rows: one seed's difference is about 0.06 points of noise."""
    net, evaluate = jp.Chain(jp.Linear(128), jp.ReLU(), jp.Linear(10)), jp.evaluate
    with as_a_user():
        data = jp.data.load(MNIST)
        rows, (x, labels), reached = (data.x, data.targets), data.test, {}
        for precision, grad in (("float32", "auto"), ("bfloat16", "manual"), ("float16", "manual")):
            options = {"optimizer": optax.adam(4e-3), "batch_size": 256, "epochs": 2, "grad": grad}
            runs = [fit(precision, net, SOFTMAX, rows, key=jax.random.key(seed), **options) for seed in range(2)]
            reached[precision] = [100 * evaluate(net, SOFTMAX)(x, run.params, labels)["accuracy"] for run in runs]
    float32 = np.mean(reached.pop("float32"))
    assert float32 > 96
    assert all(abs(np.mean(found) - float32) <= 0.1 for found in reached.values()), (float32, reached)


@pytest.mark.slow
def test_steps_are_vmapped():
    recipe = Recipe(NET, HALF, SGD, "manual", None, "float16")
    states = jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *(begin(recipe, precisions.kept(draw(NET, X, seed), "float16")) for seed in range(2)),
    )
    rows = Rows(jnp.asarray(X), jnp.stack([jnp.asarray(SQUARES), jnp.asarray(1e6 * SQUARES)]))
    run = jax.jit(jax.vmap(functools.partial(step, recipe), in_axes=(0, Rows(None, 0), None)))
    after, _ = run(states, rows, None)
    assert after.scaling.skipped.tolist() == [0, 1]
    assert (
        relative(after.params[0].W[1], states.params[0].W[1])
        == 0
        < relative(after.params[0].W[0], states.params[0].W[0])
    )
