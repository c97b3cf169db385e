"""The README's picture of the page is made here: `EXPLORER_PICTURE=1 pytest -m browser -k picture` writes it anew."""

import os
import pathlib

import pytest

KEPT = pathlib.Path(__file__).parent.parent.parent / "docs" / "images" / "explorer.png"
STATE = "#data=moons&layers=(6)&learning_rate=0.3&seed=1&steps=3000&selected=0.W:0,1"


@pytest.mark.browser
def test_the_picture_of_the_readme(opened, tmp_path):
    """Two moons after 3,000 steps, with one hidden weight chosen and its chain rule beside the network."""
    page = opened(STATE)
    page.locator(".count-step").get_by_text("3,000", exact=True).wait_for()
    page.locator(".cr-cards math").first.wait_for()
    path = KEPT if os.environ.get("EXPLORER_PICTURE") else tmp_path / "explorer.png"
    page.screenshot(path=path)
    assert KEPT.exists(), "make the README's picture: EXPLORER_PICTURE=1 pytest -m browser -k picture tests/explorer"
