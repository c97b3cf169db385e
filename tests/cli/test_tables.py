"""Tables as people have them: trained, evaluated, and their predictions written to files."""

import csv
import json

import numpy as np
import pytest

from tests.cli.commands import did, is_a_mistake, run, strict


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """A run on a table with a category, missing cells, a price with signs, and a column that says nothing."""
    folder = tmp_path_factory.mktemp("homes")
    r = np.random.default_rng(0)
    lines = ["name,area,quarter,price"]
    for i in range(60):
        area, quarter = 50 + 2 * i, ("north", "south")[i % 2]
        price = 1000 * area + 30000 * (i % 2) + r.integers(100)
        lines.append(f'home {i},{"" if i % 9 == 4 else area},{quarter},"${price:,}"')
    (folder / "homes.csv").write_text("\n".join(lines) + "\n")
    (folder / "new.csv").write_text("quarter,area,note\nsouth,90,a\neast,,b\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = did("train", "homes.csv", "--target", "price", "--epochs", 200, "--quiet")
    assert "column 'name' is left out" in ran.err
    return folder


def test_evaluate_says_errors_in_the_unit_of_the_target(homes, monkeypatch):
    monkeypatch.chdir(homes)
    told = strict(did("evaluate", "runs/homes", "--json").out)
    rows = strict(did("predict", "runs/homes", "--rows", ":", "--json").out)["predictions"]
    off = np.array([row["prediction"] - row["target"] for row in rows])
    assert told["rows"] == len(rows) == 12 and told["r2"] > 0.8
    np.testing.assert_allclose([told["rmse"], told["mae"]], [np.sqrt(np.mean(off**2)), np.abs(off).mean()], rtol=1e-4)
    out = did("evaluate", "runs/homes", "--data", "homes.csv").out
    assert "on 60 rows of homes.csv" in out and "in the unit of price" in out and "e+0" not in out
    (homes / "two.csv").write_text("quarter,area\nsouth,90\nnorth,80\n")
    is_a_mistake(run("evaluate", "runs/homes", "--data", "two.csv"), 1, "has no column 'price'; measuring it needs")


def test_predict_writes_every_row_with_its_own_columns(homes, monkeypatch):
    monkeypatch.chdir(homes)
    ran = did("predict", "runs/homes", "--data", "new.csv", "--out", "out/new.csv")
    assert "'quarter': training never saw 'east'" in ran.err and "2 rows with predictions" in ran.out
    with open("out/new.csv") as file:
        first, second = csv.DictReader(file)
    assert list(first) == ["quarter", "area", "note", "prediction"] and second["area"] == "" and second["note"] == "b"
    told = strict(did("predict", "runs/homes", "--data", "new.csv", "--json").out)["predictions"]
    assert [float(row["prediction"]) for row in (first, second)] == [row["prediction"] for row in told]
    did("predict", "runs/homes", "--data", "homes.csv", "--out", "all.jsonl")
    with open("all.jsonl") as file:
        rows = [json.loads(line) for line in file]
    assert [row["name"] for row in rows] == [f"home {i}" for i in range(60)]
    is_a_mistake(run("predict", "runs/homes", "--out", "all.xlsx"), 1, "unknown ending of --out '.xlsx'", ".csv")


def test_rows_held_out_stay_so_when_the_file_grows(homes, monkeypatch):
    monkeypatch.chdir(homes)
    before = strict(did("predict", "runs/homes", "--json").out)["predictions"]
    text = (homes / "homes.csv").read_text()
    try:
        (homes / "homes.csv").write_text(text + 'home 60,200,north,"$1,000"\n')
        grown = strict(did("predict", "runs/homes", "--json").out)
        assert grown["predictions"] == before and "the first 60" in grown["data"]
        (homes / "homes.csv").write_text(text.replace("home 1,52", "home 1,53"))
        is_a_mistake(run("predict", "runs/homes"), 1, "not the 60 rows that the model was trained on", "--data FILE")
    finally:
        (homes / "homes.csv").write_text(text)


def test_a_confusion_matrix_with_a_row_for_each_true_class(runs):
    runs["kinds"]
    told = strict(did("evaluate", "runs/kinds", "--json").out)
    matrix = np.array(told["confusion"])
    assert matrix.sum() == told["rows"] == 8 and told["accuracy"] == np.trace(matrix) / 8
    assert [row["rows"] for row in told["by_class"]] == matrix.sum(axis=1).tolist()
    out = did("evaluate", "runs/kinds").out
    assert "true ↓ predicted →" in out and "precision" in out
    did("predict", "runs/kinds", "--out", "kinds_out.csv")
    with open("kinds_out.csv") as file:
        rows = list(csv.DictReader(file))
    shares = [float(rows[0][f"probability {kind}"]) for kind in told["classes"]]
    assert len(rows) == 8 and sum(shares) == pytest.approx(1, abs=1e-5)
    assert rows[0]["prediction"] == told["classes"][int(np.argmax(shares))]
