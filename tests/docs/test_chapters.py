"""The chapters hold what they promise: their code runs, and every number, formula, picture and link has a source."""

import contextlib
import doctest
import importlib.util
import pathlib
import re
import shlex

import jax
import numpy as np
import pytest
import typer

import jaxprop as jp
from tests.cli.commands import did

CHAPTERS = pathlib.Path(__file__).parents[2] / "docs" / "chapters"
NAMES = sorted(path.name for path in CHAPTERS.glob("[0-9]*.md"))
PAGES = [*(CHAPTERS / name for name in NAMES), CHAPTERS / "README.md", CHAPTERS.parent / "notation.md"]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ROUNDING = 1e-8


@pytest.fixture(autouse=True)
def as_a_reader(strict_float64):
    """A reader's JAX: 32 bits, standard promotion; print options are put back afterwards."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), np.printoptions():
        yield


def script(name):
    spec = importlib.util.spec_from_file_location(name, CHAPTERS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


formulas, images = script("formulas"), script("make_images")


def read(name):
    return (CHAPTERS / name).read_text("utf-8")


def blocks(text, language):
    return [body for _, found, body in FENCE.findall(text) if found == language]


def test_there_are_eight_chapters():
    assert [name[:2] for name in NAMES] == [f"{i}-" for i in range(1, 9)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_a_chapter_prints_what_it_shows(name):
    text = read(name)
    assert {language for _, language, _ in FENCE.findall(text)} <= {"python", "math", "sh"}
    code = blocks(text, "python")
    assert code and all(block.startswith(">>> ") for block in code)
    test = doctest.DocTestParser().get_doctest("\n".join(code), {}, name, name, 0)
    said = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


# Numbers


NUMBER = re.compile(r"((?<![\w.)])[-−])?(?<![\w.⁻])(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?![\w])")
FRACTION = re.compile(r"(?<![\w/])\d+/\d+(?![\w/])")


def prose(text):
    """What is said in words: no code, no links' addresses, no sources, no list numbers."""
    text = FENCE.sub("", text.split("\n## Sources")[0])
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", " ", text)
    return re.sub(r"^(#+ )?\d+\. ", "", text, flags=re.MULTILINE)


def numbers(text):
    """[(sign, digits)]: '−0.25' is ('-', '0.25'), '2,410' is ('', '2410')."""
    return [("-" if sign else "", digits.replace(",", "")) for sign, digits in NUMBER.findall(text)]


def needs_a_source(digits):
    """Decimal numbers, and whole ones above 100 that are no years."""
    return "." in digits or (int(digits) > 100 and not 1900 <= int(digits) <= 2100)


def unfounded(text):
    """Numbers and fractions of the prose that no code block, output or formula of the same text has."""
    shown = "\n".join(body for _, _, body in FENCE.findall(text))
    shown = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r" \1/\2 ", shown).replace(" / ", "/").replace(r"\left(", " ")
    known = set(numbers(re.sub(r"\((?=-)", " ", shown)))
    known |= {("", digits) for _, digits in known}  # "by 0.5" of a -0.5
    fractions = set(FRACTION.findall(prose(text))) - set(FRACTION.findall(shown))
    said = [number for number in numbers(prose(text)) if needs_a_source(number[1])]
    return sorted({sign + digits for sign, digits in said if (sign, digits) not in known} | fractions)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_the_prose_was_printed(name):
    assert not unfounded(read(name))


def test_the_number_check_itself():
    code = "```python\n>>> f()\n-0.564 2,410 [0.35 1.05]\n```\n"
    assert unfounded(code + "slope −0.564, by 0.564, 2410 or 2,410, in 1986, 64-32-10, miss 0.35\n") == []
    assert unfounded(code + "slope −0.565 and −0.35, 2411, the floor 4/45\n") == ["-0.35", "-0.565", "2411", "4/45"]
    assert unfounded("`0.9` and [0.5](x#0.6)\n\n## Sources\n\nNature 323\n") == ["0.5"]
    assert unfounded("```math\n\\frac{4}{45} + \\left(-0.25\\right)\n```\n4/45 and −0.25\n") == []


# Formulas


@pytest.mark.slow
@pytest.mark.parametrize("name", formulas.FORMULAS)
def test_a_formula_holds_with_the_numbers_of_the_backward_pass(name):
    equations, values = formulas.shown(name)
    assert equations and all(equation.error(values) < ROUNDING for equation in equations)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_displayed_formulas_are_generated(name):
    text = read(name)
    assert formulas.filled(text) == text, "run python docs/chapters/formulas.py --write"
    by_hand = FENCE.sub("", formulas.BLOCK.sub("", text))
    assert not re.search(r"\$|\\frac|\\partial|\\\[|\\\(", by_hand)
    assert not blocks(formulas.BLOCK.sub("", text), "math")


def test_every_formula_is_used():
    used = {name for chapter in NAMES for _, name, _ in formulas.BLOCK.findall(read(chapter))}
    assert used == set(formulas.FORMULAS)


# Pictures, links, mistakes, questions


def test_every_picture_is_made_by_the_script_and_small():
    shown = {image for name in NAMES for image in re.findall(r"!\[[^\]]+\]\(images/(\w+)\.png\)", read(name))}
    files = {path.stem: path.stat().st_size for path in (CHAPTERS / "images").iterdir()}
    assert shown == set(files) == set(images.PICTURES)
    assert max(files.values()) < 120_000 and sum(files.values()) < 900_000
    assert images.DPI <= 110


def anchors(path):
    """The anchors that GitHub gives to the headings of a page."""
    text = FENCE.sub("", path.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text("utf-8")))
    for link in links:
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def table(text, heading):
    """The rows of the table after a heading, as cells."""
    lines = text.split(heading, 1)[1].split("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]


def test_every_mistake_and_every_row_of_the_article_has_its_place():
    text = read("README.md")
    mistakes = table(text, "## What the article says")
    assert [int(row[0]) for row in mistakes] == list(range(1, 26))
    treated = {name: set() for name in NAMES}
    for number, _, _, where in mistakes:
        places = re.findall(r"\(([\w-]+\.md)#", where)
        assert places, number
        for place in places:
            treated[place].add(int(number))
    chapters = table(text, "# Backpropagation")
    listed = {re.search(r"\(([^)]+)\)", row[0])[1]: row for row in chapters}
    assert list(listed) == NAMES
    assert {name: set(map(int, row[3].split(", "))) for name, row in listed.items()} == treated
    assert sorted({int(n) for row in chapters for n in row[2].split(", ")}) == list(range(1, 23))


COMMANDS = [(name, command.strip()) for name in NAMES for command in blocks(read(name), "sh")]


def test_every_chapter_ends_with_questions_and_sources():
    assert {name for name, _ in COMMANDS} == set(NAMES)
    for name in NAMES:
        headings = re.findall(r"^## (.+)$", read(name), re.MULTILINE)
        assert headings[-2:] == ["Questions", "Sources"]


@pytest.mark.parametrize("name,command", COMMANDS)
def test_a_command_is_one_that_exists(name, command):
    from jaxprop.cli import app

    program, *words = shlex.split(command.removesuffix("|| true"))
    if program == "python":
        compile(words[1], name, "exec")
    else:
        assert program == "jaxprop"
        typer.main.get_command(app).commands[words[0]].make_context(words[0], words[1:])  # an error for a wrong option


@pytest.mark.slow
def test_every_command_runs(tmp_path, monkeypatch):
    """In one folder, in the order of the chapters, since some read what others before them wrote."""
    monkeypatch.chdir(tmp_path)
    for _, command in COMMANDS:
        program, *words = shlex.split(command.removesuffix("|| true"))
        if program == "jaxprop":
            did(*words)
        else:
            with pytest.raises(jp.ShapeError) if command.endswith("|| true") else contextlib.nullcontext():
                exec(words[1], {})
