"""Runs as people make them: rows of any kind, weights, masks, callbacks, going on, and what is never lost."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import DataError, JaxpropError, ShapeError, TrainingError
from jaxprop.train import Best, FitResult, FitState
from tests.drawing import draw

X = np.random.default_rng(0).normal(size=(12, 2))
TARGETS = np.sum(X**2, axis=1, keepdims=True)
WEIGHTS = np.arange(12.0)
HALF = jp.HalfSquaredError()
KEY = jax.random.key(1)
ADAM, STILL = optax.adam(0.05), optax.sgd(0.0)


@dataclass(frozen=True)
class Noisy(jp.Layer):
    """Adds noise where there is a key, and takes away what is masked."""

    def forward(self, x, params, env=None):
        noise = 0 if env is None or env.rng is None else jax.random.normal(env.rng, x.shape, x.dtype)
        return (x + noise) * (1 if env is None or env.mask is None else env.mask[:, None]), ()

    def backward(self, dy, cache, params):
        return dy, ()


NET = jp.Linear(1)
NOISY = jp.Chain(Noisy(), jp.Linear(1))


def fit(net=NET, optimizer=ADAM, data=(X, TARGETS), **options):
    start = None if "state" in options or "params" in options else draw(net, X)
    usual = {"params": start, "epochs": 4, "batch_size": 6, "key": KEY, "progress": False}
    return jp.fit(net, HALF, optimizer, data, **usual | options)


def equal(a, b):
    """Whether two trees hold the same bits."""
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


class Frame:
    """As a data frame is: numpy can read it."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


def test_rows_are_taken_as_people_have_them():
    expected = fit()
    for data in ((X.tolist(), TARGETS.tolist()), (Frame(X), Frame(TARGETS)), (jnp.asarray(X), jnp.asarray(TARGETS))):
        assert equal(fit(data=data).params, expected.params)
    old, epochs = jax.random.PRNGKey(1), np.int64(4)
    assert equal(fit(key=old, epochs=epochs).params, expected.params)
    params = expected.params
    assert equal(jp.predict(NET, X.tolist(), params), jp.predict(NET, Frame(X), params))
    measure = jp.evaluate(NET, HALF)
    assert measure(X.tolist(), params, TARGETS.tolist()) == measure(Frame(X), params, Frame(TARGETS))


def test_a_weight_is_how_often_a_row_counts():
    twice = np.array([2.0] * 3 + [1.0] * 9)
    rows = X[:3].tolist() + X.tolist(), TARGETS[:3].tolist() + TARGETS.tolist()
    by_weight, by_rows = fit(weights=twice, batch_size=12), fit(data=rows, batch_size=15)
    assert relative(by_weight.params, by_rows.params) < 1e-12
    assert relative(fit(weights=7 * twice).params, fit(weights=twice).params) < 1e-12
    assert relative(fit(weights=twice, grad="manual").params, fit(weights=twice).params) < 1e-12


def test_costs_and_scores_are_weighted_alike():
    """The rate is 0, so that every batch, the small last one too, sees the same θ."""
    params, validation = draw(NET, X), (X, TARGETS, WEIGHTS)
    row = fit(optimizer=STILL, weights=WEIGHTS, epochs=1, batch_size=5, params=params, validation=validation).row
    y = np.asarray(NET(X, params))
    expected = np.average(np.asarray(HALF(y, TARGETS)), weights=WEIGHTS)
    assert row["cost"] == pytest.approx(expected, rel=1e-12) == pytest.approx(row["validation_cost"], rel=1e-12)
    centre = np.average(TARGETS, axis=0, weights=WEIGHTS)
    squares = [np.sum(WEIGHTS[:, None] * (part - TARGETS) ** 2) for part in (y, centre)]
    assert row["validation_r2"] == pytest.approx(1 - squares[0] / squares[1], rel=1e-12)
    labels, two = (TARGETS[:, 0] > 1).astype(int), np.c_[0 * y, y - 1]
    right = jp.evaluate(lambda x, _: x, jp.SoftmaxCrossEntropy())(two, (), labels, weights=WEIGHTS)["accuracy"]
    assert right == pytest.approx(np.average((y[:, 0] > 1) == labels, weights=WEIGHTS))


def test_a_mask_reaches_the_layers_in_the_order_of_the_rows():
    mask = (np.arange(12) % 3 > 0).astype(float)
    masked = fit(NOISY, mask=mask, key=None, validation=(X, TARGETS, None, mask))
    net = jp.Chain(jp.Identity(), jp.Linear(1))
    noiseless = jp.evaluate(net, HALF)(X * mask[:, None], masked.params, TARGETS)
    assert masked.row["validation_cost"] == pytest.approx(noiseless["cost"], rel=1e-12)
    assert jp.evaluate(NOISY, HALF)(X, masked.params, TARGETS, mask=mask) == pytest.approx(noiseless)
    zeroed = fit(NOISY, mask=np.zeros(12), key=None)
    assert equal(zeroed.params[1].W, draw(NOISY, X)[1].W) and not equal(masked.params[1].W, zeroed.params[1].W)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"weights": WEIGHTS[:5]}, DataError, r"data: weights are of shape \[5\], expected one weight a row, \[12\]"),
        ({"weights": WEIGHTS - 1}, DataError, "row 0 has -1.0, expected none below 0"),
        ({"weights": 0 * WEIGHTS}, DataError, "all are 0"),
        ({"mask": np.ones(5)}, DataError, r"data: mask is of shape \[5\], expected \[12, ...\]"),
        ({"data": (X, TARGETS[:, 0].astype(str))}, DataError, "targets: found text such as .* np.unique"),
        ({"data": (X[:, 0], TARGETS)}, ShapeError, r"found shape \(12,\).*x\[:, None\]"),
        ({"data": (X, TARGETS, WEIGHTS, None, None)}, JaxpropError, "a pair .* found tuple of 5"),
        ({"data": (X, TARGETS, WEIGHTS), "weights": WEIGHTS}, JaxpropError, "give them once"),
        ({"state": FitResult((), (), Best((), 0, 0.0), 0, 0.0)}, JaxpropError, "found FitResult; write state=result.s"),
        ({"on_epoch": 3}, JaxpropError, r"on_epoch must be a function of \(row, state\), found 3"),
        ({"key": jax.random.split(KEY)}, JaxpropError, r"one key, found an array of keys of shape \[2\]"),
        (
            {"params": jp.LinearParams(W=np.ones((2, 1), int), b=None)},
            ShapeError,
            r"params\.W must be floating, found int64",
        ),
        ({"params": draw(NET, X), "state": "given below"}, JaxpropError, "both params and state"),
        ({"state": "given below"}, ShapeError, "state is that of another optimizer"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else "",
)
def test_what_does_not_fit_is_told(options, error, words):
    if options.get("state") == "given below":
        options = options | {"state": FitState(draw(NET, X), (), 1, 3)}
    with pytest.raises(error, match=words):
        fit(**options)


def test_what_is_no_network_or_no_cost_is_told():
    with pytest.raises(JaxpropError, match="net must be a Layer or a function"):
        fit(jp.Linear, params=())
    told = {jp.HalfSquaredError: r"write HalfSquaredError\(\)", lambda y, t: (y - t) ** 2: "jaxprop.Cost.of"}
    for cost, words in told.items():
        with pytest.raises(JaxpropError, match=f"cost must be .*{words}"):
            jp.fit(NET, cost, ADAM, (X, TARGETS))


def test_two_runs_are_one_bit_for_bit():
    """The order of rows goes on, and so do Adam's moments and the keys that layers draw from."""
    whole, first = fit(NOISY, epochs=3), fit(NOISY, epochs=1)
    kept = jax.tree.map(np.array, first.state)
    second = fit(NOISY, epochs=2, state=first.state)
    assert equal(second.params, whole.params) and second.steps == whole.steps == 6
    costs = [[row["cost"] for row in history] for history in (first.history + second.history, whole.history)]
    assert relative(*map(np.array, costs)) < 1e-15  # an epoch's steps may be summed in other parts
    assert [row["epoch"] for row in second.history] == [2, 3] and equal(first.state, kept)


def test_a_callback_sees_every_epoch_may_add_to_its_row_and_stop():
    states = []

    def on_epoch(row, state):
        row["norm"] = float(jnp.linalg.norm(state.params.W))
        states.append(state)
        return len(states) == 3

    result = fit(on_epoch=on_epoch)
    assert result.stopped == "callback" and [row["epoch"] for row in result.history] == [1, 2, 3]
    assert [row["norm"] for row in result.history] == [float(jnp.linalg.norm(s.params.W)) for s in states]
    assert len({row["norm"] for row in result.history}) == 3 and equal(result.params, states[-1].params)


def test_what_was_trained_is_in_whatever_ends_it():
    def stop(row, state):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left") as caught:
        fit(on_epoch=stop)
    assert equal(caught.value.result.params, fit(epochs=1).params) and caught.value.result.row["epoch"] == 1
    with pytest.raises(TrainingError) as caught:
        fit(optimizer=optax.sgd(1e4), epochs=200, batch_size=12)
    result = caught.value.result
    assert result.stopped == "failed" and result.row["epoch"] == result.best.epoch > 0
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((result.params, result.state.params)))
    with pytest.raises(TrainingError, match=r"step 1 .* is the update of the parameters") as caught:
        fit(optimizer=optax.sgd(1e308), data=(X, 100 * TARGETS))
    assert equal(caught.value.result.state.params, draw(NET, X))  # as it was before the step


@pytest.mark.slow
def test_a_validation_cost_that_is_not_finite_loses_nothing():
    """3e38 squared is not finite: no epoch is better than another, so that the latest counts as the best."""
    held = np.where(np.arange(12) == 7, 3e38, TARGETS[:, 0])[:, None]
    with (
        jax.enable_x64(False),
        pytest.warns(UserWarning, match="epoch 1 is inf, since that of validation row 7 is inf") as w,
    ):
        result = jp.fit(
            NET, HALF, optax.sgd(0.05), (X, TARGETS), epochs=4, patience=2, validation=(X, held), progress=False
        )  # fmt: skip
    assert len(w) == 1 and result.stopped == "finished" and result.best.epoch == result.row["epoch"] == 4
    assert equal(result.best.params, result.params)


@pytest.mark.slow
def test_batch_statistics_are_those_of_rows_from_everywhere(monkeypatch):
    """Rows sorted by class: the first of them are one class alone."""
    monkeypatch.setattr("jaxprop.train.run.ROWS_TO_FREEZE", 16)
    x = np.r_[X[:, :1] - 4, X[:, 1:] - 4, X[:, :1] + 4, X[:, 1:] + 4]
    net, y = jp.Chain(jp.BatchNorm(), jp.Linear(1)), np.sign(x)
    params = draw(net, x)
    said = jp.fit(net, HALF, STILL, (x, y), params=params, epochs=1, validation=(x, y), progress=False).row

    def by(rows):
        frozen, constants = jp.freeze_statistics(net, rows, params)
        return jp.evaluate(frozen, HALF)(x, constants, y)["cost"]

    assert abs(said["validation_cost"] - by(x)) < 0.2 * abs(by(x[:16]) - by(x))


SETTINGS = {
    "rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "transfer guard": lambda: jax.transfer_guard("disallow"),
    "debug nans": lambda: jax.debug_nans(True),
    "no jit": jax.disable_jit,
}


@pytest.mark.parametrize(
    "setting", [pytest.param(name, marks=[pytest.mark.slow] if name == "no jit" else []) for name in SETTINGS]
)
def test_the_same_run_under_every_setting_of_jax(setting):
    params, options = draw(NET, X), {"epochs": 1, "batch_size": 12, "validation": (X, TARGETS), "weights": WEIGHTS}
    expected = fit(params=params, **options)
    with SETTINGS[setting]():
        assert relative(fit(params=params, **options).params, expected.params) < 1e-12
