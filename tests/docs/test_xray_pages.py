"""The pages on the X-ray, typed by a reader who has Flax: their files, scripts and commands, and what these print.

In this process, since a fresh one for each block would spend more time on its imports than on the block.
"""

import pathlib
import sys

import jax
import pytest

from tests.cli.commands import run
from tests.docs.pages import blocks, commands, is_shown

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "xray"


@pytest.fixture(autouse=True)
def as_a_user(strict_float64, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def typed(kind, text, session, capsys):
    """What a script or commands print."""
    if kind == "shell":
        said = [run(*command.removeprefix("jaxprop ").split()) for command in commands(text)]
        return "".join(one.out for one in said)
    exec(compile(text, "asked.py", "exec"), session)
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_what_a_page_on_the_x_ray_shows_is_what_is_printed(page, tmp_path, monkeypatch, capsys):
    said, files, session = "", [], {"__name__": "__main__"}
    for kind, text, file in blocks(page.read_text("utf-8")):
        if file:
            (tmp_path / file).write_text(text, "utf-8")
            files.append(file.removesuffix(".py"))
        elif kind in ("python", "shell"):
            for module in files:  # whoever imports them again has them as the page shows them
                monkeypatch.delitem(sys.modules, module, raising=False)
            said = typed(kind, text, session, capsys)
        elif kind == "text":
            assert is_shown(text, said), f"{page.name} shows\n{text}\nbut what is printed is\n{said}"
