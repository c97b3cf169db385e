"""`jaxprop train`: what it prints and saves, and that its options reach the training."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from tests.cli.commands import MOONS, as_a_user, did, is_a_mistake, loaded, numbers_csv, run, strict


def test_digits(runs):
    ran = runs["digits"]
    found = re.search(r"validation accuracy (\d+\.\d+) %", ran.out)
    assert found and float(found[1]) >= 95
    assert "saved in runs/digits; try: jaxprop predict runs/digits --rows 0:5" in ran.out
    assert "epoch 67 · cost" in ran.err and "steps/s" in ran.err
    about = jp.describe("runs/digits")
    assert [layer.__class__.__name__ for layer in about.net.layers] == ["Standardize", "Linear", "Sigmoid", "Linear"]
    assert isinstance(about.net.layers[0].std, float), "one scale for all pixels"
    assert about.cost == jp.SoftmaxCrossEntropy() and about.info.classes == tuple("0123456789")
    assert {path: spec.shape for path, spec in about.params.items()} == {
        "1.W": (64, 32), "1.b": (32,), "3.W": (32, 10), "3.b": (10,),
    }  # fmt: skip


def test_square(runs):
    found = re.search(r"validation R² ([\d.]+)", runs["square"].out)
    assert found and float(found[1]) > 0.99
    assert jp.describe("runs/square").cost == jp.HalfSquaredError()


def test_line_finds_its_slope(runs):
    found = re.search(r"^0\.W = \[\[([\d.]+)\]\]$", runs["line"].out, re.M)
    assert found and float(found[1]) == pytest.approx(2, abs=1e-3)
    net, params = loaded("runs/line")
    assert repr(net) == "Chain(Linear(1, bias=False))" and float(params[0].W[0, 0]) == pytest.approx(2, abs=1e-3)


def test_a_table_of_numbers_is_answered_in_its_own_unit(runs):
    assert re.search(r"validation R² (1|0\.9[89]\d*) ", runs["my"].out)
    net, _ = loaded("runs/my")
    assert [type(layer).__name__ for layer in (net.layers[0], net.layers[-1])] == ["Standardize", "Unstandardize"]
    assert len(net.layers[0].mean) == len(net.layers[0].std) == 2, "a scale for each column"
    answers = strict(did("predict", "runs/my", "--data", "my.csv", "--rows", ":", "--json").out)["predictions"]
    assert len(answers) == 40 and answers[39]["target"] == 2000 * 59 + 30000 * 3
    assert all(abs(a["prediction"] - a["target"]) < 10_000 for a in answers)  # of 40,000 to 208,000


def test_a_table_of_words_is_answered_in_words(runs):
    assert "validation accuracy 100.00 %" in runs["kinds"].out
    ran = did("predict", "runs/kinds", "--data", "kinds.csv", "--rows", "0,39")
    assert [line.split()[1:3] for line in ran.out.splitlines()[2:]] == [["große", "Blüte"], ["kleine", "Blüte"]]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precision_reaches_the_training(precision, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbers_csv(tmp_path / "my.csv", 40)
    ran = did("train", "my.csv", "--target", "price", "--precision", precision, "--epochs", 300, "--quiet", "--json")
    about, found = jp.describe("runs/my"), strict(ran.out)
    assert found["precision"] == precision and found["final"]["validation_r2"] > 0.99
    kept = "float64" if precision == "float64" else "float32"
    assert {spec.dtype for spec in about.params.values()} == {about.inputs.dtype} == {kept}


def test_images_are_flattened(runs):
    assert "Flatten()" in runs["images"].out
    assert len(strict(did("predict", "runs/images", "--rows", "0:4", "--json").out)["predictions"]) == 4


@pytest.mark.slow
def test_a_short_table_trains_to_its_end(empty):
    """50 rows are two steps an epoch; without rows held out, a thousand epochs: many calls, each of them short."""
    numbers_csv(empty / "short.csv", 50)
    assert "epoch 1000 · cost" in did("train", "short.csv", "--target", "price", "--validation", "0", "--quiet").out


def test_a_seed_decides_everything(runs, tmp_path):
    runs["moons"]
    weights = [jp.describe("runs/moons").weights.sha256]
    for seed in (0, 1):
        did(*MOONS, "--seed", seed, "--out", tmp_path / "again")
        weights.append(jp.describe(tmp_path / "again").weights.sha256)
    assert weights[0] == weights[1] != weights[2]


def test_manual_and_auto_are_the_same_training(runs, tmp_path):
    runs["moons"]  # auto
    did(*MOONS, "--grad", "manual", "--out", tmp_path / "manual")
    assert relative(loaded("runs/moons")[1], loaded(tmp_path / "manual")[1]) < 1e-4


def test_options_reach_the_training(empty):
    options = (
        "--layers 2,4,3,2 --activation leaky-relu --optimizer momentum --learning-rate 0.5 --batch-size 7 --no-bias"
    )
    ran = did(*MOONS, *options.split(), *"--init he_normal --validation 10 --standardize --noise 0.2 --json".split())
    told = strict(ran.out)
    assert ran.err == ""  # --quiet
    linear = [f"Linear({size}, bias=False, init='he_normal')" for size in (4, 3, 2)]
    chain = f"{linear[0]}, LeakyReLU(), {linear[1]}, LeakyReLU(), {linear[2]})"
    assert told["network"].startswith("Chain(Standardize(") and told["network"].endswith(chain)
    assert told["steps"] == 3 * -(-190 // 7) and told["optimizer"] == "momentum" and told["learning_rate"] == 0.5
    assert jp.describe(told["out"]).info.data["options"] == {"noise": 0.2, "validation": 10}


def test_early_stopping_says_so(empty):
    ran = did("train", "moons", "--learning-rate", 0.3, "--epochs", 500, "--patience", 3, "--quiet")
    assert re.search(r"stopped early: the parameters of epoch \d+ are kept, the best", ran.out)


def test_half_squared_error_on_labels_uses_one_hot_rows(empty):
    told = strict(did(*MOONS, "--cost", "half_squared_error", "--output-activation", "sigmoid", "--json").out)
    about, (net, params) = jp.describe("runs/moons"), loaded("runs/moons")
    assert about.cost == jp.HalfSquaredError() and about.info.classes == ("0", "1")
    x, labels = jp.data.load("moons").validation
    with as_a_user():
        measured = jp.evaluate(net, about.cost)(x, params, np.eye(2, dtype=np.float32)[labels])
    assert told["final"]["validation_cost"] == pytest.approx(measured["cost"], rel=1e-5)
    assert told["final"]["validation_accuracy"] == measured["accuracy"] > 0.5
    answers = strict(did("predict", "runs/moons", "--json").out)["predictions"]
    assert {"row", "prediction", "target", "right"} == set(answers[0]), "a squared error gives no probability"


@pytest.mark.slow
def test_a_yes_or_no_column_is_trained_with_the_sigmoid_cross_entropy(empty):
    rows = "\n".join(f"{i},{int(i > 20)}" for i in range(40))
    Path("bin.csv").write_text(f"age,bought\n{rows}\n")
    asked = ("train", "bin.csv", "--target", "bought", "--numbers")
    ran = did(*asked, "--cost", "sigmoid_cross_entropy", "--epochs", "200", "--json")
    assert json.loads(ran.out)["final"]["validation_accuracy"] >= 7 / 8  # the row at the edge may be missed
    did(*asked, "--output-activation", "sigmoid", "--epochs", "5")
    assert "Unstandardize" not in repr(jp.load("runs/bin")[0])  # whose targets 0 and 1 it could never reach


def test_what_is_monitored_is_written_beside_the_model(empty):
    few = ("train", "xor", "--epochs", "2", "--out", "runs/watched")
    ran = did(*few, "--monitor", "noise, norms,updates,flow,dead,saturated,tests", "--every", "3")
    rows = [line.split(",") for line in Path("runs/watched/monitor.csv").read_text().splitlines()]
    assert [row[0] for row in rows[:3]] == ["step", "0", "3"] and rows[0][1:4] == [
        "cost",
        "gradient_norm",
        "noise.scale",
    ]
    assert {"norms.mean", "updates.0.W", "flow.1.gain", "dead.1", "saturated.1"} <= set(rows[0])
    assert "gradient norm" in ran.out and "dead.1" not in ran.out
    assert not any("." in name for name in jp.describe("runs/watched").info.training["final"])
    did(*few)
    assert not Path("runs/watched/monitor.csv").exists()  # it was of another run
    is_a_mistake(run("train", "xor", "--quiet", "--monitor", "nose"), 1, "--monitor", "did you mean 'noise'")
