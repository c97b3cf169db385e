"""The tables of a report: which rows they have, what stands for a line and a module, and what is left out and said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxprop import JaxpropError
from jaxprop.xray import asked, groups, report, tabulated
from jaxprop.xray.groups import by_line, by_module

RNG = np.random.default_rng(1)


def block(w, x):
    with jax.named_scope("Attention"):
        y = jnp.tanh(x @ w)
    with jax.named_scope("Dense"):
        z = y @ w
    return x + z


def stack(params, x):
    for i, w in enumerate(params):
        with jax.named_scope(f"Block_{i}"):
            x = block(w, x)
    return jnp.sum(x**2)


@pytest.fixture(scope="module")
def found():
    with jax.enable_x64(True):
        return report(stack)([RNG.normal(size=(3, 3)) for _ in range(2)], RNG.normal(size=(4, 3)))


def test_a_line_has_the_result_of_its_last_equation_for_each_module_that_it_is_run_for(found):
    lines = [group for group in by_line(found.rows) if group.line.function == "block"]
    assert [group.scope for group in lines] == [
        f"Block_{i}{part}" for i in range(2) for part in ("/Attention", "/Dense", "")
    ]
    tanh = [row for row in found.rows if row.name == "tanh"]
    assert [len(group.rows) for group in lines] == [2, 1, 1] * 2
    assert lines[0].value.rms == tanh[0].value.rms and lines[3].error.rms == tanh[1].error.rms
    text = str(found.table())
    assert text.splitlines()[1].split()[:2] == [f"test_report_tables.py:{block.__code__.co_firstlineno + 2}", "(block)"]
    assert len(text.splitlines()) == 8  # the head, six, and the sum


def test_a_line_that_runs_many_times_has_all_of_its_results_taken_together():
    def f(x):
        for _ in range(3):
            x = jnp.sin(x)
            x = 2 * x
        return jnp.sum(x)

    x = RNG.normal(size=4)
    rows = report(f)(x).rows
    sines = []
    for _ in range(3):
        sines.append(np.sin(x))
        x = 2 * sines[-1]
    line = by_line(rows)[0]
    assert len(line.runs) == 3
    np.testing.assert_allclose(line.value.rms, np.sqrt(np.mean(np.square(sines))))
    assert line.value.count == 12


def test_modules_stand_below_the_one_around_them_and_have_all_within(found):
    modules = {group.scope: group for group in by_module(found.rows)}
    assert list(modules) == ["", *(f"Block_{i}{part}" for i in range(2) for part in ("", "/Attention", "/Dense"))]
    assert len(modules["Block_0"].rows) == 4 and len(modules[""].rows) == 10
    add = [row for row in found.rows if row.name == "add"][1]
    assert modules["Block_1"].value.rms == add.value.rms
    names = [line[:13].rstrip() for line in str(found.scopes()).splitlines()]
    assert names[:4] == ["module", "all", "  Block_0", "    Attention"]
    text = str(found.scopes(limit=5))
    assert text.splitlines()[2].startswith("  Block_0") and text.splitlines()[3].startswith("  Block_1")
    assert "3 of 7 modules, without those within them" in text


def test_a_place_is_named_by_as_much_as_it_takes(found):
    part = found.at("Block_1/Attention")
    assert [row.name for row in part.rows] == ["dot_general", "tanh"] and part.scope == "Block_1/Attention"
    assert str(part).startswith("X-ray of Block_1/Attention: value") and part.value == found.value
    assert len(found.at("Block_0").rows) == 4
    with pytest.raises(JaxpropError, match="'Dense' is in several places: 'Block_0/Dense', 'Block_1/Dense'; say which"):
        found.at("Dense")
    assert asked._module(["Dense", "Block_0/Dense", "Block_1/Dense"], "Dense") == "Dense"  # the outermost
    with pytest.raises(JaxpropError, match="nothing is at 'Blok_1/Dense'; near it: 'Block_1/Dense'"):
        found.at("Blok_1/Dense")
    with pytest.raises(JaxpropError, match=r"'zz'; the modules are 'Block_0', .* and 1 more; .scopes\(\) shows all"):
        found.at("zz")
    assert [row.name for row in found.at("params[1]").rows] == ["params[1]"]


def test_a_table_says_what_it_leaves_out(found):
    text = str(found.table("equation", limit=3))
    assert len(text.splitlines()) == 5
    assert "3 of 10 equations, which stand for all depths; limit=None shows all, .at(...) one place" in text
    assert text.splitlines()[1].startswith("dot_general") and text.splitlines()[3].startswith("reduce_sum")
    assert "which" not in str(found.table("equation", limit=10))


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(3, 50))
@settings(max_examples=50, deadline=None)
def test_the_rows_that_are_chosen(bad, limit):
    chosen = tabulated._chosen(bad, limit)
    assert len(chosen) == min(len(bad), limit) and chosen == sorted(set(chosen))
    if any(bad):
        assert bad.index(True) in chosen  # the first is what one looks for
    room = min(sum(bad), limit - 2)
    assert sum(bad[i] for i in chosen) >= room


def test_in_a_notebook_what_is_not_finite_is_marked_and_said():
    found = report(lambda x: jnp.sum(jnp.log(x)))(np.zeros(2))
    html = found._repr_html_()
    assert html.count('<tr class="marked">') == 1 and "inf in 2 values" in html and "First inf: log" in html
    assert "&lt;lambda&gt;" in html and "<lambda>" not in html
    assert "marked" not in report(jnp.sum)(np.ones(2)).table("argument")._repr_html_().split("</style>")[1]


def test_it_fits_a_terminal(found, monkeypatch):
    monkeypatch.setattr(tabulated, "terminal_room", lambda: 100)
    assert max(map(len, repr(found.table("equation")).splitlines()[:-1])) <= 100
    line = repr(found.table("equation")).splitlines()[2]
    assert f"…bles.py:{block.__code__.co_firstlineno + 2}" in line  # the end of a path says most


def test_shares_say_0_and_100_only_where_they_are():
    assert [tabulated._share(each) for each in (0, 0.001, 0.31, 0.999, 1)] == ["0%", "<1%", "31%", ">99%", "100%"]


def test_modules_that_only_have_parameters_are_listed_too():
    assert groups.scopes(["a/b", "c", "a"]) == ["", "a", "a/b", "c"]
    assert groups.within("ab", "a") is False and groups.within("a/b", "a") and groups.within("a", "")
