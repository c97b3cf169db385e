"""A mistake is one clear line on standard error and a non-zero exit code, never a traceback."""

import jax
import numpy as np
import pytest

import jaxprop as jp
from tests.cli.commands import MOONS, Ran, did, is_a_mistake, program, run
from tests.drawing import draw


def saved(folder):
    """A model that was never trained, of a network alone: without a cost, and without the data."""
    net, x = jp.Linear(1), np.ones((1, 2), np.float32)
    with jax.enable_x64(False):
        jp.save(folder, net, draw(net, x), inputs=x)


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
    ((*ON_DIGITS, "--init", "he_norml"), 1, ["unknown --init 'he_norml' (did you mean 'he_normal'?)"]),
    ((*ON_DIGITS, "--precision", "float46"), 1, ["unknown --precision 'float46' (did you mean"]),
    ((*ON_DIGITS, "--grad", "manuel"), 1, ["unknown --grad 'manuel' (did you mean 'manual'?)"]),
    ((*ON_DIGITS, "--every", "5"), 1, ["--every 5 says how often to record", "--monitor noise,norms"]),
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
    ((*ON_DIGITS, "--validation", "1.5"), 1, ["--validation 1.5; expected a fraction from 0 to below 1"]),
    ((*ON_DIGITS, "--validation", "1797"), 1, ["holds out 1797 of 1797 rows"]),
    ((*ON_DIGITS, "--validation", "nan"), 1, ["--validation nan"]),
    ((*ON_DIGITS, "--target", "digit"), 1, ["digits has no option --target; known: --seed"]),
    (("train", "line", "--slope", "nan"), 1, ["--slope is nan"]),
    (("train", "my.csv"), 1, ["which column is the target? pass --target", "price, rooms, area"]),
    (("train", "my.csv", "--target", "prise"), 1, ["unknown column of my.csv: 'prise' (did you mean 'price'?)"]),
    (("train", "my.csv", "--target", "price", "--features", "rooms, aera"), 1, ["'aera' (did you mean 'area'?)"]),
    (("train", "nan.csv", "--target", "a", "--epochs", "1", "--features", "a"), 1, ["--features a, target 'a'"]),
    (("train", "bits.csv", "--target", "b"), 1, ["only 0 and 1", "two classes (--labels) or numbers (--numbers)"]),
    (("train", "typo.csv", "--target", "b"), 1, ["found 'x', expected a number; correct it, or", "with --labels"]),
    (("train", "csv", "--target", "b"), 1, ["csv is a kind of file: write the path of yours in its place"]),
    (("train", "text.csv", "--target", "b", "--validation", "0"), 1, ["text.csv, line 3", "found 'x', expected a"]),
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
    (("explain", "runs/my", "--row", "8"), ["--row 8: there are 8 rows (0 to 7)"]),
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
def test_a_damaged_run_is_one_clear_line(command, file, content, words, tmp_path):
    saved(tmp_path / "run")
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
    saved("m")
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
              "--optimizer", "sgd", "--learning-rate", "1e25", "--validation", "0", "--quiet")  # fmt: skip
    is_a_mistake(
        ran, 1, "training stopped at step ", "the first not finite is the output of layer ", "smaller learning"
    )
    assert not list(empty.rglob("model.json"))


def test_a_bug_is_not_hidden(empty, monkeypatch):
    """Only mistakes that jaxprop can name become one line: anything else keeps its traceback."""
    monkeypatch.setattr("jaxprop.cli.train.fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*MOONS)


def test_the_program_says_a_mistake_in_one_line(empty):
    """Without a traceback, and with the exit code of a usage error."""
    found = program("train", "digits", "--epoch", 3)
    out, err = found.communicate(timeout=60)
    is_a_mistake(Ran(found.returncode, out, err), 2, "No such option: --epoch", "--epochs")
