"""Models from folder to answer: load, reload under load, failed reloads, unload, what is refused and why."""

import asyncio
import os
import shutil
import sys
import threading
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.errors import ModelError
from jaxprop_serve.errors import ServeError
from jaxprop_serve.models import runtimes
from jaxprop_serve.models.lifecycle import Models
from jaxprop_serve.models.stores import FolderStore
from jaxprop_serve.settings import Settings
from tests.drawing import draw
from tests.serve import plain
from tests.serve.plain import serving, states

X = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
NET = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(2))
INFO = {"classes": ["no", "yes"]}


def params_of(seed):
    with jax.enable_x64(False):
        return draw(NET, X, seed)


answered = jax.jit(NET)


def answer_of(params, x=X):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        return np.asarray(answered(x, params))


def publish(folder, seed):
    params = params_of(seed)
    return jp.save(folder, NET, params, inputs=X, cost=jp.SoftmaxCrossEntropy(), info=INFO), answer_of(params)


async def ask(models, name, x=X, version=None):
    return await plain.ask(models, name, x, version)


def test_saved_and_exported_models_answer_as_the_network_does(tmp_path):
    _, y = publish(tmp_path / "saved", 0)
    jp.export(tmp_path / "exported", NET, params_of(0), inputs=X)

    async def test(models):
        assert models.ready() and models.versions("saved") == ["1"]
        with models.pin("saved") as one, models.pin("exported", "1") as other:
            platforms = one.signature.platform, other.signature.platform
            assert platforms == ("jaxprop_jax", "jaxprop_stablehlo")
            assert (one.loaded.classes, one.loaded.cost) == (("no", "yes"), jp.SoftmaxCrossEntropy())
            assert (other.loaded.classes, other.loaded.cost) == (None, None)
            for served in (one, other):
                (x_spec,), (y_spec,) = served.signature.inputs, served.signature.outputs
                assert (x_spec.name, x_spec.datatype, x_spec.shape) == ("x", "FP32", (-1, 3))
                assert (y_spec.name, y_spec.datatype, y_spec.shape) == ("y", "FP32", (-1, 2))
                served.admit()
                together = (await served.infer({"x": X}))["y"]
                apart = await asyncio.gather(*(served.infer({"x": X[i : i + 1]}) for i in range(9)))
                assert together.dtype == np.float32
                np.testing.assert_allclose(together, y, rtol=0, atol=1e-6)
                np.testing.assert_allclose(np.concatenate([one["y"] for one in apart]), y, rtol=0, atol=1e-6)
                assert served.statistics.compile_count == 3  # 1, 2, 4
                assert served.statistics.inference_count == 18 and served.statistics.queue_rows == 0
        models.drain()
        assert not models.ready()
        assert (await ask(models, "saved"))[0] == "1"  # still answered

    serving(test, tmp_path)


def test_nothing_is_compiled_once_a_model_is_ready(tmp_path, compilations):
    publish(tmp_path / "m", 0)

    async def test(models):
        with compilations() as count:
            for rows in (1, 2, 3, 4, 5, 9):
                await ask(models, "m", X[:rows])
            assert count[0] == 0

    serving(test, tmp_path)


def test_without_batching_each_row_has_the_bits_it_has_alone(tmp_path):
    folder, _ = publish(tmp_path / "m", 0)
    alone = [runtimes.saved.load(folder).compile(1)({"x": X[i : i + 1]})["y"] for i in range(9)]

    async def test(models):
        _, y = await ask(models, "m")
        np.testing.assert_array_equal(y, np.concatenate(alone), strict=True)
        with models.pin("m") as served:
            assert served.bit_exact and served.statistics.execution_count == 9

    serving(test, tmp_path, batching=False)


def test_double_precision_and_whole_numbers_whatever_jax_is_set_to(tmp_path):
    with jax.enable_x64(True):
        x = X.astype(np.float64)
        params = draw(NET, x)
        y = np.asarray(answered(x, params))
        jp.save(tmp_path / "wide", NET, params, inputs=x)
    tokens = np.array([[0, 2], [1, 1], [4, 3]], np.int32)
    net = jp.Chain(jp.Embedding(5, 2), jp.Flatten(), jp.Linear(1))
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        words = draw(net, tokens)
        z = np.asarray(jax.jit(net)(tokens, words))
        jp.save(tmp_path / "words", net, words, inputs=tokens)

    async def test(models):
        for name, given, expected in (("wide", x, y), ("words", tokens, z)):
            _, found = await ask(models, name, given)
            np.testing.assert_allclose(found, expected, rtol=1e-13 if name == "wide" else 1e-6, atol=0, strict=True)

    for wide in (True, False):
        with jax.enable_x64(wide):
            serving(test, tmp_path)


def test_the_highest_version_answers_and_each_by_its_number(tmp_path):
    y = {str(version): publish(tmp_path / f"m/{version}", version)[1] for version in (2, 10)}

    async def test(models):
        assert models.versions("m") == ["2", "10"]
        for version, expected in ((None, "10"), ("", "10"), ("2", "2"), ("10", "10")):
            found, answer = await ask(models, "m", version=version)
            assert found == expected
            np.testing.assert_allclose(answer, y[found], rtol=0, atol=1e-6)
        y["11"] = publish(tmp_path / "m/11", 11)[1]
        shutil.rmtree(tmp_path / "m/10")
        with models.pin("m") as held:
            load = asyncio.create_task(models.load("m"))
            while models.versions("m") != ["2", "11"]:
                await asyncio.sleep(0.01)
            assert states(models)["m", "10"] == "DRAINING"
            np.testing.assert_allclose((await held.infer({"x": X}))["y"], y["10"], rtol=0, atol=1e-6)
        await load
        assert (await ask(models, "m"))[0] == "11"
        assert states(models) == {("m", "2"): "READY", ("m", "11"): "READY"}
        with pytest.raises(ServeError, match="has no version '7', it has 2, 11") as error:
            models.pin("m", "7")
        assert error.value.status == 404

    serving(test, tmp_path)


def test_reloads_under_load_answer_everybody_with_one_model_or_the_other(tmp_path):
    y = [publish(tmp_path / "m", seed)[1] for seed in (1, 0)]

    async def test(models):
        stop, seen = False, set()

        async def client(row):
            while not stop:
                _, answer = await ask(models, "m", X[row : row + 1])
                is_old = [np.allclose(answer, one[row : row + 1], rtol=0, atol=1e-6) for one in y]
                assert sum(is_old) == 1
                seen.add(is_old.index(True))
                await asyncio.sleep(0)

        clients = [asyncio.create_task(client(row)) for row in range(9)]
        for seed in (1, 0, 1):
            await asyncio.sleep(0.01)
            publish(tmp_path / "m", seed)
            await models.load("m")
        stop = True
        await asyncio.gather(*clients)
        assert seen == {0, 1}

    serving(test, tmp_path)


def test_a_failed_reload_keeps_the_old_and_says_why(tmp_path):
    folder, y = publish(tmp_path / "m", 0)

    async def test(models):
        weights = next(folder.glob("*.safetensors"))
        whole = weights.read_bytes()
        for damage, why in ((lambda: weights.write_bytes(whole[:-1]), "sha256"), (weights.unlink, "missing")):
            damage()
            with pytest.raises(ServeError, match=why) as error:
                await models.load("m")
            assert error.value.status == 400
            (entry,) = models.index()
            assert entry["state"] == "READY" and why in entry["reason"] and "'m'" in entry["reason"]
            np.testing.assert_allclose((await ask(models, "m"))[1], y, rtol=0, atol=1e-6)
            weights.write_bytes(whole)
        await models.load("m")
        assert models.index() == [{"name": "m", "version": "1", "state": "READY", "reason": ""}]

    serving(test, tmp_path)


def test_unload_waits_for_those_who_hold_it_and_load_brings_it_back(tmp_path):
    publish(tmp_path / "m", 0)

    async def test(models):
        with models.pin("m") as held:
            unloading = asyncio.create_task(models.unload("m"))
            await asyncio.sleep(0.02)
            assert not unloading.done() and states(models) == {("m", "1"): "DRAINING"}
            with pytest.raises(ServeError, match="not ready: DRAINING") as error:
                models.pin("m")
            assert error.value.status == 503
            assert len((await held.infer({"x": X}))["y"]) == 9
        await unloading
        assert states(models) == {("m", "1"): "UNLOADED"} and models.versions("m") == []
        await models.load("m")
        assert (await ask(models, "m"))[0] == "1"
        for work in (models.load, models.unload):
            with pytest.raises(ServeError, match="unknown model 'nobody'") as error:
                await work("nobody")
            assert error.value.status == 404
        with pytest.raises(ServeError, match="unknown model") as error:
            models.pin("../m")
        assert error.value.status == 404

    serving(test, tmp_path)


def test_the_last_operation_wins_though_whoever_asked_goes_away(tmp_path):
    publish(tmp_path / "m", 0)

    async def test(models):
        for last in ("unload", "load"):
            work = [asyncio.create_task(getattr(models, kind)("m")) for kind in ("unload", "load", "unload", last)]
            await asyncio.sleep(0)
            work[-1].cancel()
            await asyncio.gather(*work, return_exceptions=True)
            while models.turns.tasks:
                await asyncio.sleep(0.01)
            assert bool(models.versions("m")) == (last == "load")

    serving(test, tmp_path)


def refused(place, text, **changed):
    """`start` says what is wrong and with which model; the index says it too."""

    async def test(models):
        with pytest.raises((ModelError, ServeError), match=text):
            await models.start()
        assert not models.ready()
        assert [entry["state"] for entry in models.index()] in ([], ["UNAVAILABLE"])

    serving(test, place, started=False, **changed)


def test_counts_go_on_through_a_reload_and_loads_are_logged(tmp_path):
    jp.save(tmp_path / "m", NET, params_of(0), inputs=X)

    async def run():
        models, said = Models(FolderStore([str(tmp_path / "m")]), [runtimes.saved], Settings(max_batch=4)), []
        models.log = lambda level, event, **fields: said.append((level, event, fields))
        await models.start()
        counts = []
        for _ in range(2):
            with models.pin("m") as served:
                await served.infer({"x": X[:3]})
                counts.append((served.statistics.inference_count, served.statistics.compile_count))
            publish(tmp_path / "m", len(counts))
            await models.load("m")
        assert counts == [(3, 3), (6, 6)]
        (tmp_path / "m" / "model.json").write_text("{")
        with pytest.raises(ServeError):
            await models.load("m")
        await models.unload("m")
        assert [(level, event) for level, event, _ in said] == [
            *[("info", "loaded")] * 3, ("error", "load failed"), ("info", "unloaded"),
        ]  # fmt: skip
        assert said[3][2]["kept"] and "model.json" in said[3][2]["reason"]
        await models.stop()

    asyncio.run(run())


def test_a_broken_version_holds_up_nobody_and_is_forgotten_once_it_is_gone(tmp_path):
    for version in ("1", "2"):
        jp.save(tmp_path / "m" / version, NET, params_of(0), inputs=X)
    (tmp_path / "m" / "2" / "model.json").write_text("{")

    async def run():
        models = Models(FolderStore([str(tmp_path / "m")]), [runtimes.saved], Settings(max_batch=4))
        await models.start()
        assert models.ready() and models.versions("m") == ["1"]
        broken = models.index()[1]
        assert (broken["version"], broken["state"]) == ("2", "UNAVAILABLE") and "model.json" in broken["reason"]
        shutil.rmtree(tmp_path / "m" / "2")
        await models.load("m")
        assert [entry["version"] for entry in models.index()] == ["1"]
        await models.stop()

    asyncio.run(run())


def test_what_is_not_served(tmp_path):
    refused(tmp_path, "no models found")
    params = params_of(0)
    params = ((params[0][0].at[0, 0].set(np.nan), *params[0][1:]), *params[1:])
    with jax.enable_x64(False):
        nan = jax.tree.unflatten(jax.tree.structure(params_of(0)), jax.tree.leaves(params))
        jp.save(tmp_path / "a/nan", NET, nan, inputs=X)
        net = jp.Chain(jp.BatchNorm(), jp.Linear(1))
        jp.save(tmp_path / "b/batch", net, draw(net, X), inputs=X)
    jp.export(tmp_path / "c/mean", lambda x, params: x - x.mean(0), (), inputs=X)
    refused(tmp_path / "a", "model 'nan', version 1: .*0.W: found NaN")
    refused(tmp_path / "b", "model 'batch', version 1: .*freeze_statistics")
    refused(tmp_path / "c", "model 'mean', version 1: .*'y': a row's answer depends on the other rows")
    refused(tmp_path / "c", "no runtime of jaxprop accepts", kinds=(runtimes.saved,))


def test_a_model_is_not_ready_while_it_loads(tmp_path):
    publish(tmp_path / "m", 0)
    seen = []

    class Slow:
        name, accepts = "slow", staticmethod(runtimes.saved.accepts)

        def load(self, path):
            time.sleep(0.05)
            loaded = runtimes.saved.load(path)
            return SimpleNamespace(**vars(loaded) | {"compile": lambda rows: time.sleep(0.05) or loaded.compile(rows)})

    async def test(models):
        start = asyncio.create_task(models.start())
        while not start.done():
            await asyncio.sleep(0.005)
            seen.extend(states(models).values())
            if not models.ready() and models.index():
                try:
                    models.pin("m")
                except ServeError as error:
                    assert error.status == 503 and error.retry_after
        await start
        assert list(dict.fromkeys(seen)) == ["LOADING", "WARMING", "READY"]

    serving(test, tmp_path, kinds=(Slow(),), started=False)


def nice():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_a_reload_gives_way_to_requests_and_what_computes_does_not(tmp_path):
    publish(tmp_path / "m", 0)

    async def test(models):
        await models.load("m")
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(models._loader, nice) > nice()
        assert await loop.run_in_executor(models._computer, nice) == nice()

    serving(test, tmp_path)


def test_check_says_what_start_would_and_loads_nothing(tmp_path):
    publish(tmp_path / "models/a/1", 0)
    jp.export(tmp_path / "models/b", NET, params_of(0), inputs=X)
    publish(tmp_path / "models/a/2", 0)
    (tmp_path / "models/a/2/notes").symlink_to("/etc/passwd")

    def check(*places, kinds=(runtimes.saved, runtimes.exported)):
        return Models(FolderStore(map(str, places)), kinds, Settings()).catalogue.check()

    assert check(tmp_path / "models") == {"a": {"1": "jaxprop"}, "b": {"1": "export"}}
    (tmp_path / "models/b/notes").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match=r"model 'b', version 1: .*b/notes: a link that leads out"):
        check(tmp_path / "models")
    for place in ("nowhere", "models/b"):
        with pytest.raises(
            ModelError, match=rf"{place}: no models found, no runtime of jaxprop accepts a folder there"
        ):
            check(tmp_path / place, kinds=(runtimes.saved,))


def test_a_store_that_fails_is_named(tmp_path):
    class Away:
        def names(self):
            return ["m"]

        def versions(self, name):
            raise OSError("the bucket is away")

    async def test(models):
        models.catalogue.store, said = Away(), []
        models.log = lambda level, event, **fields: said.append((event, fields))
        for work in (models.start, lambda: models.load("m")):
            with pytest.raises(ServeError, match="the store failed: OSError: the bucket is away") as error:
                await work()
            assert error.value.status == 400
        assert [(event, fields["model"], fields["kept"]) for event, fields in said] == [("load failed", "m", False)] * 2

    serving(test, tmp_path, started=False)


def test_a_small_theta_in_the_program_answers_as_one_that_is_passed(tmp_path, monkeypatch):
    net, x = jp.Chain(jp.Linear(3), jp.Tanh()), np.ones((1, 2), np.float32)
    jp.save(tmp_path / "m", net, net.init(jax.random.key(0), x), inputs=x)
    rows, found = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32), []
    for most in (0, 1 << 20):
        monkeypatch.setattr(runtimes, "MOST_CONSTANT", most)
        found.append(runtimes.saved.load(tmp_path / "m").compile(4)({"x": rows})["y"])
    np.testing.assert_allclose(*found, rtol=1e-6)
