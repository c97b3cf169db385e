"""The pages of docs/ and the README run as they stand, in a user's default float32; so do the examples."""

import doctest
import importlib.util
import pathlib
import re

import jax
import pytest

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


@pytest.mark.slow
def test_the_guide_runs():
    text = (ROOT / "docs" / "guide.md").read_text("utf-8").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, "guide.md", "docs/guide.md", 0)
    assert len(test.examples) > 20
    told = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=told.append)
    assert not told, "".join(told)


def test_the_readme_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "three witnesses agree" in said and (tmp_path / "runs" / "readme" / "model.json").exists()


def test_a_plain_function_is_a_first_class_citizen(capsys):
    costs, measured = example("plain_function.py").main(seeds=3)
    assert len(set(costs)) == 3 and max(costs) < 0.02
    assert measured["r2"] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, argument, least, most",
    [("character_gpt.py", 400, 1, 2.7), ("small_resnet.py", 2, 0.9, 1), ("lstm_sequence.py", 12, 0, 0.02)],
)
def test_networks_that_train_by_hand_alone(name, argument, least, most, monkeypatch):
    """A GPT on the chapters, a ResNet on the digits, an LSTM that adds: each prints manual against auto."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    reached, apart = example(name).main(argument)
    reached = reached[-1] if isinstance(reached, list) else reached
    assert least <= reached <= most and apart < 1e-5


def test_every_relative_link_leads_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"
