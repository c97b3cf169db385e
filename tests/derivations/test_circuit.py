"""Several variables: value and derivative at every node of the graph, against `jax.grad` and nudges."""

import json
import math

import jax
import pytest
from hypothesis import assume, given, settings, strategies as st

from jaxprop.derivations import derive, dumps, to_latex, to_text
from jaxprop.derivations.formula import Call, Constant, Number, Product, Quotient, Sum, Symbol, evaluate
from jaxprop.derivations.functions import FUNCTIONS
from jaxprop.derivations.links import JAX
from jaxprop.errors import JaxpropError

from .formulas import ONE, POINTS, TWO, several

CS231N = {"x": -2, "y": 5, "z": -4}


def nodes(found):
    return {node["name"]: node for node in found.facts["nodes"]}


def check(found, tolerance=1e-9):
    """The chain rule at every node is jax.grad's and a nudge's, and its paths add up."""
    for node in found.facts["nodes"]:
        size = 1 + abs(node["derivative"]) + sum(map(abs, node["paths"].values()))
        assert node["derivative"] == pytest.approx(node["jax_grad"], abs=tolerance * size)
        assert not node["paths"] or sum(node["paths"].values()) == pytest.approx(node["derivative"], abs=1e-12 * size)
    assert found.error() <= 1e-9
    json.loads(dumps(found))
    return nodes(found)


def test_the_circuit_of_cs231n():
    found = derive("(x+y)*z", at=CS231N)
    seen = check(found)
    assert {name: (node["value"], node["derivative"]) for name, node in seen.items()} == {
        "x": (-2, -4), "y": (5, -4), "z": (-4, 3), "q": (3, -4), "f": (-12, 1)
    }  # fmt: skip
    assert all(node["finite_difference"] == pytest.approx(node["derivative"], rel=1e-9) for node in seen.values())
    text = to_text(found)
    for line in (
        "q = x + y = -2 + 5 = 3",
        "∂f/∂x = ∂f/∂q · ∂q/∂x = (-4)·1 = -4",
        "     q     3      -4        ∂f/∂q = -4",
    ):
        assert line in text
    assert r"\begin{array}" in to_latex(found) and found.facts["formulas"] == {"x": "z", "y": "z", "z": "x + y"}


def test_the_sigmoid_neuron_of_cs231n():
    at = {"w0": 2, "x0": -1, "w1": -3, "x1": -2, "w2": -3}
    seen = check(derive("1/(1+exp(-(w0*x0 + w1*x1 + w2)))", at=at))
    expected = {"w0": -0.2, "x0": 0.39, "w1": -0.39, "x1": -0.59, "w2": 0.2}
    assert {name: round(seen[name]["derivative"], 2) for name in at} == expected
    assert seen["f"]["value"] == pytest.approx(0.7310585786)


def test_a_node_that_goes_into_several_gates_adds_its_paths():
    found = derive("(x+y)^2 + sin(x+y)*x", at={"x": 1, "y": 2})
    seen = check(found)
    assert len(seen["q₁"]["paths"]) == 2 and len(seen["x"]["paths"]) == 2  # x + y is one node
    text = to_text(found)
    assert "x through q₁: ∂f/∂q₁ · ∂q₁/∂x" in text and "what comes back along each path is added" in " ".join(
        text.split()
    )


def test_what_goes_into_the_last_gate_and_elsewhere_has_two_derivatives_with_two_names():
    found = derive("x + x*y", at={"x": 3, "y": 2})
    seen = check(found)
    assert seen["x"]["paths"] == {"q₁": 2.0, "q₂": 1.0} and found.facts["derivatives"] == {"x": 3.0, "y": 3.0}
    assert "∂f/∂x = ∂f/∂q₁ · ∂q₁/∂x + ∂f/∂q₂ · ∂q₂/∂x = 1·2 + 1·1 = 3" in to_text(found)


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("x*y", {"x": 1}, "unknown name 'y'"),
        ("x^2", {"x": 1, "y": 2}, "a value for a variable that is not there, 'y'"),
        ("f(x, y) = x*y", {"x": 1}, "no value for 'y'"),
        ("f(x, y) = x*y", 2.0, "at must have a value for every variable: x=2,y=2"),
        ("x*y", {"x": 1, "y": math.nan}, "at y must be a finite number, found nan"),
        ("x/y", {"x": 1, "y": 0}, "division by zero, in x/y at x = 1, y = 0"),
        ("x*sqrt(y)", {"x": 1, "y": 0}, r"no finite derivative of √\(y\) at x = 1, y = 0"),
    ],
)
def test_what_is_no_circuit_is_refused(text, at, message):
    with pytest.raises(JaxpropError, match=message):
        derive(text, at)


def test_one_variable_by_name_is_the_chain_rule_of_one():
    assert derive("width^2", at={"width": 3}).facts["derivative_value"] == 6.0


X, Y = Symbol("x"), Symbol("y")
PARTS = st.recursive(
    st.sampled_from([X, Y, X, Y, Number(2), Number(0.5), Constant("π")]),
    lambda part: st.one_of(
        several(Sum, part), several(Product, part), st.builds(Quotient, part, part),
        st.builds(Call, st.sampled_from(ONE), part), st.builds(Call, st.sampled_from(TWO), part, st.tuples(part)),
    ),
    max_leaves=6,
)  # fmt: skip


def check_random(formula, x, y):
    try:
        found = derive(to_text(formula + 0 * X * Y, digits=None), {"x": x, "y": y})
    except JaxpropError:
        assume(False)
        return
    assume(max(abs(value) for value in found.values.values()) < 1e4)
    seen = check(found, 1e-7)
    with jax.enable_x64(True):
        expected = jax.jit(jax.grad(lambda x, y: evaluate(formula + 0 * X * Y, {X: x, Y: y}, JAX), (0, 1)))(x, y)
    assert [seen["x"]["derivative"], seen["y"]["derivative"]] == pytest.approx([*map(float, expected)], abs=1e-6)


@settings(max_examples=6, deadline=None)
@given(PARTS, POINTS, POINTS)
def test_any_circuit(formula, x, y):
    check_random(formula, x, y)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(PARTS, POINTS, POINTS)
def test_more_circuits(formula, x, y):
    check_random(formula, x, y)


@pytest.mark.exhaustive
@settings(max_examples=150, deadline=None)
@given(PARTS, POINTS, POINTS)
def test_many_circuits(formula, x, y):
    check_random(formula, x, y)


def test_every_typed_function_is_drawn():
    assert {*ONE, *TWO} == {name for name, function in FUNCTIONS.items() if function.typed}
