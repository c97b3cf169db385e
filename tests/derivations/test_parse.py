"""How what people write is read: products without a sign, functions without parentheses, and what has two meanings."""

import math
from functools import cache

import jax
import numpy as np
import pytest

from jaxprop.derivations import derive, dumps, to_text
from jaxprop.derivations.calculus import slopes
from jaxprop.derivations.formula import Call, Symbol, UndefinedError, evaluate
from jaxprop.derivations.functions import FUNCTIONS
from jaxprop.derivations.parse import parse
from jaxprop.errors import JaxpropError

PLACES = (-2.5, -1.0, -0.75, -0.0, 0.0, 0.3, 0.75, 1.0, 1.5, 3.0)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("sin(πx)", "sin(π·x)"),
        ("sinx", "sin(x)"),
        ("sin x", "sin(x)"),
        ("sin2πx", "sin(2π·x)"),
        ("sin x cos x", "sin(x)·cos(x)"),
        ("xsinxcosx", "x·sin(x)·cos(x)"),
        ("sin x + 1", "sin(x) + 1"),
        ("sin x^2", "sin(x²)"),
        ("sin -x", "sin(-x)"),
        ("sin^2(x)", "sin(x)²"),
        ("cos² 3x", "cos(3x)²"),
        ("xe^x", "x·e^x"),
        ("πx", "π·x"),
        ("pix", "π·x"),
        ("2pi x", "2π·x"),
        ("(x+1)(x-1)", "(x + 1)·(x - 1)"),
        ("√x/2", "√(x)/2"),
        ("2√(x+1)", "2·√(x + 1)"),
        ("|x - 1|", "|x - 1|"),
        ("||x| - 1|x|x|", "||x| - 1|·x·|x|"),
        ("y = x^2", "x²"),
        ("f(t) = t^2", "t²"),
        ("np.sin(x)**2 + math.pi", "sin(x)² + π"),
        ("jax.nn.softplus(x)", "softplus(x)"),
        ("max(x, 2, 3)", "max(max(x, 2), 3)"),
        ("pow(x, 3)", "x³"),
        ("arcsinx", "asin(x)"),
        ("x_max + 1", "x_max + 1"),
        ("𝑥²＋１", "x² + 1"),
    ],
)
def test_what_people_write(text, read):
    assert to_text(parse(text).formula) == read


@pytest.mark.parametrize(
    ("text", "message", "caret"),
    [
        ("log2x", "'log2x' has two meanings: write log(2*x) or log2(x)", "^^^^^"),
        ("1 + sin x/2", "write sin(x)/... or sin(x/...)", "    ^^^^^^"),
        ("sin x(x+1)", "write sin(x)... or sin(x...)", "^^^^^^"),
        ("√x²", "write √(x)² or √(x²)", "^^^"),
        ("√2x", "write √(2)... or √(2...)", "^^^"),
        ("sin^-1(x)", "write asin(x) or 1/sin(x)", "^^^^^^"),
        ("wx", "a name of several letters gets its value by at: wx=2; a product is written w*x", "^^"),
        ("e2 + 1", "write e^2, or e*2; a name gets its value by at: e2=2", "^^"),
        ("3x2 + 1", "write x^2, or x*2", " ^^"),
        ("x + y", "two variables, 'x' and 'y', where one is allowed; to have several, give each", "    ^"),
        ("x = 2", "found '=', a comparison", "  ^"),
        ("1,5x", "decimals are written with a point", " ^"),
        ("max(x)", "max takes 2 arguments", "^^^^^^"),
        ("sin", "sin needs an argument: sin(x)", "^^^"),
        ("2|x", "this '|' is never closed", " ^"),
        ("漢x", "found '漢'", "^^"),
        ("xπ漢 + é", "found '漢'", "  ^^"),
        ("２x + @", "found '@'", "      ^"),  # a wide 2 has two columns
        ("1 + x̂", "found", "    ^"),
    ],
)
def test_what_has_two_meanings_or_none_is_refused_where_it_stands(text, message, caret):
    with pytest.raises(JaxpropError) as caught:
        parse(text)
    said, shown, marked = str(caught.value).split("\n")
    assert message in said
    assert (shown[2:], marked[2:]) == (text, caret)


def test_names_of_several_letters_are_given():
    assert to_text(parse("width*height", ("width", "height")).formula) == "width·height"
    assert to_text(parse("w1x1 + xy", ("w1", "x1", "x", "y")).formula) == "w1·x1 + x·y"
    with pytest.raises(JaxpropError, match="'sinx' has two meanings: write "):
        parse("sinx", tuple("sinx"))
    with pytest.raises(JaxpropError, match="a name of its own, such as x or w1, found 'e'"):
        parse("e^2", ("e",))
    with pytest.raises(JaxpropError, match="unknown name 'q'"):
        parse("x + q", ("x",))


def test_the_right_number_and_no_number_as_a_power_of_ten():
    """Once sin(πx) was the sine of a variable named πx: 0.955 instead of 1.847."""
    found = derive("sin(πx) + 2x^10", at=0.3)
    assert found.facts["derivative_value"] == pytest.approx(math.pi * math.cos(0.3 * math.pi) + 20 * 0.3**9)
    assert found.facts["derivative"] == "π·cos(π·x) + 20x⁹"
    assert "e+01" not in dumps(found) and "2e+01" not in to_text(found, digits=1)


TYPED = {name: function for name, function in FUNCTIONS.items() if function.typed}


def others(function):
    """What stands in the second place, if there is one."""
    return [()] if len(function.slopes) == 1 else [(other,) for other in PLACES[::4]]


@cache
def by_jax():
    """{(name, second argument): (values, slopes)} at all places, by jax and jax.grad, compiled in one piece."""

    def row(function, x, other):
        places = tuple(range(1 + len(other)))
        slope_at = jax.vmap(jax.grad(function.jax, places), (0, *[None] * len(other)))
        return function.jax(x, *other), slope_at(x, *other)

    def every(x):
        return {(name, other): row(f, x, other) for name, f in TYPED.items() for other in others(f)}

    return jax.tree.map(np.asarray, jax.jit(every)(np.array(PLACES)))


@pytest.mark.parametrize("name", TYPED)
def test_a_row_of_the_table_is_one_function(name):
    """Its value is jax's, its slope jax.grad's, at its corner too, and where it has no value both say so."""
    function, (u, v) = TYPED[name], (Symbol("u"), Symbol("v"))
    for other in others(function):
        values, expected = by_jax()[name, other]
        for i, at in enumerate(PLACES):
            known = dict(zip((u, v), (at, *other), strict=False))
            try:
                found = evaluate(Call(name, u, (v,) if other else ()), known)
                ours = [evaluate(slope, known) for slope in slopes(name)]
            except UndefinedError:
                assert not np.isfinite(values[i]) or not all(np.isfinite(column[i]) for column in expected)
                continue
            assert found == pytest.approx(float(values[i]), rel=1e-12, abs=1e-15)
            assert ours == pytest.approx([float(column[i]) for column in expected], rel=1e-12, abs=1e-15), at
    for at, value in function.exact.items():
        assert evaluate(Call(name, u), {u: at}) == value


def test_the_name_on_the_left_is_used():
    assert "dy/dx = 2x" in to_text(derive("y = x^2", at=3.0))
    assert derive("f(x, y) = x*y", at={"x": 2, "y": 3}).facts["derivatives"] == {"x": 3.0, "y": 2.0}


def test_every_corner_says_that_it_is_a_convention():
    for text, slope in (("|x|", 1.0), ("relu(x)", 0.0), ("max(x, 0)", 0.5), ("min(x, 0)", 0.5)):
        found = derive(text, at=0.0)
        assert found.facts["derivative_value"] == found.facts["jax_grad"] == slope
        assert "by convention" in to_text(found)
