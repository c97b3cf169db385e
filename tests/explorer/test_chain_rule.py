"""The chain-rule panel in Python: its numbers against `jax.grad`, its forms against the command line."""

import json
import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import jaxprop as jp
from jaxprop.cli import app
from jaxprop_explorer.panels.chain_rule import Ask, Export, Given, Step, chain_rule, derivation, explained, move
from jaxprop_explorer.shown.nudges import costs_along, nudges, sizes
from jaxprop_explorer.shown.slopes import curve
from jaxprop_explorer.shown.updates import update_json
from jaxprop_explorer.shown.written import Printer

NET, COST = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(3), jp.Sigmoid(), jp.Linear(2)), jp.HalfSquaredError()
ROW = 3


@pytest.fixture(scope="module")
def given():
    numbers = np.random.default_rng(0)
    x, targets = numbers.normal(size=(9, 3)).astype(np.float32), numbers.normal(size=(9, 2)).astype(np.float32)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(numbers.normal(size=leaf.shape).astype(np.float32)),
        jax.eval_shape(NET.init, jax.random.key(0), x),
    )
    return Given(NET, COST, params, x, targets, ROW, np.arange(2, 8), 0.1)


@jax.jit
def slopes(params, x, targets):
    return jax.grad(lambda p, x: jnp.mean(COST(NET(x, p), targets)), argnums=(0, 1))(params, x)


def slopes_of(given, rows):
    """∂/∂θ and ∂/∂x of the mean cost of some rows, by `jax.grad` in float64."""
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), (given.params, given.x[rows], given.targets[rows]))
    by_params, by_x = jax.device_get(slopes(*wide))
    return {**jp.arrays.paths.by_path(by_params), "x": by_x[0]}


@pytest.mark.parametrize(
    ("path", "index"), [("0.W", (1, 2)), ("0.b", (3,)), ("2.W", (0, 1)), ("4.W", (2, 1)), ("4.b", (0,)), ("x", (1,))],
    ids=str,
)  # fmt: skip
def test_the_cards_multiply_to_what_jax_grad_finds(given, path, index):
    found = chain_rule(given, Ask(path=path, index=index))
    expected = float(slopes_of(given, [ROW])[path][index])
    assert math.prod(card["exact"] for card in found["cards"]) == pytest.approx(expected, rel=1e-12)
    assert found["value"] == Printer().number(expected)
    assert [w["exact"] for w in found["witnesses"]][:2] == pytest.approx([expected] * 2, rel=1e-12)
    assert found["witnesses"][2]["exact"] == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert len({card["term"] for card in found["cards"]}) == len(found["cards"])


@pytest.mark.parametrize(("path", "index"), [("0.W", (1, 2)), ("2.b", (1,)), ("x", (0,)), ("0", (2,))], ids=str)
def test_the_terms_of_the_paths_add_up_to_their_card(given, path, index):
    found = chain_rule(given, Ask(path=path, index=index))
    card = next(card for card in found["cards"] if card["term"] == found["paths"]["term"])
    assert len(found["paths"]["terms"]) > 1
    assert math.fsum(term["exact"] for term in found["paths"]["terms"]) == pytest.approx(card["exact"], rel=1e-12)
    assert found["paths"]["terms"][0]["share"] == 1.0


def test_a_units_chain_ends_at_its_delta(given):
    found = chain_rule(given, Ask(path="2", index=(1,)))
    expected = float(slopes_of(given, [ROW])["2.b"][1])  # ∂z/∂b = 1
    assert found["kind"] == "unit" and found["update"] is None and len(found["cards"]) == 2
    assert math.prod(card["exact"] for card in found["cards"]) == pytest.approx(expected, rel=1e-12)
    assert "δ" in found["symbol"]
    assert found["witnesses"][1]["exact"] == pytest.approx(expected, rel=1e-12)


def test_a_unit_without_a_bias_has_its_delta_too_and_no_other_numbers_witness(given):
    net = jp.Chain(jp.Linear(2, bias=False), jp.Tanh(), jp.Linear(2, bias=False))
    params = net.init(jax.random.key(0), given.x)
    found = chain_rule(given._replace(net=net, params=params), Ask(path="0", index=(1,)))
    tape = jax.jit(jp.manual.trace(net, COST))(given.x, params, given.targets)
    expected = float(np.asarray(tape["0"].dy)[ROW, 1])
    assert math.prod(card["exact"] for card in found["cards"]) == pytest.approx(expected, rel=1e-5)
    assert found["witnesses"] == [] and found["nudge"] is None


def test_of_a_batch_it_is_the_mean_of_its_examples(given):
    found = chain_rule(given, Ask(path="0.W", index=(1, 2), whole_batch=True))
    expected = float(slopes_of(given, given.batch)["0.W"][1, 2])
    assert [w["exact"] for w in found["witnesses"]][:2] == pytest.approx([expected] * 2, rel=1e-12)
    assert "mean cost of the 6 examples" in found["cost"]["words"]
    assert found["update"]["down"]["falls"] and found["update"]["up"]["rises"]


def test_a_nudges_error_falls_with_h_squared_and_then_rounding_lifts_it(given):
    rows = [ROW]
    asked = (NET, COST, given.x[rows], given.params, given.targets[rows], "0.W", (1, 2))
    slope = slopes_of(given, rows)["0.W"][1, 2]
    found = nudges(by := sizes(0.5), costs_along(*asked, by)[:, 0], slope)
    at = {round(math.log10(h), 1): i for i, h in enumerate(found.h)}
    both = [found.both_ways[at[k]] for k in (-1.0, -2.0, -3.0)]
    one = [found.one_way[at[k]] for k in (-2.0, -3.0, -4.0)]
    assert [a / b for a, b in pairwise(both)] == pytest.approx([100, 100], rel=0.1)
    assert [a / b for a, b in pairwise(one)] == pytest.approx([10, 10], rel=0.1)
    assert found.both_ways[at[-12.0]] > 100 * found.both_ways.min()


def test_the_step_moves_one_number_by_eta_g_and_the_flipped_one_raises_c(session):
    tab = session(layers=(3,), learning_rate=0.25)
    asked = {"path": "0.W", "index": (1, 2)}
    before = explained(tab, Ask(**asked))
    w, g = before["number"]["value"], before["witnesses"][1]["exact"]
    costs = [float(before["cost"]["value"].replace("−", "-"))]
    kept = jp.arrays.paths.by_path(tab.experiment.params)
    move(tab, Step(**asked))
    after = jp.arrays.paths.by_path(tab.experiment.params)
    changed = {path: np.flatnonzero(np.asarray(kept[path]) != np.asarray(after[path])) for path in kept}
    assert {path: list(at) for path, at in changed.items() if len(at)} == {"0.W": [5]}
    assert float(after["0.W"][1, 2]) == float(np.asarray(w - 0.25 * g, after["0.W"].dtype))
    costs.append(float(explained(tab, Ask(**asked))["cost"]["value"].replace("−", "-")))
    move(tab, Step(**asked, flipped=True))
    costs.append(float(explained(tab, Ask(**asked))["cost"]["value"].replace("−", "-")))
    assert costs[1] < costs[0] and costs[2] > costs[1]


def test_the_update_says_what_happened(given):
    found = jp.explain(NET, COST, 0.1)(given.x, given.params, given.targets, "4.b", (0,), row=ROW)
    shown = update_json(found, Printer())
    assert shown["down"]["words"].startswith("C falls") and "The article says to add it" in shown["up"]["words"]
    large = jp.explain(NET, COST, 500.0)(given.x, given.params, given.targets, "4.b", (0,), row=ROW)
    assert "too large" in update_json(large, Printer())["down"]["words"]


def test_the_json_is_that_of_the_command_line(given, tmp_path):
    jp.save(tmp_path / "run", NET, given.params, inputs=given.x, cost=COST)
    np.savez(tmp_path / "rows.npz", x=given.x, targets=given.targets)
    run = jp.load(tmp_path / "run")
    tab = type("Tab", (), {"experiment": type("E", (), {
        "net": run[0], "cost": COST, "params": run[1], "example": ROW, "steerable": False,
        "rows": type("R", (), {"x": given.x, "targets": given.targets, "names": ("x1", "x2", "x3")}),
        "settings": type("S", (), {"learning_rate": 0.1, "batch_size": 4})})})  # fmt: skip
    shown = json.loads(derivation(tab, Export(path="0.W", index=(1, 2), form="json"))["text"])
    rows = ["--row", str(ROW), "--data", str(tmp_path / "rows.npz")]
    asked = ["explain", str(tmp_path / "run"), "0.W[1,2]", "--json", *rows]
    printed = CliRunner().invoke(app, asked, catch_exceptions=False)
    said = json.loads(printed.stdout)
    assert {"model", "data"} == set(said) - set(shown)
    assert {key: said[key] for key in shown} == shown


@pytest.mark.parametrize("form", ["latex", "document", "mathml", "html", "text"])
def test_every_form_has_the_value(session, form):
    found = derivation(session(layers=(3,)), Export(path="0.W", index=(0, 0), form=form))
    value = explained(session(layers=(3,)), Ask(path="0.W", index=(0, 0)))["value"].replace("−", "")
    assert value in found["text"] and found["name"].startswith("derivation-0-W-0-0.")


def test_the_curve_of_an_activation_is_its_own_and_so_is_its_slope(given):
    z, values, slopes = map(np.array, curve(jp.Sigmoid(), 4.0, 0.5))
    h = 1e-6
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    assert values == pytest.approx(sigmoid(z), rel=1e-12)
    assert slopes == pytest.approx((sigmoid(z + h) - sigmoid(z - h)) / (2 * h), rel=1e-6)
    shown = chain_rule(given, Ask(path="2.W", index=(0, 1)))["slope"]
    card = chain_rule(given, Ask(path="2.W", index=(0, 1)))["cards"][1]
    assert shown["activation"] == "Sigmoid" and shown["at"]["slope"] == pytest.approx(card["exact"], rel=1e-12)
    assert -max(shown["z"]) <= shown["at"]["z"] <= max(shown["z"])


def test_the_articles_names_stand_where_asked(given):
    plain, article = (chain_rule(given, Ask(path="4.b", index=(0,), article=way)) for way in (False, True))
    formulas = [str([card["formulas"] for card in found["cards"]]) for found in (plain, article)]
    assert "target[0]" in formulas[0] and "ŷ_0" not in formulas[0]
    assert "target[0]" not in formulas[1] and "ŷ_0" in formulas[1]
    assert [card["exact"] for card in plain["cards"]] == [card["exact"] for card in article["cards"]]


def test_a_place_that_is_not_there_is_said(session):
    with pytest.raises(jp.JaxpropError, match=r"unknown path '9\.W'"):
        explained(session(layers=(3,)), Ask(path="9.W", index=(0, 0)))
    with pytest.raises(jp.JaxpropError, match="no step moves it"):
        move(session(layers=(3,)), Step(path="x", index=(0,)))
