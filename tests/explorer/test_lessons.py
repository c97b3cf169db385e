"""Lessons: a lesson for every row, its numbers, and every mistake of the article taught right by a number."""

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from jaxprop.errors import JaxpropError
from jaxprop_explorer.lessons import CHAPTERS, LESSONS, lesson
from jaxprop_explorer.lessons.chapter_7 import walk
from jaxprop_explorer.lessons.mistakes import CORRECTIONS, ELSEWHERE
from jaxprop_explorer.panels.lessons import COMMANDS

TRAINED = (5, 7, 9, 22)  # lessons that train a network: looked at together, below
FIRST = (1, 13, 17)  # of the others, those that the default run looks at; what most of them show, it asks of mistakes
EACH = [n if n in FIRST else pytest.param(n, marks=pytest.mark.slow) for n in LESSONS if n not in TRAINED]


def ask(session, command, **body):
    handler, asked, _ = COMMANDS[command]
    return handler(session, asked(**body))


def test_every_row_is_a_lesson_of_its_chapter():
    assert sorted(LESSONS) == list(range(1, 23))
    for number, chapter in enumerate(CHAPTERS, 1):
        assert {each.chapter for each in chapter.LESSONS} == {number}
    for each in LESSONS.values():
        assert each.title and each.quote and 2 <= len(each.paragraphs) <= 3 and each.tries and each.anchors
        assert {attempt.widget for attempt in each.tries} <= {widget.name for widget in each.widgets}


@pytest.mark.parametrize("number", EACH)
def test_the_numbers_of_a_lesson_are_the_article_rows(number):
    for anchor in lesson(number).anchors:
        assert anchor.holds, (anchor.what, anchor.expected, anchor.found())


def test_an_anchor_that_is_off_does_not_hold():
    first = lesson(17).anchors[0]
    assert first.expected == -0.033657 and first.holds
    assert not type(first)(first.what, -0.033659, first.find).holds


def test_every_mistake_is_taught_right():
    assert sorted(CORRECTIONS) == [*range(1, 26), ELSEWHERE]
    for each in CORRECTIONS.values():
        widget = lesson(each.lesson).widget(each.shown.widget)
        known = {control.name: control for control in widget.controls}
        for name, value in each.shown.values.items():
            known[name].checked(value)


# what shows each mistake: the number that its try finds, and what it has to be
SHOWN = {
    1: lambda n: n["C"] > n["before"] == pytest.approx(1.7672),
    2: lambda n: n["C"] > 1e3,
    3: lambda n: n["∂C/∂b"] == pytest.approx(n["delta"]) and n["Δz"] == pytest.approx(0.01),
    4: lambda n: n["delta"] == pytest.approx(-0.033657, rel=1e-4) and n["gradient"] == pytest.approx(2 * n["delta"]),
    5: lambda n: n["swapped"] == pytest.approx(-n["right"]),
    6: lambda n: n["largest"] == 1000,
    7: lambda n: n["gradient ratio"] == pytest.approx(2) and n["C ratio"] == pytest.approx(2),
    8: lambda n: n["z"] == pytest.approx(1.55) and n["right"] == pytest.approx(1.35),
    9: lambda n: abs(n["first"]) < 0.3 * abs(n["by jax.grad"]),
    10: lambda n: n["letters that mean two things"] == 5,
    11: lambda n: n["dw/dw"] == 1,
    12: lambda n: n["gradient"] > 0 > n["by jax.grad"],
    13: lambda n: n["Δz"] == pytest.approx(0.03) and n["Δa"] > 0 > n["ΔC"],
    14: lambda n: n["unchanged"] == 1 and n["update 1"] == pytest.approx(0.1, rel=1e-4),
    15: lambda n: n["θ₁"] == 0 and n["crossings"] == 0,
    16: lambda n: n["slopes"] == n["parameters"] == 49,
    17: lambda n: n["average"] == pytest.approx(0.19) and n["instantaneous"] == pytest.approx(5.095),
    19: lambda n: n["largest slope"] == 0,
    20: lambda n: n["64 units"] == pytest.approx(n["16 units"], rel=1e-3) == pytest.approx(1 / 192, rel=1e-2),
    21: lambda n: n["fits"] == 3,
    22: lambda n: n["squared error"] < n["cross-entropy"] / 50,
    23: lambda n: (n["found"], n["right"]) == (144, 900),
    24: lambda n: n["popular since"] == 1986,
    25: lambda n: n["inputs"] == 2 and n["difference"] < 1e-12,
    26: lambda n: n["by jax.grad"] == n["by x"] == 900 and n["error"] < 1e-14,
}


@pytest.mark.parametrize("mistake", SHOWN)
def test_a_number_shows_the_mistake(mistake):
    each = CORRECTIONS[mistake]
    shown = lesson(each.lesson).widget(each.shown.widget).show(dict(each.shown.values))
    assert each.number in shown.numbers and SHOWN[mistake](shown.numbers), shown.numbers


@pytest.mark.slow
def test_lessons_that_train_reach_their_floors():
    each = CORRECTIONS[18]
    shown = lesson(7).widget(each.shown.widget).show(dict(each.shown.values))
    assert shown.numbers["mean squared error"] == pytest.approx(1, abs=1e-6)
    assert set(CORRECTIONS) - set(SHOWN) == {18}
    assert all(anchor.holds for number in (5, 9) for anchor in lesson(number).anchors)


@pytest.mark.parametrize("number", EACH)
def test_what_an_interaction_draws_can_be_read(number):
    for widget in lesson(number).widgets:
        shown = widget.show()
        assert shown.words and all(np.isfinite(v) for v in shown.numbers.values())
        if shown.picture and not shown.picture.startswith("data:"):
            image = ET.fromstring(shown.picture)
            assert image.get("aria-label") and "style" not in {name for part in image.iter() for name in part.keys()}
        assert len({len(row) for row in shown.rows}) <= 1


def test_the_articles_sign_climbs_and_the_minus_descends():
    for move, rises in (("plus", True), ("minus", False)):
        costs = [cost for *_, cost, _ in walk((move,) * 5, 0.1)]
        assert all((after > before) == rises for before, after in pairwise(costs))


def test_a_step_of_the_network_on_the_page_with_either_sign(session):
    opened = session(data="chain", learning_rate=0.1)
    up = ask(opened, "follow", sign="plus")
    assert up["before"] == pytest.approx(1.7672, rel=1e-6) and up["after"] == pytest.approx(1.8485, rel=1e-4)
    assert "rises" in up["told"]
    down = ask(opened, "follow", sign="minus")
    assert down["after"] < down["before"] == pytest.approx(up["after"]) and "falls" in down["told"]


def test_a_lesson_sets_up_its_network(session):
    found = ask(session(), "open", number=19)
    opened = session(**found["setup"]["settings"])
    opened.experiment.again(found["setup"]["history"], 0)
    assert np.asarray(opened.experiment.params[0].W)[:, 0].tolist() == [0.5, -0.25, 0.75]
    assert np.asarray(opened.experiment.params[2].W).tolist() == [[1.0, -0.5], [0.5, 2.0]]
    thirteen = ask(session(), "open", number=13)["setup"]
    opened = session(**thirteen["settings"])
    opened.experiment.again(thirteen["history"], 0)
    assert np.asarray(opened.experiment.params[2].W)[:, 0].tolist() == pytest.approx([0.6, -0.4])


def test_expressions_are_read_and_errors_are_sentences():
    stepper = lesson(21).widget("stepper")
    assert stepper.show({"expression": "x*y", "at": "x=2, y=5", "steps": 8}).numbers == pytest.approx(
        {"by x": 5, "by y": 2, "steps": 5, "error": 0}
    )
    broken = stepper.show({"expression": "3*(x**2+1", "at": "2"})
    assert "never closed" in broken.words and "^" in broken.code and not broken.formulas
    assert "read as a number" in stepper.show({"expression": "x", "at": "two"}).words
    shown = stepper.show({"expression": "3*(x**2+1)**3", "at": "2", "steps": 2})
    assert len(shown.formulas[0].steps) == 2


def test_controls_refuse_what_they_do_not_know():
    widget = lesson(20).widget("sign")
    for values in ({"rate": 99}, {"rate": "fast"}, {"moves": ["up"]}, {"moves": ["plus"] * 500}, {"speed": 1}):
        with pytest.raises(JaxpropError):
            widget.show(values)
    with pytest.raises(JaxpropError, match="found 23"):
        lesson(23)


def test_the_articles_notation(session):
    ours, theirs = (ask(session(), "formulas", number=17, article=flag)["formulas"] for flag in (False, True))
    assert all("∂C" in each["mathml"] for each in ours)
    assert 'data-symbol="ŷ"' in theirs[-1]["mathml"] and 'data-symbol="ŷ"' not in ours[0]["mathml"]
    assert not any("∂" in symbol for each in theirs for symbol in re.findall('data-symbol="([^"]*)"', each["mathml"]))
    assert 'data-symbol="target"' in ours[-1]["mathml"] and 'data-symbol="target"' not in theirs[-1]["mathml"]
    assert "<mi>δ</mi>" in theirs[0]["mathml"] and "<mi>δ</mi>" not in ours[-1]["mathml"]
    assert not re.search(r"data-symbol=\"δ\"", theirs[0]["mathml"])


def test_the_docs_say_which_lesson_has_what():
    page = (Path(__file__).parents[2] / "docs/explorer/lessons.md").read_text()
    for each in LESSONS.values():
        assert f"\n| {each.number} | {each.title} | {each.chapter} |\n" in page
    for number, each in CORRECTIONS.items():
        title = lesson(each.lesson).widget(each.shown.widget).title
        assert f"\n| {'elsewhere' if number == ELSEWHERE else number} | {each.lesson} | {title} |\n" in page
