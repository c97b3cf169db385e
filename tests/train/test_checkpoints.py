"""A run kept in a folder goes on bit for bit, a torn checkpoint is never read, and another run is refused by name."""

import errno
import functools
import json
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.errors import JaxpropError
from jaxprop.train.checkpoints import folder as kept
from jaxprop.train.checkpoints.described import described

ROOT = pathlib.Path(__file__).parents[2]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 3))
TARGETS = np.sum(X**2, axis=1, keepdims=True)
WEIGHTS = RNG.uniform(0.5, 1.5, size=48)
NET = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Dropout(0.2), jp.Linear(1))
ADAM, SGD, HALF = optax.adam(0.01), optax.sgd(0.01), jp.HalfSquaredError()
STEPS = 4  # an epoch


def fit(net=NET, cost=HALF, optimizer=ADAM, data=(X, TARGETS), **options):
    usual = {"epochs": 3, "batch_size": 12, "key": jax.random.key(3), "progress": False}
    return jp.fit(net, cost, optimizer, data, **usual | options)


@functools.cache
def whole_run(epochs=3):
    """What `fit` gives that nobody stopped and nothing was kept of."""
    return fit(epochs=epochs)


def is_key(leaf):
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def same(a, b):
    """Whether two results hold the same bits, but for how long it took."""
    trees = [(r.params, r.state, r.best.params, None if r.monitor is None else r.monitor.found) for r in (a, b)]
    trees = jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, trees)
    history = [[{k: v for k, v in row.items() if k != "seconds"} for row in r.history] for r in (a, b)]
    assert jax.tree.structure(trees[0]) == jax.tree.structure(trees[1])
    assert all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, trees), strict=True))
    assert [x.dtype for x in jax.tree.leaves(a.params)] == [x.dtype for x in jax.tree.leaves(b.params)]
    assert history[0] == history[1] and a.row["epoch"] == b.row["epoch"]
    assert (a.stopped, a.steps, a.best.epoch, a.best.cost) == (b.stopped, b.steps, b.best.epoch, b.best.cost)
    return True


def stop_after(monkeypatch, steps):
    """SIGTERM in the call that takes a run's step of that number; one step a call."""
    from jaxprop.train.run import Run

    advance = Run.advance

    def advancing(self, *given):
        if self.steps + 1 == steps:
            signal.raise_signal(signal.SIGTERM)
        return advance(self, *given)

    monkeypatch.setattr("jaxprop.train.run.SECONDS_A_CHUNK", 0.0)
    monkeypatch.setattr(Run, "advance", advancing)


def interrupted(monkeypatch, steps, **options):
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(jp.TrainingInterrupted):
            fit(**options)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with two checkpoints of a run that was stopped within its second epoch."""
    path = tmp_path_factory.mktemp("kept") / "run"
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), pytest.MonkeyPatch.context() as patch:
        interrupted(patch, 6, checkpoints=path)
    return path


@pytest.fixture
def run(template, tmp_path):
    return shutil.copytree(template, tmp_path / "run")


def newest(path):
    return path / kept.name_of(kept.numbers(path)[0])


ALL = {
    "weights": WEIGHTS,
    "validation": (X[:20], TARGETS[:20]),
    "monitor": {"noise": jp.stats.NoiseScale(), "updates": jp.stats.UpdateToWeight()},
    "every": 3,
}


@pytest.mark.parametrize("steps", [[1], [4], [2, 5, 6, 11]], ids=["at once", "an epoch's last step", "four times"])
def test_a_run_stopped_and_gone_on_ends_as_one_left_alone(monkeypatch, tmp_path, steps):
    whole, options = fit(**ALL), {"checkpoints": tmp_path / "run", "resume": True, **ALL}
    for step in steps:
        interrupted(monkeypatch, step, **options)
    assert same(fit(**options), whole)
    assert len(kept.numbers(tmp_path / "run")) <= 2


def test_a_run_that_had_ended_gives_its_result_again_without_a_step(monkeypatch, tmp_path):
    whole = fit(checkpoints=tmp_path)
    monkeypatch.setattr("jaxprop.train.run.Run.epoch", None)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert same(fit(checkpoints=tmp_path, resume=True), whole)
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_epochs_is_the_number_in_all(run):
    assert same(fit(checkpoints=run, resume=True, epochs=5), whole_run(5))
    assert same(fit(checkpoints=run, resume=True, epochs=6), whole_run(6))
    assert len(fit(checkpoints=run, resume=True, epochs=2).history) == 6


@pytest.mark.slow
def test_patience_counts_on(monkeypatch, tmp_path):
    options = {"optimizer": optax.sgd(0.0), "patience": 3, "epochs": 9}
    whole = fit(**options)
    interrupted(monkeypatch, 10, checkpoints=tmp_path, **options)
    assert same(fit(checkpoints=tmp_path, resume=True, **options), whole) and whole.stopped == "early"
    assert same(fit(checkpoints=tmp_path, resume=True, **options), whole)


def test_on_epoch_may_end_a_run_and_is_asked_again(tmp_path):
    asked = []

    def second(row, state):
        row["seen"] = np.float32(0.5)
        asked.append(row["epoch"])
        return row["epoch"] == 2

    whole = fit(on_epoch=second)
    options = {"checkpoints": tmp_path, "resume": True}
    assert same(fit(on_epoch=second, **options), whole) and whole.stopped == "callback"
    assert same(fit(on_epoch=second, **options), whole)
    assert asked == [1, 2, 1, 2, 2]
    assert len(fit(**options).history) == 3  # nobody ends it now


def test_a_run_begun_from_a_state_goes_on(monkeypatch, tmp_path):
    begun = fit(epochs=1)
    whole = fit(epochs=2, state=begun.state)
    interrupted(monkeypatch, 6, epochs=2, state=begun.state, checkpoints=tmp_path)
    assert same(fit(epochs=2, state=begun.state, checkpoints=tmp_path, resume=True), whole)


def test_a_folder_that_keeps_a_run_is_not_written_over(run):
    with pytest.raises(JaxpropError, match=r"keeps a run, of 1 epochs and 6 steps: say resume=True to go on with it"):
        fit(checkpoints=run)


def test_a_folder_that_keeps_nothing_is_begun_with_and_it_says_so(tmp_path, capsys):
    fit(checkpoints=tmp_path / "new", resume=True, epochs=1, progress=True)
    assert "keeps no run yet: training begins anew" in capsys.readouterr().err
    fit(checkpoints=tmp_path / "new", resume=True, epochs=2, progress=True)
    assert "keeps a run: it goes on after epoch 1\n" in capsys.readouterr().err


def test_what_was_being_written_when_it_was_killed_is_no_run(tmp_path):
    (tmp_path / "checkpoint-000003.orbax-checkpoint-tmp" / "d").mkdir(parents=True)
    assert same(fit(checkpoints=tmp_path), whole_run())
    assert all(path.name[-1].isdigit() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"net": jp.Chain(jp.Linear(9), jp.Tanh(), jp.Dropout(0.2), jp.Linear(1))},
            r"network is Chain\(Linear\(8\).*9",
        ),
        ({"net": jp.Chain(jp.Linear(8), jp.Tanh(), jp.Dropout(0.3), jp.Linear(1))}, r"network is .*0\.2.*0\.3"),
        ({"data": (X[:, :2], TARGETS)}, r"parameters 0\.W is float64\[3, 8\] there and float64\[2, 8\] here"),
        ({"cost": jp.MeanSquaredError()}, "cost is 'HalfSquaredError' there and 'MeanSquaredError' here"),
        ({"optimizer": optax.adam(0.02)}, r"optimizer scale\.step_size is -0\.01 there and -0\.02 here"),
        ({"optimizer": SGD}, r"optimizer .*optimizer's state .*0\.mu\.0\.W is float64\[3, 8\] there and nothing"),
        ({"batch_size": 8}, "batch_size is 12 there and 8 here"),
        ({"key": jax.random.key(4)}, r"key is key<fry> \[0, 3\] there and key<fry> \[0, 4\] here"),
        ({"data": (X + (np.arange(48) == 47)[:, None], TARGETS)}, r"data x is float64\[48, 3\] \w+ there"),
        ({"data": (X[:47], TARGETS[:47])}, r"data x is float64\[48, 3\] \w+ there and float64\[47, 3\] \w+ here"),
        ({"weights": WEIGHTS}, r"data weights is nothing there and float64\[48\] \w+ here"),
        ({"validation": (X[:9], TARGETS[:9])}, "validation x is nothing there"),
        ({"grad": "manual"}, "grad is auto there and manual here"),
        ({"rule": jp.rules.FeedbackAlignment()}, "rule .*FeedbackAlignment"),
        ({"precision": "bfloat16"}, "precision is None there and bfloat16 here"),
        ({"monitor": {"noise": jp.stats.NoiseScale()}}, "monitor every is nothing there and 20 here"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_another_run_is_refused_by_name(run, options, words):
    before = newest(run)
    with pytest.raises(JaxpropError, match=rf"keeps another run: .*{words}.*or another folder"):
        fit(checkpoints=run, resume=True, **options)
    assert newest(run) == before


def scaled(by):
    @dataclass(frozen=True)
    class Scaled(jp.Activation):
        def value(self, z):
            return by * z

        def derivative(self, kept):
            return by

    return jp.Chain(jp.Linear(1), Scaled())


@pytest.mark.slow
def test_what_a_layer_of_ones_own_does_is_told(tmp_path):
    assert repr(scaled(2.0)) == repr(scaled(3.0))
    fit(net=scaled(2.0), checkpoints=tmp_path, epochs=1)
    with pytest.raises(JaxpropError, match=r"network .*scaled\.by is 2\.0 there and 3\.0 here"):
        fit(net=scaled(3.0), checkpoints=tmp_path, epochs=1, resume=True)
    fit(net=scaled(2.0), checkpoints=tmp_path, epochs=1, resume=True)


def test_what_a_function_closes_over_is_told():
    def f(w, function=None):
        return function or (lambda x, params: x * w)

    assert described(f(1.0)) == described(f(1.0)) != described(f(2.0))
    assert described(f(jnp.zeros(3))) == described(f(jnp.zeros(3))) != described(f(jnp.ones(3)))
    assert described(lambda x: x + 1) != described(lambda x: x - 1)
    assert described(jp.Cost.of(lambda y, t: y - t)) != described(jp.Cost.of(lambda y, t: t - y))
    schedules = [optax.cosine_decay_schedule(0.1, steps) for steps in (100, 100, 200)]
    first, again, other = (described(optax.adam(schedule)) for schedule in schedules)
    assert first == again != other
    assert described(optax.MultiSteps(ADAM, 2)) != described(optax.MultiSteps(ADAM, 3))
    loop = []
    loop.append(loop)
    assert described(loop) == {}


# Torn


def damages(file):
    """What may become of a file: gone, nothing left, its end lost, a byte another, something added."""
    data = file.read_bytes()
    yield "gone", file.unlink
    for name, left in {
        "empty": b"",
        "a byte": data[:1],
        "half": data[: len(data) // 2],
        "all but a byte": data[:-1],
        "a bit": data[:-1] + bytes([data[-1] ^ 1]),
        "another bit": bytes([data[0] ^ 1]) + data[1:],
        "one amid": data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
        "more": data + b"\0",
    }.items():
        if left != data:
            yield name, lambda left=left: file.write_bytes(left)


def test_a_checkpoint_with_any_file_torn_in_any_way_is_not_whole(run):
    checkpoint = newest(run)
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    assert kept.read(checkpoint)["steps"] == 6 and len(files) > 5
    for file in files:
        whole = file.read_bytes()
        for name, damage in damages(file):
            damage()
            with pytest.raises(JaxpropError):
                kept.read(checkpoint)
                pytest.fail(f"{file} torn ({name}) is read")
            file.write_bytes(whole)
    assert kept.read(checkpoint)["steps"] == 6


@pytest.mark.parametrize("pattern", ["manifest.ocdbt", "run.json", "d/*", "_METADATA"])
def test_of_a_torn_one_the_one_before_is_taken_with_a_word(run, pattern):
    assert len(kept.numbers(run)) == 2
    file = next(newest(run).glob(pattern))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=rf"checkpoint-\d+: {file.name}|{file.parent.name}.*from the one before"):
        result = fit(checkpoints=run, resume=True)
    assert same(result, whole_run())
    assert same(fit(checkpoints=run, resume=True), result)  # and no word more


def test_the_latest_that_are_whole_are_kept_and_no_damaged_one_counts(tmp_path):
    for number in range(1, 6):
        (tmp_path / kept.name_of(number)).mkdir()
        if number < 5:
            (tmp_path / kept.name_of(number) / kept.SEAL).write_text("")
    (tmp_path / "checkpoint-000006.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "model.json").write_text("")
    kept.clear(tmp_path, keep=2, damaged={3})
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-000004", "checkpoint-000002", "model.json"}


def test_where_all_are_torn_it_is_refused(run):
    for seal in run.glob("*/run.json"):
        seal.write_text("{}")
    with pytest.raises(JaxpropError, match=r"cannot be read: checkpoint-0+1: run.json is damaged.*Put back"):
        fit(checkpoints=run, resume=True)


def test_one_of_a_later_version_is_refused(run):
    for seal in run.glob("*/run.json"):
        body = json.loads(seal.read_text())["body"].replace('"format": 1', '"format": 9')
        seal.write_text(json.dumps({"sum": kept.zlib.crc32(body.encode()), "body": body}))
    with pytest.raises(JaxpropError, match="is of format 9, and this version reads 1"):
        fit(checkpoints=run, resume=True)


# A disk that takes no more


@pytest.mark.parametrize("where", ["arrays.begin", "folder.seal"])
def test_a_full_disk_is_told_and_nothing_learnt_is_lost(monkeypatch, run, where):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    whole, before = whole_run(), newest(run)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="No space left on device. Training goes on"):
        patch.setattr(f"jaxprop.train.checkpoints.{where}", full)
        assert same(fit(checkpoints=run, resume=True), whole)
    assert newest(run) == before  # nothing half-written is left
    assert same(fit(checkpoints=run, resume=True), whole)


# a write of tensorstore's that fails last finds its event loop closed, and Python says that it ignores that
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_the_system_refuses_to_write_is_told(tmp_path):
    """No file may be longer than 100 bytes: real errors from the real writer, in the background."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = whole_run(1)
    with pytest.warns(UserWarning, match="could not be written .* Training goes on"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            result = fit(epochs=1, checkpoints=tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(result, whole) and not list(tmp_path.iterdir())


def test_a_disk_without_room_is_not_begun_with(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.warns(UserWarning, match="No space left on device. Training goes on"):
        assert same(fit(epochs=1, checkpoints=tmp_path), whole_run(1))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserWarning, match="No space left") as raised:  # where warnings are errors
        fit(checkpoints=tmp_path)
    assert raised.value.result.state.epochs == 1


def test_a_place_that_cannot_be_written_to_is_told_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxpropError, match=r"cannot be written: .*; choose another folder"):
        fit(checkpoints=tmp_path / "file" / "run")


# What is asked


@pytest.mark.parametrize(
    "options, words",
    [
        ({"resume": True}, "resume=True and no checkpoints"),
        ({"checkpoints": "x", "resume": "yes"}, "resume must be True or False, found 'yes'"),
        ({"checkpoints": 3}, r"checkpoints must be the path of a folder or jp.train.Checkpoints\(path, ...\), found 3"),
    ],
)
def test_what_is_not_understood(options, words):
    with pytest.raises(JaxpropError, match=words):
        fit(**options)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"every_seconds": -1}, "a number ≥ 0, found -1"),
        ({"keep": 1}, "whole number ≥ 2, found 1"),
        ({"path": ""}, "''"),
    ],
)
def test_settings_that_cannot_be(given, words):
    with pytest.raises(JaxpropError, match=words):
        jp.train.Checkpoints(**{"path": "x"} | given)


def test_so_often_as_was_asked(monkeypatch, tmp_path):
    times = []

    def save(self, run):
        times.append(run.steps)
        self.cost, self.begun = 1.0, time.monotonic()

    monkeypatch.setattr("jaxprop.train.checkpoints.on_disk.KeeperOnDisk.save", save)
    monkeypatch.setattr("jaxprop.train.run.SECONDS_A_CHUNK", 0.0)
    fit(checkpoints=jp.train.Checkpoints(tmp_path, every_seconds=0), epochs=1)
    assert times == [1, 2, 3, 4, 4, 4]  # after each step, after the epoch, at the end
    times.clear()
    fit(checkpoints=jp.train.Checkpoints(tmp_path, every_seconds=1e6), epochs=3)
    assert times == [4, 12]  # one takes a second, so the next epochs that end within a hundred are left out


@pytest.mark.slow
def test_on_many_devices_and_back(monkeypatch, tmp_path):
    """Two devices begin it, one goes on, with parameters spread and whole."""
    options = {"net": jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(1)), "checkpoints": tmp_path, "epochs": 3}
    whole = fit(**options | {"checkpoints": None})
    interrupted(monkeypatch, 6, mesh="fsdp=2", **options)
    result = fit(resume=True, **options)
    for a, b in zip(jax.tree.leaves(result.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_killed_at_random_moments_and_gone_on_each_time_it_ends_with_the_same_bits(tmp_path):
    """With kill -9, which no process can hear, and most often while a checkpoint is being written."""
    command = [sys.executable, "-W", "error", "-m", "tests.train.killed", str(tmp_path), "4"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["same"] and told["killed"] >= 4 and told["writing"] > 0, told


class Batches:
    """A stream of batches of several sizes, as Grain's data sets are gone through."""

    def __iter__(self):
        return ((X[i : i + size], TARGETS[i : i + size]) for i, size in ((0, 16), (16, 10), (26, 16), (42, 6)))


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 4, 7], ids=lambda step: f"step {step}")
def test_a_stream_goes_on_at_its_place(monkeypatch, tmp_path, step):
    options = {"data": Batches(), "params": NET.init(jax.random.key(0), X), "checkpoints": tmp_path, "resume": True}
    whole = fit(data=Batches(), params=options["params"])
    interrupted(monkeypatch, step, **options)
    assert same(fit(**options), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(1)), SGD),
        optax.lookahead(SGD, 3, 0.5),
        optax.MultiSteps(ADAM, 3),
    ],
    ids=["a key in its state", "two θ", "gradients added up"],
)
def test_any_optimizer_goes_on(monkeypatch, tmp_path, optimizer):
    options = {"optimizer": optimizer, "params": {"w": jnp.ones((3, 1)), "none": jnp.zeros((0, 2))}}
    options["net"] = lambda x, params: x @ params["w"]
    whole = fit(**options)
    interrupted(monkeypatch, 6, checkpoints=tmp_path, **options)
    result = fit(checkpoints=tmp_path, resume=True, **options)
    assert same(result, whole)
