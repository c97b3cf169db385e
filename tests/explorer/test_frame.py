"""What the page draws: the numbers of the network, "not computed yet" until a backward pass ran, and the pictures."""

import base64
import json

import jax
import numpy as np
import pytest

from jaxprop.backward import auto
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.frame import frame
from jaxprop_explorer.experiments.settings import Settings

SMALL = Settings(data="xor", layers=(3,), batch_size=4)


def picture(values: str, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(values), np.int8).reshape(shape)


def test_a_gradient_is_null_until_a_backward_pass_ran():
    experiment = Experiment.of(SMALL)
    unknown = [("delta", None), ("dW", None), ("db", None)]

    def known() -> list:
        return [(name, frame(experiment)["layers"][0][name]) for name in ("delta", "dW", "db")]

    assert known() == unknown
    experiment.backward()
    assert None not in dict(known()).values() and frame(experiment)["phase"] == "backward"
    experiment.edit("0.W", (0, 0), 0.5)
    assert known() == unknown
    experiment.advance(1)
    assert None not in dict(known()).values()
    experiment.look(3)
    assert known() == unknown


def test_the_numbers_are_the_networks_and_the_gradients_are_those_of_jax_grad():
    experiment = Experiment.of(SMALL)
    experiment.backward()
    x, targets = experiment.row
    hidden, output = (frame(experiment)["layers"][i] for i in (0, 1))
    W = np.reshape(hidden["W"]["values"], hidden["W"]["shape"])
    z = np.asarray(x)[0] @ W + hidden["b"]
    np.testing.assert_allclose(hidden["z"], z, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(hidden["a"], np.tanh(z), rtol=1e-5, atol=1e-7)
    grads = jax.jit(auto.value_and_grad(experiment.net, experiment.cost))(x, experiment.params, targets)[1]
    np.testing.assert_allclose(hidden["dW"]["values"], np.ravel(grads[0].W), rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(hidden["delta"], grads[0].b, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(output["db"], grads[2].b, rtol=2e-5, atol=1e-7)
    shown = frame(experiment)
    assert shown["output"] == output["a"] and shown["target"] == np.asarray(targets[0]).tolist()
    assert [layer["path"] for layer in shown["layers"]] == ["0", "2"] and hidden["activation"] == "tanh"


def test_surface_and_heat_maps_are_the_network_over_its_inputs():
    experiment = Experiment.of(SMALL)
    experiment.advance(50)
    shown = frame(experiment)
    surface, heat = shown["surface"], shown["heat"]
    across = np.linspace(*surface["x"], surface["width"])
    up = np.linspace(*surface["y"], surface["height"])[::-1]  # the first row is the top one
    grid = np.stack(np.meshgrid(across, up), -1).reshape(-1, 2).astype(np.float32)
    y = np.asarray(jax.jit(lambda x, params: jax.nn.sigmoid(experiment.net(x, params)))(grid, experiment.params))[:, 0]
    found = picture(surface["values"], surface["height"], surface["width"])
    np.testing.assert_allclose(found / 127, (2 * y - 1).reshape(found.shape), atol=0.51 / 127 + 1e-5)
    units = {(layer, unit): picture(values, heat["height"], heat["width"]) for layer, unit, values in heat["units"]}
    assert sorted(units) == [(-1, 0), (-1, 1), (0, 0), (0, 1), (0, 2), (1, 0)]
    a = np.tanh(grid @ np.asarray(experiment.params[0].W)[:, 1] + np.asarray(experiment.params[0].b)[1])
    a = a.reshape(64, 64)[::2, ::2]
    np.testing.assert_allclose(units[0, 1] / 127, a / np.abs(a).max(), atol=0.51 / 127 + 1e-5)
    assert np.abs(units[0, 1].astype(int)).max() == 127
    points = surface["points"]
    assert len(points["x"]) == len(points["target"]) == 200 and sum(points["validation"]) == 40


def test_one_input_is_a_curve_beside_its_target():
    experiment = Experiment.of(Settings(data="nested", layers=()))
    shown = frame(experiment)
    x, y = np.array(shown["curve"]["x"], np.float32), shown["curve"]["y"]
    np.testing.assert_allclose(shown["curve"]["target"], 3 * (x**2 + 1), rtol=1e-6)
    found = jax.jit(experiment.net)(x[:, None], experiment.params)
    np.testing.assert_allclose(y, np.asarray(found)[:, 0], atol=1e-6)
    assert shown["surface"] is None and shown["heat"]["height"] == 1


def test_a_large_layer_sends_its_largest_edges_and_their_gradients():
    experiment = Experiment.of(Settings(data="digits", layers=(20,)))
    experiment.backward()
    shown = frame(experiment)
    first, last = shown["layers"]
    W = np.asarray(experiment.params[1].W)
    assert first["W"]["values"] is None and len(first["W"]["largest"]) == 300
    kept = {(i, j): value for i, j, value in first["W"]["largest"]}
    assert min(map(abs, kept.values())) >= np.sort(np.abs(W).ravel())[-300] and all(
        W[at] == v for at, v in kept.items()
    )
    assert [edge[:2] for edge in first["dW"]["largest"]] == [edge[:2] for edge in first["W"]["largest"]]
    small = tuple(int(i) for i in np.unravel_index(np.argmin(np.abs(W)), W.shape))
    experiment.choose("1.W", small)
    first = frame(experiment)["layers"][0]
    assert [*small, W[small]] in first["W"]["largest"] and len(first["dW"]["largest"]) == 301
    assert len(last["W"]["values"]) == 200 and shown["surface"] is None and shown["heat"] is None
    assert shown["inputs"]["values"] == experiment.rows.x[0].tolist() and len(shown["output"]) == 10


@pytest.mark.parametrize("settings", [SMALL, Settings(data="chain")], ids=lambda settings: settings.data)
def test_a_frame_is_strict_json_even_where_numbers_are_not_finite(settings):
    experiment = Experiment.of(settings)
    experiment.edit("0.W", (0, 0), 3e38)
    experiment.edit("2.W", (0, 0), 3e38)
    experiment.backward()
    shown = frame(experiment)
    json.dumps(shown, allow_nan=False)
    if settings.data == "chain":
        assert shown["cost"] is None and shown["output"] == [None]


def test_the_history_of_the_cost_stays_short_and_keeps_its_ends():
    experiment = Experiment.of(Settings(data="chain"))
    for _ in range(450):
        experiment.measured()
        experiment.advance(1)
    steps = frame(experiment)["history"]["step"]
    assert len(steps) <= 201 and steps[0] == 0 and steps[-1] == 450 and steps == sorted(steps)
