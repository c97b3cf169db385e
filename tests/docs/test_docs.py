"""The pages of docs/ and the README run as they stand, in a user's default float32; so do the examples."""

import doctest
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import jax
import pytest

from tests.cli.commands import did
from tests.docs.pages import free_port

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(autouse=True)
def as_a_user(strict_float64):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def example(name):
    path = ROOT / "docs" / "examples" / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def examples_of(page):
    """The blocks of a page that start with >>>, as one session."""
    text = page.read_text("utf-8").replace("```", "")
    return doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)


RUN = [page for room in ("quantities", "rules") for page in sorted((ROOT / "docs" / room).glob("*.md"))]


@pytest.mark.slow
@pytest.mark.parametrize("page", [ROOT / "docs" / "guide.md", *RUN], ids=lambda page: f"{page.parent.name}/{page.name}")
def test_what_a_page_shows_is_what_python_prints(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = examples_of(page)
    assert page.name != "guide.md" or len(test.examples) > 20
    told = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=told.append)
    assert not told, "".join(told)


TRAINING = {
    page: re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
    for page in (ROOT / "docs" / "training").glob("*.md")
}


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(page for page, code in TRAINING.items() if code), ids=lambda page: page.stem)
def test_the_code_of_a_page_on_training_runs(page, tmp_path, monkeypatch):
    """All blocks of a page as one script; on that of many machines it is a job of one process."""
    code = "\n".join(TRAINING[page])
    if page.stem != "machines":
        monkeypatch.chdir(tmp_path)
        exec(compile(code, page.name, "exec"), {})
        return
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    job = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}
    asked = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(asked, cwd=tmp_path, env=environment | job, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?")


def lines(text):
    """[(the words of a line, its numbers)], without blank lines and without the columns' widths."""
    found = [line for line in text.splitlines() if line.strip()]
    return [(NUMBER.sub("#", line).split(), [float(n) for n in NUMBER.findall(line)]) for line in found]


def is_printed(block, said):
    """The lines stand in what was printed, one after the other, with the same numbers to two digits."""
    wanted, there = lines(block), lines(said)
    words = [line for line, _ in wanted]
    for start in range(len(there) - len(wanted) + 1):
        at = there[start : start + len(wanted)]
        if [line for line, _ in at] == words:
            numbers = [n for _, line in at for n in line], [n for _, line in wanted for n in line]
            return numbers[0] == pytest.approx(numbers[1], rel=0.01, abs=1e-8)  # a difference by rounding is any
    return False


def test_what_is_printed_is_compared():
    said = "title\na = 1.234e-02 (32)\n  δ⁽¹⁾[3] ≈ -0.5\nend"
    assert is_printed("a = 0.01234 (32)\nδ⁽¹⁾[3] ≈ -0.5001", said)
    assert not is_printed("a = 0.0124 (31)", said) and not is_printed("b = 0.01234 (32)", said)
    assert not is_printed("a = 0.01234 (32)\nend", said) and not is_printed("δ⁽¹⁾[3] ≈ 0.5", said)


@pytest.mark.slow
def test_the_readme_prints_what_it_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    shown = re.findall(r"```text\n(.*?)```", readme, re.S)
    assert "three witnesses agree" in shown[0] and len(shown) == 3
    for block in shown:
        assert is_printed(block, said), f"README.md shows\n{block}\nbut its code prints\n{said}"
    assert (tmp_path / "runs" / "readme" / "model.json").exists()
    (command,) = re.findall(r"`jaxprop (explain .*?)`", readme)
    assert is_printed(shown[2], did(*command.split()).out), f"`jaxprop {command}` prints something else than shown"


@pytest.mark.slow
def test_a_plain_function_is_a_first_class_citizen(capsys):
    costs, measured = example("plain_function.py").main(seeds=3)
    assert len(set(costs)) == 3 and max(costs) < 0.02
    assert measured["r2"] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, argument, least, most",
    [("character_gpt.py", 400, 1, 2.7), ("small_resnet.py", 1, 0.9, 1), ("lstm_sequence.py", 5, 0, 0.02)],
)
def test_networks_that_train_by_hand_alone(name, argument, least, most, monkeypatch):
    """A GPT on the chapters, a ResNet on the digits, an LSTM that adds: each prints manual against auto."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    reached, apart = example(name).main(argument)
    reached = reached[-1] if isinstance(reached, list) else reached
    assert least <= reached <= most and apart < 1e-5


@pytest.mark.slow
def test_digits_are_learned_privately(capsys):
    pytest.importorskip("jax_privacy", reason='the accountant of dp_sgd.py: pip install ".[test]"')
    dp_sgd = example("dp_sgd.py")
    with_privacy, without, epsilon = dp_sgd.main(steps=60)
    assert 0.8 < with_privacy < without and 1.1 < epsilon < 1.2
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 10 and said[-1].endswith(f"{without:.3f} without privacy")
    assert dp_sgd.epsilon(60, 8.0, 0.1) < dp_sgd.epsilon(60, 4.0, 0.1) < dp_sgd.epsilon(120, 4.0, 0.1)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_relative_link_leads_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


def test_every_decision_is_in_the_list_under_its_number():
    """One after the other, since a page counts the items of a list by itself."""
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^(\d+)\. \[.*\]\((.*)\)$", (folder / "README.md").read_text("utf-8"), re.M)
    assert [int(number) for number, _ in listed] == list(range(1, len(listed) + 1))
    assert {name for _, name in listed} == {path.name for path in folder.glob("[0-9]*.md")}
    assert all(name.startswith(f"{number}-") for number, name in listed)


def test_no_line_is_over_120_characters():
    """Outside of code blocks, and without the addresses of links, tables too: a long cell is a list or a section."""
    for page in PAGES:
        prose = re.sub(r"^ *```.*?^ *```$|^    .*?$", "", page.read_text("utf-8"), flags=re.M | re.S)
        for line in re.sub(r"\]\([^)\s]*\)", "]()", prose).splitlines():
            assert len(line) <= 120, f"{page.relative_to(ROOT)}: {len(line)} characters: {line}"


def test_every_file_that_a_page_names_is_there():
    """A test, or another file with its folder, in backquotes: `test_uses.py`, `saved/model.py`."""
    rooms = [ROOT / room for room in ("docs", "jaxprop", "services", "tests")]
    everything = {path.relative_to(ROOT).as_posix() for room in rooms for path in room.rglob("*.py")}
    for page in PAGES:
        if page.name == "changelog.md" or "decisions" in page.parts:
            continue  # these tell of the past
        for name in re.findall(r"`([\w/]*(?:/|\btest_)\w+\.py)\b", page.read_text("utf-8")):
            assert any(f"/{path}".endswith(f"/{name}") for path in everything), f"{page.relative_to(ROOT)}: {name}"
