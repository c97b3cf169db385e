"""A run that is watched: frames come while it trains, a page can hold it, and it ends without the page's help."""

import json
import threading
import time
import urllib.error
import urllib.request

import jax
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.errors import JaxpropError
from jaxprop_explorer import watch
from tests.waiting import until

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3))
TARGETS = np.sum(X, axis=1, keepdims=True)
NET = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(1))


class Watching:
    """A page without a browser: what it is sent, and what it asks."""

    def __init__(self, address):
        self.address = address
        self.opened = self.post("api/sessions")
        self.events, self.over = [], threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def post(self, path, body=None):
        asked = urllib.request.Request(self.address + path, json.dumps(body or {}).encode())
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def ask(self, command, body=None):
        return self.post(f"api/sessions/{self.opened['session']}/{command}", body)

    def _listen(self):
        with urllib.request.urlopen(f"{self.address}api/sessions/{self.opened['session']}/events", timeout=60) as lines:
            kind = ""
            for line in lines:
                name, _, text = line.decode().strip().partition(": ")
                kind = text if name == "event" else kind
                if name == "data":
                    self.events.append((kind, json.loads(text)))
        self.over.set()


@pytest.fixture
def run():
    """`run(during, epochs)`: train for so long, while `during(page, watch)` looks; the result, the page, the watch."""

    def trained(during, epochs=100_000):
        found = {}

        def start(about):
            found["watch"] = watch.Served(about, watch.given(about), 0)
            found["thread"] = threading.Thread(target=look, daemon=True)
            found["thread"].start()
            return found["watch"]

        def look():
            try:
                found["page"] = Watching(found["watch"].address)
                during(found["page"], found["watch"])
            except Exception as error:
                found["error"] = error
            finally:
                found["enough"] = True

        with jax.enable_x64(False):  # as it is in the threads that answer
            options = {"epochs": epochs, "batch_size": 16, "progress": False}
            stop = lambda row, state: found.get("enough", False)  # noqa: E731
            rows = X.astype(np.float32), TARGETS.astype(np.float32)
            result = jp.fit(NET, jp.HalfSquaredError(), optax.sgd(0.01), rows, explore=start, on_epoch=stop, **options)
        found["thread"].join(30)
        if "error" in found:
            raise found["error"]
        return result, found["page"], found["watch"]

    return trained


def test_frames_come_while_it_trains_and_the_last_is_the_result(run):
    result, page, served = run(lambda page, _: until(lambda: len(page.events) >= 5, 60))
    assert page.over.wait(10)
    frames = [event for kind, event in page.events if kind == "frame"]
    steps = [frame["step"] for frame in frames]
    assert steps == sorted(steps) and len(set(steps)) >= 4 and steps[-1] == result.steps
    last, kind = frames[-1], page.events[-1][0]
    assert kind == "end" and f"after {result.steps:,} steps" in page.events[-1][1]["text"]
    assert last["training"]["ended"] and not last["steerable"]
    np.testing.assert_array_equal(last["layers"][0]["W"]["values"], np.ravel(result.params[0].W))
    assert not served._serving.is_alive() and not served._showing.is_alive()


def test_a_page_can_hold_it_and_changes_nothing(run):
    seen = {}

    def during(page, served):
        until(lambda: served.moment.steps > 0, 60)
        assert page.ask("model/hold", {"held": True})["held"]
        until(lambda: page.events and page.events[-1][1].get("training", {}).get("held"), 60)
        before = served.moment.steps
        time.sleep(0.2)  # in which it would take hundreds of steps
        seen["held"] = served.moment.steps - before
        assert not page.ask("model/hold", {"held": False})["held"]
        until(lambda: served.moment.steps > before, 60)
        for command, body in (("network/step", {}), ("network/edit", {"path": "0.W", "index": [0, 0], "value": 1.0})):
            with pytest.raises(urllib.error.HTTPError) as refused:
                page.ask(command, body)
            assert "trained by a program of yours" in json.load(refused.value)["error"]

    run(during)
    assert seen["held"] == 0


def test_a_held_run_goes_on_once_no_page_is_open():
    about = watch.Watched(None, None, None, 1, 1, 1)
    waiting = watch.Watch(about, None)
    waiting.hold(True)
    waiting.report(watch.Moment((), 0, 0))  # returns: nobody could let it go on
    waiting.ended = True
    waiting._news.set()


@pytest.mark.parametrize(
    "net, x, text",
    [
        (lambda x, w: x * w, X, "found a plain function"),
        (jp.MultiHeadAttention(1, cross=True), (X[:, None], X[:, None]), "networks of one input array"),
    ],
    ids=["function", "two inputs"],
)
def test_what_cannot_be_shown_is_refused_before_training(net, x, text):
    rows = watch.Watched(jp.train.steps.Recipe(net, jp.HalfSquaredError(), optax.sgd(1.0), "auto"),
                         jp.train.rows.Rows(x, TARGETS), None, 1, 1, 1)  # fmt: skip
    with pytest.raises(JaxpropError, match=text):
        watch.given(rows)
