"""Plugins: the one in services/README.md as a package of its own; what is not allowed, broken, or there twice."""

import ast
import asyncio
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxprop as jp
import jaxprop_serve
from jaxprop.errors import JaxpropError, ModelError
from jaxprop_serve import api
from jaxprop_serve.assembly import assemble
from jaxprop_serve.http1.application import create_app
from jaxprop_serve.plugins import find
from jaxprop_serve.settings import Settings
from tests.cli.commands import is_a_mistake, run
from tests.serve.doors import acall
from tests.serve.explaining import explain
from tests.serve.oracle import X, publish
from tests.test_structure import imported

SERVE = Path(jaxprop_serve.__file__).parent
README = SERVE.parent / "README.md"


def written(folder, package, group, name, source, value=None):
    """A package as pip leaves it: a module and its entry point."""
    (folder / f"{package}.py").write_text(source)
    about = folder / f"{package}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {value or f'{package}:{name}'}\n")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """written(package, group, name, source), on sys.path for one test."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield lambda *about, **more: written(folder, *about, **more)
    for module in set(sys.modules) - before:
        del sys.modules[module]


def test_the_plugin_of_the_readme_is_allowed_and_asked(installed, tmp_path):
    """That it is built and installed as the page says: tests/docs/test_serving_docs.py."""
    blocks = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", README.read_text("utf-8"), re.DOTALL))
    assert set(blocks) == {"pyproject.toml", "occlusion.py"} and blocks["occlusion.py"].count("\n") <= 25
    installed("occlusion", "jaxprop.explainers", "occlusion", blocks["occlusion.py"])
    publish(tmp_path / "m")
    x, fallen = X[:3], falls(*jp.load(tmp_path / "m"), X[:3], 0.5)

    async def served(explainers, test):
        settings = Settings(explainers=explainers, max_batch=1)
        models, routes = assemble(settings, [str(tmp_path / "m")])
        await models.start()
        try:
            await test(create_app(models, settings, routes=routes))
        finally:
            await models.stop()

    async def allowed(app):
        found = await explain(app, "m", x, explainer="occlusion", fill=0.5)
        np.testing.assert_allclose(found["occlusion"], fallen, rtol=0, atol=1e-6, strict=True)
        text = "model 'm', explainer 'occlusion': parameter 'fill' must be a number, found 'x'"
        assert await explain(app, "m", x, explainer="occlusion", fill="x") == (400, text)
        assert "gradient" in await explain(app, "m", x)

    async def not_allowed(app):
        text = "model 'm': unknown explainer 'occlusion', this server has gradient"
        assert await explain(app, "m", x, explainer="occlusion") == (400, text)

    asyncio.run(served(("gradient", "occlusion"), allowed))
    asyncio.run(served(("gradient",), not_allowed))


def falls(net, params, x, fill):
    """y(x) − y(x with value i replaced), `[N, I, O]`."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        hidden = [np.where(np.arange(x.shape[1]) == i, np.float32(fill), x) for i in range(x.shape[1])]
        return np.stack([net(x, params) - net(one, params) for one in hidden], axis=1)


def test_what_the_settings_do_not_name_is_not_imported(installed, tmp_path):
    publish(tmp_path / "m")
    installed("other", "jaxprop.explainers", "other", "raise SystemExit('imported')")
    installed("extra", "jaxprop.services", "extra", SERVICE)
    places = [str(tmp_path / "m")]
    _, routes = assemble(Settings(), places)
    assert "other" not in sys.modules and "extra" not in sys.modules
    assert {route.path.rpartition("/")[2] for route in routes} == {"explain"}
    _, routes = assemble(Settings(services=("extra",)), places)
    assert "extra" in sys.modules and "other" not in sys.modules
    assert routes[-1].path == "/extra"


SERVICE = """
from jaxprop_serve.api import Route, reply

def extra(models, settings):
    async def answer(request):
        return reply({"models": models.index()})
    return [Route("GET", "/extra", answer)]
"""


def test_a_service_answers_beside_the_protocol_behind_its_tokens(installed, tmp_path):
    publish(tmp_path / "m")
    installed("extra", "jaxprop.services", "extra", SERVICE)

    async def main():
        settings = Settings(services=("extra",), token="t" * 20, max_batch=1)
        models, routes = assemble(settings, [str(tmp_path / "m")])
        await models.start()
        try:
            app = create_app(models, settings, routes=routes)
            assert (await acall(app, "GET", "/extra")).status == 401
            found = await acall(app, "GET", "/extra", headers=[(b"authorization", b"Bearer " + b"t" * 20)])
            assert found.json["models"][0]["name"] == "m"
        finally:
            await models.stop()

    asyncio.run(main())


def test_a_store_and_a_runtime_of_others(installed, tmp_path):
    publish(tmp_path / "m")
    source = "class Mine:\n    def __init__(self, places):\n        self.given = list(places)\n"
    installed("mine", "jaxprop.stores", "Mine", source)
    models, _ = assemble(Settings(stores=("Mine",)), ["anywhere"])
    assert models.store.given == ["anywhere"]
    installed("zero", "jaxprop.runtimes", "zero", "class zero:\n    name = 'zero'\n")
    models, _ = assemble(Settings(stores=("Mine",), runtimes=("zero",)), ["anywhere"])
    assert [runtime.name for runtime in models.runtimes] == ["zero"]


def test_a_runtime_of_others_is_asked_about_the_folders_of_our_store(installed, tmp_path):
    """Its folders hold no file that any of our runtimes knows."""
    for folder in ("words/1", "words/2", "letters"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "words.txt").touch()
    publish(tmp_path / "ours")
    installed("strings", "jaxprop.runtimes", "strings", STRINGS)
    found = {}
    for runtimes in (("strings",), ("jaxprop", "strings"), ("jaxprop",)):
        found[runtimes] = assemble(Settings(runtimes=runtimes), [str(tmp_path)])[0].catalogue.check()
    words = {"letters": {"1": "strings"}, "words": {"1": "strings", "2": "strings"}}
    ours = {"ours": {"1": "jaxprop"}}
    assert list(found.values()) == [words, words | ours, ours]
    with pytest.raises(ModelError, match="words: no models found, no runtime of jaxprop, export accepts a folder"):
        assemble(Settings(), [str(tmp_path / "words")])[0].catalogue.check()


STRINGS = """
class strings:
    name = "strings"
    accepts = staticmethod(lambda folder: (folder / "words.txt").is_file())
"""


def test_a_store_of_others_is_told_what_can_be_loaded_if_it_asks(installed, tmp_path):
    publish(tmp_path / "m")
    source = "class Asks:\n    accepts = None\n    def __init__(self, places): pass\n"
    installed("asks", "jaxprop.stores", "Asks", source)
    models, _ = assemble(Settings(stores=("Asks",)), [])
    assert models.store.accepts(tmp_path / "m") and not models.store.accepts(tmp_path)


FAILS = "def bad(places): raise OSError('no disk')"
BAD = [
    ("explainers", "gradient", "", "'gradient' of jaxprop.explainers is offered twice, by bad:gradient and jaxprop"),
    ("stores", "folder", "", "'folder' of jaxprop.stores is offered twice"),
    ("services", "bad", "import not_there", "cannot be loaded: ModuleNotFoundError: No module named 'not_there'"),
    ("services", "bad", "", "(bad:bad) cannot be loaded: AttributeError"),
    ("services", "bad", "def bad(models, settings): 1 / 0", "'bad' of jaxprop.services failed: ZeroDivisionError"),
    ("services", "bad", "bad = 3", "'bad' of jaxprop.services failed: TypeError"),
    ("explainers", "bad", "def bad(:", "cannot be loaded: SyntaxError"),
    ("stores", "bad", FAILS, "'bad' of jaxprop.stores failed: OSError: no disk"),
]  # fmt: skip


@pytest.mark.parametrize(("group", "name", "source", "text"), BAD)
def test_what_cannot_be_used_is_one_line_that_names_it(installed, tmp_path, group, name, source, text):
    installed("bad", f"jaxprop.{group}", name, source)
    with pytest.raises(JaxpropError) as error:
        assemble(Settings(**{group: (name,)}), [str(tmp_path)])
    assert text in str(error.value) and "\n" not in str(error.value)


def test_a_name_that_nobody_offers():
    with pytest.raises(JaxpropError, match=r"'magic' of jaxprop.explainers is allowed, but no .* found: gradient"):
        find("jaxprop.explainers", ("magic",))


def test_the_command_says_it_in_one_line(installed, tmp_path):
    publish(tmp_path / "m")
    installed("bad", "jaxprop.explainers", "gradient", "")
    ran = run("serve", tmp_path / "m", "--port", 0, "--grpc-port", "off")
    is_a_mistake(ran, 1, "'gradient' of jaxprop.explainers is offered twice")


# What a plugin may import of this project: what is documented as public.
PUBLIC = re.compile(r"jaxprop(\.[A-Za-z]+)?|jaxprop\.errors\.\w+|jaxprop_serve\.api\.\w+")


def not_public(file):
    names = imported(file.read_text("utf-8"), f"jaxprop_serve.{file.stem}", False)
    return [name for name in names if name.startswith("jaxprop") and not PUBLIC.fullmatch(name)]


@pytest.mark.parametrize("name", ["why/gradient.py", "models/stores.py"])
def test_our_own_explainer_and_store_use_the_public_api_alone(name):
    assert not_public(SERVE / name) == []


def test_that_test_sees_what_is_not_public(tmp_path):
    file = tmp_path / "one.py"
    file.write_text(
        "import jaxprop.costs.cost\nfrom jaxprop_serve.models import lifecycle\nfrom jaxprop_serve.api import reply\n"
    )
    assert not_public(file) == ["jaxprop.costs.cost", "jaxprop_serve.models.lifecycle"]


def test_all_of_the_api_is_explained():
    tree = ast.parse((SERVE / "api.py").read_text("utf-8"))
    groups = set(re.findall(r"jaxprop\.\w+(?=  )", ast.get_docstring(tree)))
    assert groups == {"jaxprop.runtimes", "jaxprop.stores", "jaxprop.explainers", "jaxprop.services"}
    for name in ("Runtime", "Store", "Explainer", "Service"):
        assert getattr(api, name).__doc__
