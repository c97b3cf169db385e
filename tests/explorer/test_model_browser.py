"""The model panel and a watched run in a real Chromium: what the page shows is what Python says."""

import functools
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop_explorer.application import application
from jaxprop_explorer.opened import Opened, introduce, of_run
from tests.drawing import draw
from tests.explorer.conftest import PHONE, looking, serving
from tests.serve.process import Process, hearing_signals

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved network with a convolution, and one with attention, on made-up rows."""
    nets = {
        "maps": (
            jp.Chain(jp.Conv(3, (3, 3)), jp.ReLU(), jp.Flatten(), jp.Linear(2)),
            np.ones((1, 6, 6, 1), np.float32),
        ),
        "chain": (jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(2)), np.ones((1, 4), np.float32)),
    }
    folder = tmp_path_factory.mktemp("runs")
    with jax.enable_x64(False):
        for name, (net, x) in nets.items():
            jp.save(folder / name, net, draw(net, x), inputs=x, cost=jp.SoftmaxCrossEntropy())
    return folder


def shown(page, what):
    """The number that a picture's line tells."""
    text = page.locator(f'[data-what="{what}"] .picture-told').inner_text()
    return float(text.partition(" = ")[2].replace("−", "-").replace(" · 10", "e").translate(SUPERSCRIPTS))


SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def test_a_layer_a_unit_and_a_number_are_opened(chromium, saved):
    begin = functools.partial(Opened, of_run(saved / "maps"))
    with serving(application(begin, opened=introduce)) as running:
        with looking(chromium, running.address) as page:
            page.goto(running.address)
            page.get_by_role("tab", name="Your model").and_(page.locator("[aria-selected=true]")).wait_for()
            page.get_by_role("button", name="Linear").click()
            page.locator('[data-what="dW"] canvas').wait_for()
            _, params = jp.load(saved / "maps")
            about = running.post("api/sessions")[1]
            layer = running.post(f"api/sessions/{about['session']}/model/layer", {"path": "3"})[1]
            assert [one["what"] for one in layer["pictures"]][-4:] == ["W", "dW", "b", "db"]
            with jax.enable_x64(False):
                assert shown(page, "b") == pytest.approx(float(params[3].b[0]), rel=1e-3)
            canvas = page.locator('[data-what="W"] canvas')
            canvas.focus()
            canvas.press("ArrowRight")
            with jax.enable_x64(False):
                assert shown(page, "W") == pytest.approx(float(params[3].W[0, 1]), rel=1e-3)
            page.locator('[data-what="y"] canvas').press("Enter")
            page.get_by_text("The parameters that lead to it").wait_for()
            canvas.press("Enter")
            page.locator(".model-derivation math").first.wait_for()
            page.wait_for_url(re.compile("selected=3.W:0,1"))
            assert "model.layer=%223%22" in page.url
            address = page.url
        with looking(chromium, running.address, PHONE, color_scheme="dark") as phone:
            phone.goto(address)
            phone.locator('[data-what="dW"] canvas').wait_for()
            assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_run_is_watched_held_and_its_end_told(chromium, tmp_path):
    command = [sys.executable, "-m", "jaxprop", "train", "moons", "--epochs", "200000", "--explore", "--out", tmp_path]
    with hearing_signals():
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        address = next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
        with looking(chromium, address, meant="ERR_CONNECTION") as page:  # of questions that come after the end
            page.goto(address)
            bar = page.locator(".opened p")
            page.get_by_text(re.compile("Training: step [1-9]")).wait_for()
            assert page.locator(".net-play").is_hidden()
            page.get_by_role("button", name="Hold training").click()
            page.get_by_text("Training is held").wait_for()
            page.get_by_role("button", name="Go on training").click()
            page.get_by_text(re.compile("^Training: step")).wait_for()
            process.send_signal(2)
            page.get_by_text("Training was interrupted").wait_for()
            assert "Training has ended" in bar.inner_text()
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 130 and "interrupted" in out
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_the_model_server_asks_for_its_token(chromium, saved):
    token, admin = "t" * 20, "a" * 20
    settings = {"JAXPROP_SERVICES": "explorer", "JAXPROP_TOKEN": token, "JAXPROP_ADMIN_TOKEN": admin}
    with Process(saved / "chain", saved / "maps", **settings) as server:
        address = f"http://127.0.0.1:{server.port}/"
        with looking(chromium, address, meant="401") as page:  # how the page learns of the token
            page.goto(f"{address}explorer#panel=model")
            page.get_by_label("Token").fill("wrong")
            page.get_by_role("button", name="Use it").click()
            page.get_by_text("The server does not take this token").wait_for()
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Use it").click()
            page.get_by_role("button", name="Tanh").wait_for()
            page.get_by_label("Served model").select_option("maps")
            page.get_by_role("button", name="Conv").wait_for()
            assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""] and token not in page.url
            assert page.get_by_role("tab", name="Lessons").is_hidden()
