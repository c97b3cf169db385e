"""The explorer as people meet it: the command's own process on a free port, and a real Chromium that looks at it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.settings import Settings
from jaxprop_explorer.sessions import Session

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def session():
    """Return `session(**settings)`: a session without a server, for the handlers of panels."""

    def make(**settings: Any) -> Session:
        return Session(Experiment.of(Settings(**settings)))

    return make


class Server:
    """A running server, and what a program can ask it."""

    def __init__(self, address: str, process: subprocess.Popen[str]) -> None:
        self.address, self.process = address, process

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON of an answer."""
        asked = urllib.request.Request(
            self.address + path,
            json.dumps(body or {}).encode(),
            {"content-type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def started(*arguments: str) -> Server:
    """Start `jaxprop explore` on a free port."""
    command = [sys.executable, "-m", "jaxprop", "explore", "--port", "0", "--no-browser", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            return Server(found[0], process)
    raise AssertionError(f"`jaxprop explore` ended with {process.wait()} before it said an address")


def stopped(server: Server) -> int:
    """End a server as Ctrl-C does; return its exit code."""
    with server.process as process:  # closes its pipe
        process.send_signal(signal.SIGINT)
        return process.wait(30)


@pytest.fixture(scope="session")
def server():
    """`jaxprop explore`, shared by the tests of one worker."""
    running = started()
    yield running
    stopped(running)


@pytest.fixture(scope="session")
def chromium():
    """A browser for the tests of one worker."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def until(page):
    """Return `until(code, arg)`, which waits for JavaScript to answer with something true.

    Playwright's own way to wait evaluates code in the page, which the page's security policy does not allow.
    """

    def wait(code: str, arg: Any = None, seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := page.evaluate(code, arg):
                return found
            page.wait_for_timeout(30)
        raise AssertionError(f"after {seconds:g} seconds still not: {code}")

    return wait


@pytest.fixture
def page(chromium, server):
    """A page of its own in the browser; it fails on an error in the console, and on a request that leaves here."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    wrong: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "request",
        lambda asked: None if asked.url.startswith((server.address, "data:", "blob:")) else wrong.append(asked.url),
    )
    opened.wrong = wrong  # a test that means to cause an error clears it
    opened.goto(server.address)
    opened.locator("html[data-ready]").wait_for(state="attached")
    yield opened
    context.close()
    assert not wrong, wrong
