"""The site: built with every warning an error, with all public names and formulas, asking nothing of other machines."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # .ci/run builds the site too

ROOT = pathlib.Path(__file__).parents[2]
FENCE = re.compile(r"^ *```math\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of the site, {path: HTML}; `mkdocs build --strict` fails at a link or an anchor that is not there."""
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        "docs/mkdocs/mkdocs.yml",
        "-d",
        str(out),
    ]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.relative_to(out).as_posix(): path.read_text("utf-8") for path in out.rglob("*.html")}


def test_every_page_of_the_repository_is_a_page_of_the_site(site):
    outside = [*ROOT.glob("jaxprop/*/*.md"), *ROOT.glob("services/**/*.md")]
    paths = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    for path in [*paths, *(path.relative_to(ROOT) for path in outside)]:
        assert str(path.with_suffix(".html")).replace("README", "index") in site, path
    assert "computes the same gradient layer by layer" in site["index.html"]


def test_every_public_name_has_its_docstring_in_the_reference(site):
    from tests.test_structure import PUBLIC

    pages = "".join(page for path, page in site.items() if path.startswith("reference/"))
    for name, value in PUBLIC.items():
        if callable(value):
            assert f'id="{value.__module__}.{value.__name__}"' in pages, name
    assert "<blockquote>" not in pages  # an example that is not fenced is taken for a quotation


def test_formulas_are_drawn_without_a_script(site):
    for page in sorted((ROOT / "docs/chapters").glob("[0-9]*.md")):
        equations = sum(len(body.split(r"\\[4pt]")) for body in FENCE.findall(page.read_text("utf-8")))
        html = site[f"chapters/{page.stem}.html"]
        assert html.count("<math") == equations and "\\frac" not in html and "merror" not in html


def test_a_page_loads_nothing_from_elsewhere(site):
    for path, html in site.items():
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="([^"]*)"|<link[^>]*\bhref="([^"]*)"', html)
        assert loaded and not [found for found in loaded if re.match(r"(https?:)?//", "".join(found))], path
