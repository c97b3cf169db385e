"""The formula tree: what is printed is what is evaluated."""

import importlib
import json
import math
import pathlib
import pkgutil
import re
import shutil
import subprocess
import tempfile

import pytest
from hypothesis import assume, given, settings

import jaxprop as jp
from jaxprop import derivations
from jaxprop.derivations import Derivation, derive, dumps, to_json, to_latex, to_text
from jaxprop.derivations.calculus import simplify
from jaxprop.derivations.derivation import Equation, Step, labelled_sum, shorten, term_equations, worked
from jaxprop.derivations.formula import (
    At,
    Call,
    Derivative,
    Negation,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
    UndefinedError,
    evaluate,
    parts,
    substitute,
)
from jaxprop.derivations.glyphs import signs
from jaxprop.derivations.parse import parse
from jaxprop.errors import JaxpropError

from .formulas import FORMULAS, POINTS

x, y = Symbol("x"), Symbol("y")


@pytest.mark.parametrize(
    ("formula", "text", "latex"),
    [
        (3 * (x**2 + 1) ** 3, "3·(x² + 1)³", r"3 \cdot \left(x^{2} + 1\right)^{3}"),
        (Product((Number(18), x, (x**2 + 1) ** 2)), "18x(x² + 1)²", r"18x\left(x^{2} + 1\right)^{2}"),
        (Number(-2) * Number(3), "(-2)·3", r"\left(-2\right) \cdot 3"),
        (Number(-2) ** 2, "(-2)²", r"\left(-2\right)^{2}"),
        (-(x**2), "-x²", "-x^{2}"),
        ((-x) ** 2, "(-x)²", r"\left(-x\right)^{2}"),
        (x - (y + 1), "x - (y + 1)", r"x - \left(y + 1\right)"),
        (x + Number(-3), "x + (-3)", r"x + \left(-3\right)"),
        (x / (2 * y), "x/(2y)", r"\frac{x}{2y}"),
        (x / y / 2, "(x/y)/2", r"\frac{\frac{x}{y}}{2}"),
        ((x**2) ** 3, "(x²)³", r"\left(x^{2}\right)^{3}"),
        (x ** (y + 1), "x^(y + 1)", "x^{y + 1}"),
        (x**-1, "x⁻¹", "x^{-1}"),
        (x * (x + 1), "x·(x + 1)", r"x \cdot \left(x + 1\right)"),
        (Call("sqrt", x) + Call("sigmoid", y), "√(x) + σ(y)", r"\sqrt{x} + \sigma\left(y\right)"),
        (Symbol("W", (12, 3)), "W[12,3]", "W_{12,3}"),
        (Symbol("a", ("j",), layer=2) ** 2, "(a⁽²⁾[j])²", r"\left(a^{(2)}_{j}\right)^{2}"),
        (Symbol("δ", (0,)) * Symbol("ŷ"), "δ[0]·ŷ", r"\delta_{0} \cdot \hat{y}"),
        (Symbol("u₁₂") + Symbol("x_1"), "u₁₂ + x_1", r"u_{12} + \mathrm{x\_1}"),
        (Derivative(Symbol("C"), Symbol("w")), "∂C/∂w", r"\frac{\partial C}{\partial w}"),
        (Derivative(x, y) ** 2, "(∂x/∂y)²", r"\left(\frac{\partial x}{\partial y}\right)^{2}"),
        (At(9 * x**2, (x,), (Number(5),)), "[9x² at x=5]", r"\left[9x^{2}\right]_{x=5}"),
        (Number(1.5e-7) * x, "1.5e-07·x", r"1.5 \times 10^{-7} \cdot x"),
    ],
)
def test_parentheses_dots_and_glyphs(formula, text, latex):
    assert to_text(formula) == text
    assert to_latex(formula) == latex


def test_a_rounded_number_stands_after_nearly_equal():
    assert to_text(Equation((x, Number(0.25)))) == "x = 0.25"
    assert to_text(Equation((x, Number(1 / 3)))) == "x ≈ 0.333333"
    assert to_text(Equation((x, Number(1 / 3))), digits=None) == "x = 0.3333333333333333"
    assert to_text(Equation((x, Number(0.25))), digits=1) == "x ≈ 0.2"
    assert to_text(Equation((x, Number(0.1 + 0.2)))) == "x = 0.3"


def test_numbers_are_written_as_printf_writes_them():
    for value in (0.0, 1.0, -2.5, 1e-7, 123456.7, 1234567.0, 1e300):
        assert to_text(Number(value)) == f"{value:g}"


def test_substituting_shows_the_same_formula_with_numbers():
    assert to_text(substitute(At(9 * x**2, (x,), (y,)), {y: -5.0})) == "9·(-5)²"
    assert evaluate(At(9 * x**2, (x,), (y,)), {y: -5.0, x: 1.0}) == 225


def test_labelled_sums_keep_their_labels_and_their_value():
    total = labelled_sum({"by h₁": 2 * x, "by h₂": -y})
    values = {x: 1.5, y: 2.0}
    assert to_text(worked(Symbol("s"), total, values=values)) == "s = 2x + (-y) = 2·1.5 + (-2) = 1"
    assert [to_text(e) for e in term_equations(total, values)] == ["by h₁: 2x = 2·1.5 = 3", "by h₂: -y = -2"]
    assert to_latex(total).count(r"\underbrace") == 2
    assert to_json(total)["terms"][0]["label"] == "by h₁"


def test_a_shortened_sum_keeps_the_largest_terms_and_the_whole_value():
    terms = {Symbol("p", (n,)): float((-1) ** n * n) for n in range(30)}
    whole = Sum(tuple(terms))
    short = shorten(whole, 2, terms)
    assert evaluate(short, terms) == evaluate(whole, terms) == -15
    assert to_text(short) == "p[28] + p[29] + … (28 more terms)"
    assert to_text(substitute(short, terms)) == "28 + (-29) + … (28 more terms summing to -14)"
    assert r"\text{28 more terms summing to }-14" in to_latex(substitute(short, terms))
    assert shorten(whole, 29) is whole
    with pytest.raises(JaxpropError, match="keep must be at least 0, found -1"):
        shorten(whole, -1)


def test_a_false_equation_has_an_error():
    assert Equation((Number(2) * x, Number(6))).error({x: 3.0}) == 0
    assert Equation((Number(2) * x, Number(6))).error({x: 4.0}) == 0.25


def test_a_name_for_what_cancels_is_measured_by_what_it_is_made_of():
    total = Number(0.1) + Number(0.2) - Number(0.3)
    equations = Equation((x, total)), Equation((x, Number(0)))
    derivation = Derivation((), (Step("", (), equations),), {x: evaluate(total)})
    assert 0 < evaluate(total) and derivation.error() < 1e-14
    wrong = Derivation((), (Step("", (), (Equation((x, Number(1e-17))), Equation((x, Number(0))))),), {x: 1e-17})
    assert wrong.error() == 1


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        (x / 0, "division by zero"),
        (Number(0) ** -1, "division by zero"),
        (Call("log", Number(0)), "needs a positive number and finds 0"),
        (Call("sqrt", Number(-1)), "at least 0 and finds -1"),
        (Number(-8) ** 0.5, "no real power"),
        (Call("exp", Number(1e4)), "overflow"),
        (Number(1e300) * Number(1e300), "overflow"),
    ],
)
def test_what_has_no_value_says_why_and_where(formula, reason):
    with pytest.raises(UndefinedError, match=reason) as caught:
        evaluate(2 + formula, {x: 1.0})
    assert caught.value.formula == formula


def test_a_leaf_without_a_value_and_an_unknown_function_are_named():
    with pytest.raises(JaxpropError, match=r"no value was given for .*'q'"):
        evaluate(Symbol("q") + 1)
    with pytest.raises(JaxpropError, match="did you mean 'sigmoid'"):
        evaluate(Call("sigmiod", Number(1)))


def test_json_is_strict_and_has_full_precision():
    assert to_json(Number(math.pi)) == {"kind": "number", "value": math.pi}
    assert to_json(Number(math.pi), digits=3) == {"kind": "number", "value": 3.14}
    assert to_json(Number(math.nan)) == {"kind": "number", "value": None}
    assert json.loads(dumps(Derivation(("a ", x), (), {x: math.inf}, {"n": math.nan})))["n"] is None


def test_a_derivation_is_printed_by_all_three():
    step = Step("One & only", ("Here ", x, " costs 5%."), (Equation((x, Number(2)), "given"),))
    derivation = Derivation(("About ", x), (step,), {x: 2.0}, {"fact": 1.0})
    assert to_text(derivation) == "About x\n\n1. One & only\n   Here x costs 5%.\n     given: x = 2"
    expected = "About $x$\n\n\\paragraph{One \\& only} Here $x$ costs 5\\%.\n\\[ \\text{given: } x = 2 \\]"
    assert to_latex(derivation) == expected
    shown = to_json(derivation)
    assert (shown["title"], shown["fact"], shown["values"]) == ("About x", 1.0, [{"name": "x", "value": 2.0}])
    assert shown["steps"][0]["sentence"] == "Here x costs 5%."


def balanced(latex: str) -> bool:
    plain = latex.replace("\\{", "").replace("\\}", "")
    depth = 0
    for character in plain:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0 and latex.count(r"\left") == latex.count(r"\right")


def value(formula, at):
    try:
        return evaluate(formula, {x: at})
    except UndefinedError:
        return None


def check_text_is_read_back(formula, at):
    text = to_text(formula, digits=None)
    assume(len(text) <= 500)
    again = parse(text).formula
    shown = to_text(again, digits=None)
    assert to_text(parse(shown).formula, digits=None) == shown
    before, after = value(formula, at), value(again, at)
    assert (before is None) == (after is None)
    assert before is None or math.isclose(before, after, rel_tol=1e-9, abs_tol=1e-12)


def check_simplified_has_the_same_value(formula, at):
    before = value(formula, at)
    assume(before is not None and abs(before) < 1e100)
    after = evaluate(simplify(formula), {x: at})
    scale = max(abs(evaluate(part, {x: at})) for part in parts(formula))
    assert math.isclose(before, after, rel_tol=1e-7, abs_tol=1e-12 * scale)


@settings(max_examples=20, deadline=None)
@given(FORMULAS, POINTS)
def test_text_is_read_back_with_the_same_value(formula, at):
    check_text_is_read_back(formula, at)


@settings(max_examples=20, deadline=None)
@given(FORMULAS)
def test_latex_is_balanced(formula):
    assert balanced(to_latex(formula))
    json.loads(dumps(formula))


@settings(max_examples=20, deadline=None)
@given(FORMULAS, POINTS)
def test_simplified_has_the_same_value(formula, at):
    check_simplified_has_the_same_value(formula, at)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(FORMULAS, POINTS)
def test_many_formulas(formula, at):
    assert balanced(to_latex(formula))
    check_text_is_read_back(formula, at)
    check_simplified_has_the_same_value(formula, at)


def test_every_node_is_substituted_and_simplified():
    every = Negation(Quotient(Power(x, Number(2)), Product((Sum((x, Number(1))), Call("exp", x)))))
    assert evaluate(substitute(every, {x: 2.0})) == evaluate(every, {x: 2.0}) == pytest.approx(-4 / 3 / math.e**2)
    assert to_text(simplify(every)) == "-x²/((x + 1)·exp(x))"


def test_every_module_of_the_room_can_be_imported_by_name():
    """No function of a package hides a module of it: `import jaxprop.derivations.network as n` names the module."""
    for module in pkgutil.iter_modules(derivations.__path__, "jaxprop.derivations."):
        found = importlib.import_module(module.name)
        assert getattr(derivations, module.name.rsplit(".", 1)[1]) is found
    import jaxprop.derivations.network as n

    assert n.explain is derivations.explain is jp.explain and jp.derivations is derivations
    assert {name for name in derivations.__all__ if not hasattr(jp.derivations, name)} == set()


def test_a_right_derivative_of_0_is_measured_by_what_it_is_made_of():
    """cos π/2 is found as 6e-17 and tanh' far out as a difference of ones: right, and 1.0 apart by their own size."""
    x = Symbol("x")
    right = Equation((Call("cos", x), Number(0.0)))
    assert 0 < right.error({x: math.pi / 2}) < 1e-15
    assert Equation((1 - Call("tanh", x) ** 2, Number(0.0))).error({x: 18.5}) < 1e-14
    assert right.error({x: math.pi / 2 + 1e-9}) == 1  # no rounding: one part in 10⁹ of what it is made of
    assert Equation((1e-20 * x, Number(0.0))).error({x: 1.0}) == 1 and Equation((x, Number(0.999))).error({x: 1}) > 9e-4


def environments(document: str) -> list[str]:
    """Check that what is begun is ended, in order, and that nothing but Latin letters is left; the environments."""
    assert balanced(document) and document.isascii()
    opened, seen = [], []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", document):
        if kind == "begin":
            opened.append(name)
            seen.append(name)
        else:
            assert opened.pop() == name
    assert not opened and document.count(r"\[") == document.count(r"\]")
    for line in re.findall(r"\\begin\{align\*\}\n(.*?)\n\\end", document, re.S):
        assert all(row.count("&") == 1 and balanced(row) for row in line.split(" \\\\\n"))
    return seen


def test_a_whole_document_is_complete_and_its_lines_fit():
    long = derive("(sin(x)+cos(x)+exp(x)+tan(x)+x^2+x^3+log(x))*x*sin(2x)*cos(3x)*exp(x)*tanh(x)*sqrt(x)", at=0.7)
    document = to_latex(long, document=True)
    assert document.startswith(r"\documentclass") and document.rstrip().endswith(r"\end{document}")
    assert "align*" in environments(document) and max(map(signs, document.splitlines())) < 300
    inside = re.findall(r"\\begin\{align\*\}\n(.*?)\n\\end", document, re.S)
    rows = [row for each in inside for row in each.split(" \\\\\n")]
    assert max(signs(row) for row in rows if "resizebox" not in row) <= 100
    assert "array" in environments(to_latex(derive("x*y", at={"x": 1, "y": 2}), document=True))
    assert environments(to_latex(x + y, document=True)) == ["document"]
    if compiler := next(filter(None, map(shutil.which, ("tectonic", "pdflatex"))), None):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "x.tex").write_text(document)
            subprocess.run([compiler, "x.tex"], cwd=folder, check=True, stdin=subprocess.DEVNULL, timeout=300)


@settings(max_examples=10, deadline=None)
@given(FORMULAS)
def test_any_document_is_balanced(formula):
    environments(to_latex(Equation((Symbol("f"), formula, formula)), document=True))
