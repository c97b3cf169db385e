"""Quantities as training goes: what is recorded equals `collect` by hand, and training does not feel it."""

import csv
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError
from jaxprop.stats import Quantity
from jaxprop.train.batches import epoch_order
from tests.drawing import draw

X = np.random.default_rng(0).normal(size=(14, 3))
TARGETS = np.sum(X**2, axis=1, keepdims=True)
NET = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Dropout(0.3), jp.Linear(1))
HALF = jp.HalfSquaredError()
KEY = jax.random.key(1)
ADAM = optax.adam(0.05)


class Gradient(Quantity):
    """The gradient itself, and the rows that it is of."""

    def close(self, use, path, weights):
        return use.gradient(weights)

    def finish(self, kept, notes, context):
        return kept, context.y


@dataclass(frozen=True)
class Mean(Quantity):
    """The mean cost of all records so far, (sum, how many)."""

    mixes: ClassVar[bool] = True

    def finish(self, kept, notes, context):
        return jnp.mean(context.costs), jnp.ones(())

    def over_steps(self, before, now):
        return now if before is None else jax.tree.map(jnp.add, before, now)

    def scalars(self, found):
        return {"": found[0] / found[1]}


def fit(net=NET, optimizer=ADAM, **options):
    start = {} if "state" in options else {"params": draw(net, X)}
    usual = {"epochs": 3, "batch_size": 4, "key": KEY, "progress": False}  # 3 full steps an epoch and one of 2 rows
    return jp.fit(net, HALF, optimizer, (X, TARGETS), **start, **usual | options)


def equal(a, b):
    """Whether two trees hold the same bits."""
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


WEIGHTS = np.arange(1.0, 15.0)


@pytest.mark.parametrize(
    "grad, weights",
    [
        pytest.param("manual", WEIGHTS, id="manual, weighted"),
        pytest.param("manual", None, id="manual", marks=pytest.mark.slow),
        pytest.param("auto", WEIGHTS, id="auto, weighted", marks=pytest.mark.slow),
        pytest.param("auto", None, id="auto", marks=pytest.mark.exhaustive),
    ],
)
def test_a_record_is_what_collect_says_of_the_same_parameters_and_batch(grad, weights):
    """By hand: two runs without a monitor say θ, the order of rows says the batch, fold_in the key of the step."""
    watched = {"gradient": Gradient(), "updates": jp.stats.UpdateToWeight(), "plain": jp.stats.UpdateToWeight(0.1)}
    monitored = fit(grad=grad, weights=weights, monitor=watched, every=4).monitor
    assert monitored.steps.tolist() == [0, 4, 8]
    by_hand = jax.jit(jp.stats.collect(NET, HALF, [Gradient(), jp.stats.UpdateToWeight(0.1)]))
    _, order, layers = jax.random.split(KEY, 3)
    for epoch in (1, 2):
        before = fit(grad=grad, weights=weights, epochs=epoch).state
        chosen = epoch_order(np.asarray(jax.random.key_data(order)), epoch, 14)[:4]
        w = None if weights is None else weights[chosen] / weights.mean() / 4
        rng = jax.random.fold_in(layers, 4 * epoch)
        value, grads, found = by_hand(X[chosen], before.params, TARGETS[chosen], weights=w, rng=rng)
        here = monitored.at(epoch)
        assert relative((here["gradient"], here["plain"]), tuple(found)) < 1e-12
        assert monitored.costs[epoch] == pytest.approx(float(value), rel=1e-12)
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
        assert monitored.gradient_norms[epoch] == pytest.approx(norm, rel=1e-12)
        with jax.numpy_dtype_promotion("standard"):
            step = jax.jit(ADAM.update)(grads, before.optimizer, before.params)[0]
        root_mean_square = [jax.tree.map(lambda a: np.sqrt(np.mean(np.square(a))), t) for t in (step, before.params)]
        ratios = jax.tree.map(np.divide, *root_mean_square)
        assert relative(here["updates"], ratios) < 1e-7  # what θ changed by is rounded at the size of θ


def test_training_does_not_feel_it():
    watched = {"updates": jp.stats.UpdateToWeight(), "gradient": Gradient(), "mean": Mean()}
    alone, seen = fit(), fit(monitor=watched, every=3)
    assert equal(alone.state, seen.state) and alone.monitor is None
    assert [row["cost"] for row in alone.history] == pytest.approx([row["cost"] for row in seen.history], rel=1e-14)


def test_steps_are_counted_over_runs_and_a_smaller_batch_is_left_out():
    watched = {"mean": Mean()}
    whole = fit(monitor=watched, every=3).monitor  # of 0, 3, 6, 9: the last batch of an epoch is step 3, 7, 11
    assert whole.steps.tolist() == [0, 6, 9]
    first = fit(monitor=watched, every=3, epochs=1)
    later = fit(monitor=watched, every=3, epochs=2, state=first.state).monitor
    assert first.monitor.steps.tolist() == [0] and later.steps.tolist() == [6, 9]
    assert np.array_equal(np.r_[first.monitor.costs, later.costs], whole.costs)
    small = fit(monitor=watched, every=1, batch_size=100).monitor  # all rows are one batch: it is none too small
    assert small.steps.tolist() == [0, 1, 2]


def test_results_of_steps_are_put_together_by_the_quantity():
    result = fit(monitor={"mean": Mean()}, every=2)
    monitored = result.monitor
    assert np.allclose(monitored["mean"][0], np.cumsum(monitored.costs), rtol=1e-12)
    assert monitored["mean"][1].tolist() == list(range(1, len(monitored) + 1))
    means = np.cumsum(monitored.costs) / np.arange(1, len(monitored) + 1)
    assert [row["mean"] for row in monitored.rows()] == pytest.approx(means.tolist(), rel=1e-12)
    epochs = [int(np.flatnonzero(monitored.steps < 4 * epoch)[-1]) for epoch in (1, 2, 3)]
    assert [row["mean"] for row in result.history] == [monitored.rows()[i]["mean"] for i in epochs]


@pytest.mark.slow
def test_arrays_too_large_to_keep_are_summarised(monkeypatch):
    monkeypatch.setattr("jaxprop.train.monitor.LARGEST", 8)
    net = jp.Chain(jp.Linear(4), jp.Linear(1))  # W is 3 × 4, then 4 × 1
    monitored = fit(net, monitor={"gradient": Gradient()}, every=5, epochs=1).monitor
    gradient, y = monitored["gradient"]
    assert gradient[1].W.shape == (1, 4, 1) and y.shape == (1, 4, 1)
    monkeypatch.undo()
    (whole,) = (
        fit(net, monitor={"gradient": Gradient(), "again": Gradient()}, every=5, epochs=1).monitor["again"][0][0].W
    )
    assert gradient[0].W.mean == pytest.approx(whole.mean()) and gradient[0].W.largest == pytest.approx(whole.max())
    assert gradient[0].W.root_mean_square == pytest.approx(np.sqrt(np.mean(whole**2)))
    row = monitored.rows()[0]
    assert row["gradient.0.0.W.largest"] == gradient[0].W.largest and "gradient.0.1.W.mean" in row


def test_rows_are_written_as_a_table(tmp_path):
    monitored = fit(monitor={"flow": jp.stats.Flow(), "dead": jp.stats.DeadUnits()}, every=5).monitor
    with monitored.to_csv(tmp_path / "monitor.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == monitored.steps.tolist()
    assert [{name: float(value) for name, value in row.items()} for row in rows] == monitored.rows()
    assert {"cost", "gradient_norm", "dead.1", "flow.0.gradient", "flow.2.gain"} <= set(rows[0])
    print(monitored.at(-1)["flow"])
    with pytest.raises(JaxpropError, match="cannot be written: No such file"):
        monitored.to_csv(tmp_path / "none" / "monitor.csv")
    with pytest.raises(JaxpropError, match="did you mean 'dead'"):
        monitored["deed"]


def test_no_record_is_no_trouble(tmp_path):
    first = fit(epochs=1)
    monitored = fit(state=first.state, epochs=1, monitor={"mean": Mean()}, every=100).monitor
    assert len(monitored) == 0 and monitored.rows() == [] and list(monitored) == ["mean"]
    assert monitored.to_csv(tmp_path / "monitor.csv").read_text() == "step,cost,gradient_norm\n"
    with pytest.raises(JaxpropError, match="'mean' has no record yet"):
        monitored["mean"]


def test_looking_again_compiles_nothing(compilations):
    watched = {"updates": jp.stats.UpdateToWeight(), "mean": Mean()}
    fit(monitor=watched, every=2)
    with compilations() as count:
        fit(monitor=watched, every=2)
    assert count[0] == 0


@pytest.mark.slow
def test_batch_statistics_may_be_watched_by_what_is_not_of_one_example():
    net = jp.Chain(jp.Linear(4), jp.BatchNorm(), jp.ReLU(), jp.Linear(1))
    watched = {"flow": jp.stats.Flow(), "updates": jp.stats.UpdateToWeight(), "dead": jp.stats.DeadUnits()}
    monitored = fit(net, monitor=watched, every=4).monitor
    assert monitored["dead"]["2"].mask.shape == (3, 4)
    with pytest.raises(JaxpropError, match="mix"):
        fit(net, monitor={"gradient": Gradient()})


@pytest.mark.slow
def test_a_rule_is_watched_as_it_trains():
    """With feedback alignment the gradient is the rule's, and with feedback that moves it is that of the step."""
    net = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(1))
    result = fit(net, optax.sgd(0.1), rule=jp.rules.KolenPollack(), monitor={"gradient": Gradient()}, every=4, epochs=2)
    again = fit(net, optax.sgd(0.1), rule=jp.rules.KolenPollack(), epochs=1).state
    chosen = epoch_order(np.asarray(jax.random.key_data(jax.random.split(KEY, 3)[1])), 1, 14)[:4]
    run = jax.jit(jp.manual.value_and_grad(net, HALF, rule=jp.rules.KolenPollack()))
    expected = run(X[chosen], again.params, TARGETS[chosen], feedback=again.feedback)[1]
    assert relative(result.monitor.at(1)["gradient"][0], expected) < 1e-12


@pytest.mark.parametrize(
    "options, words",
    [
        ({"monitor": Mean()}, r"monitor must be a dict such as .*, found Mean\(\)"),
        ({"monitor": {"mean": Mean}}, r"monitor\['mean'\] must be a quantity .* the class Mean; write it as a call"),
        ({"monitor": {"cost": Mean()}}, "cannot have the name 'cost'"),
        ({"monitor": {"validation_cost": Mean()}}, "cannot have the name 'validation_cost'"),
        ({"monitor": {3: Mean()}}, "cannot have the name 3"),
        ({"every": 0}, "every must be a whole number ≥ 1, found 0"),
        ({"monitor": {"mean": Mean()}, "net": lambda x, p: x @ p[0].W, "params": draw(NET, X)}, "a plain function"),
    ],
    ids=["no dict", "a class", "a column", "of validation", "no text", "never", "a function"],
)
def test_what_cannot_be_watched_is_told(options, words):
    with pytest.raises(JaxpropError, match=words):
        jp.fit(**{"net": NET, "cost": HALF, "optimizer": ADAM, "data": (X, TARGETS)} | options)
