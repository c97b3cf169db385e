"""The user's line of an equation, and the lines that called it, wherever the code comes from."""

import functools
import importlib.util
import linecache
import runpy

import jax
import jax.numpy as jnp
import pytest

import jaxprop as jp
from jaxprop.xray.places import Line, is_users
from tests.drawing import draw
from tests.xray.listed import sites_of

X = jnp.ones(3)
HERE = __file__


def line_of(f, *args, primitive="sin", argnums=0):
    """The place of the only equation of a kind: (line, the lines that called it)."""
    listed = sites_of(f, *args or (X,), argnums=argnums)
    (place,) = [(site.line, site.via) for site in listed if site.primitive == primitive]
    return place


@jax.jit
def shared(x):
    return jnp.sin(x)  # the line inside


sine = jax.jit(jnp.sin)


def test_two_callers_of_a_jitted_function_keep_their_lines():
    def first(x):
        return jnp.sum(shared(x) + sine(x))  # first

    def second(x):
        return jnp.sum(shared(x) * sine(x))  # second

    for f, name in ((first, "first"), (second, "second"), (first, "first")):
        inside, library = [(s.line, s.via) for s in sites_of(f, X) if s.primitive == "sin"]
        assert inside[0].text == "return jnp.sin(x)  # the line inside"
        assert inside[0].function == "shared"
        assert [line.text.split("# ")[1] for line in inside[1]] == [name]
        assert (library[0].text.split("# ")[1], library[0].function) == (name, name)
        assert library[1] == ()


def test_the_lines_that_called_it_go_from_the_inside_out():
    def inner(x):
        return jnp.sin(x)  # inner

    def middle(x):
        return jax.lax.scan(lambda c, r: (c + inner(r), None), 0.0, x)[0]  # middle

    def outer(x):
        return jax.checkpoint(jax.jit(middle))(x)  # outer

    line, via = line_of(outer)
    assert [each.text.split("# ")[1] for each in (line, *via)] == ["inner", "middle", "outer"]
    assert [each.function for each in (line, *via)] == ["inner", "<lambda>", "outer"]
    assert {each.file for each in (line, *via)} == {HERE}


def test_lambdas_and_partial_functions():
    line, via = line_of(functools.partial(lambda scale, x: scale * jnp.sum(jnp.sin(x)), 2.0))  # here
    assert (line.text.split("# ")[1], line.function, via) == ("here", "<lambda>", ())
    assert str(line) == f"test_places.py:{line.number} (<lambda>)"


def test_decorators():
    def decorated(f):
        @functools.wraps(f)
        def wrapper(*args):
            return f(*args)  # wrapper

        return wrapper

    @decorated
    @jax.named_scope("mine")  # a context of the standard library's, used as a decorator
    def f(x):
        return jnp.sum(jnp.sin(x))  # f

    line, via = line_of(f)
    assert [each.text.split("# ")[1] for each in (line, *via)] == ["f", "wrapper"]


SOURCE = "import jax.numpy as jnp\ndef f(x):\n    return jnp.sum(\n        jnp.sin(x)\n    )\n"
USERS = ["<ipython-input-3-0a1b2c>", "/tmp/ipykernel_123/456.py", "<string>", "<stdin>", r"C:\Users\me\model.py"]


@pytest.mark.parametrize("file", USERS)
def test_cells_and_strings_are_the_users(file):
    namespace: dict = {}
    exec(compile(SOURCE, file, "exec"), namespace)
    line, via = line_of(lambda x: namespace["f"](x))
    assert (line, line.text) == (Line(file, 4, "f"), "")
    assert str(line) == f"{file.rsplit('/')[-1].rsplit(chr(92))[-1]}:4 (f)"
    assert [each.file for each in via] == [HERE]


def test_the_text_of_a_cell(monkeypatch):
    """As IPython registers it."""
    file = "<ipython-input-4-0a1b2c>"
    monkeypatch.setitem(linecache.cache, file, (len(SOURCE), None, SOURCE.splitlines(keepends=True), file))
    namespace: dict = {}
    exec(compile(SOURCE, file, "exec"), namespace)
    assert line_of(namespace["f"])[0].text == "jnp.sin(x)"


def imported(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_library_is_given_only_where_no_line_is_the_users(tmp_path):
    f = imported(tmp_path / "site-packages" / "somelibrary.py").f
    line, via = line_of(lambda x: f(x))  # mine
    assert (line.file, line.text.split("# ")[1], via) == (HERE, "mine", ())
    line, via = line_of(f)
    assert (str(line), line.text, via) == ("somelibrary.py:4 (f)", "jnp.sin(x)", ())


def test_a_source_that_is_gone(tmp_path):
    path = tmp_path / "gone.py"
    f = imported(path).f
    path.unlink()
    assert line_of(f)[0] == Line(str(path), 4, "f", "")


def test_a_module_that_is_run(tmp_path, monkeypatch):
    """As `python -m` runs it."""
    (tmp_path / "mytraining.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    f = runpy.run_module("mytraining", run_name="__main__")["f"]
    assert line_of(f)[0].file == str(tmp_path / "mytraining.py")


def test_this_library_is_one_too():
    """It need not lie where libraries are installed."""
    net, x = jp.Chain(jp.Linear(2), jp.Tanh()), X[None]
    params = draw(net, x)

    def cost(params):
        return jnp.sum(net(x, params))  # cost

    line, via = line_of(cost, params, primitive="tanh")
    assert (line.text.split("# ")[1], via) == ("cost", ())
    line, via = line_of(net, x, params, primitive="tanh", argnums=None)
    assert (line.function, line.text, via) == ("Tanh.value", "return jnp.tanh(z)", ())


@pytest.mark.parametrize(
    "file, expected",
    [
        ("/home/me/model.py", True),
        ("relative/model.py", True),
        (r"D:\work\jax_models\net.py", True),
        ("/home/me/site-packages-of-mine/model.py", True),
        ("/usr/lib/python3/dist-packages/flax/linen.py", False),
        (r"C:\Python\Lib\site-packages\flax\linen.py", False),
        ("<frozen runpy>", False),
        (functools.__file__, False),
        (jax.__file__, False),
        (jp.__file__, False),
        (f"{jax.__file__.removesuffix('__init__.py').rstrip('/')}models/net.py", False),  # beside jax, in site-packages
    ],
)
def test_whose_a_file_is(file, expected):
    assert is_users(file) is expected
