"""Explanations beside answers: in threads of their own, so many at once, given up when nobody waits."""

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import jaxprop as jp
from jaxprop.errors import ModelError
from tests.serve.doors import W, acall
from tests.serve.explaining import body_of, explain, serving
from tests.serve.numbers import Numbers
from tests.serve.oracle import NET, X as ROWS, publish
from tests.serve.test_explain import expected

X = np.ones((2, 4), np.float32)
PATH = "/v2/models/digits/explain"


class Gate:
    """An explainer that waits until it is told to go on; it notes when it has begun and ended, and where."""

    def __init__(self):
        self.go, self.begun, self.ended, self.threads = threading.Event(), 0, 0, set()

    def __call__(self, loaded, compile):
        def explain(question):
            self.begun += 1
            self.threads.add(threading.current_thread().name.rpartition("_")[0])
            assert self.go.wait(30)
            self.ended += 1
            return {"twice": 2 * question.inputs["x"]}

        return explain


def gated(test, explainer=None, **changed):
    """test(app, gate) on a model in numpy."""
    gate = explainer or Gate()
    store = SimpleNamespace(names=lambda: ["digits"], versions=lambda _: ["1"], path=lambda *_: Path("nowhere"))

    async def run(app):
        try:
            await test(app, gate)
        finally:
            if explainer is None:
                gate.go.set()

    serving(run, models=(store, [Numbers()]), explainers={"gate": gate}, **changed)


async def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_answers_go_on_while_explanations_are_computed():
    async def test(app, gate):
        asked = [asyncio.create_task(explain(app, "digits", X, marker=1)) for _ in range(2)]
        await until(lambda: gate.begun == 2)
        answer = await acall(app, "POST", "/v2/models/digits/infer", body_of({"x": X}))
        np.testing.assert_allclose(answer.json["outputs"][0]["data"], (X @ W).ravel(), rtol=1e-6)
        assert (await acall(app, "GET", "/v2/health/ready")).status == 200
        third = await acall(app, "POST", PATH, body_of({"x": X}), chunks=[b"never read"])
        assert (third.status, third.headers[b"retry-after"], third.read) == (429, b"1", 0)
        assert "2 explanations are being computed, the most at once" in third.error
        gate.go.set()
        for found in await asyncio.gather(*asked):
            np.testing.assert_array_equal(found["twice"], 2 * X)
        assert gate.threads == {"explain"}
        assert "twice" in await explain(app, "digits", X)  # there is room again
        text = app.metrics.render().decode()
        labels = '{code="429",model="digits",protocol="http",route="/v2/models/{model}/explain",version="1",worker="0"}'
        assert f"jaxprop_requests_total{labels} 1.0" in text

    gated(test)


def test_a_client_that_goes_away_or_is_late_keeps_its_thread_no_longer_than_the_work():
    async def test(app, gate):
        late = await acall(app, "POST", PATH, body_of({"x": X}, timeout=20_000))
        assert late.status == 504 and "model 'digits': the request's time was over" in late.error
        await until(lambda: gate.begun == 1)
        busy = await acall(app, "POST", PATH, body_of({"x": X}))
        assert busy.status == 429  # the thread still works
        gate.go.set()
        await until(lambda: gate.ended == 1)
        await until(lambda: app_is_free(app))
        assert "twice" in await explain(app, "digits", X)

    gated(test, explain_concurrency=1)


def app_is_free(app):
    free = app.router.find("POST", PATH.encode()).route.handler.__self__._free
    return free._value == 1


def test_what_nobody_waits_for_is_given_up_before_its_next_execution(tmp_path):
    publish(tmp_path / "m")
    calls, ended, hold = [], threading.Event(), threading.Event()

    def many(loaded, compile):
        answer = compile(loaded.f)

        def explain(question):
            try:
                for i in range(1000):
                    calls.append(i)
                    answer(question.inputs)
                    if i == 2:
                        assert hold.wait(30)
            finally:
                ended.set()

        return explain

    async def test(app):
        asked = asyncio.create_task(acall(app, "POST", "/v2/models/m/explain", body_of({"x": ROWS})))
        await until(lambda: len(calls) == 3)
        asked.cancel()
        await asyncio.wait([asked])
        hold.set()
        await until(ended.is_set)
        assert len(calls) == 4  # the fourth execution was refused

    serving(test, tmp_path, explainers={"many": many})


def test_a_model_without_a_jax_function_and_an_explainer_that_fails():
    def needs_jax(loaded, compile):
        return compile(loaded.f)

    async def test(app, _):
        status, text = await explain(app, "digits", X)
        assert status == 501 and "model 'digits', explainer 'gate': this model cannot be explained" in text

    gated(test, needs_jax)

    async def fails(app, _):
        status, text = await explain(app, "digits", X)
        assert status == 500 and "internal error, request" in text and "secret" not in text
        assert app_is_free(app)

    async def says_why(app, _):
        assert await explain(app, "digits", X) == (501, "model 'digits', explainer 'gate': 64 rows need 900 GiB")

    def too_large(loaded, compile):
        raise ModelError("64 rows need 900 GiB")

    gated(says_why, too_large)

    def broken(loaded, compile):
        raise RuntimeError("secret")

    gated(fails, broken, explain_concurrency=1)


@pytest.mark.slow
def test_explanations_under_load_break_no_answer(tmp_path):
    """Eight clients ask for answers while two ask why, without a pause; every one of both is right."""
    y = publish(tmp_path / "m")
    _, params = jp.load(tmp_path / "m")
    gradients = expected(NET, params, ROWS, y.argmax(1))

    async def test(app):
        stop, answered, explained = time.monotonic() + 2, 0, 0

        def going():
            return time.monotonic() < stop or explained <= 5  # a busy machine takes longer

        async def answers(client):
            nonlocal answered
            while going():
                i = (answered + client) % 60
                found = await acall(app, "POST", "/v2/models/m/infer", body_of({"x": ROWS[i : i + 3]}))
                assert found.status == 200
                data = np.reshape(found.json["outputs"][0]["data"], (3, 3))
                np.testing.assert_allclose(data, y[i : i + 3], rtol=0, atol=1e-6)
                answered += 1
                await asyncio.sleep(0)

        async def explanations():
            nonlocal explained
            while going():
                rows = 1 + explained % 64
                found = await explain(app, "m", ROWS[:rows])
                np.testing.assert_allclose(found["gradient"], gradients[:rows], rtol=0, atol=1e-6)
                await explain(app, "m", ROWS[:rows], method="integrated", steps=20, layers=True)
                explained += 1

        await asyncio.gather(*(answers(client) for client in range(8)), explanations(), explanations())
        assert answered > 100 and explained > 5
        with app.models.pin("m") as served:
            assert served.statistics.compile_count == 7
            assert served.statistics.inference_count == 3 * answered

    serving(test, tmp_path, max_batch=64)
