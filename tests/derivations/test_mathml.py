"""MathML: it parses, it is only MathML Core, it evaluates to the number it shows, and colours go with symbols."""

import re
from html import unescape

import jax
import jax.numpy as jnp
import pytest
from hypothesis import assume, given, strategies as st

import jaxprop as jp
from jaxprop.derivations import derive, document, term_colours, to_html, to_latex, to_mathml, to_text
from jaxprop.derivations.derivation import Equation, Step, labelled_sum, shorten, worked
from jaxprop.derivations.formula import (
    At,
    Call,
    Derivative,
    Negation,
    Number,
    Product,
    Rest,
    Sum,
    Symbol,
    UndefinedError,
    evaluate,
    parts,
    substitute,
)
from jaxprop.derivations.rounding import size

from . import mathml
from .formulas import FORMULAS, LEAVES, POINTS, X, larger, several

C, a, w = map(Symbol, "Caw")
SLOPE = Derivative(Symbol("C"), Symbol("W", (3, 0), 2))
INNER = Symbol("u")
INSIDE = st.one_of(LEAVES, st.just(SLOPE), st.just(Symbol("δ", (0,), 2)), POINTS.map(Number))


def everything(part):
    """Nodes that nobody types: sums with a rest, labels, values at a place, slopes of corners."""
    return st.one_of(
        larger(part),
        st.builds(
            lambda terms, rest: Sum((*terms, Rest(rest))), *[st.lists(part, min_size=2, max_size=3).map(tuple)] * 2
        ),
        st.builds(lambda inner: Sum((Call("abs", inner), Call("above", inner, (X,)), Negation(inner))), part),
        part.map(lambda inner: labelled_sum({"one <path>": inner, "& another": 2 * inner})),
        st.builds(lambda factor, point: At(factor * INNER**2, (INNER,), (point,)), part, part),
        several(Product, part),
    )


ALL = st.recursive(INSIDE, everything, max_leaves=8)


@given(st.one_of(FORMULAS, ALL), POINTS)
def test_what_is_drawn_evaluates_to_the_number(formula, point):
    values = {X: point, SLOPE: -0.75, Symbol("δ", (0,), 2): 1.25}
    try:
        expected, near = evaluate(formula, values), size(formula, values)
    except UndefinedError:
        assume(False)
    assume(near < 1e12)
    numbers = substitute(formula, values)
    known = {to_text(symbol): value for symbol, value in values.items()}
    counted = any(isinstance(part, Rest) for part in parts(formula))  # it has a number once the symbols in it have
    for shown in (numbers,) if counted else (formula, numbers):
        drawn = mathml.read(to_mathml(shown, digits=None))
        assert abs(mathml.value(drawn, known) - expected) <= 1e-12 * near
    sides = mathml.sides(mathml.read(to_mathml(Equation((C, formula, numbers, Number(expected))), digits=None)))
    assert len(sides) == 4
    for side in sides[1 + counted :]:
        assert abs(mathml.value(side, known) - expected) <= 1e-12 * near


@pytest.mark.parametrize(
    ("formula", "markup"),
    [
        (Number(-2.5), '<mrow><mo form="prefix">−</mo><mn>2.5</mn></mrow>'),
        (
            Number(-1.5e-7),
            '<mrow><mo form="prefix">−</mo><mn>1.5</mn><mo form="infix">×</mo><msup><mn>10</mn>'
            '<mrow><mo form="prefix">−</mo><mn>7</mn></mrow></msup></mrow>',
        ),
        (Symbol("ŷ"), '<mover accent="true" data-symbol="ŷ"><mi>y</mi><mo>^</mo></mover>'),
        (Symbol("u₁₂"), '<msub data-symbol="u₁₂"><mi>u</mi><mrow><mn>12</mn></mrow></msub>'),
        (Symbol("w5'"), '<msub data-symbol="w5&#x27;"><mrow><mi>w</mi><mo>′</mo></mrow><mrow><mn>5</mn></mrow></msub>'),
        (Symbol("out_h1"), '<msub data-symbol="out_h1"><mi>out</mi><mtext>h1</mtext></msub>'),
        (
            Symbol("a", ("j",), 2),
            '<msubsup data-symbol="a⁽²⁾[j]"><mi>a</mi><mrow><mi>j</mi></mrow>'
            "<mrow><mo>(</mo><mn>2</mn><mo>)</mo></mrow></msubsup>",
        ),
        (2 * X, '<mrow><mn>2</mn><mo>\u2062</mo><mi data-symbol="x">x</mi></mrow>'),
        (Call("log2", X), "<mrow><msub><mi>log</mi><mn>2</mn></msub><mo>\u2061</mo>"
         '<mrow><mo form="prefix">(</mo><mi data-symbol="x">x</mi><mo form="postfix">)</mo></mrow></mrow>'),
        (
            Derivative(C, w),
            '<mfrac data-symbol="∂C/∂w"><mrow><mi>∂</mi><mi>C</mi></mrow><mrow><mi>∂</mi><mi>w</mi></mrow></mfrac>',
        ),
        (Sum(()), "<mn>0</mn>"),
        (Product(()), "<mn>1</mn>"),
    ],
)  # fmt: skip
def test_glyphs(formula, markup):
    assert to_mathml(formula).partition(">")[2].removesuffix("</math>") == markup


def test_whatever_is_in_a_name_is_only_text():
    """A name such as a column's never becomes an element or an attribute."""
    hostile = '"><script>alert(1)</script>&amp;'
    step = Step(
        hostile, (hostile, Symbol(hostile, (hostile,))), (Equation((X, Number(1)), hostile),), (((hostile,),),) * 2
    )
    for node in (Symbol(hostile), Symbol(hostile, (hostile,), 2), step, labelled_sum({hostile: X})):
        written = to_mathml(node)
        assert "<script" not in written
        root = mathml.read(written)
        assert not [e for e in root.iter() if e.tag == "script"]
        assert hostile in "".join(root.itertext())


def test_a_number_has_the_colour_of_the_symbol_in_whose_place_it_stands():
    chain = Derivative(C, a) * Derivative(a, w)
    equation = worked(Derivative(C, w), chain, values={Derivative(C, a): -0.5, Derivative(a, w): 3.0})
    drawn = mathml.read(to_mathml(equation, colours=term_colours(equation)))
    marked = [(e.get("class"), e.get("data-symbol"), e.tag) for e in drawn.iter() if e.get("data-symbol")]
    assert marked == [
        (None, "∂C/∂w", "mfrac"),
        ("term-1", "∂C/∂a", "mfrac"),
        ("term-2", "∂a/∂w", "mfrac"),
        ("term-1", "∂C/∂a", "mrow"),  # -0.5
        ("term-2", "∂a/∂w", "mn"),
        (None, "∂C/∂w", "mrow"),
    ]


def test_in_a_sum_over_positions_all_errors_have_one_colour_and_all_that_came_in_another():
    net, x = jp.Linear(2), jnp.array([[[1.0, 2.0], [0.5, -1.0]]])
    params = jp.LinearParams(jnp.array([[0.5, 0.25], [1.0, -0.5]]), jnp.array([0.1, 0.0]))
    derivation = jp.explain(net, jp.HalfSquaredError())(x, params, jnp.zeros((1, 2, 2)), "W", (1, 0))
    colours = term_colours(derivation)
    assert colours == {"∂C/∂y[0,0]": 1, "x[0,1]": 2, "∂C/∂y[1,0]": 1, "x[1,1]": 2}
    drawn = mathml.read(to_mathml(derivation))
    found = {(e.get("data-symbol"), e.get("class")) for e in drawn.iter() if e.tag == "mn" and e.get("class")}
    assert {("x[0,1]", "term-2"), ("∂C/∂y[0,0]", "term-1")} <= found
    is_drawn_right(derivation)


def test_where_the_shape_changes_no_number_gets_a_symbol():
    u = Symbol("u")
    taken = At(9 * u**2, (u,), (Number(5),))
    drawn = mathml.read(to_mathml(Equation((C, taken, 9 * Number(5) ** 2, Number(9) * Number(25), Number(225)))))
    sides = [[e.get("data-symbol") for e in side.iter() if e.tag == "mn"] for side in mathml.sides(drawn)]
    assert sides == [[], [None, None, None], [None, "u", None], [None, None], ["C"]]


def test_a_long_equation_has_a_line_for_each_side_and_a_long_sum_several():
    total = shorten(Sum(tuple(Symbol("W", (i, 0)) * Symbol("x", (i,)) for i in range(30))), 8)
    values = {Symbol(n, i): float(k) for k in range(30) for n, i in (("W", (k, 0)), ("x", (k,)))}
    written = to_mathml(worked(Symbol("z"), total, values=values))
    assert written.count("<mtr>") > 4
    assert [mathml.value(side) for side in mathml.sides(mathml.read(written))[2:]] == [evaluate(total, values)] * 2


def explained():
    net = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(2))
    x = jnp.array([[1.0, -2.0, 0.5], [0.25, 1.0, 2.0]])
    params = net.init(jax.random.key(0), x)
    run = jp.explain(net, jp.SoftmaxCrossEntropy(), quantity=jp.stats.Variance())
    return run(x, params, jnp.array([1, 0]), "0.W", (1, 2))


def test_a_derivation_is_html_that_holds_what_its_text_holds():
    derivation = explained()
    written = to_mathml(derivation)
    root = mathml.read(written)
    assert [h.tag for h in root.iter() if re.fullmatch("h[1-6]", h.tag)] == ["h2", *["h3"] * len(derivation.steps)]
    labels = [e.get("aria-label") for e in root.iter("math") if e.get("display") == "block"]
    assert labels == [to_text(equation) for step in derivation.steps for equation in step.equations]
    assert not re.search(r"<script|\bstyle=|\son\w+=", written)
    colours = term_colours(derivation)
    assert colours == {factor["symbol"]: i for i, factor in enumerate(derivation.facts["factors"], 1)}
    for element in root.iter():
        name = element.get("data-symbol")
        assert (element.get("class") or "").startswith("term-") == (name in colours)
    shown = {float(unescape(e.text)) for e in root.iter("mn")}
    assert {round(abs(factor["value"]), 3) for factor in derivation.facts["factors"]} <= {round(n, 3) for n in shown}
    is_drawn_right(derivation)


def is_drawn_right(derivation):
    """Every side of every equation evaluates, as it is drawn, to its number."""
    values = {to_text(symbol): value for symbol, value in derivation.values.items()}
    for equation in (equation for step in derivation.steps for equation in step.equations):
        drawn = mathml.sides(mathml.read(to_mathml(equation, digits=None)))
        for side, found in zip(equation.sides, drawn, strict=True):
            unwritten = (term for part in parts(side) if isinstance(part, Rest) for term in part.terms)
            if not any(isinstance(part, Symbol | Derivative) for term in unwritten for part in parts(term)):
                expected = evaluate(side, derivation.values)
                assert abs(mathml.value(found, values) - expected) <= 1e-12 * size(side, derivation.values), equation


@pytest.mark.parametrize("expression", ["3*(x**2+1)**3", "sin(2x)/x", "max(x, 2)**2"])
def test_every_equation_of_an_expression_evaluates_to_its_value(expression):
    is_drawn_right(derive(expression, 1.5))


def test_a_page_is_whole_asks_for_nothing_and_holds_the_derivation():
    derivation = derive("3*(x**2+1)**3", 2.0)
    page = to_html(derivation)
    assert to_mathml(derivation, heading=1) in page
    assert "<title>The derivative of 3·(x² + 1)³ at x = 2</title>" in page
    assert not re.search(r"<script|<link|<img|@import|url\(|\son\w+=|\sstyle=", page)
    assert "default-src 'none'" in page and page.count("<h1>") == 1
    assert "<title>&lt;/title&gt;</title>" in document("</title>", "")


def test_in_a_notebook_it_is_html_and_latex():
    derivation = derive("x**2", 2.0)
    (step, *_), html = derivation.steps, derivation._repr_html_()
    assert to_mathml(derivation) in html and to_mathml(step) in step._repr_html_()
    assert derivation._repr_latex_() == to_latex(derivation)
    equation = step.equations[0]
    assert equation._repr_latex_() == rf"$\displaystyle {to_latex(equation)}$"
    rules = html.partition("</style>")[0].partition("<style>")[2].strip().splitlines()
    assert rules and all(".jaxprop-derivation " in rule for rule in rules)
