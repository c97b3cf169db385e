"""`jaxprop plot`: each picture is written, of a saved run and of what needs none; a mistake is one line."""

import pytest

from jaxprop.cli.commands.plot import WITH_RUN, WITHOUT_RUN
from tests.cli.commands import did, is_a_mistake, run

PNG = b"\x89PNG"


@pytest.mark.parametrize(
    "what", [w if w == "activation" else pytest.param(w, marks=pytest.mark.slow) for w in WITHOUT_RUN]
)
def test_a_picture_that_needs_no_run(what, empty):
    assert did("plot", what).out == f"{what}.png\n"
    assert (empty / f"{what}.png").read_bytes().startswith(PNG)


@pytest.mark.slow
@pytest.mark.parametrize("what", WITH_RUN)
def test_a_picture_of_a_run(what, runs, tmp_path):
    name = "moons" if what == "boundary" else "square"
    runs[name]
    did("plot", what, f"runs/{name}", "--out", tmp_path / "p.png", "--rows", "0:8")
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_a_film_of_a_run(runs, tmp_path):
    runs["moons"]
    did("plot", "backward", "runs/moons", "--out", tmp_path / "step.gif")
    assert (tmp_path / "step.gif").read_bytes().startswith(b"GIF89a")
    did("plot", "backward", "runs/moons", "--parameter", "0.W", "--index", "1,2", "--out", tmp_path / "p.svg")
    assert (tmp_path / "p.svg").is_file()


@pytest.mark.slow
def test_the_entries_asked_for_are_those_drawn(runs, monkeypatch):
    drawn = []
    monkeypatch.setattr("jaxprop.plot.save", lambda picture, out, *_: drawn.append(picture) or out)
    runs["square"]
    did("plot", "surface", "runs/square", "--param", "0.W", "--index", "0,3", "--index", "0,1")
    assert [axes.get_xlabel() for axes in drawn[0]] == ["θ₁ = 0.W[0, 3]"] * 2
    assert [axes.get_ylabel() for axes in drawn[0]] == ["θ₂ = 0.W[0, 1]"] * 2


@pytest.mark.slow
def test_saliency_of_a_digit_and_of_a_table(runs, monkeypatch):
    """Pixels are drawn as an image, columns as bars with their names; a class is asked for by its name."""
    drawn = []
    monkeypatch.setattr("jaxprop.plot.save", lambda picture, out, *_: drawn.append(picture) or out)
    for name in ("digits", "my"):
        runs[name]
    did("plot", "saliency", "runs/digits", "--row", "3", "--target", "8")
    (digit, *maps) = drawn.pop()
    assert digit.get_title(loc="left").endswith(" for 8") and digit.images[0].get_array().shape == (8, 8)
    assert len(maps) == 2  # of sigmoids: nothing for guided backpropagation
    did("plot", "saliency", "runs/my", "--data", "new.csv")
    row, *maps = drawn.pop()
    assert row.get_title(loc="left").endswith(" for price")
    assert sorted(text.get_text() for text in row.texts) == ["area = 25", "rooms = 1"]
    is_a_mistake(
        run("plot", "saliency", "runs/digits", "--target", "ten"), 1, "--target: found 'ten'", "a class (0, 1,"
    )
    is_a_mistake(run("plot", "saliency", "runs/my", "--target", "1"), 1, "--target: found '1'", "from 0 to 0")


@pytest.mark.parametrize(
    "options, words",
    [
        (("surfaces",), ["unknown picture 'surfaces' (did you mean 'surface'?)"]),
        (("history",), ["plot history: needs the folder of a saved model"]),
        (("activation", "softmax"), ["unknown activation 'softmax'"]),
        (("cost", "runs/moons", "--index", "0;1"), ["--index: found '0;1', expected whole numbers such as 12,3 or 7"]),
        (("cost", "runs/moons", "--param", "0.W", "--index", "0,32"), ["0.W has shape [2, 32]", "0 to 1 and 0 to 31"]),
        (("surface", "runs/moons", "--param", "0.W", "--index", "0,1"), ["--index: needs 2 of the entries of 0.W"]),
        (("backward", "runs/moons", "--index", "0,1"), ["--index: says which entry", "--parameter 0.W"]),
        (("boundary", "runs/line"), ["draws over two features, runs/line takes [1]; plot fit"]),
        (("fit", "runs/moons"), ["plot fit: draws functions of one number", "takes [2] and gives [2]"]),
    ],
)
def test_a_mistake_is_one_line(options, words, runs):
    for name in ("line", "moons"):
        if f"runs/{name}" in options:
            runs[name]
    is_a_mistake(run("plot", *options), 1, *words)
