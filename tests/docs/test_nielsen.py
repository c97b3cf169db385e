"""docs/examples/nielsen.py: its update is the book's, its starts are the book's, and it runs on a small made-up folder.

The table itself is trained on the real images by `.ci/run` (the short form) and by hand (docs/nielsen.md).
"""

import dataclasses
import importlib.util
import json
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "nielsen.py"


def load_script():
    spec = importlib.util.spec_from_file_location("nielsen", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


nielsen = load_script()
RNG = np.random.default_rng(5)
TEN = (RNG.uniform(size=(10, 7)), np.eye(10)[RNG.permutation(10)])  # one mini-batch, so that its order does not matter


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def book_update(weights, biases, x, targets, eta, lmbda, n, quadratic):
    """One mini-batch by the book's equations BP1 to BP4, image by image, w being [out, in]; λ acts on weights alone."""
    nabla_w, nabla_b = [np.zeros_like(w) for w in weights], [np.zeros_like(b) for b in biases]
    for image, y in zip(x, targets, strict=True):
        activations, zs = [image], []
        for w, b in zip(weights, biases, strict=True):
            zs.append(w @ activations[-1] + b)
            activations.append(sigmoid(zs[-1]))
        slopes = [sigmoid(z) * (1 - sigmoid(z)) for z in zs]
        delta = (activations[-1] - y) * (slopes[-1] if quadratic else 1)
        for layer in reversed(range(len(weights))):
            nabla_w[layer] += np.outer(delta, activations[layer])
            nabla_b[layer] += delta
            if layer:
                delta = (weights[layer].T @ delta) * slopes[layer - 1]
    m = len(x)
    weights = [(1 - eta * lmbda / n) * w - eta / m * nw for w, nw in zip(weights, nabla_w, strict=True)]
    return weights, [b - eta / m * nb for b, nb in zip(biases, nabla_b, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("grad", ["auto", "manual"])
@pytest.mark.parametrize(
    "run",
    [
        nielsen.Run((4,), 3.0, cost="quadratic", epochs=3),
        nielsen.Run((4,), 0.5, epochs=3),
        nielsen.Run((4,), 0.5, decay=5.0, epochs=3),
        nielsen.Run((4, 3), 0.1, decay=5.0, start="N(0, 1/n)", epochs=3),
    ],
    ids=["quadratic", "cross entropy", "L2", "deep"],
)
def test_the_update_is_the_books(run, grad):
    found = nielsen.train(run, TEN, TEN, seed=2, grad=grad).params
    net, _ = nielsen.network(run)
    before = nielsen.start(net, run, jax.random.split(jax.random.key(2))[0], TEN[0][:1])
    weights = [np.asarray(p.W).T for p in before if p]
    biases = [np.asarray(p.b) for p in before if p]
    for _ in range(run.epochs):
        weights, biases = book_update(weights, biases, *TEN, run.eta, run.decay, 10, run.cost == "quadratic")
    assert relative([p.W.T for p in found if p], weights) <= 1e-12
    assert relative([p.b for p in found if p], biases) <= 1e-12


@pytest.mark.slow
def test_the_starts_are_the_books():
    """W ~ N(0, 1) or N(0, 1/n) with n inputs, b ~ N(0, 1) in both, and normal to the tails (not truncated)."""
    x = np.zeros((1, 784))
    for start, scale in (("N(0, 1)", 1.0), ("N(0, 1/n)", 1 / math.sqrt(784))):
        run = nielsen.Run((300,), 0.5, start=start)
        net, _ = nielsen.network(run)
        params = nielsen.start(net, run, jax.random.key(0), x)
        W, b = params[0]
        assert abs(np.std(W) / scale - 1) < 0.01 and abs(np.mean(W) / scale) < 0.01
        assert abs(np.std(b) - 1) < 0.15 and np.max(np.abs(W)) > 4 * scale
        second = params[2].W
        assert second.shape == (300, 10)
        assert abs(np.std(second) / (1 if start == "N(0, 1)" else 1 / math.sqrt(300)) - 1) < 0.05


def test_the_networks_are_the_books():
    quadratic = nielsen.network(nielsen.Run((30,), 3.0, cost="quadratic"))
    assert quadratic[1] == jp.HalfSquaredError() and quadratic[0].layers[-1] == jp.Sigmoid()
    entropy = nielsen.network(nielsen.Run((30, 30), 0.5))
    assert entropy[1] == jp.SigmoidCrossEntropy() and entropy[0].layers[-1].features == 10
    assert [layer.features for layer in entropy[0].layers[::2]] == [30, 30, 10]


def test_the_table_holds_the_published_rows():
    published = [row.published for row in nielsen.ROWS]
    assert {22.25, 95.42, 96.59, 95.49, 96.82, 82.27, 87.10, 97.86, 95.33, 96.49, 97.92, 98.04} <= set(published)
    assert len([row for row in nielsen.ROWS if row.chapter == 5]) == 4
    sizes = [row.by for row in nielsen.ROWS if isinstance(row.by, nielsen.Run) and not row.by.watched]
    assert [run.size for run in sizes] == [100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000]
    assert all(run.size * run.epochs == 1_500_000 for run in sizes)  # as many steps for every size
    assert all(math.isclose(run.decay / run.size, 1e-4) for run in sizes)
    rows = nielsen.chosen("1,3,5", short=True, largest_svm=0)
    assert {row.read for row in rows} == {"first", "best", "last"}
    assert [row.by.epochs for row in rows if row.read == "first"] == [1]
    assert not any(row.name.endswith("SVM") for row in nielsen.chosen("3", short=False, largest_svm=0))
    assert {row.chapter for row in nielsen.chosen("1,5", short=False, largest_svm=500)} == {1, 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small folder of MNIST's form: every digit is a bright stripe at a place and of a width of its own, in noise."""
    rng, path = np.random.default_rng(1), tmp_path_factory.mktemp("mnist")
    for part, rows in (("train", 120), ("t10k", 40)):
        labels = np.arange(rows, dtype=np.uint8) % 10
        images = rng.integers(0, 40, (rows, 28, 28), dtype=np.uint8)
        for image, digit in zip(images, labels, strict=True):
            image[2 * digit : 2 * digit + 1 + digit] = 255
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (path / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    return path


ROWS = (
    nielsen.Row(1, "darkness", 99.7, nielsen.Baseline("darkness", 100)),
    nielsen.Row(1, "SVM", 20.0, nielsen.Baseline("svm", 50, "validation"), note="a note"),
    nielsen.Row(3, "first", 50.0, nielsen.Run((3,), 0.5, 5.0, 2, 100, held="validation"), "first"),
    nielsen.Row(3, "on the training set", 50.0, nielsen.Run((3,), 0.5, 5.0, 2, 100, held="validation"), "train"),
    nielsen.Row(5, "unwatched", 50.0, nielsen.Run((3, 3), 0.5, 0.0, 1, 30, watched=False), note="another"),
)


@pytest.fixture
def small(monkeypatch):
    """The script with small rows and a small validation set."""
    load = nielsen.load
    monkeypatch.setattr(nielsen, "load", lambda path: load(path, validation=20))
    monkeypatch.setattr(nielsen, "ROWS", ROWS)
    monkeypatch.setattr(nielsen, "SHORT", {("darkness", "last"), ("first", "first")})


def test_darkness(folder):
    data = nielsen.load(folder, validation=20)
    assert {name: len(x) for name, (x, _) in data.items()} == {"training": 100, "validation": 20, "test": 40}
    assert nielsen.darkness(data["training"], data["test"]) == 100.0
    assert nielsen.darkness(data["training"], (data["test"][0], (data["test"][1] + 1) % 10)) == 0.0


@pytest.mark.slow
def test_rows_are_trained_and_printed(folder, small, capsys, tmp_path):
    written = tmp_path / "numbers.json"
    assert nielsen.main([str(folder), "--seeds", "2", "--svm", "50", "--json", str(written)]) == 0
    out, progress = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("| ch. | row") and {len(line) for line in lines[:7]} == {len(lines[0])}
    cells = [cell.strip() for cell in lines[2].split("|")]
    assert cells[1:-1] == ["1", "darkness", "test", "99.70", "100.00", "+0.30", "yes"]
    assert lines[3].rstrip(" |").endswith("[1]") and lines[6].rstrip(" |").endswith("[2]")
    assert "| validation, first epoch " in lines[4] and "–" in lines[4]
    assert "| training set, last epoch" in lines[5] and "| test, last epoch" in lines[6]
    assert lines[8] == "[1] a note" and lines[10] == "[2] another" and lines[-1].startswith("5 rows, ")
    assert "[4/4, " in progress and "ch. 5, unwatched: first " in progress
    found = json.loads(written.read_text("utf-8"))
    assert [len(row["ours"]) for row in found["rows"]] == [1, 1, 2, 2, 2]
    assert [len(run["results"]) for run in found["runs"]] == [1, 1, 2, 2]  # two rows read one run
    first = found["runs"][2]["results"][0]
    assert len(first["epochs"]) == 2 and first["first"] == first["epochs"][0] and first["best"] == max(first["epochs"])
    assert found["rows"][2]["ours"] != found["rows"][3]["ours"]


@pytest.mark.slow
def test_a_run_is_its_seeds_alone_and_manual_is_auto(folder):
    data = nielsen.load(folder, validation=20)
    run = ROWS[2].by
    found = [list(nielsen.measure(run, data, 2, grad)) for grad in ("auto", "manual", "auto")]
    assert found[0] == found[2] and found[0][0] != found[0][1]
    assert [one["epochs"] for one in found[0]] == [one["epochs"] for one in found[1]]


@pytest.mark.slow
def test_which_epoch_is_read():
    run = nielsen.Run((3,), 0.5)
    result = nielsen.train(nielsen.Run((3,), 0.5, epochs=1), TEN, TEN, seed=0)
    last = 100 * jp.evaluate(*nielsen.network(run))(TEN[0], result.params, TEN[1])["accuracy"]
    watched = [{"validation_accuracy": accuracy} for accuracy in (0.25, 0.875, 0.5, last / 100)]
    found = nielsen.accuracies(run, dataclasses.replace(result, history=tuple(watched)), TEN, TEN)
    assert found == {"first": 25.0, "best": 87.5, "last": last, "train": last, "epochs": [25.0, 87.5, 50.0, last]}


@pytest.mark.slow
def test_the_short_form_says_by_its_exit_code_whether_a_row_misses(folder, small, monkeypatch, capsys):
    arguments = [str(folder), "--short", "--seeds", "1"]
    assert nielsen.main(arguments) == 1 and "NO" in capsys.readouterr().out
    data = nielsen.load(folder)
    (reached,) = nielsen.measure(nielsen.Run((3,), 0.5, 5.0, 1, 100, held="validation"), data, 1, "auto")
    row = nielsen.Row(3, "first", reached["first"] + 0.5, ROWS[2].by, "first")
    monkeypatch.setattr(nielsen, "ROWS", (ROWS[0], row))
    assert nielsen.main(arguments) == 0 and "| -0.50 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-folder"], "no-such-folder: not a folder; expected the folder that holds MNIST's IDX files"),
        ([".", "--rows", "2"], "nothing to run: --rows takes chapters among 1,3,5"),
        ([".", "--seeds", "0"], "--seeds at least 1"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        nielsen.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_folder_without_test_images_is_refused(folder, tmp_path):
    for path in folder.glob("train-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(jp.JaxpropError, match="t10k files are missing; expected MNIST's four IDX files"):
        nielsen.load(tmp_path, validation=20)
