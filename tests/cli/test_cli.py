"""The command line as a person meets it: what the commands print, write and exit with, and what they say to mistakes.

Most commands run in this process, in a folder of their own and in a user's float32; a few run as real programs.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import cli
from jaxprop.arrays.relative import relative

JAXPROP = str(Path(sys.executable).parent / "jaxprop")


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


def run(*args):
    """Run a command in this process, in 32 bits and with JAX's own promotion, as a user does."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["jaxprop", *map(str, args)]
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            jax.enable_x64(False),
            jax.numpy_dtype_promotion("standard"),
            pytest.raises(SystemExit) as stopped,
        ):
            cli.main()
    finally:
        sys.argv = before
    return Ran(stopped.value.code, out.getvalue(), err.getvalue())


def did(*args):
    """Run a command that must succeed."""
    ran = run(*args)
    assert ran.code == 0, ran
    return ran


def strict(text):
    """One line of JSON without NaN or infinity."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    assert text.endswith("\n") and text.count("\n") == 1
    return json.loads(text, parse_constant=refuse)


def is_a_mistake(ran, code, *words):
    """One line on stderr that says all of these words, nothing on stdout, no traceback."""
    assert ran.code == code and ran.out == "", ran
    assert ran.err.startswith("jaxprop: ") and ran.err.count("\n") == 1 and ran.err.endswith("\n"), ran.err
    assert all(word in ran.err for word in words), ran.err


def loaded(folder):
    with jax.enable_x64(False):
        return jp.load(folder)


def numbers_csv(file, rows, more=""):
    """price = 2000 · area + 30000 · rooms, in columns of very different scales."""
    lines = [f"{2000 * (20 + i) + 30000 * (i % 4)},{i % 4},{20 + i}{more}" for i in range(rows)]
    file.write_text("\n".join(["price,rooms,area", *lines]) + "\n", "utf-8")


def write_files(folder):
    """The files that the commands below read."""
    numbers_csv(folder / "my.csv", 40)
    kinds = [f"{i + i // 20 * 40},{7 * i % 5},{'große' if i < 20 else 'kleine'} Blüte" for i in range(40)]
    (folder / "kinds.csv").write_text("\n".join(["a,b,kind", *kinds]) + "\n", "utf-8")
    new = ["area,colour,rooms", "25,red,1", "50,blue,2"]
    (folder / "new.csv").write_text("\n".join(new) + "\n", "utf-8")
    (folder / "nan.csv").write_text("a,b\n1,2\nnan,3\n4,5\n")
    (folder / "text.csv").write_text("a,b\n1,2\nx,3\n4,5\n")
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("a,b\n")
    (folder / "one.csv").write_text("a,b\n1,2\n")
    (folder / "oneclass.csv").write_text("a,b\n" + "1,x\n" * 10)
    (folder / "tulip.csv").write_text("a,b,kind\n1,2,tulip\n")
    (folder / "broken.npz").write_bytes(b"PK not a zip")
    (folder / "file").write_text("not a folder")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 4, 4)).astype(np.uint8)
    np.savez(folder / "images.npz", x=images, targets=(images[:, 0, 0] > 128).astype(int))


TRAIN = {
    "digits": "train digits --layers 64,32,10 --activation sigmoid --out runs/digits",
    "square": "train square --layers 1,16,1 --activation tanh",
    "line": "train line --slope 2",
    "my": "train my.csv --target price",
    "kinds": "train kinds.csv --target kind --epochs 60",
    "images": "train images.npz --layers 16,8,2 --epochs 3",
}


class Runs:
    """The commands of `TRAIN`, each run when it is first asked for: `runs["digits"]` is what it did."""

    def __init__(self, folder):
        self.folder, self.done = folder, {}

    def __getitem__(self, name):
        if name not in self.done:
            self.done[name] = did(*TRAIN[name].split())
            assert (self.folder / "runs" / name / "model.json").exists()
        return self.done[name]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    write_files(folder)
    return Runs(folder)


@pytest.fixture
def runs(workspace, monkeypatch):
    """The shared folder with the files and the runs, and we are in it."""
    monkeypatch.chdir(workspace.folder)
    return workspace


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder of this test's own, with the files but no runs, and we are in it."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Help


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(command):
    ran = did(command, "--help")
    assert ran.err == "" and "Example" in ran.out and f"jaxprop {command} " in ran.out


def test_help_lists_every_command_and_is_what_no_arguments_give():
    ran = did("--help")
    assert all(re.search(rf"^\W+{command} ", ran.out, re.M) for command in cli.COMMANDS)
    assert "jaxprop demo" in ran.out and run() == ran


# Train


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


def test_images_are_flattened(runs):
    assert "Flatten()" in runs["images"].out
    assert len(strict(did("predict", "runs/images", "--rows", "0:4", "--json").out)["predictions"]) == 4


def test_a_short_table_trains_to_its_end(empty):
    """50 rows are two steps an epoch, and by default a thousand epochs: many calls, each of them short."""
    numbers_csv(empty / "short.csv", 50)
    assert "epoch 1000 · cost" in did("train", "short.csv", "--target", "price", "--quiet").out


MOONS = ("train", "moons", "--epochs", 3, "--quiet")


def test_a_seed_decides_everything(empty):
    weights = []
    for seed in (1, 1, 2):
        did(*MOONS, "--seed", seed)
        weights.append(jp.describe("runs/moons").weights.sha256)
    assert weights[0] == weights[1] != weights[2]


def test_manual_and_auto_are_the_same_training(empty):
    found = []
    for way in ("auto", "manual"):
        did(*MOONS, "--grad", way)
        found.append(loaded("runs/moons")[1])
    assert relative(*found) < 1e-4


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
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        measured = jp.evaluate(net, about.cost)(x, params, np.eye(2, dtype=np.float32)[labels])
    assert told["final"]["validation_cost"] == pytest.approx(measured["cost"], rel=1e-5)
    assert told["final"]["validation_accuracy"] == measured["accuracy"] > 0.5
    answers = strict(did("predict", "runs/moons", "--json").out)["predictions"]
    assert {"row", "prediction", "target", "right"} == set(answers[0]), "a squared error gives no probability"


# Predict, check, summary


def test_predict_digits(runs):
    runs["digits"]
    ran = did("predict", "runs/digits", "--data", "digits", "--rows", "0:5")
    assert ran.out.splitlines()[0] == "runs/digits on digits (scikit-learn, 1797 rows), held-out rows"
    rows = [line.split() for line in ran.out.splitlines()[1:]]
    assert rows[0] == ["row", "prediction", "probability", "target"] and [row[0] for row in rows[1:]] == list("01234")
    told = strict(did("predict", "runs/digits", "--rows", "0:5", "--json").out)
    assert told["model"] == "runs/digits"
    for row, answer, label in zip(rows[1:], told["predictions"], jp.data.digits().validation[1], strict=False):
        assert row[1] == answer["prediction"] and row[3] == answer["target"] == str(label)
        assert answer["right"] == (answer["prediction"] == answer["target"]) and 0.1 < answer["probability"] <= 1
    training = strict(did("predict", "runs/digits", "--rows", "-1", "--part", "training", "--json").out)
    assert training["predictions"][0]["row"] == 1437 and "training rows" in training["data"]


def test_predict_a_file_by_the_names_of_its_columns(runs):
    """new.csv orders its columns otherwise, has one more, and no prices."""
    runs["my"]
    told = strict(did("predict", "runs/my", "--data", "new.csv", "--json").out)["predictions"]
    net, params = loaded("runs/my")
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        expected = np.asarray(net(jnp.array([[1.0, 25.0], [2.0, 50.0]], jnp.float32), params))[:, 0]
    assert [set(answer) for answer in told] == [{"row", "prediction"}] * 2
    assert np.array_equal(np.array([answer["prediction"] for answer in told], np.float32), expected), "every bit"
    lines = did("predict", "runs/my", "--data", "new.csv").out.splitlines()
    assert lines[1].split() == ["row", "prediction"] and len(lines) == 4


def test_small_numbers_keep_their_digits(runs):
    from jaxprop.cli.predict import predictions, table

    about = SimpleNamespace(info=SimpleNamespace(classes=None), cost=None)
    saved = SimpleNamespace(net=lambda x, params: x, params=(), about=about)
    x = np.array([[1.2345678e-9, 3.0]], np.float32)
    answers = predictions(saved, SimpleNamespace(x=x, numbers=[7], targets=None))
    assert answers == [{"row": 7, "prediction": [1.2345678e-9, 3.0]}]
    assert table(answers).splitlines()[1] == "7    [1.235e-09, 3]"


def test_check_agrees(runs):
    runs["digits"]
    ran = did("check", "runs/digits")
    assert ran.out.count("agree\n") == 4 and "three witnesses agree on 32 rows (float32" in ran.out


def test_check_as_json(runs):
    runs["line"]
    told = strict(did("check", "runs/line", "--rows", "0:3", "--json").out)
    assert told["ok"] is True and told["model"] == "runs/line" and told["examples"] == 3
    assert [row["path"] for row in told["rows"]] == ["0.W"] and told["rows"][0]["differences"]["relative"] < 1e-7


WRONG_RULES = [
    (jp.Tanh, "derivative", lambda right: lambda self, kept: jnp.ones_like(kept), "layer 1 (Tanh()): ", "∂a/∂z"),
    (jp.Linear, "backward", lambda right: lambda *args: (2 * right(*args)[0], right(*args)[1]), "layer 2 (", "∂z/∂x"),
]


@pytest.mark.parametrize("kind, method, wrong, layer, factor", WRONG_RULES, ids=["Tanh", "Linear"])
def test_check_names_the_layer_and_the_factor_that_are_wrong(kind, method, wrong, layer, factor, runs, monkeypatch):
    runs["square"]
    monkeypatch.setattr(kind, method, wrong(getattr(kind, method)))
    ran = run("check", "runs/square", "--rows", "0:4")
    assert ran.code == 1 and ran.err == ""
    guilty = [line for line in ran.out.splitlines() if line.startswith("layer ")]
    assert any(line.startswith(layer) and factor in line and "is wrong" in line for line in guilty), ran.out
    assert "DISAGREE" in ran.out and "witnesses DISAGREE on 4 rows" in ran.out


def test_summary(runs):
    runs["digits"]
    out = did("summary", "runs/digits").out
    assert out.startswith("runs/digits · x float32[N, 64] → y float32[N, 10] · SoftmaxCrossEntropy()")
    assert "trained: data digits (scikit-learn, 1797 rows) · optimizer adam · learning rate 0.01" in out
    told = strict(did("summary", "runs/digits", "--batch-size", 5, "--json").out)
    assert told["total"]["parameters"] == 64 * 32 + 32 + 32 * 10 + 10 and told["inputs"] == [5, 64]
    assert told["training"]["epochs"] == 67 and "history" not in told["training"]


# Demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The one whole run of the demo: what it did, and where."""
    folder = tmp_path_factory.mktemp("demo")
    with contextlib.chdir(folder):
        ran = run("demo")
    return ran, folder


def test_demo(demo):
    ran, folder = demo
    assert ran.code == 0
    found = re.search(r"reloaded: ([\d.]+) % of the held-out digits are right", ran.out)
    assert found and float(found[1]) >= 95
    assert "three witnesses agree on 16 rows" in ran.out and "█" in ran.out
    assert "drawn: runs/demo/demo.png" in ran.out
    assert (folder / "runs/demo/demo.png").read_bytes().startswith(b"\x89PNG")
    for command in re.findall(r"^  jaxprop (\w+) ", ran.out, re.M):
        assert command in {*cli.COMMANDS, "serve"}
    assert len(re.findall(r"^  jaxprop", ran.out, re.M)) >= 4


@pytest.mark.parametrize("right, agree, code", [(True, True, 0), (True, False, 1), (False, True, 1)])
def test_demo_exits_with_what_it_found(right, agree, code, demo, empty, monkeypatch):
    def train_digits(out, seed, progress):
        assert not progress  # with --json
        shutil.copytree(demo[1] / "runs/demo", out)
        if not right:
            net, params = jp.load(out)
            about = jp.describe(out)
            params = jax.tree.map(jnp.zeros_like, params)
            jp.save(out, net, params, inputs=jnp.zeros((1, 64)), cost=about.cost, info=about.info.model_dump())
        return 1.5

    report = SimpleNamespace(ok=agree)
    monkeypatch.setattr("jaxprop.cli.demo.train_digits", train_digits)
    monkeypatch.setattr("jaxprop.cli.demo.compare", lambda *_: lambda *_: report)
    monkeypatch.setattr("jaxprop.cli.demo.draw", lambda saved, x, targets, file: file)
    ran = run("demo", "--out", "d", "--json")
    told = strict(ran.out)
    assert ran.code == code and ran.err == ""
    assert told["gradients_agree"] == agree and (told["accuracy"] >= 0.95) == right and told["seconds"] == 1.5
    assert told["out"] == "d" and told["picture"] == "d/demo.png" and len(told["predictions"]) == 6


def test_demo_needs_no_matplotlib(monkeypatch):
    from jaxprop.cli.demo import draw

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert draw(None, None, None, Path("x.png")) is None


# Mistakes


ON_DIGITS = ("train", "digits", "--epochs", "1")

MISTAKES = [
    (("trian",), 2, ["No such command 'trian'. Did you mean 'train'?", "see jaxprop --help"]),
    (("train",), 2, ["Missing argument", "data", "see jaxprop train --help"]),
    (("train", "digits", "--epoch", "3"), 2, ["No such option: --epoch", "--epochs", "see jaxprop train --help"]),
    (("predict", "runs/x", "--row", "3"), 2, ["No such option: --row", "--rows", "see jaxprop predict --help"]),
    ((*ON_DIGITS, "--learning-rate", "fast"), 2, ["--learning-rate", "number"]),
    (("train", "digits", "--epochs", "0"), 2, ["--epochs", "1"]),
    ((*ON_DIGITS, "--batch-size", "0"), 2, ["--batch-size"]),
    ((*ON_DIGITS, "--patience", "0"), 2, ["--patience"]),
    ((*ON_DIGITS, "--seed", "-1"), 2, ["--seed"]),
    ((*ON_DIGITS, "--seed", "99999999999999999999"), 2, ["--seed"]),
    (("summary", "runs/x", "--batch-size", "0"), 2, ["--batch-size"]),
    ((*ON_DIGITS, "--activation", "sigmod"), 1, ["unknown --activation 'sigmod' (did you mean 'sigmoid'?)", "known:"]),
    ((*ON_DIGITS, "--cost", "half_squared_eror"), 1, ["unknown --cost", "did you mean 'half_squared_error'"]),
    ((*ON_DIGITS, "--optimizer", "adma"), 1, ["unknown --optimizer 'adma' (did you mean 'adam'?)"]),
    ((*ON_DIGITS, "--init", "he_norml"), 1, ["unknown init 'he_norml' (did you mean 'he_normal'?)"]),
    ((*ON_DIGITS, "--grad", "manuel"), 1, ["unknown --grad 'manuel' (did you mean 'manual'?)"]),
    (("train", "digts"), 1, ["unknown data 'digts' (did you mean 'digits'?)", ".csv"]),
    (("train", "gone.csv", "--target", "b"), 1, ["gone.csv: cannot be read (No such file or directory)"]),
    ((*ON_DIGITS, "--layers", "64,32,9"), 1, ["ends with 9", "10 classes: write 64,32,10"]),
    ((*ON_DIGITS, "--layers", "63,32,10"), 1, ["starts with 63", "64 inputs: write 64,32,10"]),
    (("train", "my.csv", "--target", "price", "--layers", "2,9,2"), 1, ["ends with 2", "1 outputs: write 2,9,1"]),
    ((*ON_DIGITS, "--layers", "64,a,10"), 1, ["--layers: found '64,a,10', expected numbers of units such as 64,32,10"]),
    ((*ON_DIGITS, "--layers", "64,0,10"), 1, ["--layers: found '64,0,10'", "all ≥ 1"]),
    ((*ON_DIGITS, "--layers", "64"), 1, ["--layers: found '64', expected inputs, any hidden layers and outputs"]),
    ((*ON_DIGITS, "--output-activation", "softmax"), 1, ["applies softmax itself; leave it out"]),
    ((*ON_DIGITS, "--cost", "sigmoid_cross_entropy", "--output-activation", "sigmoid"), 1, ["the sigmoid itself"]),
    (("train", "square", "--cost", "softmax_cross_entropy"), 1, ["needs labels, found numbers; use half_squared"]),
    (("train", "line", "--slope", "-2", "--cost", "sigmoid_cross_entropy"), 1, ["expected values from 0 to 1"]),
    ((*ON_DIGITS, "--learning-rate", "0"), 1, ["--learning-rate: found 0.0, expected a positive number"]),
    ((*ON_DIGITS, "--learning-rate", "-1"), 1, ["--learning-rate: found -1.0"]),
    ((*ON_DIGITS, "--learning-rate", "nan"), 1, ["--learning-rate: found nan"]),
    ((*ON_DIGITS, "--learning-rate", "inf"), 1, ["--learning-rate: found inf"]),
    ((*ON_DIGITS, "--validation", "1.5"), 1, ["validation is 1.5; expected a fraction from 0 to below 1"]),
    ((*ON_DIGITS, "--validation", "1797"), 1, ["holds out 1797 of 1797 rows"]),
    ((*ON_DIGITS, "--validation", "nan"), 1, ["validation is nan"]),
    ((*ON_DIGITS, "--target", "digit"), 1, ["unknown option of digits: 'target'"]),
    (("train", "line", "--slope", "nan"), 1, ["slope is nan"]),
    (("train", "my.csv"), 1, ["which column is the target?", "price, rooms, area"]),
    (("train", "my.csv", "--target", "prise"), 1, ["unknown column of my.csv: 'prise' (did you mean 'price'?)"]),
    (("train", "my.csv", "--target", "price", "--features", "rooms, aera"), 1, ["'aera' (did you mean 'area'?)"]),
    (("train", "nan.csv", "--target", "b"), 1, ["nan.csv, line 3, column 'a': found 'nan'"]),
    (("train", "text.csv", "--target", "b"), 1, ["text.csv, line 3, column 'a': found 'x', expected a number"]),
    (("train", "empty.csv", "--target", "b"), 1, ["an empty file"]),
    (("train", "header.csv", "--target", "b"), 1, ["only a header"]),
    (("train", "one.csv", "--target", "b"), 1, ["one row; expected two or more"]),
    (("train", "oneclass.csv", "--target", "b"), 1, ["a single class, 'x'; expected two or more"]),
    (("train", "broken.npz"), 1, ["broken.npz: not a whole npz file"]),
    ((*ON_DIGITS, "--out", "file"), 1, ["file: cannot be written: a file of that name exists; choose another folder"]),
    ((*ON_DIGITS, "--out", "file/deeper"), 1, ["cannot be written: Not a directory"]),
    (("demo", "--json", "--out", "file"), 1, ["file: cannot be written: a file of that name exists"]),
    (("predict", "runs/none"), 1, ["runs/none: is not there; expected a folder that jaxprop.save or"]),
    (("check", "runs/none"), 1, ["runs/none: is not there"]),
    (("summary", "runs/none"), 1, ["runs/none: is not there"]),
    (("summary", "."), 1, ["has no model.json"]),
    (("predict", "file"), 1, ["file/model.json: cannot be read: Not a directory"]),
]  # fmt: skip


@pytest.mark.parametrize("args, code, words", MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_a_mistake_is_one_clear_line_and_nothing_is_left_behind(args, code, words, empty):
    is_a_mistake(run(*args), code, *words)
    assert not list(empty.rglob("model.json")) and not (empty / "runs/digits/model.json").exists()


WITH_A_RUN = [
    (("predict", "runs/my", "--rows", "8"), ["rows: found '8', but there are 8 rows (0 to 7)"]),
    (("predict", "runs/my", "--rows", "0:0"), ["rows: '0:0' chooses none of the 8 rows (0 to 7)"]),
    (("predict", "runs/my", "--rows", "a:b"), ["rows: found 'a:b', expected something like 0:5, 7 or 1,4,7"]),
    (("predict", "runs/my", "--rows", ""), ["rows: found ''"]),
    (("predict", "runs/my", "--rows", "1:2:3:4"), ["rows: found '1:2:3:4'"]),
    (("predict", "runs/my", "--rows", "::0"), ["rows: found '::0'"]),
    (("predict", "runs/my", "--part", "test"), ["unknown --part 'test'", "training, validation"]),
    (("predict", "runs/my", "--data", "kinds.csv"), ["unknown column of kinds.csv: 'rooms'"]),
    (("predict", "runs/my", "--data", "moons", "--rows", "0:900"), []),
    (("predict", "runs/my", "--data", "square"), ["rows have shape [1], runs/my expects [2]"]),
    (("predict", "runs/my", "--data", "broken.npz"), ["not a whole npz file"]),
    (("predict", "runs/my", "--data", "gone.csv"), ["gone.csv: cannot be read"]),
    (("predict", "runs/kinds", "--data", "tulip.csv"), ["found 'tulip', expected a known class: große Blüte, kleine"]),
    (("check", "runs/my", "--data", "new.csv"), ["new.csv: has no column 'price'; a gradient needs targets"]),
]  # fmt: skip


@pytest.mark.parametrize("args, words", WITH_A_RUN, ids=[" ".join(row[0]) for row in WITH_A_RUN])
def test_a_mistake_about_a_run_is_one_clear_line(args, words, runs):
    runs[args[1].removeprefix("runs/")]
    if words:
        is_a_mistake(run(*args), 1, *words)
    else:
        did(*args)  # rows of the right shape are welcome from anywhere


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("model.json", b'{"format": 1,', ["not JSON"]),
        ("model.json", b"[" * 100_000, ["not JSON"]),
        ("model.json", b"", ["not JSON"]),
        ("params", b"x", ["1 bytes that do not hash to the sha256 in model.json"]),
    ],
)
@pytest.mark.parametrize("command", ["predict", "check", "summary"])
def test_a_damaged_run_is_one_clear_line(command, file, content, words, runs, tmp_path):
    runs["line"]
    shutil.copytree("runs/line", tmp_path / "run")
    (damaged,) = (tmp_path / "run").glob(f"{file}*")
    damaged.write_bytes(content)
    is_a_mistake(run(command, tmp_path / "run"), 1, *words)


def test_a_run_whose_data_are_gone_can_still_be_used_with_others(empty):
    did("train", "my.csv", "--target", "price", "--epochs", 1, "--quiet")
    (empty / "my.csv").unlink()
    is_a_mistake(run("predict", "runs/my"), 1, "my.csv: cannot be read")
    did("predict", "runs/my", "--data", "new.csv")
    did("summary", "runs/my")


def test_a_model_without_cost_or_data_says_what_is_missing(empty):
    with jax.enable_x64(False):
        net, x = jp.Linear(1), np.ones((1, 2), np.float32)
        jp.save("m", net, net.init(jax.random.key(0), x), inputs=x)
    is_a_mistake(run("predict", "m"), 1, "does not say which data it was trained on; pass --data")
    is_a_mistake(run("check", "m", "--data", "moons"), 1, "names no cost", "cost=")
    did("predict", "m", "--data", "moons")


def test_an_unwritable_folder_is_found_before_training(empty, monkeypatch):
    def too_late(*_, **__):
        raise AssertionError("trained first")

    monkeypatch.setattr("jaxprop.cli.train.fit", too_late)
    is_a_mistake(run(*MOONS, "--out", "file"), 1, "cannot be written")
    monkeypatch.setattr(
        "tempfile.TemporaryFile", lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    is_a_mistake(run(*MOONS, "--out", "runs/m"), 1, "runs/m: cannot be written: Permission denied; choose another")


def test_training_that_diverges_names_the_step_and_the_layer(empty):
    ran = run("train", "my.csv", "--target", "price", "--raw", "--layers", "2,4,1", "--activation", "relu",
              "--optimizer", "sgd", "--learning-rate", "1e25", "--quiet")  # fmt: skip
    is_a_mistake(
        ran, 1, "training stopped at step ", "the first not finite is the output of layer ", "smaller learning"
    )
    assert not list(empty.rglob("model.json"))


def test_a_bug_is_not_hidden(empty, monkeypatch):
    """Only mistakes that jaxprop can name become one line: anything else keeps its traceback."""
    monkeypatch.setattr("jaxprop.cli.train.fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*MOONS)


# Ctrl-C


def press_ctrl_c_at(monkeypatch, method):
    """A real signal, sent to this process the second time that training shows its progress so."""
    from jaxprop.train.progress import Progress

    shown, times = getattr(Progress, method), []

    def show(self, what):
        shown(self, what)
        times.append(what)
        if len(times) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, method, show)


def test_ctrl_c_keeps_the_best_so_far(empty, monkeypatch):
    press_ctrl_c_at(monkeypatch, "epoch")
    ran = run("train", "moons", "--epochs", 1000, "--quiet")
    assert ran.code == 130 and ran.err == ""
    assert re.search(r"interrupted after [\d,]+ steps: the best parameters so far \(epoch [12]\) are saved", ran.out)
    about = jp.describe("runs/moons")
    assert about.info.training["stopped"] == "interrupted" and about.info.training["epochs"] == 2
    assert "target" in did("predict", "runs/moons").out


def test_ctrl_c_before_the_first_epoch_ends_saves_what_there_is(empty, monkeypatch):
    monkeypatch.setattr("jaxprop.train.run.SECONDS_A_CHUNK", 0.0)  # a step at a time
    press_ctrl_c_at(monkeypatch, "advance")
    ran = run(*MOONS, "--seed", 5)
    assert ran.code == 130
    assert "interrupted after 2 steps: the best parameters so far (within the first epoch) are saved" in ran.out
    net, params = jp.load("runs/moons")
    start = net.init(jax.random.split(jax.random.key(5), 3)[0], jp.data.moons().x)
    assert not np.array_equal(params[0].W, start[0].W)  # two steps on from where it began


def test_ctrl_c_before_the_first_step_leaves_an_old_model_alone(empty, monkeypatch):
    did(*MOONS)
    before = jp.describe("runs/moons").weights.sha256
    monkeypatch.setattr("jaxprop.train.run.Run.advance", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    ran = run(*MOONS, "--seed", 5)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == "jaxprop: training interrupted after 0 steps: nothing is saved\n"
    assert jp.describe("runs/moons").weights.sha256 == before


@pytest.mark.parametrize("where", ["jaxprop.data.load", "jaxprop.train.run.Run.__init__"])
def test_ctrl_c_elsewhere_is_one_line(where, empty, monkeypatch):
    monkeypatch.setattr(where, lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    is_a_mistake(run(*MOONS), 130, "interrupted")


# Commands and layers of other packages


def offer(monkeypatch, group, *entries):
    """Let installed packages offer these entry points; what they add is taken away again."""

    def entry_points(**chosen):
        return list(entries) if chosen == {"group": group} else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    for registered in ("registered_commands", "registered_groups"):
        monkeypatch.setattr(cli.app, registered, list(getattr(cli.app, registered)))


def entry(name, load):
    return SimpleNamespace(name=name, value=f"other_package:{name}", group="jaxprop.these", load=load)


def broken():
    raise ImportError("No module named 'uvicorn'")


def test_commands_of_other_packages_work_and_broken_ones_are_said(monkeypatch):
    import typer

    def greet(name: str) -> None:
        """Say hello."""
        print(f"hello, {name}")

    several = typer.Typer()
    several.command("one")(lambda: print("first"))
    several.command("two")(lambda: sys.exit(3))
    own = [entry("greet", lambda: greet), entry("several", lambda: several)]
    bad = [entry("serve", broken), entry("train", lambda: greet), entry("number", lambda: 3)]
    offer(monkeypatch, "jaxprop.commands", *bad, *own)
    ran = run("greet", "you")
    assert ran.code == 0 and ran.out == "hello, you\n"
    assert ran.err.splitlines() == [
        "jaxprop: 'serve' of jaxprop.these (other_package:serve) cannot be loaded: "
        "ImportError: No module named 'uvicorn'; it is left out",
        "jaxprop: a command is left out: the name 'train' is jaxprop's own",
        "jaxprop: a command is left out: 3 is not a function",
    ]


def test_a_group_of_commands_and_its_exit_code(monkeypatch):
    import typer

    several = typer.Typer()
    several.command("one")(lambda: print("first"))
    several.command("two")(lambda: sys.exit(3))
    several.command("three")(lambda: (_ for _ in ()).throw(typer.Exit(4)))
    offer(monkeypatch, "jaxprop.commands", entry("several", lambda: several))
    assert run("several", "one") == Ran(0, "first\n", "")
    assert run("several", "two").code == 3
    assert run("several", "three").code == 4


class Twice(jp.Layer):
    """A layer of another package."""

    def forward(self, x, params, env=None):
        return 2 * x, ()


def test_layers_of_other_packages_are_found_and_broken_ones_are_said(empty, monkeypatch):
    with jax.enable_x64(False):
        net = jp.Chain(Twice(), jp.Linear(1))
        x = np.ones((1, 2), np.float32)
        jp.save("m", net, net.init(jax.random.key(0), x), inputs=x)
    is_a_mistake(run("summary", "m"), 1, "kind 'Twice' is not known", "entry points jaxprop.layers")
    offer(monkeypatch, "jaxprop.layers", entry("gone", broken), entry("Twice", lambda: Twice))
    ran = run("summary", "m")
    assert ran.code == 0 and "Twice()" in ran.out
    assert "'gone' of jaxprop.these (other_package:gone) cannot be loaded" in ran.err and "is left out" in ran.err


# As a program


def program(*args, **options):
    """Start the installed program."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    return subprocess.Popen([JAXPROP, *map(str, args)], **pipes, **options)


def test_the_program_and_ctrl_c_in_it(empty):
    """Ctrl-C in the middle of a long training: the best so far is saved, and can be used."""
    options = "--layers 64,1500,10 --batch-size 8 --epochs 10 --out run".split()
    training = program("train", "digits", *options)
    try:
        for line in training.stderr:
            if line.startswith("epoch 1 "):
                break
        training.send_signal(signal.SIGINT)
        out, err = training.communicate(timeout=60)
    finally:
        training.kill()
    assert training.returncode == 130 and "Traceback" not in err, err
    assert re.search(r"interrupted after [\d,]+ steps: the best parameters so far \(epoch \d+\) are saved", out)
    assert "target" in did("predict", "run", "--rows", "0:3").out


def test_the_program_says_a_mistake_in_one_line(empty):
    """Without a traceback, and with the exit code of a usage error."""
    found = program("train", "digits", "--epoch", 3)
    out, err = found.communicate(timeout=60)
    is_a_mistake(Ran(found.returncode, out, err), 2, "No such option: --epoch", "--epochs")


# Paths of parameters


def test_a_path_to_a_layer_without_parameters_means_the_next_that_has_them(runs):
    """`--param 0.W` of a network that begins with Standardize: the first weights, and it says so."""
    runs["digits"]
    ran = run("explain", "runs/digits", "--param", "0.W", "--index", "12,3", "--json")
    assert ran.code == 0 and "layer 0, Standardize" in ran.err and "1.W is taken" in ran.err
    told = json.loads(ran.out)
    assert told["path"] == "1.W" and {"value", "jax_grad", "factors", "paths"} <= told.keys()
    assert run("explain", "runs/digits", "--param", "9.W", "--index", "12,3").code == 1


# What the reviewer of the first version found


def test_a_yes_or_no_column_is_trained_with_the_sigmoid_cross_entropy(empty):
    rows = "\n".join(f"{i},{int(i > 20)}" for i in range(40))
    Path("bin.csv").write_text(f"age,bought\n{rows}\n")
    ran = did("train", "bin.csv", "--target", "bought", "--cost", "sigmoid_cross_entropy", "--epochs", "200", "--json")
    assert json.loads(ran.out)["final"]["validation_accuracy"] >= 7 / 8  # the row at the edge may be missed
    did("train", "bin.csv", "--target", "bought", "--output-activation", "sigmoid", "--epochs", "5")
    assert "Unstandardize" not in repr(jp.load("runs/bin")[0])  # whose targets 0 and 1 it could never reach


def test_a_table_keeps_its_held_out_rows_and_a_rate_in_its_own_unit(runs):
    runs["my"]
    held_out = did("predict", "runs/my", "--rows", ":", "--json")
    assert "held-out" in json.loads(held_out.out)["data"]
    training = did("predict", "runs/my", "--rows", ":", "--part", "training", "--json")
    sizes = [len(json.loads(ran.out)["predictions"]) for ran in (held_out, training)]
    assert sizes[0] < sizes[1]
    told = json.loads(did("explain", "runs/my", "--param", "1.W", "--index", "0,0", "--json").out)
    assert told["actual_change"] <= 0 and told["predicted_change"] <= 0
