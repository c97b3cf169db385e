"""The chain-rule panel in a real browser: click a weight and compare with `jax.grad`, edit it, flip the sign."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.settings import Settings

pytestmark = pytest.mark.browser
SETTINGS = {"data": "xor", "layers": (3, 2), "seed": 4, "cost": "half_squared_error"}
ADDRESS = "#panel=network&data=xor&layers=(3,2)&seed=4&cost=half_squared_error"


@pytest.fixture
def panel(opened):
    """The panel of a network that this file knows too."""
    page = opened(f"{ADDRESS}&selected=0.W:1,2")
    page.wait_for_selector("#chain-rule .chain-card")
    return page


def slopes(path, index, **more):
    """∂C/∂(one number) of the first example, by `jax.grad` in float64, and the number itself."""
    experiment = Experiment.of(Settings(**SETTINGS | more))
    net, cost, rows = experiment.net, experiment.cost, experiment.rows
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), "float64"), experiment.params)
        x, targets = jnp.asarray(rows.x[:1], "float64"), jnp.asarray(np.asarray(rows.targets[:1], np.float64))
        grads = jax.jit(jax.grad(lambda p: cost(net(x, p), targets)[0]))(params)
    return float(jp.arrays.paths.by_path(grads)[path][index]), float(jp.arrays.paths.by_path(params)[path][index])


def shown(page, selector):
    return [float(found) for found in page.eval_on_selector_all(selector, "all => all.map(e => e.dataset.value)")]


def test_the_cards_of_a_weight_multiply_to_jax_grads_number(panel, until):
    expected, value = slopes("0.W", (1, 2))
    assert math.prod(shown(panel, ".card-value[data-value]")) == pytest.approx(expected, rel=1e-9)
    assert shown(panel, ".cr-witnesses td[data-value]")[1] == pytest.approx(expected, rel=1e-9)
    assert float(panel.input_value(".cr-value")) == pytest.approx(value, rel=1e-5)
    assert panel.locator(".cr-terms li").count() == 2
    panel.select_option("#cr-path", "2.W")
    until("() => document.querySelector('.cr-asked').textContent.includes('2.W')")
    expected, _ = slopes("2.W", (0, 0))
    assert math.prod(shown(panel, ".card-value[data-value]")) == pytest.approx(expected, rel=1e-9)


def test_an_edit_is_in_the_frame_and_a_flipped_step_raises_c(panel, until):
    answers = []
    panel.on("response", lambda r: answers.append(r) if "/edit" in r.url or "/step" in r.url else None)
    panel.fill(".cr-value", "0.5")
    panel.press(".cr-value", "Enter")
    until("() => document.querySelector('.cr-drag').value === '0.5'")
    W = answers[0].json()["layers"][0]["W"]
    assert W["values"][1 * W["shape"][1] + 2] == 0.5
    panel.focus(".cr-drag")
    panel.keyboard.press("ArrowRight")
    until("() => Number(document.querySelector('.cr-value').value) > 0.5")
    before = panel.inner_text(".cr-cost")
    panel.click(".cr-flip")
    assert "▲" in panel.inner_text(".cr-changes")
    panel.click(".cr-step")
    until("before => document.querySelector('.cr-cost').textContent !== before", before)
    assert float(panel.inner_text(".cr-cost").replace("−", "-")) > float(before.replace("−", "-"))


def test_the_json_of_the_page_is_the_derivation(panel, until):
    panel.click(".cr-export summary")
    panel.select_option(".cr-form", "json")
    until("() => document.querySelector('.cr-text').value.startsWith('{')")
    found = json.loads(panel.input_value(".cr-text"))
    assert found["path"] == "0.W" and found["value"] == pytest.approx(slopes("0.W", (1, 2))[0], rel=1e-12)
    with panel.expect_download() as waiting:
        panel.click(".cr-download")
    assert json.loads(waiting.value.path().read_text()) == found


def test_a_drag_is_followed_several_times_a_second(panel, until):
    """No absolute time: while at most 40 moves are made, more than four of them are drawn, and the last one is."""
    drawn, last = panel.evaluate("""async () => {
      let drawn = 0, last = -1;
      new MutationObserver(() => { drawn += 1; }).observe(document.querySelector('.cr-cost'), {childList: true});
      const drag = document.querySelector('.cr-drag');
      for (let i = 0; i < 40 && drawn <= 4; i += 1) {
        drag.value = last = -1 + i / 20;
        drag.dispatchEvent(new Event('input', {bubbles: true}));
        await new Promise((done) => setTimeout(done, 50));
      }
      return [drawn, last];
    }""")
    assert drawn > 4
    until("last => Math.abs(Number(document.querySelector('.cr-value').value) - last) < 1e-5", last)
