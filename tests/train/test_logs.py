"""`fit(..., log=)`: CSV, JSON lines and TensorBoard hold what the history does, also of a run that goes on."""

import csv
import errno
import io
import json
from importlib.util import find_spec

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.errors import JaxpropError
from jaxprop.train.progress import Progress
from tests.train.test_fit import NET, SQUARES, X, fit

VALIDATION = {"validation": (X, SQUARES)}


def of_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def of_json(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def same(found, history):
    """Rows of a file are those of the history, number by number."""
    return [{k: float(v) for k, v in row.items()} for row in found] == [dict(row) for row in history]


def test_a_line_an_epoch_with_all_that_the_history_says(tmp_path):
    paths = [tmp_path / "new" / "run.csv", tmp_path / "run.jsonl"]
    result = fit(epochs=3, log=paths, **VALIDATION)
    assert same(of_csv(paths[0]), result.history) and same(of_json(paths[1]), result.history)
    assert paths[0].read_text().startswith("epoch,cost,validation_cost,validation_r2,seconds\n")


def test_it_is_there_after_every_epoch_and_not_only_at_the_end(tmp_path):
    path, seen = tmp_path / "run.csv", []
    fit(epochs=3, log=path, on_epoch=lambda row, state: seen.append(len(of_csv(path))))
    assert seen == [0, 1, 2]  # those before: an epoch's row is written when on_epoch has had its say


@pytest.mark.parametrize("name, read", [("run.csv", of_csv), ("run.jsonl", of_json)])
def test_a_run_that_goes_on_adds_and_another_begins_anew(tmp_path, name, read):
    path = tmp_path / name
    first = fit(epochs=2, log=path)
    fit(epochs=2, log=path, state=first.state, params=None)
    assert [float(row["epoch"]) for row in read(path)] == [1, 2, 3, 4]
    again = fit(
        epochs=1, log=path, state=first.state, params=None
    )  # epochs 3 and 4 of the file did not happen to this one
    assert [float(row["epoch"]) for row in read(path)] == [1, 2, 3]
    assert same(read(path), (*first.history, *again.history))
    fit(epochs=1, log=path)
    assert [float(row["epoch"]) for row in read(path)] == [1]


def test_columns_that_come_later_are_columns_of_the_whole_table(tmp_path):
    path = tmp_path / "run.csv"
    monitor = {"noise": jp.stats.NoiseScale()}
    result = fit(epochs=3, log=path, monitor=monitor, every=6)  # 4 steps an epoch
    found = of_csv(path)
    assert list(found[0])[-1] == "seconds" and "noise.scale" in found[0]
    for row, written in zip(result.history, found, strict=True):
        assert {k: float(v) for k, v in written.items() if v} == dict(row)


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path):
    path = tmp_path / "run.jsonl"
    fit(epochs=1, log=path, on_epoch=lambda row, state: row.update(odd=float("inf"), even=2.0))
    assert of_json(path)[0]["odd"] is None and of_json(path)[0]["even"] == 2.0


def test_tensorboard_reads_it(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "board"
    first = fit(epochs=2, log=folder, **VALIDATION)
    second = fit(epochs=1, log=str(folder), state=first.state, params=None, **VALIDATION)
    board = accumulator.EventAccumulator(str(folder))
    board.Reload()
    for name in ("cost", "validation_cost", "validation_r2"):
        events = board.Scalars(f"epoch/{name}")
        assert [event.step for event in events] == [4, 8, 12]
        wanted = [row[name] for row in (*first.history, *second.history)]
        assert [event.value for event in events] == pytest.approx(wanted, rel=1e-6)
    assert board.Scalars("training/cost")[-1].step == 12
    another = fit(epochs=1, log=folder, **VALIDATION)
    board = accumulator.EventAccumulator(str(folder))
    board.Reload()
    assert [event.value for event in board.Scalars("epoch/cost")] == pytest.approx([another.row["cost"]], rel=1e-6)


def test_several_watchers_see_one_run_and_all_are_closed(tmp_path):
    ended = []

    class Watcher:
        looking = False

        def __init__(self, name):
            self.name = name

        def report(self, moment):
            pass

        def epoch(self, row):
            pass

        def close(self, moment, stopped):
            ended.append((self.name, stopped))
            if self.name == "a":
                raise RuntimeError("a cannot close")

    with pytest.raises(RuntimeError, match="a cannot close"):
        fit(epochs=1, log=[lambda about: Watcher("a"), lambda about: Watcher("b")])
    assert sorted(ended) == [("a", "finished"), ("b", "finished")]


def test_a_full_disk_does_not_end_training(tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"

    def full(path, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("jaxprop.train.logs.rows._append", full)
    with pytest.warns(
        UserWarning, match=r"log .*run.jsonl: cannot be written any more: No space left .* before epoch 1"
    ):
        result = fit(epochs=3, log=path)
    assert len(result.history) == 3


@pytest.mark.parametrize(
    "log, words",
    [
        ("", "log must be a path such as .* found ''"),
        (7, "log must be a path such as 'run.csv', .* found 7"),
        ("run.txt", r"log 'run.txt' must end in .csv or .jsonl, or name a folder"),
        ("/dev/null/run.csv", r"log /dev/null/run.csv: cannot be written: File exists \(/dev/null\)"),
    ],
)
def test_a_wrong_log_is_told_before_the_first_step(log, words):
    with pytest.raises(JaxpropError, match=words):
        fit(epochs=1, log=log, on_epoch=lambda row, state: pytest.fail("it trained"))


def test_a_file_that_is_no_log_is_not_written_over(tmp_path):
    path, state = tmp_path / "table.csv", fit(epochs=1).state
    path.write_text("a,b\n1,2\n")
    for going_on in ({"state": state, "params": None}, {}):  # a run that begins too: it may be its own data set
        with pytest.raises(JaxpropError, match=r"table.csv: is there already, and is no log of a run"):
            fit(epochs=1, log=path, **going_on)
        assert path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("name, read, torn", [("run.csv", of_csv, "3,0.1"), ("run.jsonl", of_json, '{"epoch": 3, "c')])
def test_a_line_that_a_full_disk_tore_is_written_anew(tmp_path, name, read, torn):
    path = tmp_path / name
    first = fit(epochs=3, log=path)
    rows = read(path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]) + torn)
    fit(epochs=1, log=path, state=first.state, params=None)
    assert read(path)[:2] == rows[:2] and [float(row["epoch"]) for row in read(path)] == [1, 2, 4]


def test_what_on_epoch_adds_is_plain_in_every_log(tmp_path):
    added = {
        "a": np.float32(2),
        "b": jnp.float32(np.nan),
        "c": np.arange(2),
        "d": {"e": [jnp.inf]},
        "f": "x",
        "g": None,
    }
    paths = [tmp_path / "run.csv", tmp_path / "run.jsonl", *([tmp_path / "board"] if find_spec("tensorboardX") else [])]
    result = fit(epochs=1, log=paths, on_epoch=lambda row, state: row.update(added))
    found = of_json(paths[1])[0]
    assert {k: found[k] for k in added} == {"a": 2.0, "b": None, "c": [0, 1], "d": {"e": [None]}, "f": "x", "g": None}
    assert type(result.row["b"]) is float and result.row["c"] == [0, 1] and of_csv(paths[0])[0]["a"] == "2.0"


def test_a_pipe_gets_a_line_an_epoch(monkeypatch):
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", told)
    jp.fit(NET, jp.HalfSquaredError(), optax.sgd(0.1), (X, SQUARES), epochs=37, batch_size=16)
    lines = told.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == [f"epoch {e}" for e in range(1, 38)]


def test_a_terminal_keeps_about_ten_lines(monkeypatch):
    progress = Progress(37, 37)
    progress.live, said = True, []
    monkeypatch.setattr(progress.bar.console, "print", lambda line, **_: said.append(line))
    for epoch in range(1, 38):
        progress.epoch({"epoch": epoch, "cost": 0.5, "seconds": 1.0})
    assert 10 <= len(said) <= 13 and said[-1].startswith("epoch 37")
