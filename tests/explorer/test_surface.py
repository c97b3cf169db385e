"""The surface panel in Python: heights, slopes and curvature against the article, jax.grad and finite differences."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxprop.arrays.paths import by_path
from jaxprop.errors import JaxpropError
from jaxprop.plot.surface import article_cost, descend
from jaxprop_explorer.panels import plane as planes, surface
from jaxprop_explorer.panels.surface import COMMANDS, SITUATIONS, VIEWS, Look, Place, Steps, look, place, step


def test_heights_are_the_articles_cost(session):
    found = look(session(), Look())
    side = np.linspace(-4, 4, found["side"])
    every = jax.jit(jax.vmap(jax.vmap(article_cost)))
    expected = every(np.stack(np.meshgrid(side[::12], side[::12]), axis=-1))
    heights = np.reshape(found["heights"], (found["side"], found["side"]))[::12, ::12]
    np.testing.assert_allclose(heights, expected, rtol=1e-4, atol=1e-12)
    assert json.loads(json.dumps(found, allow_nan=False))["view"] == "article"


def test_the_saddle_holds_the_ball(session):
    page = session()
    found = look(page, Look(**{key: SITUATIONS["saddle"][key] for key in ("start", "rate")}))
    np.testing.assert_array_equal(found["hessian"], [[0, -2], [-2, 0]])
    np.testing.assert_allclose(found["eigenvalues"], [-2, 2], rtol=1e-14)
    assert found["gradient"] == [0, 0]
    after = step(page, Steps(steps=50, rate=0.1))
    assert (after["ball"]["x"], after["ball"]["y"], after["ball"]["cost"], after["steps"]) == (0, 0, 2, 50)
    assert "saddle" in after["sentence"] and "does not move" in after["sentence"]


def test_the_valley_ends_on_the_curve_of_minima_by_the_path_of_plain_descent(session):
    page = session()
    look(page, Look(start=(2.5, 0.25), rate=0.1))
    found = step(page, Steps(steps=100, rate=0.1))
    np.testing.assert_allclose([row[:2] for row in found["path"]], descend(article_cost, (2.5, 0.25), 0.1, 100).path)
    assert found["ball"]["x"] * found["ball"]["y"] == pytest.approx(2, abs=1e-6)
    assert "along the valley C stays the same" in found["sentence"]
    for branch in look(page, Look())["minima"]:
        np.testing.assert_allclose(np.prod(branch, axis=1), 2, rtol=1e-14)


def test_a_rate_that_diverges_is_said_and_ends(session):
    page = session()
    found = look(page, Look(start=(3.0, 0.1), rate=0.4))
    assert "too long" in found["sentence"]
    found = step(page, Steps(steps=100, rate=0.4))
    assert found["diverged"] and found["sentence"].startswith("Diverged") and found["steps"] < 100
    json.dumps(found, allow_nan=False)
    assert not place(page, Place(x=1, y=1, rate=0.1))["diverged"]


def test_the_way_ahead_is_the_way_taken(session):
    page = session()
    ahead = look(page, Look(start=(3.0, 0.1), rate=0.05))["ahead"]
    np.testing.assert_allclose(step(page, Steps(steps=5, rate=0.05))["path"][1:], ahead[:5], rtol=1e-12)


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "article"])
def test_slope_and_curvature_of_a_network(session, view):
    page = session(layers=(2,))
    found = look(page, Look(view=view, rate=0.3))
    experiment = page.experiment
    plane = jax.tree.map(lambda leaf: np.asarray(leaf, float), page.memory["surface"].plane.arrays)

    @jax.jit
    def height(s: float, t: float) -> jax.Array:
        x, targets, origin, u, v = plane
        moved = jax.tree.map(lambda o, a, b: o + s * a + t * b, origin, u, v)
        return jnp.mean(experiment.cost(experiment.net(x, moved), targets))

    s, t = found["ball"]["x"], found["ball"]["y"]
    assert found["ball"]["cost"] == pytest.approx(float(height(s, t)), rel=1e-5)
    h = 1e-4
    slope = [(height(s + h, t) - height(s - h, t)) / (2 * h), (height(s, t + h) - height(s, t - h)) / (2 * h)]
    np.testing.assert_allclose(found["gradient"], slope, rtol=1e-5, atol=1e-6)
    corners = [a * b * height(s + a * h, t + b * h) / (4 * h * h) for a, b in itertools.product((-1, 1), (-1, 1))]
    np.testing.assert_allclose(found["hessian"][0][1], sum(corners), rtol=1e-4, atol=1e-5)
    here = ravel_pytree(page.memory["surface"].plane.theta((s, t)))[0]
    np.testing.assert_allclose(here, ravel_pytree(experiment.params)[0], rtol=1e-6, atol=1e-6)


def test_two_parameters_are_set_where_the_ball_is(session):
    page = session(layers=(2,))
    before = by_path(page.experiment.params)
    look(page, Look(view="two", chosen=(("0.W", (1, 0)), ("2.b", (0,)))))
    found = place(page, Place(x=0.75, y=-1.25))
    after = by_path(page.experiment.params)
    assert (float(after["0.W"][1, 0]), float(after["2.b"][0])) == (0.75, -1.25)
    others = np.ones_like(after["0.W"], bool)
    others[1, 0] = False
    np.testing.assert_array_equal(np.asarray(after["0.W"])[others], np.asarray(before["0.W"])[others])
    net, cost, rows = page.experiment.net, page.experiment.cost, page.experiment.rows
    x, targets = rows.x[: planes.MOST_ROWS], rows.targets[: planes.MOST_ROWS]
    grads = jax.jit(jax.grad(lambda p: jnp.mean(cost(net(x, p), targets))))
    slope = jax.device_get(by_path(grads(page.experiment.params)))
    np.testing.assert_allclose(found["gradient"], [slope["0.W"][1, 0], slope["2.b"][0]], rtol=1e-5)
    moved = step(page, Steps(rate=0.5))["ball"]
    assert float(by_path(page.experiment.params)["0.W"][1, 0]) == pytest.approx(0.75 - 0.5 * found["gradient"][0])
    assert moved["cost"] < found["ball"]["cost"]
    assert "frame" in page.events


def test_a_drag_is_kept_as_where_it_ended(session):
    page = session(layers=(2,))
    look(page, Look(view="two"))
    for x in (0.25, 0.5, 0.75):
        place(page, Place(x=x, y=-x))
    assert [change["edit"][2] for change in page.experiment.history] == [0.75, -0.75]
    assert "frame" in page.events


def test_a_ball_on_a_cut_through_many_numbers_only_looks(session, monkeypatch):
    monkeypatch.setattr(surface, "MOST_SET", 3)
    page = session(layers=(2,))
    found = look(page, Look(view="random"))
    assert "the ball only looks" in found["note"]
    before = page.experiment.version
    assert place(page, Place(x=0.5, y=0.5))["ball"]["cost"] != found["ball"]["cost"]
    assert page.experiment.version == before


def test_random_directions_have_the_lengths_of_the_weights(session):
    page = session(layers=(2,))
    look(page, Look(view="random", seed=4))
    plane = page.memory["surface"].plane
    for direction in (plane.u, plane.v):
        for path, leaf in by_path(direction).items():
            own = by_path(page.experiment.params)[path]
            np.testing.assert_allclose(np.linalg.norm(leaf, axis=0), np.linalg.norm(own, axis=0), rtol=1e-6)
    other = by_path(look(page, Look(view="random", seed=5)) and page.memory["surface"].plane.u)["0.W"]
    assert not np.allclose(other, by_path(plane.u)["0.W"])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"chosen": (("0.W", (0, 0)), ("0.W", (0, 0)))}, "two different parameters"),
        ({"chosen": (("9.W", (0, 0)), ("0.W", (0, 0)))}, "there is no parameter '9.W'"),
        ({"chosen": (("0.W", (0, 0)), ("0.W", (7, 0)))}, r"no number at \[7, 0\]"),
    ],
    ids=["twice", "unknown", "outside"],
)
def test_what_cannot_be_drawn_is_said(session, asked, told):
    with pytest.raises(JaxpropError, match=told):
        look(session(), Look(view="two", **asked))


def test_the_commands_are_those_that_the_page_asks(session):
    assert set(COMMANDS) == {"look", "place", "step"}
