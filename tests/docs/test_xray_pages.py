"""The pages on the X-ray, typed by a reader who has Flax: their files, scripts and commands, and what these print.

All blocks of a page in one session, as a reader pastes them: what a block changes in a module stays changed.
"""

import pathlib
import sys

import pytest

from tests.cli.commands import as_a_user, run
from tests.docs.pages import blocks, commands, is_shown

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "xray"
PAGES = [page for page in sorted(FOLDER.glob("*.md")) if "\n```text\n" in page.read_text("utf-8")]


@pytest.fixture(autouse=True)
def reader(strict_float64, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with as_a_user():
        yield


def typed(kind, text, session, capsys):
    """What a script or commands print."""
    if kind == "shell":
        said = [run(*command.removeprefix("jaxprop ").split()) for command in commands(text)]
        assert not any(one.err for one in said), said
        return "".join(one.out for one in said)
    exec(compile(text, "asked.py", "exec"), session)
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_on_the_x_ray_shows_is_what_is_printed(page, tmp_path, monkeypatch, capsys):
    said, session = "", {"__name__": "__main__"}
    for kind, text, file in blocks(page.read_text("utf-8")):
        if file:
            (tmp_path / file).write_text(text, "utf-8")
            monkeypatch.delitem(sys.modules, file.removesuffix(".py"), raising=False)  # of another page
        elif kind in ("python", "shell"):
            said = typed(kind, text, session, capsys)
        elif kind == "text":
            assert is_shown(text, said), f"{page.name} shows\n{text}\nbut what is printed is\n{said}"
