"""Rows that stay in their files: .npy, .npz, ArrayRecord and CSV shards."""

import os
import pathlib
import sys
import tomllib

import jax
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.train.sources import files as files_module
from tests.data.asked import FLOWERS, refused

X = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
TARGETS = np.arange(12, dtype=np.int32) % 3
ALL = np.arange(12)


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch):
    monkeypatch.setattr(files_module, "KEPT", 0)


def save_npy(folder, x=X, targets=TARGETS, ends=(5, 12)):
    starts = [0, *ends[:-1]]
    for i, j in zip(starts, ends, strict=True):
        np.save(folder / f"x-{i}.npy", x[i:j])
        np.save(folder / f"targets-{i}.npy", targets[i:j])
    return folder


def save_npz(folder, ends=(5, 12), **others):
    for i, j in zip([0, *ends[:-1]], ends, strict=True):
        np.savez(folder / f"rows-{i}.npz", **others, x=X[i:j], y=TARGETS[i:j])
    return folder


def save_records(folder, x=X, ends=(5, 12)):
    pytest.importorskip("array_record")
    for i, j in zip([0, *ends[:-1]], ends, strict=True):
        jp.data.write_array_record(folder / f"rows.array_record-{i:05d}-of-2", (x[i:j], TARGETS[i:j]))
    return folder


@pytest.mark.parametrize("save", [save_npy, save_npz, save_records])
def test_rows_of_shards_are_those_of_the_arrays(save, tmp_path):
    rows = jp.data.stored(save(tmp_path))
    numbers = np.array([11, 0, 5, 4, 4])
    for found in (rows.read(numbers), rows.read(numbers, rows.read(ALL))):
        assert np.array_equal(found.x[:5], X[numbers]) and np.array_equal(found.targets[:5], TARGETS[numbers])
        assert found.x.dtype == np.float32 and found.targets.dtype == np.int32
    assert rows.digest() == jp.data.stored(tmp_path).digest() and rows.rows == 12
    assert rows.where(5).startswith(str(tmp_path)) and rows.where(5).endswith(("-5.npy, row 0", " 0"))
    net, cost = jp.Linear(3), jp.SoftmaxCrossEntropy()
    options = {"params": net.init(jax.random.key(0), X), "epochs": 2, "batch_size": 5, "progress": False}
    here, there = (jp.fit(net, cost, optax.sgd(0.1), data, **options) for data in ((X, TARGETS), rows))
    assert np.array_equal(here.params.W, there.params.W)


def test_files_are_found(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "targets.npy", TARGETS)
    ways = [(tmp_path,), (tmp_path / "x.npy",), (f"{tmp_path}/x.npy", f"{tmp_path}/targets.npy")]
    ways += [(f"{tmp_path}/*.npy",), ([tmp_path / "x.npy"], [tmp_path / "targets.npy"])]
    for way in ways:
        assert np.array_equal(jp.data.stored(*way).read(ALL).x, X)
    save_npy(tmp_path, ends=(2, 4, 12))
    assert jp.data.stored(tmp_path / "x-2.npy").rows == 2
    assert np.array_equal(jp.data.stored(f"{tmp_path}/x-*.npy", f"{tmp_path}/targets-*.npy").read(ALL).targets, TARGETS)


def test_numbers_of_every_kind(tmp_path):
    np.savez(tmp_path / "a.npz", x=X.astype(np.float64), targets=TARGETS.astype(">i8"))
    with jax.enable_x64(False):
        found = jp.data.stored(tmp_path / "a.npz").read(ALL)
    assert np.array_equal(found.x, X) and found.x.dtype == np.float32 and found.targets.tolist() == TARGETS.tolist()
    np.savez(tmp_path / "a.npz", x=X.astype(">f4"), targets=TARGETS.astype(">i4"))
    found = jp.data.stored(tmp_path / "a.npz").read(ALL)
    assert np.array_equal(found.x, X) and found.x.dtype.isnative and found.targets.dtype.isnative
    np.savez(tmp_path / "b.npz", x=X.astype(np.uint8), targets=np.full(12, 2**40))
    with jax.enable_x64(False), refused("targets: row 0 is 1099511627776, beyond int32"):
        jp.data.stored(tmp_path / "b.npz").read(ALL)


def test_what_is_wrong_is_named(tmp_path):
    def file(name, array, **others):
        np.savez(tmp_path / name, x=array, targets=TARGETS, **others)
        return tmp_path / name

    with refused("absent.npz: cannot be read (No such file or directory)"):
        jp.data.stored("absent.npz")
    with refused("*.npz: found no file of this pattern"):
        jp.data.stored(f"{tmp_path}/*.npz")
    with refused(f"{tmp_path}: found no rows in this folder; expected files of .npy, .npz"):
        jp.data.stored(tmp_path)
    with refused("rows.npz x: the array is stored by columns (Fortran order)"):
        jp.data.stored(file("rows.npz", np.asfortranarray(X)))
    with refused("rows.npz x: found Python objects, stored as a pickle"):
        jp.data.stored(file("rows.npz", X.astype(object)))
    with refused("rows.npz x: an array of shape []"):
        jp.data.stored(file("rows.npz", X[0, 0]))
    np.savez_compressed(tmp_path / "rows.npz", x=X, targets=TARGETS)
    with refused("rows.npz: x is compressed", "np.savez", "jp.data.npz"):
        jp.data.stored(tmp_path / "rows.npz")
    np.savez(tmp_path / "rows.npz", a=X)
    with refused("rows.npz: found the arrays a; expected x and targets"):
        jp.data.stored(tmp_path / "rows.npz")
    whole = file("rows.npz", X).read_bytes()
    (tmp_path / "rows.npz").write_bytes(whole[:100])
    with refused("rows.npz: not a whole npz file"):
        jp.data.stored(tmp_path / "rows.npz")


def test_npy_files_that_do_not_fit_together(tmp_path):
    np.save(tmp_path / "x-1.npy", X)
    with refused("x-1.npy: found no targets; expected x.npy and targets.npy side by side"):
        jp.data.stored(tmp_path / "x-1.npy")
    np.save(tmp_path / "targets-1.npy", TARGETS[:7])
    with refused("x-1.npy has 12 rows and", "targets-1.npy 7"):
        jp.data.stored(tmp_path)
    np.save(tmp_path / "x-2.npy", X[:, :1])
    with refused("x-2.npy: rows of x are float32[1], those of", "x-1.npy are float32[2]"):
        jp.data.stored(f"{tmp_path}/x-*.npy", tmp_path / "targets-1.npy")
    os.truncate(tmp_path / "x-1.npy", 150)
    with refused("x-1.npy: the file ends at byte 150, expected 224 for [12, 2]: copy it again"):
        jp.data.stored(tmp_path / "x-1.npy")
    np.savez(tmp_path / "rows.npz", x=X, targets=TARGETS)
    with refused("found files of several kinds"):
        jp.data.stored(tmp_path)
    with refused("its targets are in the same file"):
        jp.data.stored(tmp_path / "rows.npz", tmp_path / "x-1.npy")
    with refused("target= is of tables"):
        jp.data.stored(tmp_path / "rows.npz", target="price")


def test_records_of_another_kind_are_refused(tmp_path):
    module = pytest.importorskip("array_record.python.array_record_module")
    save_records(tmp_path, ends=(12,))
    jp.data.write_array_record(tmp_path / "rows.array_record-00012-of-2", (X[:, :1], TARGETS))
    rows = jp.data.stored(tmp_path)
    with refused("rows.array_record-00012-of-2, record 0: the record is of another kind than"):
        rows.read(ALL + 12)
    writer = module.ArrayRecordWriter(str(tmp_path / "other.arrayrecord"), "group_size:1")
    writer.write(b"hello")
    writer.close()
    with refused("other.arrayrecord, record 0: the record is not one of jp.data.write_array_record"):
        jp.data.stored(tmp_path / "other.arrayrecord")
    (tmp_path / "other.arrayrecord").write_bytes(b"nothing")
    with refused("other.arrayrecord: not a whole ArrayRecord file"):
        jp.data.stored(tmp_path / "other.arrayrecord")


def test_a_table_in_shards_is_converted_once(tmp_path, monkeypatch):
    head, *lines = FLOWERS.splitlines()
    for i in range(2):  # the first cell that is missing, and a class of its own, come in the second
        more = ["", ",7,lily", "9,8,"] if i else []
        (tmp_path / f"flowers-{i}.csv").write_text("\n".join([head, *lines, *more]))
    monkeypatch.setattr("jaxprop.data.csv_shards.AT_ONCE", 6)
    rows = jp.data.stored(tmp_path, target="kind")
    whole = jp.data.csv(tmp_path / "flowers-1.csv", target="kind", validation=0)
    found = rows.read(np.arange(rows.rows))
    assert rows.rows == 11 and rows.classes == whole.classes == ("iris", "lily", "rose")
    assert rows.table.names == ("petal", "sepal") and rows.notes == (
        "1 of 12 rows are left out: their kind is missing",
    )
    assert np.array_equal(found.x[5:, 0], whole.x[:, 0]) and np.array_equal(found.targets[5:], whole.targets)
    assert found.x[-1].tolist() == [1.5, 1.0, 7.0]  # the median, and that it is one
    (folder,) = (tmp_path / ".jaxprop").iterdir()
    before = (folder / "x.npy").stat().st_mtime_ns
    assert jp.data.stored(tmp_path, target="kind").digest() == rows.digest()
    assert (folder / "x.npy").stat().st_mtime_ns == before
    (tmp_path / "flowers-0.csv").write_text(FLOWERS + "1,2,tulip\n")
    assert jp.data.stored(tmp_path, target="kind").classes == ("iris", "lily", "rose", "tulip")
    prices = jp.data.stored(tmp_path, target="sepal", features=["petal"], cache=tmp_path / "elsewhere")
    assert prices.classes is None and prices.read(np.array([0, 1])).targets.tolist() == [[1.0], [2.0]]


def test_what_is_wrong_in_a_table_is_named_by_line(tmp_path, write):
    with refused("rows.csv: which column is the target?"):
        jp.data.stored(write(FLOWERS))
    with refused("rows.csv, line 7, column 'petal': found 'x', expected a number"):
        jp.data.stored(write(FLOWERS + "x,3,rose\n"), target="kind")
    with refused("rows.csv, line 7: a short row"):
        jp.data.stored(write(FLOWERS + "3,rose\n"), target="kind")
    (tmp_path / "other.csv").write_text("petal,kind\n1,rose\n2,iris\n")
    with refused("'sepal': not in all files; expected the columns of"):
        jp.data.stored([write(FLOWERS), tmp_path / "other.csv"], target="kind")
    assert not [inner for inner in (tmp_path / ".jaxprop").iterdir() if inner.is_dir()]  # nothing half-converted


@pytest.mark.parametrize("save", [save_npy, save_npz, save_records])
def test_load_leaves_rows_in_their_files(save, tmp_path):
    data = jp.data.load(save(tmp_path), validation=3)
    x, targets = (np.concatenate([a[:], b[:]]) for a, b in zip((data.x, data.targets), data.validation, strict=True))
    assert not isinstance(data.x, np.ndarray) and data.x.shape == (9, 2) and data.classes == ("0", "1", "2")
    place = [np.flatnonzero((row == X).all(axis=1)).item() for row in x]
    assert sorted(place) == list(range(12)) and np.array_equal(TARGETS[place], targets)
    again = jp.data.load_again(tmp_path, {"validation": 3}, jp.data.seen(data))
    assert np.array_equal(again.x[:], data.x[:]) and data.x[-1].tolist() == x[8].tolist()
    jp.fit(jp.Linear(3), jp.SoftmaxCrossEntropy(), optax.sgd(0.1), (data.x, data.targets), validation=data.validation,
           epochs=1, progress=False)  # fmt: skip
    with refused("these are not the 12 rows that the model was trained on"):
        jp.data.load_again(tmp_path, {"validation": 4}, jp.data.seen(data))


@pytest.mark.parametrize("save", [save_npy, save_records])
@pytest.mark.parametrize("x", [X[:, 0].astype(np.float64), X.astype(np.uint8)], ids=["numbers", "bytes"])
def test_what_is_loaded_is_float32_and_has_features(save, x, tmp_path):
    data = jp.data.load(save(tmp_path, x), validation=0)
    assert data.x.dtype == np.float32 and data.x[:].dtype == np.float32
    assert np.array_equal(data.x[:], x.reshape(12, -1).astype(np.float32))


def test_a_pattern_of_tables_is_loaded_as_one(tmp_path):
    for i in range(2):
        (tmp_path / f"flowers-{i}.csv").write_text(FLOWERS)
    data = jp.data.load(f"{tmp_path}/*.csv", target="kind", validation=0)
    assert data.x.shape == (10, 2) and data.classes == ("iris", "rose") and data.table.names == ("petal", "sepal")
    assert data.source == "*.csv (10 rows in files)" and data.target == "kind"
    with refused("which column is the target?"):
        jp.data.load(f"{tmp_path}/*.csv")


def test_without_array_record_the_extra_that_has_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with refused("array_record, which is not installed", 'pip install ".[large]"'):
        jp.data.write_array_record(tmp_path / "rows.array_record", (np.ones((2, 1)), np.ones((2, 1))))
    project = tomllib.loads((pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(name.startswith("array-record") for name in project["optional-dependencies"]["large"])
