"""Reports print one table: as text, and in a notebook as HTML with the same cells."""

from xml.etree import ElementTree

import jax
import jax.numpy as jnp

import jaxprop as jp
from jaxprop.check.report import Check, LayerReport
from jaxprop.stats.flow import FlowReport, LayerFlow
from jaxprop.stats.plan import Plan, PlanRow
from jaxprop.tables import STYLE, Table, table


def cells(html):
    root = ElementTree.fromstring(html)
    rows = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    return rows, ["".join(p.itertext()) for p in root.iter("p")], root


def reports():
    net, x = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(1)), jnp.ones((4, 2))
    params, targets, cost = net.init(jax.random.key(0), x), jnp.zeros((4, 1)), jp.HalfSquaredError()
    yield jp.summary(net, x)
    yield jp.compare(net, cost)(x, params, targets)
    yield Plan((PlanRow("0.W", "norms", "Outer a [8, 3]", "direct", 8, 8, 1192, 192),), ("1 use is visited twice",))
    size = jnp.array(0.5)
    yield FlowReport({"0": LayerFlow(size, size, None, None)}, (("0", "Tanh()"),), 1e-3)
    yield LayerReport("Mine(<int>)", (Check("vmap", "all 2 factors", "1", "1e-12", False),))


def test_a_notebook_shows_the_cells_that_are_printed():
    for report in reports():
        table, printed = report.as_table(), str(report)
        rows, notes, root = cells(report._repr_html_())
        assert rows == [list(row) for row in table.rows] and notes == list(table.notes)
        assert all(cell in printed for row in rows for cell in row) and all(note in printed for note in notes)
        assert len(rows) > 1
        assert not any("style" in element.attrib for element in root.iter())


def test_cells_are_only_text_and_numbers_stand_at_the_right():
    table = Table((("<b>name", "n", "part"), ("a & <script>", "1,203"), ("b", "-2.5e-07 (3)", "1 of 2")), right=(2,))
    html = table.html()
    rows, _, root = cells(html)
    assert rows == [["<b>name", "n", "part"], ["a & <script>", "1,203", ""], ["b", "-2.5e-07 (3)", "1 of 2"]]
    assert not list(root.iter("script")) and not list(root.iter("b"))
    assert [cell.get("class") for row in root.iter("tr") for cell in row] == [None, "number", "number"] * 3


def test_its_style_reaches_nothing_else_of_the_notebook():
    for rule in STYLE.splitlines()[1:-1]:
        assert all(part.strip().startswith(".jaxprop-table") for part in rule.partition("{")[0].split(","))


def test_the_end_of_a_path_stays_where_that_says_most():
    rows = [("place", "n"), ("model/block/dense", "1")]
    assert table(rows, right=[1], room=14).splitlines()[1] == "model/bloc…  1"
    assert table(rows, right=[1], room=14, tails=[0]).splitlines()[1] == "…lock/dense  1"
