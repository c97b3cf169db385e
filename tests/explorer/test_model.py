"""The model panel: what it says of any network is what jax.grad and the layers themselves say."""

import base64
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.errors import JaxpropError
from jaxprop.network import by_path
from jaxprop_explorer import opened
from jaxprop_explorer.opened import Given, Opened, introduce, is_chain, of_run, problem
from jaxprop_explorer.panels import model
from jaxprop_explorer.panels.command import Asked
from jaxprop_explorer.sessions import Session
from jaxprop_explorer.shown.pictures import MAPS, SIDE, STRIP, picture
from tests.drawing import draw

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 7, (3, 5)).astype(np.int32)
PIXELS = RNG.normal(size=(3, 6, 6, 2))
BLOCK = jp.Residual(jp.Chain(jp.MultiHeadAttention(2, causal=True), jp.Linear(4)))
NETS = {
    "attention": (
        jp.Chain(jp.Embedding(7, 4), jp.Repeat(BLOCK, 2), jp.Linear(7)),
        IDS, jp.SoftmaxCrossEntropy(), IDS[:, ::-1],
    ),
    "convolutions": (
        jp.Chain(jp.Conv(3, (3, 3)), jp.ReLU(), jp.MaxPool((2, 2)), jp.Flatten(), jp.Linear(2)),
        PIXELS, jp.SoftmaxCrossEntropy(), np.array([0, 1, 1], np.int32),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def sessions():
    """`sessions(name)`: a session on one of NETS, opened once, at its second row."""
    made = {}

    def session(name):
        if name not in made:
            net, x, cost, targets = NETS[name]
            given = Given(name, net, cost, problem(x, targets, None, ()), draw(net, x[:1]), fixed="fixed")
            made[name] = Session(Opened(given, {"example": 1}))
        return made[name]

    return session


def numbers(given):
    values = np.frombuffer(base64.b64decode(given["values"]), "<f4")
    return values.reshape((given["count"], *given["size"]) if given["kind"] == "maps" else given["size"])


def pictures(session, path, time=0):
    found = model.layer(session, model.Place(path=path, time=time))
    return {one["what"]: one for one in found["pictures"]}


@functools.cache
def witness(name):
    """The second row's cost, y, ∂C/∂y, and by `jax.grad` the gradients, of a network's parameters."""
    net, x, cost, targets = NETS[name]

    @jax.jit
    def found(params):
        y = net(x[1:2], params)
        grads = jax.grad(lambda p: jnp.mean(cost(net(x[1:2], p), targets[1:2])))(params)
        return jnp.mean(cost(y, targets[1:2])), y, cost.delta(y, targets[1:2]), grads

    return found


@pytest.mark.parametrize("name", NETS)
def test_gradients_of_every_layer_are_those_of_jax_grad(sessions, name):
    session = sessions(name)
    seen = session.experiment
    grads = jax.device_get(witness(name)(seen.params)[-1])
    checked = set()
    for row in model.table(session, model.Page())["layers"]:
        for time in range(row["repeats"]):
            for one in pictures(session, row["path"], time).values():
                if not one["what"].startswith("d") or one["entry"] in (None, "x"):
                    continue
                expected = np.asarray(by_path(grads)[one["entry"]])[tuple(one["before"])]
                assert one["shape"] == list(expected.shape)
                shown = numbers(one)
                if one["kind"] == "maps":
                    expected = np.moveaxis(expected.reshape(*expected.shape[:2], -1)[..., :MAPS], 2, 0)
                np.testing.assert_allclose(shown.ravel(), expected.ravel(), rtol=1e-5, atol=1e-7)
                checked.add((one["entry"], tuple(one["before"])))
    assert {path for path, _ in checked} == set(by_path(seen.params))
    assert len({before for _, before in checked}) == (3 if name == "attention" else 1)


def test_the_table_and_its_measures(sessions):
    session = sessions("attention")
    table = model.table(session, model.Page())
    parameters = sum(leaf.size for leaf in jax.tree.leaves(session.experiment.params))
    assert sum(row["parameters"] for row in table["layers"]) == parameters
    assert table["of"] == len(table["layers"]) and {row["repeats"] for row in table["layers"]} == {1, 2}
    said = model.measures(session, Asked())
    found, y, delta, _ = jax.device_get(witness("attention")(session.experiment.params))
    last = table["layers"][-1]["path"]
    assert said["layers"][last][0] == pytest.approx(np.sqrt(np.mean(y**2)), rel=1e-5)
    assert said["layers"][last][1] == pytest.approx(np.sqrt(np.mean(delta**2)), rel=1e-5)
    assert said["cost"] == pytest.approx(float(found), rel=1e-6)


def test_attention_weights_are_those_of_the_layer(sessions):
    session = sessions("attention")
    path = next(r["path"] for r in model.table(session, model.Page())["layers"] if r["kind"] == "MultiHeadAttention")
    p = [numbers(pictures(session, path, time)["weights"]) for time in range(2)]
    assert p[0].shape == (2, 5, 5) and not np.allclose(p[0], p[1])  # heads, queries, keys
    for one in p:
        np.testing.assert_allclose(one.sum(axis=2), 1, rtol=1e-5)
        assert np.all(one[:, np.triu_indices(5, 1)[0], np.triu_indices(5, 1)[1]] == 0)  # causal


def test_a_unit_and_the_parameters_that_lead_to_it(sessions):
    session = sessions("convolutions")
    found = model.unit(session, model.Unit(path="4", what="y", index=(1,)))
    shown = pictures(session, "4")
    assert found["values"]["y"] == pytest.approx(float(numbers(shown["y"])[0, 1]), rel=1e-6)
    steepest = found["entries"][0]
    slopes = np.abs(numbers(shown["dW"])[:, 1])
    assert steepest["path"] == "4.W" and steepest["index"] == [int(np.argmax(slopes)), 1]
    assert {one["path"] for one in found["entries"]} == {"4.W", "4.b"}
    kernel = model.unit(session, model.Unit(path="0", what="y", index=(2, 3, 1)))["entries"]
    assert {one["index"][-1] for one in kernel} == {1}
    with pytest.raises(JaxpropError, match=r"there is no y\[2\]: its shape is \[2\]"):
        model.unit(session, model.Unit(path="4", what="y", index=(2,)))


def test_one_number_is_explained(sessions):
    session = sessions("convolutions")
    found = model.entry(session, model.Entry(path="4.W", index=(0, 1)))
    slope = float(numbers(pictures(session, "4")["dW"])[0, 1])
    assert found["json"]["value"] == pytest.approx(slope, rel=1e-5)
    assert "<math" in found["mathml"] and "4.W" in found["text"]


def test_pages_of_pictures_cover_an_array():
    matrix = RNG.normal(size=(SIDE + 3, 2 * SIDE + 5))
    put = np.full(matrix.shape, np.nan)
    first = picture("W", matrix)
    assert first["pages"] == 6
    for page in range(6):
        one = picture("W", matrix, page)
        (i, j), (h, w) = one["first"], one["size"]
        put[i : i + h, j : j + w] = numbers(one)
    np.testing.assert_allclose(put, matrix, rtol=1e-6)
    maps = RNG.normal(size=(2 * SIDE, 3, MAPS + 1))
    one = picture("y", maps, 99)
    assert (one["page"], one["pages"], one["first"], one["every"], one["size"]) == (1, 2, [0, 0, MAPS], 2, [SIDE, 2])
    np.testing.assert_allclose(numbers(one)[0], maps[::2, ::2, MAPS], rtol=1e-6)
    assert picture("b", np.arange(STRIP + 1))["pages"] == 2 and picture("C", 2.0)["size"] == [1, 1]
    broken = picture("y", np.array([1.0, np.nan, -3.0]))
    assert broken["largest"] == 3.0 and not broken["finite"]


def test_of_a_long_tape_only_what_is_asked_is_computed(sessions, monkeypatch):
    whole = sessions("convolutions")
    monkeypatch.setattr(opened, "LONG_TAPE", 0)
    session = Session(Opened(whole.experiment.origin, {"example": 1}))
    assert session.experiment.passed().tape == {}
    assert session.frame()["layers"] and "values" in pictures(session, "3")["y"]
    for what, one in pictures(whole, "0").items():
        np.testing.assert_allclose(numbers(one), numbers(pictures(session, "0")[what]), rtol=1e-6, atol=1e-9)
    said, other = (model.measures(one, Asked())["layers"] for one in (whole, session))
    assert said.keys() == other.keys() and all(np.allclose(said[path], other[path], rtol=1e-5) for path in said)


def test_a_network_that_may_not_be_changed_says_why(sessions):
    session = sessions("attention")
    with pytest.raises(JaxpropError, match="fixed"):
        session.experiment.advance(1)
    with pytest.raises(JaxpropError, match="unknown layer 'nowhere'; known: 0, 1"):
        model.layer(session, model.Place(path="nowhere"))
    for elsewhere in (7, -1, "x", None):  # an address may be another model's
        assert Opened(session.experiment.origin, {"example": elsewhere, "steps": 5}).example == 0
    with pytest.raises(JaxpropError, match="expected 0 to 2"):
        model.example(session, model.Example(index=3))
    introduce(session)
    assert session.frame()["opened"] == {"name": "attention", "chain": False, "fixed": "fixed"}


@pytest.mark.parametrize(
    "net, drawn",
    [
        (jp.Chain(jp.Standardize(0.0, 1.0), jp.Linear(3), jp.Tanh(), jp.Linear(1)), True),
        (jp.Chain(jp.Residual(jp.Linear(3)), jp.Linear(1)), False),
        (jp.Chain(jp.LSTM(3)), False),
    ],
    ids=["chain", "residual", "recurrent"],
)
def test_which_networks_the_network_panel_draws(net, drawn):
    assert is_chain(net) is drawn


def saved(folder: Path, cost=None, **info):
    """A saved chain on 4 inputs."""
    net = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(2))
    x = np.ones((1, 4), np.float32)
    with jax.enable_x64(False):
        jp.save(folder, net, draw(net, x), inputs=x, cost=cost, info=info)
    return folder


def test_a_saved_run_has_the_rows_it_was_trained_on_and_goes_on(tmp_path):
    net = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(1))
    x = np.ones((1, 2), np.float32)
    training = {"optimizer": "momentum", "learning_rate": 0.25, "batch_size": 7, "seed": 3}
    with jax.enable_x64(False):
        data = {"name": "xor", "options": {}}
        jp.save(
            tmp_path, net, draw(net, x), inputs=x, cost=jp.HalfSquaredError(), info={"data": data, "training": training}
        )
        given = of_run(tmp_path)
        made, again = Opened(given), Opened(given)
        assert made.rows.held_out is not None and made.steerable and "training rows" in given.notes[0]
        assert (made.settings.optimizer, made.settings.batch_size, made.settings.seed) == ("momentum", 7, 3)
        made.advance(3)
        made.edit("0.W", (0, 0), 0.5)
        made.advance(2)
        state = made.given()
        again = Opened(given, state)
        assert all(map(np.array_equal, jax.tree.leaves(made.params), jax.tree.leaves(again.params)))
        assert not np.array_equal(made.params[2].W, given.params[2].W)


def test_a_model_without_rows_or_cost_is_shown_on_made_up_ones(tmp_path):
    with jax.enable_x64(False):
        given = of_run(saved(tmp_path))
        assert "made up" in given.notes[0] and given.rows.x.shape == (opened.MADE_UP, 4)
        assert np.isfinite(float(Opened(given).passed().cost))


def test_rows_of_a_file_that_do_not_fit_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((6, 3)), y=np.ones((6, 2)))
    with pytest.raises(JaxpropError, match=r"expects \[4\]"), jax.enable_x64(False):
        of_run(saved(tmp_path / "m"), str(tmp_path / "x.npz"))
