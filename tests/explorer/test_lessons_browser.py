"""The lessons as people meet them: a lesson's numbers, an exercise wrong and right, the article's sign, the course."""

import re
from pathlib import Path

import pytest

from jaxprop_explorer.lessons.course import STAGES, Question
from jaxprop_explorer.lessons.exercises import exercise

pytestmark = pytest.mark.browser
LONG = 60_000  # milliseconds: what a lesson shows first is compiled then


@pytest.fixture
def lessons(opened):
    """Return `lessons(at)`: the panel of the lessons at one of them, at the exercises or at the course."""

    def at(where):
        page = opened(f"#panel=lessons&data=line&lessons.at={where}")
        page.locator(".lesson[data-complete]").wait_for(timeout=LONG)
        return page

    return at


def go(page, name):
    page.locator(".lessons-index").get_by_role("button", name=name).click()


def test_lesson_17_has_its_numbers_and_its_notation(lessons):
    page = lessons(12)
    go(page, re.compile("17 ?The chain rule: three"))
    page.get_by_role("heading", name="17. The chain rule").wait_for()
    page.locator(".lesson[data-complete]").wait_for(timeout=LONG)
    row = page.locator("tr", has_text="δ = ∂C/∂z")
    assert row.locator("td").all_inner_texts()[1:] == ["−0.033657", "−0.033657 ✓"]
    assert page.locator(".lesson .formula math").count() >= 3
    page.get_by_label("article notation").check()
    page.locator('.formula [data-symbol^="δC"]').first.wait_for()
    page.get_by_role("button", name="Multiply the factors of w₂").click()
    page.get_by_text("= −0.10097; by jax.grad −0.10097").wait_for(timeout=LONG)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as HTML").click()
    written = Path(download.value.path()).read_text()
    assert "<math" in written and "−0.033657" in written and "= −0.10097; by jax.grad" in written


def test_an_exercise_wrong_then_right(lessons):
    page = lessons(12)
    go(page, "Exercises")
    page.get_by_label("Kind").select_option("output_weight")
    page.get_by_text("Find ∂C/∂w").wait_for()
    asked = exercise("output_weight", 1)
    slip = next(each for each in asked.mistakes if each.name == "value for slope")
    answer = page.get_by_label(re.compile("^Your answer"))
    answer.fill(f"{slip.value:.4g}".replace(".", ","))
    page.get_by_role("button", name="Check", exact=True).click()
    page.get_by_text(f"Step: {slip.step}. {slip.told}").wait_for()
    answer.fill("1000")
    answer.press("Enter")
    page.get_by_text("Let us take it apart, factor by factor.").wait_for()
    page.locator("#factor-0").fill(f"{-asked.factors[0].value:.4g}")
    page.get_by_role("button", name="Check this step").click()
    page.get_by_text("The step that went wrong is ∂C/∂a.").wait_for()
    answer.fill(f"{asked.truth:.3g}")
    answer.press("Enter")
    page.get_by_text("Right. To five digits").wait_for()
    page.wait_for_url("**lessons.kind=output_weight**")


def test_the_articles_sign_makes_the_cost_rise(lessons):
    page = lessons(20)
    page.get_by_role("button", name="Follow the article's sign, and watch C rise").click()
    page.get_by_text("C went from 1.7672 to 1.8485: it rises").wait_for(timeout=LONG)
    page.locator(".widget").get_by_role("button", name="w ← w − η·∂C/∂w", exact=True).click()
    page.get_by_text(re.compile("C went from 1.8485 to .* it falls")).wait_for()
    page.get_by_role("button", name="Set it up here").click()
    page.get_by_role("button", name="Step it with the article's plus").click()
    page.get_by_text("C went from 1.7672 to 1.8485. It rises.").wait_for(timeout=LONG)


def test_the_course_in_one_sitting(lessons):
    page = lessons("course")
    for number, stage in enumerate(STAGES, 1):
        page.get_by_role("heading", name=f"Step {number} of 8").wait_for()
        question = stage.question
        if isinstance(question, Question):
            truth, mistakes = question.known
            if number == 7:
                page.get_by_label("Your answer").fill(f"{mistakes[0].value:.5g}")
                page.get_by_role("button", name="Check", exact=True).click()
                page.get_by_text("This adds the gradient, as the article says").wait_for()
            page.get_by_label("Your answer").fill(f"{truth:.4g}")
            page.get_by_role("button", name="Check", exact=True).click()
        else:
            page.get_by_role("button", name=question.answers[question.right][0]).click()
        page.get_by_role("button", name="Finish ›" if number == 8 else f"Step {number + 1} ›").click(timeout=LONG)
    page.get_by_role("heading", name="That was the course.").wait_for()
    page.wait_for_url("**lessons.at=course-9**")  # written a moment later
    page.reload()
    page.get_by_role("heading", name="That was the course.").wait_for(timeout=LONG)
    page.set_viewport_size({"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
