"""`jaxprop evaluate`: the figures of a saved model, by hand and against scikit-learn; networks here answer with x."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.cli.evaluate import crossed, measures, most_confused, report
from jaxprop.cli.runs import Rows
from tests.cli.commands import as_a_user, did, is_a_mistake, run, strict

KINDS = ("iris", "rose", "tulip")


def answering_x(folder, outputs, cost, **info):
    """Save y = x, whose columns are the outputs."""
    net, x = jp.Linear(outputs, bias=False), np.zeros((1, outputs), np.float32)
    with as_a_user():
        params = jax.tree.map(lambda W: jnp.eye(outputs), net.init(jax.random.key(0), x))
        jp.save(folder, net, params, inputs=x, cost=cost, info=info)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs that answer with their columns, and rows for them."""
    path = tmp_path_factory.mktemp("evaluate")
    answering_x(path / "kinds", 3, jp.SoftmaxCrossEntropy(), classes=KINDS, columns=("a", "b", "c"), target="kind")
    answering_x(path / "price", 1, jp.HalfSquaredError(), columns=("guess",), target="price")
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(60, 3)).round(3), rng.integers(0, 3, 60)
    x[:30] += np.eye(3)[labels[:30]] * 3
    lines = [f"{KINDS[k]},{','.join(map(str, row))}" for row, k in zip(x, labels, strict=True)]
    (path / "kinds.csv").write_text("\n".join(["kind,a,b,c", *lines]) + "\n")
    (path / "price.csv").write_text("guess,price\n110000,100000\n190000,200000\n300000,300000\n")
    (path / "new.csv").write_text("a,b,c,guess\n1,2,3,4\n")
    (path / "bare.csv").write_text("kind,a,b,c\n")
    return path


def test_classes_as_scikit_learn_has_them(folder, monkeypatch):
    metrics = pytest.importorskip("sklearn.metrics")
    monkeypatch.chdir(folder)
    told = strict(did("evaluate", "kinds", "--data", "kinds.csv", "--json").out)
    table = [line.split(",") for line in (folder / "kinds.csv").read_text().splitlines()[1:]]
    truth, y = [row[0] for row in table], np.array([row[1:] for row in table], float)
    chosen = [KINDS[i] for i in y.argmax(1)]
    assert told["rows"] == 60 and told["confusion"] == metrics.confusion_matrix(truth, chosen, labels=KINDS).tolist()
    assert told["accuracy"] == pytest.approx(metrics.accuracy_score(truth, chosen))
    p = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    assert told["cost"] == pytest.approx(metrics.log_loss(truth, p), rel=1e-5)
    theirs = metrics.classification_report(truth, chosen, output_dict=True)
    for row in told["by_class"]:
        expected = theirs[row["class"]]
        figures = [row["precision"], row["recall"], row["f1"], row["rows"]]
        assert figures == pytest.approx([expected[k] for k in ("precision", "recall", "f1-score", "support")])


def test_a_matrix_with_the_names_of_the_classes(folder, monkeypatch):
    monkeypatch.chdir(folder)
    out = did("evaluate", "kinds", "--data", "kinds.csv", "--rows", "0:30").out.splitlines()
    assert out[0] == "kinds on 30 rows of kinds.csv" and out[1].startswith("accuracy ")
    assert out[3].split()[4:] == list(KINDS) and [line.split()[0] for line in out[4:7]] == list(KINDS)
    assert out[8].split() == ["class", "precision", "recall", "F1", "rows"]


def test_numbers_in_the_unit_of_the_target(folder, monkeypatch):
    """Errors of 10000, −10000 and 0 around a mean of 200000."""
    monkeypatch.chdir(folder)
    told = strict(did("evaluate", "price", "--data", "price.csv", "--json").out)
    assert told["r2"] == pytest.approx(1 - 2e8 / 2e10) and told["mae"] == pytest.approx(20000 / 3)
    assert told["rmse"] == pytest.approx((2e8 / 3) ** 0.5) and "confusion" not in told
    out = did("evaluate", "price", "--data", "price.csv").out
    assert "R² 0.99 · RMSE 8165 · MAE 6667, in the unit of price · cost 33333333" in out


@pytest.mark.parametrize(
    "args, words",
    [
        (("kinds", "--data", "new.csv"), ["new.csv: has no column 'kind'; measuring it needs targets"]),
        (("kinds", "--data", "bare.csv"), ["bare.csv: found only a header"]),
        (("kinds", "--data", "price.csv"), ["unknown column of price.csv: 'a'"]),
        (("kinds",), ["pass --data"]),
        (("kinds", "--data", "kinds.csv", "--rows", "60"), ["there are 60 rows (0 to 59)"]),
    ],
)
def test_what_cannot_be_measured_is_said(args, words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    is_a_mistake(run("evaluate", *args), 1, *words)


def measured(cost, y, targets, classes=None):
    y, targets = np.asarray(y, np.float32), np.asarray(targets)
    about = SimpleNamespace(info=SimpleNamespace(classes=classes, target=None), outputs=y)
    saved = SimpleNamespace(net=lambda x, params: x, params=(), about=about, cost=cost)
    with as_a_user():
        return measures(saved, Rows(list(range(len(y))), y, targets, "rows"))


LABELS = [[2.0, 1.0], [1.0, 3.0], [5.0, 0.0]], [0, 1, 1], [[1, 0], [1, 1]]
NUMBERS = [[0.0], [1.0]], np.array([[1.0], [3.0]], np.float32)
COSTS = [
    (jp.SoftmaxCrossEntropy(), LABELS),
    (jp.HalfSquaredError(), LABELS),
    (jp.Hinge(), LABELS),
    (jp.KLDivergence(), LABELS),
    (jp.SoftmaxCrossEntropy(ignore=-1), ([[2.0, 1.0], [1.0, 3.0]], [0, -1], [[1, 0], [0, 0]])),
    (jp.SigmoidCrossEntropy(), ([[-2.0], [1.0], [3.0]], np.array([[0.0], [0.0], [1.0]], np.float32), [[1, 1], [0, 1]])),
]


@pytest.mark.parametrize("cost, rows", COSTS, ids=lambda value: type(value).__name__)
def test_every_cost_of_classes(cost, rows):
    y, targets, counts = rows
    found = measured(cost, y, targets, ("no", "yes"))
    assert found["confusion"] == counts and np.isfinite(found["cost"]) and "no" in report(found)
    assert [row["class"] for row in measured(cost, y, targets)["by_class"]] == ["0", "1"], "a model without names"


@pytest.mark.parametrize(
    "cost, y, rmse",
    [
        (jp.AbsoluteError(), [[0.0], [1.0]], 2.5**0.5),
        (jp.PoissonNegativeLogLikelihood(), np.log([[1.0], [2.0]]), 0.5**0.5),
        (jp.GaussianNegativeLogLikelihood(), [[1.0, 9.0], [3.0, 9.0]], 0.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_cost_of_numbers_speaks_of_the_target(cost, y, rmse):
    """exp(y) of log-rates, and the means alone of means and log-variances."""
    found = measured(cost, y, NUMBERS[1])
    assert found["rmse"] == pytest.approx(rmse, abs=1e-6) and {"r2", "mae", "cost"} <= found.keys()


def test_many_classes_list_the_pairs_that_are_confused_most():
    names = [f"kind {i}" for i in range(20)]
    counts = np.diag(np.full(20, 5))
    counts[3, 7], counts[7, 3] = 2, 4
    rows = [line.split() for line in most_confused(counts, names).splitlines()[2:]]
    assert rows == [["kind", "7", "kind", "3", "4"], ["kind", "3", "kind", "7", "2"]]
    assert "none of the 20 classes" in most_confused(np.diag(np.full(20, 5)), names)


def test_long_names_become_numbers_in_the_head(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    names = [f"a rather long name {i}" for i in range(5)]
    lines = crossed(np.eye(5, dtype=int), names).splitlines()
    assert lines[0].split()[4:] == list("12345") and lines[1].startswith("1 a rather long name 0")
    assert len(lines[1]) <= 60


def test_an_empty_target_is_said_to_be_empty(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "blank.csv").write_text("price,guess\n,1\n,2\n")
    is_a_mistake(run("evaluate", "price", "--data", "blank.csv"), 1, "blank.csv: column 'price' is empty")


def test_a_target_that_some_rows_lack_is_predicted_and_not_measured(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "some.csv").write_text("price,guess\n1,1\n,2\n")
    rows = strict(did("predict", "price", "--data", "some.csv", "--json").out)["predictions"]
    assert rows == [{"row": 0, "prediction": 1.0}, {"row": 1, "prediction": 2.0}]
    is_a_mistake(run("evaluate", "price", "--data", "some.csv"), 1, "some.csv, line 3, column 'price'", "empty cell")


def test_labels_of_another_file_are_the_classes_of_the_model(folder, monkeypatch):
    """A file that lacks a class counts its own from 0; its rows are all taken, in order."""
    monkeypatch.chdir(folder)
    np.savez("some.npz", x=np.eye(3)[[1, 2, 2, 1]], targets=np.array(["rose", "tulip", "tulip", "rose"]))
    told = strict(did("evaluate", "kinds", "--data", "some.npz", "--json").out)
    assert told["confusion"] == [[0, 0, 0], [0, 2, 0], [0, 0, 2]] and told["accuracy"] == 1
    np.savez("other.npz", x=np.eye(3)[[1, 2]], targets=np.array(["rose", "oak"]))
    is_a_mistake(run("evaluate", "kinds", "--data", "other.npz"), 1, "found class 'oak', expected", "iris, rose, tulip")
