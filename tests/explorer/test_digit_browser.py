"""The digit panel in a real browser: digits are drawn with the mouse and by touch, and nonsense is called so."""

import json
from pathlib import Path

import pytest

from tests.explorer.conftest import PHONE, looking

pytestmark = pytest.mark.browser
RECORDED = json.loads((Path(__file__).parent / "strokes" / "pen_digits.json").read_text())


@pytest.fixture
def digit(opened):
    """A page that shows the digit panel with an empty pad."""
    page = opened("#panel=digit&data=line")
    page.locator(".digit-verdict:not([data-kind='waiting'])").wait_for()
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Nothing is drawn").wait_for()
    return page


def draw(page, strokes, size: float = 1.0, at: tuple[float, float] = (0.0, 0.0)) -> None:
    """Draw strokes with the mouse, smaller and elsewhere if asked."""
    pad = page.locator(".digit-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    for stroke in strokes:
        places = [
            (box["x"] + box["width"] * (at[0] + size * x), box["y"] + box["height"] * (at[1] + size * y))
            for x, y in stroke
        ]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=3)
        page.mouse.up()


def verdict(page, text: str) -> None:
    page.locator(".digit-verdict", has_text=text).wait_for()


def test_recorded_digits_drawn_with_the_mouse_are_read_and_come_back_from_their_address(digit):
    for k in (5, 325, 205):  # a 0, an 8 and a 5
        digit.get_by_role("button", name="Clear").click()
        verdict(digit, "Nothing is drawn")
        drawing = RECORDED[k]
        draw(digit, drawing["strokes"])
        verdict(digit, f" {drawing['digit']}: its probability")
        assert digit.locator(".digit-bar.largest .number").get_attribute("data-digit") == str(drawing["digit"])
    x, y = RECORDED[205]["strokes"][-1][-1]  # the address follows a drawing some times a second
    digit.wait_for_function(f"() => location.hash.includes('[{x:g},{y:g}]]]')")
    digit.reload()
    verdict(digit, "reads a 5")


def test_small_in_a_corner_needs_centring(digit):
    draw(digit, RECORDED[205]["strokes"], size=0.35, at=(0.6, 0.62))
    verdict(digit, "reads a 5")
    digit.locator(".digit-centre").uncheck()
    digit.wait_for_function("() => !document.querySelector('.digit-verdict').textContent.includes('reads a 5')")


def test_the_error_of_a_label_flows_back(digit):
    assert digit.locator(".digit-pixels").get_attribute("aria-label").endswith("not computed yet")
    digit.get_by_role("button", name="A drawn 3").click()
    verdict(digit, "reads a 3")
    digit.select_option("#digit-label", "8")
    digit.locator(".digit-told", has_text="an 8").wait_for()
    assert "at most" in digit.locator(".layer-delta .number").first.inner_text()
    digit.get_by_role("button", name="Undo").click()
    verdict(digit, "Nothing is drawn")


def test_nonsense_is_said_to_be_none(digit):
    for name in ("scribble", "grain", "clouds"):
        digit.get_by_role("button", name=name).click()
        verdict(digit, "does not look like a digit")
        digit.get_by_role("button", name="Clear").click()
        verdict(digit, "Nothing is drawn")


def test_a_finger_draws_and_the_page_does_not_scroll(chromium, server):
    with looking(chromium, server.address, PHONE | {"height": 700}, has_touch=True, is_mobile=True) as page:
        page.goto(server.address + "#data=line")
        page.locator("html[data-ready]").wait_for(state="attached")
        page.locator("#tab-digit").tap()
        page.locator(".digit-verdict:not([data-kind='waiting'])").wait_for()
        page.get_by_role("button", name="Clear").tap()
        verdict(page, "Nothing is drawn")
        box = page.locator(".digit-pad").bounding_box()
        before = page.evaluate("scrollY")
        session = page.context.new_cdp_session(page)
        places = [(box["x"] + box["width"] / 2, box["y"] + box["height"] * part / 20) for part in range(16, 3, -1)]
        for k, (x, y) in enumerate(places):
            kind = "touchMove" if k else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        verdict(page, "reads a 1")
        assert page.evaluate("scrollY") == before
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
