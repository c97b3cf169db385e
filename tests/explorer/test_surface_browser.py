"""The surface panel in a real browser: the ball is dragged, the saddle holds it, a rate diverges."""

import re
import urllib.parse

import jax
import numpy as np
import pytest

from jaxprop.plot.surface import article_cost

pytestmark = pytest.mark.browser


@pytest.fixture
def surface(opened):
    """A page that shows the surface panel."""
    page = opened("#panel=surface&data=xor&layers=(3)")
    page.locator('#surface [data-key="steps"]').wait_for()
    return page


def told(page, key: str) -> list[float]:
    """The numbers that the panel shows under a name."""
    text = page.locator(f'#surface [data-key="{key}"]').inner_text().replace("−", "-").replace(",", " ")
    return [float(part) for part in text.split()]


def wait_for(page, key: str, text: str) -> None:
    page.locator(f'#surface [data-key="{key}"]', has_text=text).wait_for()


def test_the_ball_is_dragged_anywhere_and_the_numbers_are_right(surface):
    above = surface.locator(".ground-above")
    above.scroll_into_view_if_needed()
    box = above.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    surface.mouse.move(*middle)
    surface.mouse.down()
    x = "document.querySelector('#surface [data-key=x]').textContent"
    surface.wait_for_function(f"() => !{x}.startsWith('2.5')")
    taken = surface.evaluate(x)
    surface.mouse.move(middle[0] + 60, middle[1] - 30)  # at once: there is no place between, which could be read
    surface.mouse.up()
    surface.wait_for_function(f"() => {x} !== '{taken}'")
    x, y = told(surface, "x") + told(surface, "y")
    assert 0.5 < x < 3 and 0 < y < 2  # to the right of the middle, and above it
    theta = np.array([x, y])
    assert told(surface, "cost")[0] == pytest.approx(float(article_cost(theta)), rel=2e-3, abs=1e-4)
    slope = jax.grad(article_cost)(theta)
    assert told(surface, "gradient") == pytest.approx(list(map(float, slope)), rel=1e-2, abs=1e-2)
    assert told(surface, "steps") == [0]
    above.focus()
    surface.keyboard.press("ArrowRight")
    surface.wait_for_function(f"() => document.querySelector('#surface [data-key=x]').textContent !== '{x}'")
    assert told(surface, "x")[0] == pytest.approx(x + 0.1, abs=2e-3)


def test_the_saddle_holds_the_ball_and_the_valley_does_not(surface):
    surface.get_by_role("button", name="On the saddle").click()
    wait_for(surface, "eigenvalues", "−2.00, 2.00")
    assert told(surface, "hessian") == [0, -2, -2, 0]
    for step in ("1", "2", "3"):
        surface.locator(".ground-step").click()
        wait_for(surface, "steps", step)
    assert (told(surface, "x"), told(surface, "y"), told(surface, "cost")) == ([0], [0], [2])
    assert "does not move" in surface.locator(".ground-sentence").inner_text()
    surface.get_by_role("button", name="Into the valley").click()
    wait_for(surface, "x", "2.500")
    surface.locator(".ground-step").click()
    wait_for(surface, "steps", "1")
    x, y = np.array([2.5, 0.25]) - 0.1 * np.asarray(jax.grad(article_cost)(np.array([2.5, 0.25])))
    assert told(surface, "x") + told(surface, "y") == pytest.approx([x, y], abs=1e-3)


def test_a_rate_that_diverges_is_said(surface):
    surface.get_by_role("button", name="Diverging").click()
    wait_for(surface, "x", "3.000")
    surface.locator(".ground-play").click()
    surface.locator(".ground-sentence.bad").wait_for()
    assert surface.locator(".ground-sentence").inner_text().startswith("Diverged")
    surface.locator(".ground-play").get_by_text("Play", exact=True).wait_for()


def test_a_cut_through_the_network_sets_its_weights(surface):
    surface.select_option("#ground-view", "two")
    surface.locator("#surface .ground-pair:not([hidden])").wait_for()
    wait_for(surface, "steps", "0")
    cost = surface.locator('#surface [data-key="cost"]').inner_text()
    surface.locator(".ground-above").focus()
    surface.keyboard.press("Shift+ArrowRight")
    surface.wait_for_function(f"() => document.querySelector('#surface [data-key=cost]').textContent !== '{cost}'")
    surface.wait_for_function("() => location.hash.includes('surface.view=two')")
    surface.wait_for_function("() => location.hash.includes('changes=')")
    kept = urllib.parse.unquote(surface.url).partition("changes=")[2].partition("&")[0]
    edits = [float(number) for number in re.findall(r"-?\d+\.\d+", kept)]
    assert any(number == pytest.approx(told(surface, "x")[0], rel=1e-3) for number in edits), kept
