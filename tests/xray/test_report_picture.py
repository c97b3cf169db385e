"""The picture of a report: its dots are the report's numbers, the steps of a scan stand in a row, NaN is marked."""

import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxprop import JaxpropError
from jaxprop.xray import report
from jaxprop.xray.unrolled import MOST_STEPS, unrolled

RNG = np.random.default_rng(2)


def labels(ax):
    return {line.get_label(): line for line in ax.lines}


def stack(params, x):
    for i, w in enumerate(params):
        with jax.named_scope(f"Block_{i}"):
            with jax.named_scope("Dense"):
                x = x @ w
            x = jnp.tanh(x)
    return jnp.sum(x)


def test_dots_are_the_numbers_and_the_line_goes_through_the_ends_of_modules():
    found = report(stack)([RNG.normal(size=(3, 3)) for _ in range(3)], RNG.normal(size=(4, 3)))
    above, below = found.plot()
    rows = [row for row in found.rows if not row.is_argument]
    np.testing.assert_allclose(labels(above)["value of an equation"].get_ydata(), [row.value.rms for row in rows])
    np.testing.assert_allclose(labels(below)["error of an equation"].get_ydata(), [row.error.rms for row in rows])
    assert [text.get_text() for text in below.get_xticklabels()] == [*["Dense", "tanh"] * 3, "reduce_sum"]
    assert [text.get_text() for text in above.texts] == ["Block_0", "Block_1", "Block_2"]
    ends = labels(below)["at the end of a band"].get_ydata()
    np.testing.assert_allclose(ends, [row.error.rms for row in rows])  # here a band has one equation
    assert above.get_yscale() == below.get_yscale() == "log"
    assert labels(below).keys() == {"error of an equation", "at the end of a band"}


def recurrent(w, xs):
    def step(h, x):
        h = jnp.tanh(w * h + x)
        return h, None

    return jnp.sum(jax.lax.scan(step, jnp.zeros(2), xs)[0])


def test_the_steps_of_a_scan_stand_one_after_the_other():
    found = report(recurrent)(0.5, RNG.normal(size=(5, 2)))
    part = found.at("test_report_picture.py:" + str(recurrent.__code__.co_firstlineno + 2))
    above, below = part.plot()
    steps = {row.name: row.error.steps for row in part.rows}
    drawn = labels(below)["error of an equation"].get_ydata().reshape(5, len(part.rows))
    np.testing.assert_allclose(drawn, np.stack([steps[row.name] for row in part.rows], axis=1))
    np.testing.assert_allclose(labels(below)["at the end of a band"].get_ydata(), steps["tanh"])
    points = unrolled(found.rows)
    assert [p.keys[0] for p in points[:: len(part.rows)]] == [*(f"step {i}" for i in range(5)), "recurrent"]
    assert "of test_report_picture.py:" in above.get_title(loc="left")


def test_scans_side_by_side_and_within_each_other_are_told_apart():
    def inner(h, x):
        h = jnp.sin(h * x)
        return h, None

    def outer(h, x):
        h, _ = jax.lax.scan(inner, h, jnp.ones(2))
        return jnp.cos(h), None

    def f(h, xs):
        h, _ = jax.lax.scan(outer, h, xs)
        h, _ = jax.lax.scan(inner, h, xs)
        return h

    names = [point.row.name for point in unrolled(report(f)(1.0, np.ones(3)).rows)]
    once = ["mul", "sin"]
    assert names == [*[*once, *once, "cos"] * 3, *once * 3]


def test_of_a_long_scan_some_steps_are_drawn():
    points = unrolled(report(recurrent)(0.5, np.ones((1000, 2))).rows)
    steps = [point.keys[0] for point in points if point.row.name == "tanh"]
    assert len(steps) == MOST_STEPS and (steps[0], steps[-1]) == ("step 0", "step 999")


def test_what_is_not_finite_and_what_is_zero_is_marked():
    found = report(lambda x: jnp.sum(jnp.sqrt(0 * x)) + jnp.sum(jnp.log(x)))(np.array([0.0, -1.0]))
    above, below = found.plot()
    assert {"NaN", "inf", "all 0"} <= labels(above).keys() and "inf" in labels(below).keys()
    assert labels(above)["NaN"].get_marker() != labels(above)["inf"].get_marker()  # not by colour alone
    text = {legend.get_text() for legend in above.get_legend().get_texts()}
    assert {"NaN", "inf", "all 0"} <= text


def test_values_alone():
    above, below = report(jnp.tanh, argnums=None)(np.ones(3)).plot()
    assert below.texts[-1].get_text() == "no error was measured" and labels(above)["value of an equation"]


def test_it_is_drawn_on_axes_that_are_given_and_refused_without_what_it_needs(monkeypatch):
    found = report(lambda x: jnp.sum(jnp.sin(x)))(np.ones(3))
    _, given = plt.subplots(2, 1)
    assert all(a is b for a, b in zip(found.plot(given), given, strict=True))
    with pytest.raises(JaxpropError, match="axes: expected two, found 1"):
        found.plot(given[:1])
    with pytest.raises(JaxpropError, match=r"no equation here was measured; .table\('argument'\) shows"):
        found.at("x").plot()
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(JaxpropError, match="pictures need matplotlib"):
        found.plot()
