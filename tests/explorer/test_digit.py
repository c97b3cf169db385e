"""The digit panel in Python: strokes that people wrote, nonsense that nobody would call a digit, and where δ goes."""

import base64
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprop import SoftmaxCrossEntropy
from jaxprop.errors import JaxpropError
from jaxprop_explorer.digits import nonsense, strokes
from jaxprop_explorer.digits.network import FOLDER, examples, network, read_picture, read_pictures
from jaxprop_explorer.panels.digit import UNSURE, Drawing, offered, read_drawing

RECORDED = json.loads((Path(__file__).parent / "strokes" / "pen_digits.json").read_text())


@pytest.fixture(scope="module")
def recorded() -> tuple[np.ndarray, np.ndarray]:
    """The recorded digits as the network sees them, and what they are."""
    return _pictures(RECORDED, centred=True), np.array([one["digit"] for one in RECORDED])


def _pictures(drawings: list[dict[str, Any]], centred: bool) -> np.ndarray:
    return np.array([strokes.picture(one["strokes"], centred=centred) for one in drawings])


def _somewhere(drawing: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """The same drawing at half its size, anywhere on the pad."""
    points = [np.array(stroke) for stroke in drawing["strokes"]]
    at = random.uniform(0.05, 0.55, 2)
    return {"strokes": [((stroke - 0.1) / 0.8 * 0.4 + at).tolist() for stroke in points]}


def test_recorded_strokes_are_read(recorded):
    pictures, digits = recorded
    assert len(digits) == 400 and set(digits) == set(range(10))
    probabilities = read_pictures(pictures)
    right = np.argmax(probabilities, axis=1) == digits
    assert right.mean() >= 0.94, right.mean()
    assert min(right[digits == digit].mean() for digit in range(10)) >= 0.8
    assert np.mean(probabilities.max(axis=1) >= UNSURE) >= 0.98  # of real digits few are refused


def test_centring_makes_the_place_indifferent_and_without_it_reading_fails(recorded):
    random = np.random.default_rng(2)
    some, digits = RECORDED[::4], recorded[1][::4]
    moved = [_somewhere(drawing, random) for drawing in some]
    np.testing.assert_allclose(_pictures(moved, centred=True), recorded[0][::4], atol=1e-5)
    off = np.argmax(read_pictures(_pictures(moved, centred=False)), axis=1)
    assert np.mean(off == digits) < 0.5


def test_nonsense_is_refused():
    """Kinds that were learned as nonsense, and two that were not: stripes, and a fan of lines."""
    random, count = np.random.default_rng(1), 60
    refused = {name: _refused(make(random, count)) for name, make in nonsense.KINDS.items()}
    wave = np.sin(
        np.arange(28)[None, :, None] * random.uniform(0.5, 2.5, (count, 1, 1)) + random.uniform(0, 6, (count, 1, 1))
    )
    refused["stripes"] = _refused(np.broadcast_to(0.5 + 0.5 * wave, (count, 28, 28)).astype(np.float32))
    fans = [
        [[[0.5, 0.5], [0.5 + 0.4 * np.cos(a), 0.5 + 0.4 * np.sin(a)]] for a in random.uniform(0, 6.3, 9)]
        for _ in range(count)
    ]
    refused["fan"] = _refused(np.array([strokes.picture(fan) for fan in fans]))
    assert all(refused[name] >= low for name, low in LEAST.items()), refused


LEAST = {"grain": 0.98, "clouds": 0.9, "scribble": 0.8, "stripes": 0.8, "fan": 0.5}


def _refused(pictures: np.ndarray) -> float:
    return float(np.mean(read_pictures(pictures).max(axis=1) < UNSURE))


def test_the_pages_own_digits_are_read(session):
    for one in examples():
        found = read_drawing(session(), Drawing(strokes=one["strokes"]))
        assert found["prediction"] == one["digit"] and found["verdict"]["kind"] in ("digit", "unsure")
    assert len(offered(session(), Drawing())["digits"]) == 20


def test_an_empty_pad_a_dot_and_a_drawing_outside_get_an_honest_answer(session):
    for given, told in (
        ([], "Nothing is drawn"), ([[]], "Nothing is drawn"), ([[[0.5, 0.5]]], "only a dot"),
        ([[[5.0, 5.0], [6.0, 6.0]]], "outside"),
    ):  # fmt: skip
        found = read_drawing(session(), Drawing(strokes=given, centred=False, label=3))
        assert told in found["verdict"]["text"] and found["probabilities"] is None and found["pixels"] is None
        json.dumps(found, allow_nan=False)


def test_errors_are_the_gradients_of_jax():
    seen = strokes.picture(examples()[6]["strokes"])
    reading = read_picture(seen, 8)
    net, params = network()

    def cost(x: jax.Array) -> jax.Array:
        return SoftmaxCrossEntropy()(net(x[None, :, :, None], params), jnp.array([8]))[0]

    value, slope = jax.device_get(jax.jit(jax.value_and_grad(cost))(seen))
    assert reading.cost == pytest.approx(float(value), rel=1e-5)
    np.testing.assert_allclose(reading.pixels, slope, rtol=1e-4, atol=1e-6 * float(np.abs(slope).max()))
    np.testing.assert_allclose(reading.stages[-1].delta, reading.probabilities - np.eye(10)[8], atol=1e-6)
    for stage in reading.stages[:-1]:
        assert np.all(stage.a >= 0) and np.all(
            stage.delta[stage.a == 0] == 0
        )  # ReLU lets no error through where it is 0


def test_what_the_page_draws_is_what_was_computed(session):
    drawn = examples()[4]["strokes"]
    found = read_drawing(session(), Drawing(strokes=drawn, label=7))
    reading = read_picture(strokes.picture(drawn), 7)
    for given, values in (
        (found["layers"][0]["delta"], reading.stages[0].delta),
        (found["pixels"], reading.pixels[..., None]),
    ):
        bytes_ = [np.frombuffer(base64.b64decode(one), np.int8) for one in given["values"]]
        shown = np.stack(bytes_).reshape(given["count"], given["height"], given["width"]) / 127 * given["scale"]
        np.testing.assert_allclose(np.moveaxis(shown, 0, -1), values, atol=0.51 / 127 * given["scale"])
    without = read_drawing(session(), Drawing(strokes=drawn))
    assert without["pixels"] is None and without["layers"][0]["delta"] is None and without["cost"] is None
    json.dumps(found, allow_nan=False)


def test_a_line_is_as_wide_as_the_pen():
    drawn = strokes.ink([np.array([[4.0, 14.0], [24.0, 14.0]])], pen=3.0)
    np.testing.assert_allclose(drawn.sum(axis=0)[8:20], 3.0, atol=0.1)
    assert drawn[:, :2].max() == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([[[0.1, 0.2, 0.3]]], "two numbers a point"),
        ([[["a", "b"]]], "two numbers"),
        ([[[0, 0]] * 4001], "at most 4000"),
    ],
    ids=["three", "letters", "many"],
)
def test_what_is_no_stroke_is_refused(given, told):
    with pytest.raises(JaxpropError, match=told):
        strokes.read(given)


def test_the_network_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 350_000
