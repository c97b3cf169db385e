"""The pages on writing a cost and a kind of use: their code runs as it stands, in a user's default float32."""

import pathlib
import re

import jax
import pytest

import jaxprop as jp


@pytest.mark.slow
@pytest.mark.parametrize(
    "room, printed",
    [("costs", "three witnesses agree on 4 rows"), ("uses", "[1. 1. 1.] [3. 3. 3. 3.]")],
    ids=["costs", "uses"],
)
def test_the_code_of_the_page_runs(room, printed, tmp_path, monkeypatch, capsys):
    page = pathlib.Path(jp.__file__).parent / room / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        exec(compile(code, str(page), "exec"), {})
    assert printed in capsys.readouterr().out
