"""Rows that are not in memory: files, data sets that are indexed, and streams of batches."""

import os
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.errors import DataError, JaxpropError
from jaxprop.train.rows import Rows
from jaxprop.train.sources import Source, Stream, files as files_module, read_data
from jaxprop.train.sources.files import FileArray, Piece
from tests.train.test_runs import HALF, KEY, WEIGHTS, X, equal

NET, ADAM = jp.Linear(1), optax.adam(0.05)
TARGETS = np.sum(X**2, axis=1, keepdims=True)


def fit(data=(X, TARGETS), net=NET, **options):
    usual = {"epochs": 3, "batch_size": 5, "key": KEY, "progress": False}
    return jp.fit(net, HALF, ADAM, data, **usual | options)


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch):
    """Arrays this small would be read once and kept in memory."""
    monkeypatch.setattr(files_module, "KEPT", 0)


def mapped(folder, name, array):
    np.save(folder / name, array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def in_shards(folder, array, sizes=(5, 1, 6)):
    pieces, start = [], 0
    for i, size in enumerate(sizes):
        path = folder / f"shard-{i}"
        path.write_bytes(b"head" * i + array[start : start + size].tobytes())
        pieces.append(Piece(path, 4 * i, size))
        start += size
    return FileArray(pieces, array.dtype, array.shape[1:])


def descriptors():
    """The files that this process has open, where the system tells."""
    folder = Path("/proc/self/fd")
    return [os.path.realpath(file) for file in folder.iterdir()] if folder.exists() else []


class Elements:
    """A data set that is indexed, as Grain's are."""

    def __init__(self, x=X, targets=TARGETS):
        self.x, self.targets = x, targets

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "targets": self.targets[i]}


class Batches:
    """A data set that is gone through, as Grain's `IterDataset` is."""

    def __init__(self, sizes=(5, 5, 2)):
        self.ends = np.cumsum(sizes)

    def __iter__(self):
        return iter([(X[i:j], TARGETS[i:j]) for i, j in zip([0, *self.ends[:-1]], self.ends, strict=True)])


def kinds(folder):
    """The same rows, wherever they lie."""
    maps = mapped(folder, "x", X), mapped(folder, "targets", TARGETS)
    return {"maps": maps, "one map": (maps[0], TARGETS), "shards": (in_shards(folder, X), TARGETS), "set": Elements()}


@pytest.mark.parametrize("kind", ["maps", "one map", "shards", "set"])
def test_training_on_rows_elsewhere_is_training_on_them_in_memory(kind, tmp_path):
    net = jp.Chain(jp.Linear(3), jp.BatchNorm(), jp.Tanh(), jp.Linear(1))
    data = kinds(tmp_path)[kind]
    options = {"net": net, "weights": WEIGHTS, "grad": "manual"}
    here, there = fit(validation=(X, TARGETS), **options), fit(data, validation=data, **options)
    assert equal(here.params, there.params) and here.steps == there.steps
    assert [row["cost"] for row in here.history] == [row["cost"] for row in there.history]
    assert here.row["validation_r2"] == pytest.approx(there.row["validation_r2"], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_rows_that_are_kept_may_be_of_another_precision(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "KEPT", 2**20)
    data = mapped(tmp_path, "x", X.astype("float16")), TARGETS.astype(np.float32)
    here, there = (fit(rows, precision=dtype, epochs=1) for rows in ((X.astype("float16"), data[1]), data))
    assert equal(here.params, there.params)


def test_rows_that_are_kept_in_32_bits_are_read_again_for_64(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "KEPT", 2**20)
    x = np.random.default_rng(0).normal(size=(12, 2))
    rows = jp.data.stored([mapped(tmp_path, "x", x).filename], [mapped(tmp_path, "targets", TARGETS).filename])
    with jax.enable_x64(False):
        assert rows.read(np.arange(12)).x.dtype == np.float32
        there = fit(rows, precision="float64", epochs=1).params
        assert equal(there, fit((x, TARGETS), precision="float64", epochs=1).params)
        assert rows.read(np.arange(12)).x.dtype == np.float32


@pytest.mark.slow
def test_a_mask_is_that_of_rows_elsewhere_too(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxprop.train.metrics.ROWS_AT_ONCE", 5)
    tokens, mask = np.random.default_rng(0).normal(size=(12, 4, 2)).astype(np.float32), np.ones((12, 4), bool)
    mask[:, 2:] = False
    net = jp.MultiHeadAttention(1)
    params = net.init(KEY, tokens)
    there = jp.predict(net, mapped(tmp_path, "x", tokens), params, mask=mask)
    assert np.array_equal(there, jp.predict(net, tokens, params, mask=mask))
    assert not np.array_equal(there, jp.predict(net, tokens, params))


def test_measuring_in_parts_is_measuring_at_once(tmp_path, monkeypatch):
    params = fit().params
    measure, whole = jp.evaluate(NET, HALF), jp.evaluate(NET, HALF)(X, fit().params, TARGETS, weights=WEIGHTS)
    monkeypatch.setattr("jaxprop.train.metrics.ROWS_AT_ONCE", 5)
    for data in kinds(tmp_path).values():
        assert measure(data, params, weights=WEIGHTS) == pytest.approx(whole, rel=1e-12)
    assert measure(Batches(), params) == pytest.approx(measure(X, params, TARGETS), rel=1e-12)
    with pytest.raises(JaxpropError, match=r"bring their targets: write evaluate\(\.\.\.\)\(rows, params\)"):
        measure(Stream(Batches()), params, TARGETS)
    y = jp.predict(NET, X, params)
    assert np.array_equal(y, jp.predict(NET, np.load(tmp_path / "x.npy", mmap_mode="r"), params))
    assert np.array_equal(y, jp.predict(NET, Elements(), params))
    labels, net = np.arange(12) % 3, jp.Chain(jp.Linear(3))
    params = net.init(KEY, X)
    measure = jp.evaluate(net, jp.SoftmaxCrossEntropy())
    assert measure(Elements(targets=labels), params) == measure(X, params, labels)


def test_rows_of_shards_come_in_the_order_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "OPEN", 1)  # files are closed and opened again
    array, numbers = in_shards(tmp_path, X), np.array([7, 0, 11, 5, 0, 4])
    for array.slow in (False, True):
        assert np.array_equal(array.take(numbers), X[numbers])
        assert np.array_equal(array[2:9], X[2:9]) and np.array_equal(array[-1], X[-1])
    assert len(array.open) == 1 and len([file for file in descriptors() if file.startswith(str(tmp_path))]) <= 1
    assert array.where(5).endswith("shard-1, row 0") and array.where(11).endswith("shard-2, row 5")


def test_a_stream_has_its_own_order_and_epochs():
    once = fit(Batches())
    assert once.steps == 9 and once.history[0]["cost"] > once.history[-1]["cost"]
    by_hand = fit((X, TARGETS), batch_size=12, epochs=1), fit(Batches((12,)), epochs=1)
    assert equal(by_hand[0].params, by_hand[1].params) or by_hand[0].row["cost"] == pytest.approx(
        by_hand[1].row["cost"]
    )
    counted = fit(Stream(Batches(), steps_per_epoch=4))
    assert counted.steps == 12
    assert equal(counted.params, fit(Batches(), epochs=4).params)  # 12 steps of the same batches in turn
    stream = Stream(Batches(), steps_per_epoch=4)
    assert equal(fit(stream, epochs=2).params, fit(stream, epochs=2).params)  # a run begins at the beginning


@pytest.mark.parametrize("kind", [pytest.param("shards", marks=pytest.mark.slow), "stream"])
def test_a_kept_run_goes_on_and_knows_its_rows(kind, tmp_path):
    data = Stream(Batches(), steps_per_epoch=2) if kind == "stream" else (in_shards(tmp_path, X), TARGETS)
    other = Stream(Batches((4,)), steps_per_epoch=3) if kind == "stream" else (in_shards(tmp_path, X), TARGETS + 1)
    keep = {"checkpoints": tmp_path / "kept", "resume": True}
    fit(data, epochs=2, **keep)
    assert equal(fit(data, epochs=5, **keep).params, fit(data, epochs=5).params)
    with pytest.raises(JaxpropError, match=r"keeps another run: data (arrays.1.sha256|steps) is"):
        fit(other, epochs=6, **keep)


def test_a_stream_goes_on_where_it_was():
    stream = Stream(Batches((2, 2, 3, 3, 2)), steps_per_epoch=2)
    sizes = [len(rows.targets) for epoch in range(3) for rows in stream.epoch(epoch)]
    assert sizes == [2, 2, 3, 3, 2, 2]
    again = Stream(Batches((2, 2, 3, 3, 2)), steps_per_epoch=2)
    assert [len(rows.targets) for rows in again.epoch(1, 1)] == [3]
    assert [len(rows.targets) for rows in again.epoch(2)] == [2, 2]
    whole = Stream(Batches((2, 2, 3)))
    assert [len(rows.targets) for rows in whole.epoch(4, 1)] == [2, 3]


@pytest.mark.parametrize("looked_at", [2, 256])
def test_what_is_wrong_is_named_by_its_place(looked_at, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxprop.train.sources.source.ROWS_LOOKED_AT", looked_at)  # before the first step
    x = X.copy()
    x[7, 1] = np.nan
    with pytest.raises(DataError, match=r"shard-2, row 1: x, column 1, is nan; expected finite numbers"):
        fit((in_shards(tmp_path, x), TARGETS))
    with pytest.raises(DataError, match="shard-2, row 1: x, column 1, is nan"):
        fit(validation=(in_shards(tmp_path, x), TARGETS))
    with pytest.raises(DataError, match=r"data: element 7: x, column 1, is nan"):
        fit(Elements(x))
    labels = np.array([0, 1, 2] * 4)
    labels[9] = 3
    with pytest.raises(DataError, match="shard-2, row 3: SoftmaxCrossEntropy: targets hold label 3"):
        jp.fit(jp.Linear(3), jp.SoftmaxCrossEntropy(), optax.sgd(0.1), (in_shards(tmp_path, X), labels), progress=False)
    with pytest.raises(DataError, match="data: arrays of 11 and 12 rows; expected one length for all"):
        fit((in_shards(tmp_path, X), TARGETS[:11]))


def test_a_file_that_shrank_is_named(tmp_path):
    array = in_shards(tmp_path, X)
    os.truncate(tmp_path / "shard-2", 40)
    with pytest.raises(DataError, match="shard-2: the file has 40 bytes, expected 104 as when it was opened"):
        array.take(np.arange(12))


@pytest.mark.parametrize(
    "given, said",
    [
        (Elements(np.zeros((0, 2)), np.zeros((0, 1))), "data: the data set has no elements"),
        (iter([(X, TARGETS)]), "is a list_iterator, which can be gone through once"),
        (Stream([]), "data: the data set gave no batch"),
        (Stream([(X, TARGETS[:3])]), r"batch 0 is of x \[12, 2\] and targets \[3, 1\]; expected x \[B, ...\]"),
        (Stream([X]), r"batch 0 is ndarray; expected a pair \(x, targets\)"),
        (
            Elements([X[0], X[0, :1]], TARGETS[:2]),
            r"element \d has x of \(\d,\), data: element \d of \(\d,\); expected one shape",
        ),
    ],
)
def test_data_sets_that_cannot_be_used(given, said):
    with pytest.raises(DataError, match=said):
        fit(given)


def test_a_source_of_ones_own():
    class Squares(Source):
        rows = 12

        def read(self, numbers, out=None):
            found = Rows(X[numbers], TARGETS[numbers])
            return found if out is None else jax.tree.map(lambda a, b: np.copyto(b[: len(a)], a) or b, found, out)

    assert equal(fit(Squares()).params, fit().params)
    training, held = Squares().split(0.25)
    both = np.concatenate([part.read(np.arange(part.rows)).x for part in (training, held)])
    assert (training.rows, held.rows) == (9, 3) and sorted(both.tolist()) == sorted(X.tolist())


def test_a_class_of_ones_own_need_not_be_a_source():
    class Squares:
        rows = 12

        def read(self, numbers):
            return X[numbers], TARGETS[numbers]

    class Short(Squares):
        def read(self, numbers):
            return X[:1], TARGETS[:1]

    assert equal(fit(Squares()).params, fit().params)
    with pytest.raises(DataError, match=r"Short\.read was asked for 12 rows and returned x of shape \[1, "):
        fit(Short())


def test_a_digest_tells_rows_apart(tmp_path):
    first = read_data((in_shards(tmp_path, X), TARGETS)).digest()
    assert first == read_data((in_shards(tmp_path, X), TARGETS)).digest()
    assert first != read_data((in_shards(tmp_path, X + 1), TARGETS)).digest()
    assert first != read_data((in_shards(tmp_path, X), TARGETS + 1)).digest()
    assert read_data(Elements()).digest() != read_data(Elements(X + 1)).digest()
