"""The explorer as people meet it: a server on a free port, and a real Chromium that looks at its page.

The server is a thread of these tests: it starts at once, and what it compiled it has for the next file too. That the
command's own process serves the same, test_command.py sees.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from jaxprop_explorer import listening
from jaxprop_explorer.application import application
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.settings import Settings
from jaxprop_explorer.sessions import Session
from tests.serve.process import hearing_signals

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 380, "height": 800}


@pytest.fixture
def session():
    """Return `session(**settings)`: a session without a server, for the handlers of panels."""

    def make(**settings: Any) -> Session:
        return Session(Experiment.of(Settings(**settings)))

    return make


class Server:
    """A running server, and what a program can ask it."""

    def __init__(self, address: str) -> None:
        self.address = address

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


@contextlib.contextmanager
def serving(app: Any):
    """Serve an application in a thread; at the end no work of it is left behind."""
    with listening.bound(0) as socket:
        socket.listen()
        running = listening.server(app)
        threading.Thread(target=running.run, args=([socket],), name="explorer server", daemon=True).start()
        try:
            yield Server(listening.address(socket))
        finally:
            running.should_exit = True
            for thread in threading.enumerate():
                if thread.name.startswith("explorer"):
                    thread.join(30)
                    assert not thread.is_alive(), thread


def started(*arguments: str) -> tuple[Server, subprocess.Popen[str]]:
    """Start `jaxprop explore` in a process of its own, on a free port."""
    command = [sys.executable, "-m", "jaxprop", "explore", "--port", "0", "--no-browser", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with hearing_signals():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            return Server(found[0]), process
    raise AssertionError(f"`jaxprop explore` ended with {process.wait()} before it said an address")


@pytest.fixture(scope="module")
def server():
    """The explorer, shared by the tests of one file."""
    with serving(application()) as running:
        yield running


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


@contextlib.contextmanager
def looking(chromium: Any, address: str, viewport: dict[str, int] = WIDE, meant: str | None = None, **options: Any):
    """An empty page of its own; it fails on an error in the console, and on a request that leaves the address.

    What the console says with `meant` in it, the test means to cause, and cannot say when it will come.
    """
    context, wrong = chromium.new_context(viewport=viewport, **options), []
    context.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on(
        "request",
        lambda asked: None if asked.url.startswith((address, "data:", "blob:")) else wrong.append(asked.url),
    )
    page = context.new_page()
    page.wrong = wrong  # a test that means to cause an error clears it
    yield page
    context.close()
    unmeant = [text for text in wrong if meant is None or meant not in text]
    assert not unmeant, unmeant


@pytest.fixture
def page(chromium, server):
    """A page of its own, still empty."""
    with looking(chromium, server.address) as page:
        yield page


@pytest.fixture
def opened(page, server):
    """Return `opened(fragment)`: the page at an address of its own."""

    def go(fragment: str = "", on: Any = page) -> Any:
        if on.url != "about:blank":
            on.goto("about:blank")  # else only the fragment changes, and the page stays
        on.goto(server.address + fragment)
        on.locator("html[data-ready]").wait_for(state="attached")
        return on

    return go
