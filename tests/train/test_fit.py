"""`fit`: every row once an epoch, the same numbers as a plain loop, and clear words when it cannot go on."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import DataError, JaxpropError, ShapeError, TrainingError
from jaxprop.train.batches import Batches, epoch_order
from jaxprop.train.sources import InMemory
from tests.drawing import draw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
SQUARES = np.sum(X**2, axis=1, keepdims=True)
LABELS = (SQUARES[:, 0] > 3).astype(np.int32)
NET = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(1))
CLASSES = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(2))
HALF, SOFTMAX = jp.HalfSquaredError(), jp.SoftmaxCrossEntropy()
KEY = jax.random.key(3)
rate_of_the_test = 0.05

# The learning rate is in the state, so that one program serves every rate.
SGD = optax.GradientTransformation(
    lambda params: jnp.asarray(rate_of_the_test),
    lambda grads, rate, params=None: (jax.tree.map(lambda g: -rate.astype(g.dtype) * g, grads), rate),
)


def fit(net=NET, cost=HALF, optimizer=SGD, data=(X, SQUARES), rate=0.05, **options):
    global rate_of_the_test
    rate_of_the_test = rate
    start = draw(net, X) if isinstance(net, jp.Layer) and "params" not in options else None
    usual = {"epochs": 3, "batch_size": 16, "key": KEY, "params": start, "progress": False}
    return jp.fit(net, cost, optimizer, data, **usual | options)


def equal(a, b):
    """Whether two trees hold the same bits."""
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def plain_loop(net, cost, params, x, targets, epochs, batch_size, learning_rate, key):
    """What fit should do, one step at a time in Python."""
    gradient = jax.jit(jp.auto.value_and_grad(net, cost))
    _, order_key, _ = jax.random.split(key, 3)
    seed = np.asarray(jax.random.key_data(order_key))
    for epoch in range(epochs):
        order = epoch_order(seed, epoch, len(x))
        for start in range(0, len(x), batch_size):
            rows = order[start : start + batch_size]
            _, g = gradient(x[rows], params, targets[rows])
            params = jax.tree.map(lambda p, g: p - learning_rate * g, params, g)
    return params


@pytest.mark.parametrize("batch_size", [16, 50, 64], ids=["partial last", "one batch", "larger than the data"])
def test_is_the_plain_loop(batch_size):
    params = draw(NET, X)
    result = fit(params=params, batch_size=batch_size)
    assert relative(result.params, plain_loop(NET, HALF, params, X, SQUARES, 3, batch_size, 0.05, KEY)) < 1e-12
    assert result.steps == 3 * -(-50 // batch_size)


def test_an_epoch_in_several_chunks_is_the_same(monkeypatch):
    whole = fit()
    monkeypatch.setattr("jaxprop.train.batches.CHUNK_BYTES", 16 * 4 * 8)  # one batch a chunk
    assert Batches(InMemory((X, SQUARES)), 16).capacity == 1
    assert relative(fit().params, whole.params) < 1e-13
    monkeypatch.setattr("jaxprop.train.run.SECONDS_A_CHUNK", 0.0)  # one step a call
    assert relative(fit().params, whole.params) < 1e-13


def test_every_row_is_used_once_an_epoch_in_a_new_order():
    from concurrent.futures import ThreadPoolExecutor

    rows = np.arange(23)[:, None]
    batches = Batches(InMemory((rows, rows)), 5)
    orders = []
    with ThreadPoolExecutor(1) as pool:
        for epoch in range(2):
            seen = []
            for chunk in batches.epoch(epoch_order(np.array([7]), epoch, 23), pool):
                seen += np.asarray(chunk.batches[0])[: chunk.steps].ravel().tolist()
            assert sorted(seen) == list(range(23))
            orders.append(seen)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("batch_size", [4, 5, 40], ids=["even", "a smaller last one", "larger than the rows"])
def test_the_rows_of_the_next_epoch_are_gathered_ahead_and_are_its_own(batch_size, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr("jaxprop.train.batches.CHUNK_BYTES", 2 * batch_size * 16)  # two batches a chunk
    rows = np.arange(20)[:, None]
    batches, orders = Batches(InMemory((rows, rows)), batch_size), [np.arange(20)[::-1], np.arange(20), np.arange(20)]

    def seen(order, following=None):
        chunks = batches.epoch(order, pool, 0, following)
        return [i for chunk in chunks for i in np.asarray(chunk.batches[0])[: chunk.steps].ravel().tolist()]

    with ThreadPoolExecutor(1) as pool:
        for order, following in ((orders[0], orders[1]), (orders[1], orders[2]), (orders[0], None)):
            assert seen(order, following) == order.tolist()
            assert (batches.begun is None) == (following is None)
            if following is not None:
                assert batches.begun[0] is following and batches.begun[1].result().steps >= 1


def test_manual_and_auto_are_the_same_run():
    assert relative(fit(grad="manual").params, fit(grad="auto").params) < 1e-11  # 50 rows: the last batch is smaller


def test_one_key_decides_everything():
    first, again, other = fit(), fit(), fit(key=jax.random.key(4))
    assert equal(first.params, again.params)
    assert relative(other.params, first.params) > 1e-3
    assert [row["cost"] for row in first.history] == [row["cost"] for row in again.history]


def test_the_start_is_copied_before_it_is_donated():
    params = draw(NET, X)
    kept = jax.tree.map(np.array, params)
    fit(params=params)
    assert equal(params, kept)


def test_history_and_validation_metrics():
    result = fit(cost=SOFTMAX, net=CLASSES, data=(X, LABELS), validation=(X[:20], LABELS[:20]), epochs=4, batch_size=25)
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    y = np.asarray(CLASSES(jnp.asarray(X[:20]), result.params))
    last = result.history[-1]
    assert last["validation_accuracy"] == np.mean(y.argmax(1) == LABELS[:20])
    assert last["validation_cost"] == pytest.approx(float(jnp.mean(SOFTMAX(y, LABELS[:20]))), rel=1e-6)
    assert last["seconds"] > 0


def test_cost_in_history_is_the_mean_over_all_rows():
    """The rate is 0, so every batch sees the θ that `fit` drew itself, by the first of the three keys."""
    result = fit(rate=0.0, epochs=1, params=None)
    params = NET.init(jax.random.split(KEY, 3)[0], X)
    expected = jax.jit(lambda x, p, t: jnp.mean(HALF(NET(x, p), t)))(X, params, SQUARES)
    assert result.history[0]["cost"] == pytest.approx(float(expected), rel=1e-6)


def test_r2_is_one_minus_residual_over_spread():
    result = fit(validation=(X, SQUARES))
    y = np.asarray(NET(jnp.asarray(X), result.params))
    expected = 1 - np.sum((y - SQUARES) ** 2) / np.sum((SQUARES - SQUARES.mean()) ** 2)
    assert result.history[-1]["validation_r2"] == pytest.approx(expected, rel=1e-6)


def test_constant_targets_have_no_r2():
    assert "r2" not in jp.evaluate(NET, HALF)(X, draw(NET, X), np.ones((50, 1)))


def test_one_hot_rows_have_an_accuracy():
    params = draw(CLASSES, X)
    measured = jp.evaluate(CLASSES, HALF)(X, params, np.eye(2)[LABELS])
    y = np.asarray(CLASSES(jnp.asarray(X), params))
    assert measured["accuracy"] == np.mean(y.argmax(1) == LABELS)


def test_many_rows_are_evaluated_in_parts():
    x = np.tile(X, (100, 1))
    params = draw(NET, X)
    assert jp.predict(NET, x, params).shape == (5000, 1)
    assert relative(jp.predict(NET, x, params), NET(jnp.asarray(x), params)) < 1e-12


def test_early_stopping_keeps_the_best():
    """A rate that overshoots: the first epochs are the best ones."""
    result = fit(rate=0.4, epochs=200, patience=5, validation=(X[:10], SQUARES[:10]))
    costs = [row["validation_cost"] for row in result.history]
    assert result.stopped == "early" and len(costs) == result.best.epoch + 5 < 200
    assert min(costs) == costs[result.best.epoch - 1] == result.best.cost
    assert float(jnp.mean(HALF(NET(X[:10], result.params), SQUARES[:10]))) == pytest.approx(min(costs), rel=1e-6)


def test_any_callable_is_trained():
    def f(x, params):
        return x @ params["w"]

    start = {"w": jnp.zeros((3, 1))}
    result = fit(f, data=(X, X @ np.ones((3, 1))), params=start, rate=0.3, epochs=60, batch_size=25)
    assert relative(result.params["w"], np.ones((3, 1))) < 1e-3
    with pytest.raises(JaxpropError, match=r"a plain function .* needs its params"):
        fit(f)
    with pytest.raises(JaxpropError, match="no hand-derived backward pass"):
        fit(f, params={"w": jnp.zeros((3, 1))}, grad="manual")


def test_line_converges_to_the_slope_by_the_factor_of_the_article():
    """With x = 1 alone, every step of gradient descent multiplies the error by (1 − ηx²)."""
    net, one = jp.Linear(1, bias=False), np.ones((1, 1))
    params = draw(net, one)
    result = fit(net, data=(one, 2 * one), rate=0.1, params=params, epochs=7)
    expected = 2 + (float(params.W[0, 0]) - 2) * 0.9**7
    assert float(result.params.W[0, 0]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_a_layer_with_randomness_gets_a_key_a_step_and_manual_sees_the_same():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Noise(jp.Layer):
        def forward(self, x, params, env=None):
            if env is None or env.rng is None:
                return x, ()
            return x + jax.random.normal(env.rng, x.shape, x.dtype), ()

        def backward(self, dy, cache, params):
            return dy, ()

    noisy = jp.Chain(Noise(), jp.Linear(1))
    a, b = (fit(noisy, grad=way, batch_size=25).params for way in ("auto", "manual"))
    assert relative(a, b) < 1e-11
    assert relative(a, fit(jp.Chain(jp.Identity(), jp.Linear(1)), batch_size=25).params) > 1e-3


def test_a_second_fit_compiles_nothing(compilations):
    fit(validation=(X, SQUARES))
    with compilations() as count:
        fit(validation=(X, SQUARES), epochs=5, key=jax.random.key(9))
    assert count[0] == 0


# When it cannot go on


def test_divergence_names_the_step_and_the_layer_and_what_to_try():
    with pytest.raises(TrainingError, match=r"step \d+ \(epoch \d+\): the first not finite is the \w+.*Try a smaller"):
        fit(jp.Chain(jp.Linear(8), jp.Linear(8), jp.Linear(1)), rate=1e3, epochs=200, batch_size=25)


def test_the_first_layer_that_is_not_finite_is_named():
    """exp(exp(z)) overflows in the second layer, whatever the first one does."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Exp(jp.Activation):
        def value(self, z):
            return jnp.exp(z)

        def derivative(self, kept):
            return jnp.exp(kept)

    net = jp.Chain(jp.Linear(4), Exp(), Exp(), jp.Linear(1))
    with pytest.raises(
        TrainingError, match=r"step 1 \(epoch 1\): the first not finite is the output of layer 2, .*Exp\(\)"
    ):
        fit(net, data=(50 + X, SQUARES), params=jax.tree.map(jnp.ones_like, draw(net, X)))


def test_the_step_is_the_very_step():
    """η = 10 on y = w: w doubles its error nine-fold a step, so the step of overflow is known."""
    net, one = jp.Linear(1, bias=False), np.ones((1, 1), np.float32)
    params = jp.LinearParams(W=jnp.ones((1, 1), jnp.float32), b=None)
    w, step = np.float32(1), 0
    with np.errstate(over="ignore"):
        while np.isfinite(np.float32(0.5) * w * w):
            w, step = w - np.float32(10) * w, step + 1
    with pytest.raises(TrainingError, match=rf"step {step + 1} \(epoch {step + 1}\): the first not finite is the cost"):
        jp.fit(net, HALF, optax.sgd(10.0), (one, 0 * one), params=params, epochs=100, progress=False)


def test_a_plain_functions_nan_is_named_too():
    with pytest.raises(
        TrainingError, match=r"step 1 .* is the output of f\(x, params\), made by sqrt at test_fit\.py:\d+"
    ):
        fit(lambda x, p: x[:, :1] * jnp.sqrt(p), params=jnp.array(-1.0))


def test_a_plain_functions_gradient_is_looked_into_by_the_x_ray():
    """√′(0) under a where: no value shows it. The advice is what to write, not a smaller learning rate."""

    def f(x, p):
        return x[:, :1] * jnp.where(p > 0, jnp.sqrt(p), 0.0).sum()

    with pytest.raises(
        TrainingError, match=r"the gradient of .*, made by .*sqrt at test_fit\.py:\d+ \(f\).*where"
    ) as told:
        fit(f, params=jnp.array([0.0, 1.0]))
    assert "smaller learning rate" not in str(told.value)


def test_an_x_ray_that_fails_hides_nothing(monkeypatch):
    from jaxprop.train import nonfinite

    def fails(f):
        raise RuntimeError("no picture")

    monkeypatch.setattr(nonfinite, "report", fails)
    with pytest.raises(TrainingError, match=r"is the output of f\(x, params\)\. Try a smaller"):
        fit(lambda x, p: x[:, :1] * jnp.sqrt(p), params=jnp.array(-1.0))


@pytest.fixture
def ctrl_c_works():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background and inherit that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupt_keeps_the_best_so_far(monkeypatch, ctrl_c_works):
    shown = []

    def press_ctrl_c(self, row):
        shown.append(row)
        if len(shown) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("jaxprop.train.progress.Progress.epoch", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(epochs=100_000)
    result = caught.value.result
    assert result.stopped == "interrupted" and len(result.history) == 3
    assert result.best.cost == min(row["cost"] for row in result.history)
    assert np.all(np.isfinite(NET(X, result.params)))


@pytest.mark.slow
def test_an_optimizer_that_keeps_the_start_itself():
    """prodigy holds params in its state: one buffer may not be donated twice."""
    result = fit(optimizer=optax.contrib.prodigy(1.0), epochs=2, batch_size=25)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.params))


def test_logits_of_yes_or_no_have_an_accuracy():
    net = jp.Linear(1)
    targets = LABELS[:, None].astype(float)
    params = draw(net, X)
    y = np.asarray(net(jnp.asarray(X), params))
    measured = jp.evaluate(net, jp.SigmoidCrossEntropy())(X, params, targets)
    assert measured["accuracy"] == np.mean((y > 0) == (targets == 1)) and "r2" not in measured


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"data": (X, SQUARES[:, 0])}, ShapeError, r"targets \(50,\) do not fit outputs \(50, 1\)"),
        ({"data": (X, SQUARES[:, 0]), "grad": "manual"}, ShapeError, r"targets \(50,\) do not fit outputs \(50, 1\)"),
        ({"data": (X[:40], SQUARES)}, DataError, "found 40 rows of x and 50 of targets"),
        ({"data": (X[:0], SQUARES[:0])}, DataError, "empty"),
        ({"data": (np.where(X == X[3, 1], np.nan, X), SQUARES)}, DataError, "x row 3, column 1 is nan"),
        ({"data": (X, np.where(SQUARES == SQUARES[2], np.inf, SQUARES))}, DataError, "targets row 2, column 0 is inf"),
        ({"data": (X.astype(object), SQUARES)}, DataError, r"data: x: found objects .* convert with x.astype"),
        ({"data": X}, JaxpropError, r"data must be a pair \(x, targets\), found ndarray"),
        ({"data": (X.astype(int), SQUARES)}, ShapeError, "inputs must be floating, found int"),
        ({"cost": SOFTMAX, "net": CLASSES, "data": (X, LABELS + 1)}, DataError, "label 2, expected 0 to 1"),
        ({"cost": SOFTMAX, "net": CLASSES, "data": (X, -LABELS)}, DataError, "label -1, expected 0 to 1"),
        ({"validation": (X[:, :2], SQUARES)}, ShapeError, r"inputs \(50, 2\) need W of shape \(2, 8\)"),
        ({"validation": (X, SQUARES[:5])}, DataError, "validation: found 50 rows of x and 5"),
        ({"epochs": 0}, JaxpropError, "epochs must be a whole number ≥ 1, found 0"),
        ({"batch_size": 2.5}, JaxpropError, "batch_size must be a whole number ≥ 1, found 2.5"),
        ({"patience": -1}, JaxpropError, "patience must be a whole number ≥ 1, found -1"),
        ({"grad": "manuel"}, JaxpropError, "unknown grad 'manuel' .did you mean 'manual'"),
        ({"params": ()}, ShapeError, "params must be a tuple of 3"),
        ({"key": 0}, JaxpropError, r"key must be a key such as jax.random.key\(0\), found 0"),
        ({"optimizer": "adam"}, JaxpropError, "optimizer must come from optax, .* found 'adam'"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else "",
)
def test_bad_input_is_a_clear_error(options, error, words):
    with pytest.raises(error, match=words):
        fit(**options)


# What it shows


def test_progress_tells_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr("jaxprop.train.progress.SAY_EVERY", 0.0)
    fit(progress=True, epochs=2)
    said = capsys.readouterr().err
    assert "epoch 2 · cost" in said and "steps/s" in said and "left" in said


def test_no_progress_says_nothing(capsys):
    fit(progress=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# The order of arguments is f(x, θ)


def test_the_order_of_old_is_refused_with_the_new_one():
    params, cost = draw(NET, X), jp.HalfSquaredError()
    with pytest.raises(ShapeError, match=r"predict\(net, x, params\): found tuple for x and an array for params"):
        jp.predict(NET, params, X)
    with pytest.raises(ShapeError, match=r"evaluate\(net, cost\)\(x, params, targets\): found tuple for x"):
        jp.evaluate(NET, cost)(params, X, SQUARES)
    with pytest.raises(ShapeError, match=r"freeze_statistics\(net, x, params\): found tuple for x"):
        jp.freeze_statistics(jp.Chain(jp.BatchNorm()), (jp.NormParams(np.ones(3), np.zeros(3)),), X)
    with pytest.raises(ShapeError, match=r"returns a function of rows: write evaluate\(net, cost\)\(x, params, targ"):
        jp.evaluate(NET, cost, params, (X, SQUARES))


@pytest.mark.parametrize("x", [2.0, (), {"a": X, "b": X[:3]}], ids=["a number", "nothing", "two first axes"])
def test_what_has_no_rows_cannot_be_predicted(x):
    with pytest.raises(ShapeError, match=r"x must hold rows \[N, ...\], found"):
        jp.predict(lambda x, w: w * x, x, X)
