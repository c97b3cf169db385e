"""The panel of rules and quantities in a real browser."""

import pytest

pytestmark = pytest.mark.browser


def test_a_rule_is_switched_and_the_largest_bar_shows_its_example(opened, until):
    page = opened("#panel=rules&data=moons&layers=(4,3)&activation=relu")
    page.wait_for_selector(".norm-bar")
    assert all(
        float(v) < 0.01 for v in page.eval_on_selector_all(".rule-dials output", "all => all.map(e => e.dataset.value)")
    )
    page.select_option("#rule-choice", "feedback_alignment")
    until("() => Number(document.querySelector('.rule-dials output').dataset.value) > 1")
    assert "B⁽³⁾" in page.get_attribute(".rule-formula math", "aria-label")
    norms = page.eval_on_selector_all(".norm-bar", "all => all.map(e => [Number(e.dataset.value), e.dataset.row])")
    largest = max(norms)[1]
    page.click(f".norm-bar[data-row='{largest}']")
    until("row => document.querySelector('.example-view').textContent.includes(`Example ${row}`)", largest)
    page.wait_for_selector(f".norm-bar[data-row='{largest}'][aria-pressed=true]")
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.dataset.row") == norms[0][1]


def test_a_rule_that_this_network_cannot_go_by_is_refused_in_words(opened, until):
    page = opened("#panel=rules&data=xor&layers=(3)&activation=tanh")
    page.wait_for_selector(".norm-bar")
    page.select_option("#rule-choice", "guided_backprop")
    until("() => document.querySelector('.notice').textContent.includes('ReLU')")
    assert page.input_value("#rule-choice") == "backpropagation"
    page.wrong.clear()  # the browser's console names the refused request
