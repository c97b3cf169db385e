"""The server: what it sends, whom it answers, and what it refuses."""

import urllib.request

import pytest


def test_a_session_begins_with_a_frame_and_steps(server):
    status, opened = server.post("api/sessions")
    assert status == 200 and opened["frame"]["step"] == 0
    status, frame = server.post(f"api/sessions/{opened['session']}/network/step", {"steps": 3})
    assert status == 200 and frame["step"] == 3


def test_the_page_keeps_to_itself(server):
    with urllib.request.urlopen(server.address) as answer:
        policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}], ids=str
)
def test_a_foreign_page_is_refused(server, headers):
    status, answer = server.post("api/sessions", headers=headers)
    assert status == 403 and "error" in answer


@pytest.mark.browser
def test_the_page_opens_and_steps(page):
    page.get_by_role("button", name="Step", exact=True).click()
    page.locator(".count-step").get_by_text("1", exact=True).wait_for()
