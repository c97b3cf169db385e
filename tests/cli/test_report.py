"""`jaxprop train --report --log --tensorboard`, and `jaxprop report`."""

import csv

import pytest

from tests.cli.commands import did, is_a_mistake, run, write_files

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with everything, and the files that it read."""
    path = tmp_path_factory.mktemp("report")
    write_files(path)
    more = ["--report", "--log", path / "run.csv", "--log", path / "run.jsonl", "--tensorboard", path / "board"]
    done = did("train", path / "kinds.csv", "--target", "kind", "--epochs", 3, "--out", path / "run", *more)
    assert done.out.rstrip().endswith(f"{path}/run/report.html · {path}/run/training.png")
    return path


def test_a_training_leaves_its_report_its_picture_and_its_logs(folder):
    text = (folder / "run" / "report.html").read_text()
    assert "große Blüte" in text and "adam" in text and str(folder / "run") in text
    assert (folder / "run" / "training.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader((folder / "run.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"] and "validation_accuracy" in rows[0]
    assert len((folder / "run.jsonl").read_text().splitlines()) == 3 and list((folder / "board").iterdir())


def test_a_saved_run_has_the_same_report_later_and_on_other_rows(folder):
    done = did("report", folder / "run", "--out", folder / "again.html")
    assert done.out == f"saved in {folder}/again.html\n"
    assert (folder / "again.html").read_text() == (folder / "run" / "report.html").read_text()
    did("report", folder / "run", "--data", folder / "kinds.csv", "--out", folder / "all.html")
    assert "<dt>rows</dt><dd>40</dd>" in (folder / "all.html").read_text()


def test_mistakes(folder, monkeypatch):
    is_a_mistake(run("report", folder / "none"), 1, "none", "is not there")
    is_a_mistake(run("report", folder / "run", "--data", folder / "new.csv"), 1, "column")
    is_a_mistake(run("report", folder / "run", "--out", folder / "no" / "a.html"), 1, "there is no folder")
    train = ("train", folder / "kinds.csv", "--target", "kind", "--out", folder / "other", "--quiet")
    is_a_mistake(run(*train, "--log", folder / "run.txt"), 1, "run.txt", ".csv or .jsonl")
    monkeypatch.setattr("jaxprop.cli.train.find_spec", lambda name: None)
    is_a_mistake(run(*train, "--report"), 1, "--report", "matplotlib", "pip install")
    assert not (folder / "other").exists()
