"""`derive`: the chain rule of an expression, against `jax.grad`, central differences and known answers."""

import json
import math
import time

import pytest
from hypothesis import assume, given, settings, strategies as st

from jaxprop.derivations import derive, dumps, to_json, to_latex, to_text
from jaxprop.derivations.parse import parse
from jaxprop.errors import JaxpropError

from .formulas import FORMULAS, POINTS


def test_the_article_example_is_6x_and_12():
    derivation = derive("3*(x**2+1)", at=2.0)
    facts = derivation.facts
    assert (facts["expression"], facts["variable"], facts["at"], facts["value"]) == ("3*(x**2+1)", "x", 2.0, 15.0)
    assert (facts["derivative"], facts["derivative_value"], facts["jax_grad"]) == ("6x", 12.0, 12.0)
    assert facts["finite_difference"] == pytest.approx(12, rel=1e-9)
    text = to_text(derivation)
    for line in (
        "u = x² + 1 = 2² + 1 = 5",
        "f = 3u = 3·5 = 15",
        "taken at the inside u = 5, not at x = 2 (the outside is linear",
        "df/du = [3 at u=5] = 3",
        "df/dx = df/du · du/dx = 3·4 = 12",
        "df/dx = 3·2x = 6x = 6·2 = 12",
    ):
        assert line in " ".join(text.split())


def test_the_outer_derivative_is_taken_at_the_inside():
    derivation = derive("3*(x**2+1)**3", at=2.0)
    text = to_text(derivation)
    assert "df/du = [9u² at u=5] = 9·5² = 225" in text
    assert "df/dx = 9·(x² + 1)²·2x = 18x(x² + 1)² = 18·2·(2² + 1)² = 900" in text
    assert "(the outside is linear" not in text
    assert derivation.facts["derivative_value"] == 900.0
    assert derivation.values[next(leaf for leaf in derivation.values if to_text(leaf) == "u")] == 5.0


@pytest.mark.parametrize(
    ("expression", "derivative"),
    [
        ("5", "0"),
        ("x", "1"),
        ("3x + 2x", "5"),
        ("3(x^2+1)^3", "18x(x² + 1)²"),
        ("sin(x²)", "2x·cos(x²)"),
        ("cos(x)", "-sin(x)"),
        ("log(x)", "1/x"),
        ("ln(3x)", "1/x"),
        ("1/x", "-1/x²"),
        ("√(x)", "1/(2·√(x))"),
        ("x^(1/2)", "1/(2·x^(1/2))"),
        ("exp(-x^2/2)", "-x·exp(-x²/2)"),
        ("e^x", "e^x"),
        ("2^x", "2^x·log(2)"),
        ("x^x", "x^x·log(x) + x^x"),
        ("sin(x)cos(x)", "cos(x)² - sin(x)²"),
        ("tanh(t)", "1 - tanh(t)²"),
        ("σ(z)", "(1 - σ(z))·σ(z)"),
        ("x(x+1)", "2x + 1"),
        ("2π x", "2π"),
        ("-3x^2 + 2x - 1", "-6x + 2"),
        ("x^-2", "-2/x³"),
        ("relu(2x)", "2·step(2x)"),
        ("x/3", "1/3"),
    ],
)
def test_derivatives_are_written_simply(expression, derivative):
    assert derive(expression, at=0.7).facts["derivative"] == derivative


def test_paths_that_meet_are_added():
    text = " ".join(to_text(derive("x*sin(x)", at=2.0)).split())
    assert "by the product rule, are taken at the insides x = 2, u ≈ 0.909297" in text
    assert "df/dx = ∂f/∂x + ∂f/∂u · du/dx" in text


def test_equal_insides_share_a_name():
    text = to_text(derive("sin(x^2) + cos(x^2)", at=1.0))
    assert "f = sin(u) + cos(u)" in text


def test_a_long_chain_is_one_product():
    assert "df/dx = df/du₂ · du₂/du₁ · du₁/dx" in to_text(derive("exp(sin(x^2))", at=1.0))


def test_names_of_the_steps_stay_clear_of_the_variable():
    assert "u = f² + 1" in to_text(derive("3(f^2+1)", at=1.0))
    assert "dg/df" in to_text(derive("3(f^2+1)", at=1.0))
    assert "v = u² + 1" in to_text(derive("3(u^2+1)", at=1.0))


def test_json_has_the_promised_keys_and_is_strict():
    shown = json.loads(dumps(derive("sqrt(x^3)*x", at=1.0)))
    keys = ("expression", "variable", "at", "value", "derivative", "derivative_value", "jax_grad", "finite_difference")
    assert set(keys) < set(shown)
    assert shown["steps"][0]["equations"][0]["text"] == "u₁ = x³ = 1³ = 1"


def test_a_side_without_a_value_has_no_central_difference():
    derivation = derive("x^1.5", at=0.0)
    assert derivation.facts["derivative_value"] == derivation.facts["jax_grad"] == 0.0
    assert derivation.facts["finite_difference"] is None
    assert "no value on one side" in " ".join(to_text(derivation).split())


def test_the_corner_of_relu_is_said_to_be_a_convention():
    assert "by convention" in to_text(derive("relu(x)", at=0.0))
    assert "by convention" not in to_text(derive("relu(x)", at=1.0))


@pytest.mark.parametrize(
    ("expression", "at", "message", "caret"),
    [
        ("sen(x)", 1, "unknown function 'sen' (did you mean 'sin'?)", "^^^"),
        ("x.real", 1, "found '.', an attribute", " ^"),
        ("sin(x,2)", 1, "sin takes one argument", "     ^"),
        ("'a'", 1, "a string", "^"),
        ("x < 2", 1, "a comparison", "  ^"),
        ("x = 2", 1, "a comparison or assignment", "  ^"),
        ("(x", 1, "this '(' is never closed", "^"),
        ("x)", 1, "this ')' was never opened", " ^"),
        ("x +", 1, "expected a number, a name or '(' after '+', found the end", "   ^"),
        ("x//2", 1, "after '/', found '/'", "  ^"),
        ("()", 1, "after '(', found ')'", " ^"),
        ("2 3", 1, "two numbers side by side", "^^^"),
        ("max x", 1, "max needs parentheses", "^^^"),
        ("x + yy", 1, "two variables, 'x' and 'yy'", "    ^^"),
        ("f(x)", 1, "unknown function 'f'", "^"),
        ("__import__('os')", 1, "found '_'", "^"),
        ("1e999", 1, "too large for a float64", "^^^^^"),
        ("9**9**9", 1, "overflow", "^^^^^^^"),
        ("1 + 1/(x-2)", 2, "division by zero, in 1/(x - 2) at x = 2", "    ^^^^^^^"),
        ("2*log(x-3)", 1, "needs a positive number and finds -2", "  ^^^^^^^^"),
        ("2*sqrt(x)", 0, "no finite derivative of √(x) at x = 0: division by zero", "  ^^^^^^^"),
        ("exp(x)", 1000, "overflow", "^^^^^^"),
        ("(" * 41 + "x" + ")" * 41, 1, "nested more than 40 deep", " " * 40 + "^"),
        ("-" * 50 + "x", 1, "nested more than 40 deep", " " * 41 + "^" * 10),
    ],
)
def test_mistakes_are_named_where_they_stand(expression, at, message, caret):
    with pytest.raises(JaxpropError) as caught:
        derive(expression, at)
    said, shown, marked = str(caught.value).split("\n")
    assert message in said
    assert (shown[2:], marked[2:]) == (expression, caret)


@pytest.mark.parametrize(
    ("expression", "at", "message"),
    [
        ("", 1, "is empty"),
        ("  ", 1, "is empty"),
        ("x" * 501, 1, "501 characters; at most 500"),
        (5, 1, "must be text .* found int"),
        ("x", math.nan, "at must be a finite number, found nan"),
        ("x", "a", "at must be a finite number, found 'a'"),
        ("x", None, "at must be a finite number"),
    ],
)
def test_what_is_not_an_expression_or_a_point_is_refused(expression, at, message):
    with pytest.raises(JaxpropError, match=message):
        derive(expression, at)


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param("^".join("x" * 30), marks=pytest.mark.slow),
        "x*sin(" * 19 + "x" + ")" * 19,
        "(x+1/" * 19 + "x" + ")" * 19,
        "*".join(f"sin({i}x)" for i in range(1, 20)),
        "/".join("x" * 30),
        "(" * 200 + "x" + ")" * 200,
        "x^999999999^999999999",
        "(x+1)^9999999999999999999",
    ],
)
def test_no_expression_hangs(expression):
    start = time.monotonic()
    try:
        derive(expression, at=0.5)
    except JaxpropError:
        pass
    assert time.monotonic() - start < 20


def check_derivation(formula, at):
    """Every equation is true, and the three ways to the derivative agree, unless the formula is badly conditioned."""
    try:
        derivation = derive(to_text(formula, digits=None), at)
    except JaxpropError:
        assume(False)
        return
    ours, facts = derivation.facts["derivative_value"], derivation.facts
    assume(abs(ours) < 1e6 and abs(facts["value"]) < 1e3)
    size = 1 + max(abs(value) for value in derivation.values.values())
    assume(size < 1e4)
    assert math.isclose(ours, facts["jax_grad"], rel_tol=1e-9, abs_tol=1e-10 * size)
    if facts["finite_difference"] is not None and smooth_near(formula, at):
        assert math.isclose(ours, facts["finite_difference"], rel_tol=1e-4, abs_tol=1e-5 * size)
    for step in derivation.steps:
        for equation in step.equations:
            assert not equation.exact or equation.error(derivation.values) * abs(ours) <= 1e-9 * size
    to_latex(derivation)
    json.dumps(to_json(derivation), allow_nan=False)


def smooth_near(formula, at):
    """Whether the derivative hardly changes over the step of a central difference."""
    text = to_text(formula, digits=None)
    try:
        slopes = [derive(text, at + step).facts["derivative_value"] for step in (-2e-4, 0.0, 2e-4)]
    except JaxpropError:
        return False
    return max(slopes) - min(slopes) < 1e-2


@settings(max_examples=6, deadline=None)
@given(FORMULAS, POINTS)
def test_the_chain_rule_agrees_with_its_witnesses(formula, at):
    check_derivation(formula, at)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(FORMULAS, POINTS)
def test_more_derivations(formula, at):
    check_derivation(formula, at)


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=None)
@given(FORMULAS, POINTS)
def test_many_derivations(formula, at):
    check_derivation(formula, at)


PIECES = st.sampled_from(
    [
        *"x()+-*/^.,e2 9",
        "**",
        "sin(",
        "log(",
        "sqrt ",
        "pi",
        "y",
        "²",
        "√",
        "π",
        "__",
        "'",
        "\n",
        "λ",
        "1e9",
        "lambda",
        "𝒙",
    ]
)
ANYTHING = st.one_of(st.text(max_size=30), st.lists(PIECES, max_size=12).map("".join))


def check_only_known_errors(text):
    try:
        derive(text, at=1.5)
    except JaxpropError as error:
        assert str(error)


@settings(max_examples=10, deadline=None)
@given(ANYTHING)
def test_any_text_is_read_or_refused(text):
    check_only_known_errors(text)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_much_text_is_read_or_refused(text):
    check_only_known_errors(text)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2x", "2x"),
        ("3(x+1)(x-1)", "3·(x + 1)·(x - 1)"),
        ("-x^2", "-x²"),
        ("2^-x", "2^(-x)"),
        ("x^2^3", "x^(2³)"),
        ("1/2x", "(1/2)·x"),
        ("x−1·x÷2", "x - 1x/2"),
        ("2exp(x)", "2·exp(x)"),
        ("2e3x", "2000x"),
        ("sin(x)²", "sin(x)²"),
        ("+x", "x"),
        ("x_1 + 1", "x_1 + 1"),
        ("x - 1 + 2x - 3", "x - 1 + 2x - 3"),
    ],
)
def test_how_text_is_read(text, read):
    assert to_text(parse(text).formula) == read
