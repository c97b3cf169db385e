"""`jaxprop predict --out`: rows and predictions in a file; and predictions in the target's own unit."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

import jaxprop as jp
from jaxprop.cli.predict import outputs_of, predictions, table
from jaxprop.cli.runs import Rows
from tests.cli.commands import as_a_user, did, is_a_mistake, run, strict
from tests.cli.test_evaluate import answering_x

KINDS = ("iris", "rose")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("out")
    answering_x(path / "kinds", 2, jp.SoftmaxCrossEntropy(), classes=KINDS, columns=("a", "b"), target="kind")
    lines = ["note,b,prediction,a,kind", '"one, two",0,x,1,rose', "three,2,,1,rose", "four,0,y,0.5,iris"]
    (path / "new.csv").write_text("\n".join(lines) + "\n")
    np.savez(path / "new.npz", x=np.eye(2), targets=np.array(KINDS))
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_row_with_its_own_columns_in_every_form(ending, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    ran = did("predict", "kinds", "--data", "new.csv", "--out", f"answers.{ending}")
    assert ran.out == f"kinds on new.csv: 3 rows with predictions in answers.{ending}\n"
    text = (folder / f"answers.{ending}").read_bytes()
    if ending in ("csv", "tsv"):
        rows = list(csv.DictReader(text.decode().splitlines(), delimiter="\t" if ending == "tsv" else ","))
    elif ending == "parquet":
        from pyarrow.parquet import read_table

        rows = read_table(f"answers.{ending}").to_pylist()
    else:
        rows = json.loads(text) if ending == "json" else [json.loads(line) for line in text.splitlines()]
    own = ["note", "b", "prediction", "a", "kind"]
    assert list(rows[0]) == [*own, "prediction (jaxprop)", "probability iris", "probability rose"]
    assert [row["note"] for row in rows] == ["one, two", "three", "four"] and rows[1]["prediction"] == ""
    assert [row["prediction (jaxprop)"] for row in rows] == ["iris", "rose", "iris"]
    assert [float(row["probability rose"]) for row in rows] == pytest.approx(1 / (1 + np.exp([1, -1, 0.5])), rel=1e-6)
    assert not list(folder.glob(".answers*")), "no temporary file is left"


def test_rows_that_are_no_table_have_their_number_and_target(folder, monkeypatch):
    monkeypatch.chdir(folder)
    ran = did("predict", "kinds", "--data", "new.npz", "--rows", "1", "--out", "one.jsonl", "--json")
    assert strict(ran.out) == {"model": "kinds", "data": "new.npz (2 rows)", "out": "one.jsonl", "rows": 1}
    told = json.loads((folder / "one.jsonl").read_text())
    assert list(told) == ["row", "prediction", "probability iris", "probability rose", "kind"]
    assert (told["row"], told["prediction"], told["kind"]) == (1, "rose", "rose")


@pytest.mark.parametrize(
    "out, words",
    [
        ("answers.xlsx", ["unknown ending of --out '.xlsx'", ".csv"]),
        ("kinds/model.json/a.csv", ["cannot be written"]),
        ("answers.parquet", ["needs pyarrow", "[table]"]),
    ],
)
def test_a_file_is_written_whole_or_not_at_all(out, words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    is_a_mistake(run("predict", "kinds", "--data", "new.csv", "--out", out), 1, *words)
    assert not list(folder.glob("*.xlsx"))
    (folder / "kept.csv").write_text("before")
    is_a_mistake(run("predict", "kinds", "--data", "new.csv", "--rows", "9", "--out", "kept.csv"), 1, "rows: found")
    assert (folder / "kept.csv").read_text() == "before"


def answers(cost, y, classes=None, targets=None):
    y = np.asarray(y, np.float32)
    about = SimpleNamespace(info=SimpleNamespace(classes=classes), cost=cost)
    saved = SimpleNamespace(net=lambda x, params: x, params=(), about=about)
    rows = Rows(list(range(len(y))), y, targets, "rows")
    with as_a_user():
        return [row["prediction"] for row in predictions(saved, rows)], outputs_of(saved, rows)


@pytest.mark.parametrize(
    "cost, y, expected",
    [
        (jp.PoissonNegativeLogLikelihood(), [[0.0], [1.0]], [1, np.e]),
        (jp.GaussianNegativeLogLikelihood(), [[3.0, 9.0], [4.0, 9.0]], [3, 4]),
        (jp.SigmoidCrossEntropy(), [[0.0], [2.0]], [0.5, 1 / (1 + np.exp(-2))]),
        (jp.Huber(), [[3.0], [4.0]], [3, 4]),
        (None, [[3.0], [4.0]], [3, 4]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_are_in_the_unit_of_the_target(cost, y, expected):
    found, columns = answers(cost, y)
    assert found == pytest.approx(expected, rel=1e-6) and columns == {"prediction": found}


def test_one_logit_decides_between_two_classes():
    found, columns = answers(jp.SigmoidCrossEntropy(), [[-1.0], [2.0]], ("no", "yes"), np.array([0, 1]))
    assert found == columns["prediction"] == ["no", "yes"]
    shares = np.array([columns["probability no"], columns["probability yes"]])
    np.testing.assert_allclose(shares, [[1 / (1 + np.exp(-1)), 1 / (1 + np.exp(2))], 1 / (1 + np.exp([1, -2]))], 1e-6)


def test_the_truth_stands_under_the_name_of_the_target():
    rows = [{"row": 0, "prediction": 123456.7, "target": 12.3456}]
    assert [line.split() for line in table(rows, "price").splitlines()] == [
        ["row", "prediction", "price"],
        ["0", "123457", "12.35"],
    ]
