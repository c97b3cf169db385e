"""`explain(..., quantity=)`: the rows that a quantity of one weight is made of, against loops and `collect`."""

import json
import math

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.derivations import dumps, explain, to_latex, to_text
from jaxprop.errors import JaxpropError
from jaxprop.network import by_path
from tests.derivations.test_network import gradients, network

COST = jp.HalfSquaredError()
EVERY = {
    "second moment": (jp.stats.SecondMoment(), "second_moment"),
    "variance": (jp.stats.Variance(), "variance"),
    "unbiased": (jp.stats.Variance(unbiased=True), "unbiased"),
    "signal to noise": (jp.stats.SignalToNoise(), "signal_to_noise"),
    "noise scale": (jp.stats.NoiseScale(), "noise_scale"),
}


def expected(g):
    """Every quantity of the derivatives of the rows, by numpy."""
    mean, own, unbiased = g.mean(), g.var(), g.var(ddof=1)
    noise_scale = unbiased / (mean**2 - unbiased / len(g))
    return {
        "mean": mean, "second_moment": (g**2).mean(), "variance": own, "unbiased": unbiased,
        "signal_to_noise": mean**2 / (own + 1e-12), "noise_scale": noise_scale,
    }  # fmt: skip


def numbers(found):
    """What the last step says after its labels, and its table."""
    step = found.steps[-1]
    return {equation.label: equation.sides[-1].value for equation in step.equations}, step.rows


@pytest.fixture(scope="module")
def subject():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return network(jp.Linear(3), jp.Tanh(), jp.Linear(2), rows=9)


@pytest.mark.parametrize("name", EVERY)
def test_a_quantity_of_one_weight(subject, name):
    net, x, params, targets = subject
    quantity, last = EVERY[name]
    found = explain(net, COST, most=4, quantity=quantity)(x, params, targets, "0.W", (1, 2))
    plain = explain(net, COST, most=4)(x, params, targets, "0.W", (1, 2))
    assert found.steps[:-1] == plain.steps and found.error() <= 1e-12
    g = np.asarray(by_path(gradients(net, COST, x, params, targets))["0.W"])[:, 1, 2]
    facts, by_numpy = found.facts["quantity"], expected(g)
    assert facts["name"] == repr(quantity) and facts["rows"] == 9 and last in facts
    for each in by_numpy.keys() & facts.keys():
        assert facts[each] == pytest.approx(by_numpy[each], rel=1e-12), each
    order = np.argsort(-abs(g))[:4]
    assert [row["row"] for row in facts["largest"]] == list(order)
    assert [row["derivative"] for row in facts["largest"]] == pytest.approx(g[order], rel=1e-12)
    said, table = numbers(found)
    assert list(said.values())[-1] == pytest.approx(by_numpy[last], rel=1e-12)
    assert ("by jp.stats.collect" in said) == (name != "noise scale")
    a, delta, slope, square = (cell[0].value for cell in table[1][1:])
    assert a * delta == pytest.approx(slope) and slope**2 == pytest.approx(square)
    others, every = ([cell[0].value for cell in row if cell and not isinstance(cell[0], str)] for row in table[-2:])
    rest = np.delete(g, order)
    assert others == pytest.approx([rest.sum(), (rest**2).sum()]) and every == pytest.approx([g.sum(), (g**2).sum()])
    assert json.loads(dumps(found))["quantity"]["rows"] == 9
    assert max(map(len, to_text(found).splitlines())) <= 110
    latex = to_latex(found)
    assert latex.count("{") == latex.count("}") and not set("∂ησδΣε") & set(latex)


def test_a_bias_has_no_activation_and_few_rows_have_no_others(subject):
    net, x, params, targets = subject
    found = explain(net, COST, most=9, quantity=jp.stats.Variance())(x, params, targets, "2.b", 1)
    _, table = numbers(found)
    assert [len(row) for row in table] == [3] * 11 and table[-1][0] == ("all 9",)


def test_columns_and_names_are_read_in_the_table_too(subject):
    net, x, params, targets = subject
    run = explain(net, COST, names={"w5": "0.W[1,2]"}, columns=list("abcdef"), quantity=jp.stats.Variance())
    head = to_text(run(x, params, targets, "w5").steps[-1])
    assert "[b]" in head and "∂C/∂w5" in head and "W⁽¹⁾" not in head


def test_one_row_more_than_asked_is_shown_and_a_weight_that_never_moves_has_no_noise_scale():
    net, x, params, targets = network(jp.Linear(2), rows=4)
    x = x.at[:, 0].set(0.0)
    found = explain(net, COST, most=3, quantity=jp.stats.NoiseScale())(x, params, targets, "0.W", (0, 1))
    said, table = numbers(found)
    assert [row[0] for row in table[1:]] == [("0",), ("1",), ("2",), ("3",), ("all 4",)]
    assert set(said.values()) == {0.0} and "noise_scale" not in found.facts["quantity"]


def test_a_layer_without_a_formula(subject):
    """Positions are summed by the use: what is written is the derivative of the row."""
    net, x, params, targets = network(jp.LayerNorm(), jp.Linear(2), rows=5)
    found = explain(net, COST, quantity=jp.stats.Variance())(x, params, targets, "0.scale", 2)
    g = np.asarray(by_path(gradients(net, COST, x, params, targets))["0.scale"])[:, 2]
    assert found.facts["quantity"]["variance"] == pytest.approx(g.var(), rel=1e-12)
    assert math.isclose(found.error(), 0, abs_tol=1e-12)


def test_what_has_no_number_for_one_weight_is_refused(subject):
    net, x, params, targets = subject
    with pytest.raises(JaxpropError, match=r"quantity must be SecondMoment\(\), Variance\(\).*found DeadUnits\(\)"):
        explain(net, COST, quantity=jp.stats.DeadUnits())
    with pytest.raises(JaxpropError, match="found 'variance'"):
        explain(net, COST, quantity="variance")
    with pytest.raises(JaxpropError, match="a quantity is of a parameter, and x is none"):
        explain(net, COST, quantity=jp.stats.Variance())(x, params, targets, "x", 1)
    with pytest.raises(JaxpropError, match="of one row is 0/0"):
        explain(net, COST, quantity=jp.stats.NoiseScale())(x[:1], params, targets[:1], "0.W", (0, 0))
