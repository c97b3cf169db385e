"""`sweep`: each run is the one that `fit` makes alone, whatever goes beside it; and its table, picture and words."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import DataError, JaxpropError, ShapeError, TrainingError
from jaxprop.train.sweeps import memory
from jaxprop.train.sweeps.gathered import Gathered
from tests.plot.pictures import said

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
SQUARES = np.sum(X**2, axis=1, keepdims=True)
LABELS = (SQUARES[:, 0] > 3).astype(np.int32)
NET = jp.Chain(jp.Linear(5), jp.Tanh(), jp.Dropout(0.2), jp.Linear(2))
SOFTMAX, HALF = jp.SoftmaxCrossEntropy(), jp.HalfSquaredError()
LINE = jp.Linear(1)
RATES = {"learning_rate": [0.05, 0.2, 0.1]}
HELD = (X[:20], LABELS[:20])
rate_of_the_test = 0.05

# fit alone with a learning rate in its state, so that one program serves every rate
ALONE = optax.GradientTransformation(
    lambda params: jnp.asarray(rate_of_the_test),
    lambda grads, rate, params=None: (jax.tree.map(lambda g: -rate.astype(g.dtype) * g, grads), rate),
)


def sweep(net=LINE, cost=HALF, make_optimizer=optax.sgd, data=(X, SQUARES), **options):
    usual = {"settings": RATES, "seeds": 2, "epochs": 2, "batch_size": 25, "progress": False}
    return jp.sweep(net, cost, make_optimizer, data, **usual | options)


def alone(rate, seed, net=LINE, cost=HALF, data=(X, SQUARES), optimizer=ALONE, **options):
    global rate_of_the_test
    rate_of_the_test = rate
    usual = {"epochs": 2, "batch_size": 25, "progress": False, "key": jax.random.key(seed)}
    return jp.fit(net, cost, optimizer, data, **usual | options)


def same(result, k, s, fitted, within=1e-12):
    """Whether a run's history and θ are those of `fit`."""
    for name, values in result.histories.items():
        assert values[k, s] == pytest.approx([row[name] for row in fitted.history], rel=within), name
    assert relative(result.params[k, result.seeds[s]], fitted.params) < within


@pytest.fixture(scope="module")
def classes():
    """Three rates × three seeds with dropout, in chunks of 4 of which the last is filled up."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return sweep(NET, SOFTMAX, data=(X, LABELS), seeds=[3, 0, 8], validation=HELD, at_once=4, keep_params=True)


def test_every_run_is_that_of_fit_alone(classes):
    assert (classes.programs, classes.at_once, classes.in_turn) == (1, 4, ()) and len(classes.params) == 9
    for k, s in ((0, 2), (2, 0), (1, 1)):
        rate, seed = RATES["learning_rate"][k], classes.seeds[s]
        same(classes, k, s, alone(rate, seed, NET, SOFTMAX, (X, LABELS), validation=HELD))


def test_the_table_says_what_was_found(classes, tmp_path):
    text = str(classes)
    assert text.splitlines()[0].split("  ")[0] == "learning rate" and "seed" in text and "±" in text
    lines, records = classes.by_setting(), classes.records
    costs = classes.histories["validation_cost"][1, :, -1]
    assert lines[1]["validation_cost_mean"] == pytest.approx(costs.mean())
    assert lines[1]["validation_cost_std"] == pytest.approx(costs.std(ddof=1)) and lines[1]["seeds"] == 3
    assert len(records) == 9 and records[4]["seed"] == 0 and records[4]["validation_cost"] == costs[1]
    with open(classes.to_csv(tmp_path / "sweep.csv"), encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [float(row["validation_cost"]) for row in read] == [record["validation_cost"] for record in records]
    assert "<table>" in classes._repr_html_() and classes.by == "validation_cost"
    with pytest.raises(JaxpropError, match="cannot be written"):
        classes.to_csv(tmp_path / "none" / "sweep.csv")


def test_pandas_where_it_is_installed(classes, monkeypatch):
    frame = pytest.importorskip("pandas") and classes.to_pandas()
    assert frame.shape == (9, 9) and frame["learning_rate"].tolist()[3] == 0.2
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(JaxpropError, match="pip install pandas"):
        classes.to_pandas()


def test_the_best_run_is_that_of_the_best_epoch(classes):
    costs = classes.histories["validation_cost"]
    k, s, e = np.unravel_index(np.argmin(costs), costs.shape)
    best = classes.best
    assert (best.setting, best.seed, best.row["epoch"]) == (classes.settings[k], classes.seeds[s], e + 1)
    assert best.row["validation_cost"] == costs.min() and best.net is NET
    measured = jp.evaluate(best.net, best.cost)(HELD[0], best.params, HELD[1])
    assert measured["cost"] == pytest.approx(costs.min(), rel=1e-6)
    assert measured["accuracy"] == best.row["validation_accuracy"]


def test_a_later_epoch_is_the_best_only_if_it_is_better():
    """Of equal accuracies the lower validation cost; nothing after a run has diverged."""
    rates = [{"rate": 0.1}, {"rate": 0.2}]
    table = Gathered(rates, [0], 3, ["cost", "validation_cost", "validation_accuracy"], "validation_accuracy")
    at = table.lanes([(0, 0), (1, 0)])
    fine = [[True, True], [True, False], [True, True]]
    for epoch, (accuracy, cost) in enumerate([([0.8, 0.9], [3, 3]), ([0.9, 1.0], [3, 2]), ([0.9, 1.0], [2, 1])]):
        row = {"cost": np.ones(2), "validation_cost": np.array(cost), "validation_accuracy": np.array(accuracy)}
        better = table.judged(at, row, np.array(fine[epoch]))
        table.write(at, epoch, row, np.array(fine[epoch]), better)
        if epoch == 1:
            assert better.tolist() == [True, False]
    assert table.best_epoch.tolist() == [[3], [1]] and table.diverged.tolist() == [[0], [2]]
    assert np.isnan(table.histories["validation_cost"][1, 0, 1:]).all()
    row["validation_accuracy"] = np.array([0.85, 1.0])
    assert table.judged(at, row, np.ones(2, bool)).tolist() == [False, False]
    assert table.ahead(at) == 0 and table.ahead(at) is None


def test_a_picture_of_one_setting(classes):
    ax = jp.plot.sweep(classes)
    assert ax.get_xlabel() == "learning rate" and ax.get_ylabel() == "validation cost" and "Best validation" in said(ax)
    mean = classes.histories["validation_cost"][:, :, -1].mean(axis=1)
    assert np.allclose(ax.lines[0].get_ydata(), mean[[0, 2, 1]])  # in the order of the rates
    assert jp.plot.sweep(classes, by="validation_accuracy").get_ylabel() == "validation accuracy"
    with pytest.raises(JaxpropError, match="unknown by 'accuracy'"):
        jp.plot.sweep(classes, by="accuracy")


@pytest.mark.slow
def test_a_run_that_diverges_stops_no_other():
    """A plain function, whose θ is made of the seed; the second rate is far too large."""

    def start(key):
        return jax.random.normal(key, (3, 1))

    ones = {"params": start, "epochs": 3, "keep_params": True}
    result = sweep(lambda x, w: x @ w, settings={"learning_rate": [0.05, 1e200]}, **ones)
    assert (result.diverged > 0).tolist() == [[False, False], [True, True]]
    gone = result.diverged[1, 0]
    assert np.isnan(result.histories["cost"][1, 0, gone - 1 :]).all()
    same(result, 0, 1, alone(0.05, 1, lambda x, w: x @ w, params=start(jax.random.key(1)), epochs=3))
    assert result.best.setting == {"learning_rate": 0.05} and "2 of 2" in str(result)
    assert result.by_setting()[1]["diverged"] == 2 and np.isnan(result.by_setting()[1]["cost_mean"])
    assert "diverged" in said(jp.plot.sweep(result))
    none = sweep(lambda x, w: x @ w, settings={"learning_rate": [1e200]}, params=jnp.full((3, 1), 1e160), epochs=1)
    with pytest.raises(TrainingError, match="no best run, since all runs diverged in their first epoch"):
        none.best  # noqa: B018
    with pytest.raises(JaxpropError, match="finite in no run"):
        jp.plot.sweep(none)


@pytest.mark.slow
def test_what_cannot_be_traced_has_a_program_each():
    """A layer's size, a cost that checks its setting and a batch size; the rate goes on being a number."""
    result = sweep(
        lambda units: jp.Chain(jp.Linear(units), jp.Linear(1)),
        jp.Huber,
        settings=[
            {"units": 2, "threshold": 1.0, "rate": 0.1, "batch_size": 10},
            {"units": 3, "threshold": 2.0, "rate": 0.1, "batch_size": 25},
            {"units": 2, "threshold": 1.0, "rate": 0.2, "batch_size": 10},
        ],
        make_optimizer=lambda rate: optax.sgd(rate),
        seeds=1,
        epochs=1,
        validation=(X, SQUARES),
        keep_params=True,
    )
    assert result.programs == 2 and result.in_turn == ("units", "threshold", "batch_size")
    assert result.steps == 5 + 2 + 5 and result.by == "validation_r2"  # costs of two kinds cannot be compared
    net = jp.Chain(jp.Linear(3), jp.Linear(1))
    same(result, 1, 0, alone(0.1, 0, net, jp.Huber(2.0), epochs=1, batch_size=25, validation=(X, SQUARES)))
    scores = result.histories["validation_r2"]
    assert result.best.row["validation_r2"] == scores.max() and result.best.setting == result.settings[scores.argmax()]


def test_settings_that_are_found_out_by_trying():
    from jaxprop.train.sweeps.tracing import traceable

    asked = []

    def attempt(names):
        asked.append(names)
        if "steps" in names or len(names) > 2:
            raise jax.errors.ConcretizationTypeError(None)

    assert traceable(("rate", "steps", "decay"), attempt) == ("rate", "decay")
    assert asked[0] == ("rate", "steps", "decay") and traceable((), attempt) == ()
    assert traceable(("steps",), attempt) == ()


@pytest.mark.slow
def test_as_many_at_once_as_fit(monkeypatch):
    devices = len(jax.local_devices())
    monkeypatch.setattr("jaxprop.train.sweeps.side_by_side.room", lambda devices: 30_000)
    monkeypatch.setattr("jaxprop.train.sweeps.side_by_side.taken", lambda compiled: 1_000_000)
    assert sweep(seeds=3, epochs=1).at_once == devices
    assert memory.evenly(9, 4, 2) == 4 and memory.evenly(9, 8, 1) == 5
    assert memory.room(jax.local_devices()) > 2**20


def test_ctrl_c_leaves_what_there_is(monkeypatch):
    calls = []

    def advance(self, steps):
        calls.append(steps)
        if len(calls) == 13:  # the second chunk's second epoch: 4 steps an epoch at most, in two calls or three
            raise KeyboardInterrupt

    monkeypatch.setattr("jaxprop.train.progress.Progress.advance", advance)
    with pytest.raises(jp.train.TrainingInterrupted, match="sweep interrupted after") as stopped:
        sweep(at_once=2, epochs=4, batch_size=16)
    result = stopped.value.result
    assert isinstance(stopped.value, jp.train.SweepInterrupted) and result.stopped == "interrupted"
    assert result.epochs.max() == 4 and result.epochs.min() == 0 and result.best.params.W.shape == (3, 1)
    assert "interrupted: " in str(result) and len(result.records) == int((result.epochs > 0).sum())


def nothing(**settings):
    return optax.sgd(0.1)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"settings": {"learning_rate": 0.1}}, r"learning_rate must be a list .* found 0.1; write \[0.1\]"),
        ({"settings": {"learning_rate": []}}, "one value or more"),
        ({"settings": 3}, "must be a dict of lists"),
        ({"settings": {"seed": [1]}}, "another name than 'seed'"),
        ({"settings": {"rate": [1.0]}}, "nobody takes the setting 'rate': make_optimizer takes learning_rate"),
        ({"cost": jp.Huber, "settings": {"delta": [1.0]}}, "nobody takes the setting 'delta': .*cost takes threshold"),
        ({"settings": [{"learning_rate": 1.0}, {"momentum": 0.9}]}, "found learning_rate and momentum"),
        ({"settings": None}, "make_optimizer needs learning_rate, and the settings are none"),
        ({"make_optimizer": 0.1}, "make_optimizer must be a function of the settings"),
        ({"make_optimizer": lambda learning_rate: 3}, "must come from optax, such as .* found 3"),
        ({"cost": jp.Huber}, "cost must be a Cost .* found the class Huber; write Huber"),
        ({"net": jp.Linear}, "net must be a Layer .* found the class Linear"),
        ({"net": lambda x, w: x @ w}, "needs its params: pass params="),
        ({"seeds": 0}, "seeds must be how many"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": "ab"}, "seeds must be"),
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"at_once": 0}, "at_once must be a whole number"),
        ({"by": "accuracy"}, "unknown by 'accuracy'"),
        ({"grad": "manuel"}, "did you mean 'manual'"),
        ({"grad": "auto", "rule": jp.rules.FeedbackAlignment()}, "the chain rule alone"),
        ({"make_optimizer": nothing, "settings": {"batch_size": [0]}}, "batch_size must be a whole number"),
        ({"net": lambda u: jp.Linear(u), "settings": {"u": [1, "a"], "learning_rate": [1.0]}}, "found with u='a'"),
    ],
    ids=range(23),
)
def test_mistakes_are_told_before_anything_is_trained(options, words):
    with pytest.raises(JaxpropError, match=words):
        sweep(**options)


def test_rows_are_checked_as_by_fit():
    with pytest.raises(ShapeError, match="targets"):
        sweep(data=(X, LABELS))
    with pytest.raises(DataError, match="50 rows of x and 49"):
        sweep(data=(X, SQUARES[:49]))


@pytest.mark.parametrize(
    "grad", [pytest.param("manual", marks=pytest.mark.slow), pytest.param("auto", marks=pytest.mark.exhaustive)]
)
def test_in_float32_a_run_is_fits_to_rounding(grad):
    with jax.enable_x64(False):
        rows = X.astype(np.float32), LABELS
        asked = {"validation": (rows[0][:20], LABELS[:20]), "grad": grad, "epochs": 5, "batch_size": 16}
        result = sweep(NET, SOFTMAX, optax.adam, rows, keep_params=True, **asked)
        same(result, 1, 1, alone(0, 1, NET, SOFTMAX, rows, optax.adam(0.2), **asked), 1e-5)


@pytest.mark.slow
def test_weights_masks_and_batch_norm_are_those_of_fit():
    weights, net = np.linspace(0.5, 2, 50), jp.Chain(jp.Linear(4), jp.BatchNorm(), jp.Tanh(), jp.Linear(2))
    asked = {"weights": weights, "validation": (X[:20], LABELS[:20], weights[:20])}
    result = sweep(net, SOFTMAX, data=(X, LABELS), keep_params=True, **asked)
    same(result, 2, 1, alone(0.1, 1, net, SOFTMAX, (X, LABELS), **asked), 1e-10)
    tokens = RNG.integers(0, 5, (30, 6))
    mask = np.arange(6) < RNG.integers(2, 7, (30, 1))
    net = jp.Chain(jp.Embedding(5, 4), jp.MultiHeadAttention(2), jp.GlobalAvgPool(), jp.Linear(2))
    asked = {"mask": mask, "batch_size": 15}
    result = sweep(net, SOFTMAX, data=(tokens, LABELS[:30]), keep_params=True, **asked)
    same(result, 0, 1, alone(0.05, 1, net, SOFTMAX, (tokens, LABELS[:30]), **asked), 1e-10)


@pytest.mark.slow
def test_a_rule_and_a_precision_are_those_of_fit():
    net = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(1))
    rule = jp.rules.FeedbackAlignment()
    result = sweep(net, rule=rule, keep_params=True)
    same(result, 2, 1, alone(0.1, 1, net, rule=rule), 1e-10)
    rows = X.astype(np.float32), SQUARES.astype(np.float32)
    result = sweep(net, data=rows, precision="bfloat16", keep_params=True)
    same(result, 0, 1, alone(0.05, 1, net, data=rows, precision="bfloat16"), 2e-2)


OPTIMIZERS = {
    "lbfgs": lambda memory_size: optax.lbfgs(memory_size=memory_size),
    "sam": lambda rho: optax.contrib.sam(optax.sgd(0.05), optax.sgd(rho), sync_period=2),
    "schedule-free": lambda rate: optax.contrib.schedule_free_sgd(rate),
    "lookahead": lambda rate: optax.lookahead(optax.sgd(rate), 3, 0.5),
    "clipped": lambda rate, norm: optax.chain(optax.clip_by_global_norm(norm), optax.adamw(rate, weight_decay=0.1)),
    "schedule": lambda rate, steps: optax.sgd(optax.cosine_decay_schedule(rate, steps)),
    "accumulated": lambda rate: optax.MultiSteps(optax.adam(rate), 2).gradient_transformation(),
}
ASKED = {
    "lbfgs": ({"memory_size": [3]}, ("memory_size",)),
    "sam": ({"rho": [0.05, 0.1]}, ()),
    "schedule-free": ({"rate": [0.05, 0.1]}, ()),
    "lookahead": ({"rate": [0.05, 0.1]}, ()),
    "clipped": ({"rate": [0.05, 0.1], "norm": [0.5, 1.0]}, ()),
    "schedule": ({"rate": [0.05, 0.1], "steps": [6]}, ("steps",)),
    "accumulated": ({"rate": [0.05, 0.1]}, ()),
}


TELLING = ("lbfgs", "sam", "lookahead", "schedule")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in TELLING else pytest.mark.exhaustive) for n in OPTIMIZERS],
)
def test_optimizers_side_by_side(name):
    settings, in_turn = ASKED[name]
    result = sweep(make_optimizer=OPTIMIZERS[name], settings=settings, keep_params=True)
    assert result.in_turn == in_turn
    last = len(result.settings) - 1
    same(result, last, 1, alone(0, 1, optimizer=OPTIMIZERS[name](**result.settings[last])), 1e-9)


@pytest.mark.slow
def test_pictures_of_two_settings_and_more():
    words = {"name": ["sgd", "adam"], "batch_size": [25, 50]}
    result = sweep(make_optimizer=lambda name: getattr(optax, name)(0.01), settings=words, epochs=1)
    ax = jp.plot.sweep(result)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["sgd", "adam"] and len(ax.texts) == 4
    seeds = sweep(settings=None, make_optimizer=optax.sgd(0.1), epochs=1)
    assert jp.plot.sweep(seeds).get_xlabel() == "epoch"
    rates = {"learning_rate": [0.1, 0.2], "momentum": [0.0, 0.5], "nesterov": [True, False]}
    many = sweep(settings=rates, epochs=1)
    assert many.in_turn == ("nesterov",) and len(jp.plot.sweep(many).get_yticklabels()) == 8
