"""`jaxprop sweep`: a table of many trainings, and the best of them as a model like any other."""

import csv
from importlib.util import find_spec

import numpy as np
import pytest

import jaxprop as jp
from tests.cli.commands import did, is_a_mistake, loaded, run, strict

MOONS = ("sweep", "moons", "--epochs", 2, "--quiet")


def test_a_sweep_prints_a_table_and_saves_the_best(empty):
    ran = did(*MOONS, "--learning-rate", "0.001,0.1", "--seeds", 2, "--optimizer", "sgd")
    lines = ran.out.splitlines()
    assert lines[1].startswith("learning rate") and lines[2].split()[0] == "0.001" and "4 runs in 1 program" in ran.out
    with open("runs/moons-sweep/sweep.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["learning_rate"] for row in rows] == ["0.001", "0.001", "0.1", "0.1"]
    best = min(rows, key=lambda row: float(row["best_validation_cost"]))
    about, (net, params) = jp.describe("runs/moons-sweep"), loaded("runs/moons-sweep")
    told = about.info.training
    assert (told["learning_rate"], told["seed"], told["optimizer"]) == (0.1, int(best["seed"]), "sgd")
    x, labels = jp.data.load("moons").validation
    measured = jp.evaluate(net, about.cost)(x, params, labels)
    assert measured["cost"] == pytest.approx(float(best["best_validation_cost"]), rel=1e-4)
    assert find_spec("matplotlib") is None or (empty / "runs/moons-sweep/sweep.png").stat().st_size > 10_000
    assert "prediction" in did("predict", "runs/moons-sweep", "--rows", "0:2").out


@pytest.mark.slow
def test_what_changes_the_program_has_one_each(empty):
    several = ("--layers", "2,4,2 2,3,2", "--activation", "tanh,relu", "--seeds", "3,5")
    told = strict(did(*MOONS, *several, "--json").out)
    assert told["programs"] == 4 and told["in_turn"] == ["layers", "activation"]
    assert len(told["runs"]) == 8 and {row["seed"] for row in told["runs"]} == {3, 5}
    best = told["best"]["setting"]
    found = [str(layer) for layer in loaded(told["out"])[0].layers if isinstance(layer, jp.Linear)]
    assert found == [f"Linear({size})" for size in best["layers"].split(",")[1:]]
    assert told["best"]["validation_cost"] == min(row["best_validation_cost"] for row in told["runs"])
    one = strict(did("train", *MOONS[1:], "--seed", 5, "--batch-size", 50, "--json").out)["final"]
    told = strict(did(*MOONS, "--seeds", "5,6", "--batch-size", "16,50", "--json").out)
    (alone,) = [row for row in told["runs"] if (row["seed"], row["batch_size"]) == (5, 50)]
    assert told["in_turn"] == ["batch_size"]
    assert alone["validation_cost"] == pytest.approx(one["validation_cost"], rel=1e-5)


@pytest.mark.slow
def test_a_table_in_its_own_unit(empty):
    told = did(
        "sweep", "my.csv", "--target", "price", "--learning-rate", "0.01,0.03", "--seeds", 2, "--quiet", "--json"
    )
    best = strict(told.out)["best"]
    assert best["validation_r2"] > 0.9 and type(loaded("runs/my-sweep")[0].layers[-1]).__name__ == "Unstandardize"


@pytest.mark.slow
def test_rows_in_files_are_read_for_a_sweep(empty):
    data = jp.data.load("moons", rows=50)
    np.save("x.npy", data.x)
    np.save("targets.npy", data.targets)
    assert strict(did("sweep", "x.npy", "--seeds", 1, "--epochs", 1, "--quiet", "--json").out)["stopped"] == "finished"


MISTAKES = [
    (("--learning-rate", "0.1,fast"), "--learning-rate: found '0.1,fast', expected numbers between commas"),
    (("--learning-rate", "0.1,-1"), "--learning-rate: found -1.0, expected a positive number"),
    (("--learning-rate", "0.1,0.1"), "--learning-rate: found 0.1 twice"),
    (("--learning-rate", ""), "expected numbers between commas"),
    (("--optimizer", "sgd,adma"), "unknown --optimizer 'adma' (did you mean 'adam'?)"),
    (("--activation", "tanh,rellu"), "unknown --activation 'rellu' (did you mean 'relu'?)"),
    (("--batch-size", "16,0"), "--batch-size: found 0, expected whole numbers ≥ 1"),
    (("--batch-size", "1.5"), "expected whole numbers between commas"),
    (("--seeds", "0"), "--seeds: found 0, expected whole numbers ≥ 1"),
    (("--layers", "2,3,2 2,3,1"), "--layers: '2,3,1' ends with 1, but moons"),
    (("--grad", "manuel"), "did you mean 'manual'"),
    (("--out", "file"), "file: cannot be written"),
]


@pytest.mark.parametrize("options, words", MISTAKES, ids=[" ".join(options) for options, _ in MISTAKES])
def test_a_mistake_is_one_clear_line(options, words, empty):
    is_a_mistake(run(*MOONS, *options), 1, words)
    assert not list(empty.rglob("model.json"))
