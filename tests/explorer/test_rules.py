"""The panel of rules and quantities in Python: angles, norms and formulas against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop_explorer.panels.rules import (
    RULES,
    Ask,
    Given,
    Row,
    compared,
    example,
    formulas,
    measure,
    measured,
    way_of,
)
from jaxprop_explorer.shown.ways_back import ABOUT

COST = jp.HalfSquaredError()


def given_by(name, activation=None):
    """A small network on its way by a rule."""
    activation = activation or (jp.Step() if name == "straight_through" else jp.ReLU())
    net = jp.Chain(jp.Linear(5), activation, jp.Linear(6))
    numbers = np.random.default_rng(1)
    x, targets = (numbers.normal(size=shape).astype(np.float32) for shape in ((7, 2), (7, 6)))
    params, rule = net.init(jax.random.key(1), x), RULES[name]
    feedback = None if rule is None else rule.init(jax.random.key(0), net, params, x)
    return Given(net, COST, params, rule, feedback, x, targets)


def test_every_rule_is_told_about():
    assert list(RULES) == list(ABOUT)


@pytest.mark.parametrize("name", RULES)
def test_the_formula_of_a_rule_has_the_number_that_its_pass_makes(name):
    way = way_of(given_by(name), name, 2)
    assert way is not None
    assert way.by_rule.sides[-1].value == pytest.approx(way.found, rel=1e-5, abs=1e-6)


def test_the_true_formula_beside_it_is_the_chain_rules():
    given = given_by("feedback_alignment")
    way = way_of(given, "feedback_alignment", 2)
    (unit,) = way.true.sides[0].by.index
    tape = jax.jit(jp.manual.trace(given.net, COST))(given.x, given.params, given.targets)
    errors = np.asarray(tape["2"].dx)[2]
    assert way.true.sides[-1].value == pytest.approx(float(errors[unit]), rel=1e-5)
    assert "ε" in formulas(given, "feedback_alignment", 2)["rule"][-1]["math"]


def test_angles_and_norms_are_those_of_gradients_built_one_by_one():
    given = given_by("feedback_alignment")
    found = measured(given)
    by_rule = jax.jit(jp.manual.value_and_grad(given.net, COST, rule=given.rule))
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])  # noqa: E731
    u = flat(by_rule(given.x, given.params, given.targets, feedback=given.feedback)[1])
    v = flat(jax.jit(jp.auto.value_and_grad(given.net, COST))(given.x, given.params, given.targets)[1])
    cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
    assert found["angles"]["total"]["angle"] == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-3)
    norms = [
        np.linalg.norm(flat(by_rule(x[None], given.params, t[None], feedback=given.feedback)[1]))
        for x, t in zip(given.x, given.targets, strict=True)
    ]
    assert found["norms"] == pytest.approx(norms, rel=1e-4)
    assert [row["label"] for row in found["angles"]["layers"]] == ["layer 1", "layer 2"]


def test_a_rule_that_cannot_serve_says_so_beside_the_others(monkeypatch):
    some = {name: RULES[name] for name in ("backpropagation", "feedback_alignment", "straight_through")}
    monkeypatch.setattr("jaxprop_explorer.panels.rules.RULES", some)
    rows = {row["name"]: row for row in compared(given_by("backpropagation"), key=0)}
    assert rows["backpropagation"]["total"]["angle"] == pytest.approx(0, abs=1e-3)
    assert "Step" in rows["straight_through"]["refused"] and rows["straight_through"]["total"]["angle"] is None
    assert rows["feedback_alignment"]["layers"][-1]["angle"] == pytest.approx(0, abs=1e-3)
    assert rows["feedback_alignment"]["total"]["angle"] > 1


def test_the_table_counts_units_that_are_flat():
    given = given_by("backpropagation")
    first = given.params[0]._replace(b=jnp.full_like(given.params[0].b, -100.0))
    table = {row["name"]: row for row in measured(given._replace(params=(first, *given.params[1:])))["table"]}
    assert table["Dead units"]["value"].split(" of ")[1] == "5"
    assert int(table["Dead units"]["value"].split(" of ")[0]) == 5
    assert all(row["tells"].endswith((".", "!")) for row in table.values())


def test_the_largest_bar_is_the_example_with_the_largest_gradient(session):
    tab = session(layers=(3,))
    found = measure(tab, Ask())
    assert max(found["bars"], key=lambda bar: bar["norm"])["row"] == found["largest"]
    shown = example(tab, Row(row=found["largest"]))
    e = tab.experiment
    x, targets = e.rows.x[found["largest"]], e.rows.targets[found["largest"]]
    assert float(shown["target"].replace("−", "-")) == pytest.approx(float(targets[0]), rel=1e-3)
    y = float(np.asarray(jax.jit(e.net)(x[None], e.params))[0, 0])
    assert float(shown["output"].replace("−", "-")) == pytest.approx(y, rel=1e-3)
    expected = float(np.asarray(jax.jit(e.cost)(np.array([[y]]), targets[None]))[0])
    assert float(shown["cost"].replace("−", "-")) == pytest.approx(expected, rel=1e-3)
    with pytest.raises(jp.JaxpropError, match="there are"):
        example(tab, Row(row=10**6))


def test_angles_are_remembered_from_step_to_step_and_forgotten_with_the_network(session):
    tab = session(layers=(3,))
    assert [point["step"] for point in measure(tab, Ask())["over_time"]] == [0]
    tab.experiment.step = 5
    assert [point["step"] for point in measure(tab, Ask())["over_time"]] == [0, 5]
    tab.experiment.step = 0
    assert [point["step"] for point in measure(tab, Ask())["over_time"]] == [0]
