"""The page of the best-known worked example: its code prints what it shows, and every number of the post is on it."""

import doctest
import pathlib

import jax
import pytest

from .test_chapters import FLAGS, blocks, unfounded

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "worked_example.md").read_text("utf-8")
# what the post has, in its order; the last four rows are those of the updates
POST = """
0.3775 0.593269992 0.596884378 1.105905967 0.75136507 0.772928465 0.274811083 0.023560026 0.298371109
0.74136507 0.186815602 0.593269992 0.082167041 0.138498562 0.35891648 0.408666186 0.51130127 0.561370121
-0.019049119 0.036350306 0.241300709 0.05 0.000438568 0.149780716 0.19956143 0.24975114 0.29950229
0.291027924 0.0000351085 0.000035085 0.015912196 0.984065734
"""


@pytest.fixture(autouse=True)
def as_a_reader(strict_float64):
    """A reader's JAX; what the page sets is put back afterwards."""
    before = jax.config.jax_enable_x64  # pyright: ignore
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.slow
def test_the_page_prints_what_it_shows():
    test = doctest.DocTestParser().get_doctest("\n".join(blocks(PAGE, "python")), {}, "page", "page", 0)
    said = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_every_number_of_the_post_is_printed_and_every_number_said_is_one():
    printed = [
        line for block in blocks(PAGE, "python") for line in block.splitlines() if not line.startswith((">>>", "..."))
    ]
    shown = "\n".join(printed)
    assert [number for number in POST.split() if number not in shown] == []
    assert unfounded(PAGE) == []
