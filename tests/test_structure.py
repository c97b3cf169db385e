"""The shape of the library: which room may import which, and that every public name is explained and documented."""

import ast
import importlib.util
import inspect
import pathlib
import re
import runpy
import subprocess
import sys
import types

import pytest

import jaxprop

ROOT = pathlib.Path(__file__).parent.parent
LIBRARY = ROOT / "jaxprop"

# Data flows one way: a room imports its own floor or one further up. Rooms of one floor may see each other.
FLOORS = [
    {"errors"},
    {"checks", "tables", "style", "entry_points", "arrays", "columns"},
    {"uses"},
    {"layers"},
    {"costs"},
    {"network"},
    {"models"},
    {"backward"},
    {"saved"},
    {"check", "stats", "xray", "derivations"},
    {"train"},
    {"data", "plot", "flax", "reports"},
    {"cli", "huge_pages", "__main__", "__init__", "names"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path):
    """jaxprop/layers/linear.py is jaxprop.layers.linear; a package is its folder's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source, module, is_package):
    """Absolute names of all that a source imports, inside functions too: `from a import b` gives a.b."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant))


def room_of(name):
    """The room that a name under jaxprop lies in; names straight from the package are its front door's."""
    inside = name.split(".")[1:2]
    return inside[0] if inside and inside[0] in FLOOR else "__init__"


def violations(source, module, is_package=False):
    """What a module imports and may not."""
    room = room_of(module)
    for name in imported(source, module, is_package):
        top = name.split(".")[0]
        if top == "services" or top.startswith("jaxprop_"):
            yield f"{module} imports {name}: the library never imports a service"
        elif top == "jaxprop" and FLOOR[room_of(name)] > FLOOR[room]:
            yield f"{module} imports {name}: {room_of(name)} is downstream of {room}"


MODULES = sorted(path for path in LIBRARY.rglob("*.py"))


def test_every_room_has_its_floor():
    rooms = {path.relative_to(LIBRARY).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms <= set(FLOOR), f"say in tests/test_structure.py where {sorted(rooms - set(FLOOR))} stands"


def test_imports_go_upstream():
    found = [
        said
        for path in MODULES
        for said in violations(path.read_text("utf-8"), module_name(path), path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source, module, is_package, expected",
    [
        ("from jaxprop.costs import Cost", "jaxprop.uses", False, "costs is downstream of uses"),
        ("import jaxprop.train.fit", "jaxprop.layers.linear", False, "train is downstream of layers"),
        ("def f():\n    from jaxprop import data", "jaxprop.train.fit", False, "data is downstream of train"),
        ("from ..backward import auto", "jaxprop.layers.linear", False, "backward is downstream of layers"),
        ("from .. import network", "jaxprop.layers", True, "network is downstream of layers"),
        ("from ..network import Chain", "jaxprop.layers.linear", False, "network is downstream of layers"),
        ("from .train import fit", "jaxprop.costs", False, "train is downstream of costs"),
        ("from jaxprop import Chain", "jaxprop.backward.auto", False, "__init__ is downstream of backward"),
        ("import jaxprop as jp", "jaxprop.plot.curves", False, "__init__ is downstream of plot"),
        (
            "import importlib\nimportlib.import_module('jaxprop.cli')",
            "jaxprop.data",
            False,
            "cli is downstream of data",
        ),
        ("import jaxprop_serve", "jaxprop.cli", False, "never imports a service"),
        ("if TYPE_CHECKING:\n    from services.jaxprop_serve import app", "jaxprop.cli", False, "never imports a"),
        ("from jaxprop.uses import Use", "jaxprop.layers.linear", False, None),
        ("from .layer import Layer", "jaxprop.layers.linear", False, None),
        ("from .linear import Linear", "jaxprop.layers", True, None),
        ("from . import auto\nfrom jaxprop.network import Walk", "jaxprop.backward.manual", False, None),
        ("from jaxprop.cli import main", "jaxprop.__main__", False, None),
        ("import jax, numpy\nfrom jaxprop.train import fit", "jaxprop", True, None),
    ],
)
def test_the_import_check_itself(source, module, is_package, expected):
    found = list(violations(source, module, is_package))
    assert [bool(found), *found] == [False] if expected is None else expected in found[0], found


# The public surface


def re_exported(module):
    """Names that a module's source exports by `import x as x`, or by `from room import *`."""
    tree = ast.parse(inspect.getsource(module))
    later = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]  # under TYPE_CHECKING
    imports = [node for node in [*tree.body, *later] if isinstance(node, ast.Import | ast.ImportFrom)]
    named = [alias.name for node in imports for alias in node.names if alias.asname == alias.name]
    rooms = [node.module for node in imports if node.names[0].name == "*"]
    return [*(name for room in rooms for name in importlib.import_module(room).__all__), *named]


def defined_in(module):
    found = vars(module).items()
    return [n for n, v in found if n[0] != "_" and getattr(v, "__module__", None) == module.__name__ and callable(v)]


def surface(module, prefix="", seen=()):
    """{dotted public name: object} below a module, into the modules that it exports (`manual.uses`)."""
    names = dict.fromkeys([*re_exported(module), *defined_in(module)])
    found = {}
    for name in names:
        value = getattr(module, name)
        if prefix and getattr(jaxprop, name, None) is value:
            continue  # it has its shorter name: jp.fit, though jp.train.fit is the same
        found[prefix + name] = value
        if isinstance(value, types.ModuleType) and value not in seen:
            found |= surface(value, f"{prefix}{name}.", (*seen, module))
    return found


PUBLIC = surface(importlib.import_module("jaxprop.names"))


def test_the_surface_is_found():
    assert {"Linear", "HalfSquaredError", "Chain", "compare", "auto", "manual", "JaxpropError"} <= set(PUBLIC)
    assert {"auto.value_and_grad", "manual.value_and_grad", "manual.uses", "manual.trace"} <= set(PUBLIC)
    assert "layers" not in PUBLIC and "manual.Cost" not in PUBLIC and not any("_common" in name for name in PUBLIC)


def test_the_front_door_exports_in_one_manner():
    """jaxprop/names.py imports `name as name` or a room whole, and the map stays readable in one sitting.

    A room that is exported whole has the names of its classes in its own `__init__`, written once.
    """
    source = (LIBRARY / "names.py").read_text("utf-8")
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    whole = [node.module for node in nodes if node.names[0].name == "*"]
    assert whole == ["jaxprop.uses", "jaxprop.layers", "jaxprop.costs"]
    ours = [
        node for node in nodes if str(getattr(node, "module", "")).startswith("jaxprop") and node.module not in whole
    ]
    assert ours and all(alias.asname == alias.name for node in ours for alias in node.names)
    assert len(source.splitlines()) < 80
    for room in map(importlib.import_module, whole):
        assert set(room.__all__) == {name for name in re_exported(room) if name[0].isupper()} <= set(dir(jaxprop))


def unexplained(name, value):
    """What a public name's docstring lacks."""
    text = value.__dict__.get("__doc__") if isinstance(value, type) else value.__doc__
    if not text:
        return "no docstring of its own"
    if isinstance(value, types.ModuleType):
        return None
    if text.startswith(f"{name}("):
        return "the docstring that dataclass wrote"
    return None if ">>>" in text else "no example (>>>) in its docstring, which would run as a doctest"


def test_a_public_name_has_a_docstring_and_an_example():
    lacking = {name: lack for name, value in PUBLIC.items() if (lack := unexplained(name, value))}
    assert not lacking, lacking


def test_a_room_that_has_a_map_has_all_of_it():
    """A docstring that lists the files of its room, `steps.py   what they hold`, lists every one and no other."""
    for room in (path for path in MODULES if path.name == "__init__.py"):
        said = ast.get_docstring(ast.parse(room.read_text("utf-8"))) or ""
        listed = re.findall(r"(?:^|  )(\w+(?:\.py|/))(?=  )", said, re.MULTILINE)
        if listed:
            files = {path.name for path in room.parent.glob("*.py")} - {"__init__.py"}
            rooms = {f"{path.parent.name}/" for path in room.parent.glob("*/__init__.py")}
            assert set(listed) == files | rooms, room.relative_to(ROOT)


def undocumented(text):
    """Public names that a text does not mention as code: `name`, `jp.name` or jp.name in an example."""
    mentioned = {
        said[: dot.start()]
        for said in set(re.findall(r"(?:`|\bjp\.|\bjaxprop\.)+([\w.]+)", text))
        for dot in re.finditer(r"\.|$", said)
    }
    return [name for name in PUBLIC if name not in mentioned]


def test_every_public_name_is_in_the_documentation():
    text = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))
    site = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "mkdocs" / "hooks.py")
    hooks = importlib.util.module_from_spec(site)
    site.loader.exec_module(hooks)
    missing = undocumented(text + hooks.overview(hooks.reference()))
    assert not missing, f"docs/ does not mention {', '.join(missing)}: see ROOMS in docs/mkdocs/hooks.py"


def test_the_documentation_check_itself():
    missing = undocumented(
        "`Linear`, `jp.Tanh`, jp.fit(net), `manual.uses(net, cost)`; load the data, `Chained`, manual"
    )
    assert not {"Linear", "Tanh", "fit", "manual.uses"} & set(missing)
    assert {"load", "data", "Chain", "manual.trace"} <= set(missing)


def test_no_module_imports_an_optional_extra_before_it_is_needed():
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        tops = {
            (node.module or "") if isinstance(node, ast.ImportFrom) and not node.level else alias.name
            for node in at_import
            for alias in node.names
        }
        extras = {top for top in tops if top.split(".")[0] in ("sklearn", "matplotlib", "grain", "ray", "equinox")}
        assert not extras, f"{module_name(path)} imports {sorted(extras)} at import time: do it inside the function"


@pytest.mark.slow
def test_importing_the_library_is_quiet_and_loads_no_optional_extra():
    """`import jaxprop` on a bare install: no scikit-learn, no matplotlib, no service."""
    code = "import sys, jaxprop; jaxprop.Linear; "
    code += "print({'flax', 'sklearn', 'matplotlib', 'ray', 'jaxprop_serve'} & sys.modules.keys())"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "set()", "imported although nobody asked for it"


def test_python_m_jaxprop_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxprop", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(LIBRARY / "__main__.py"), run_name="__main__")
    assert stopped.value.code == 0 and "jaxprop demo" in capsys.readouterr().out


def test_what_needs_flax_is_there_when_it_is_asked_for():
    lazy = {"from_flax", "import_flax", "to_flax", "to_nnx"}
    assert all(callable(getattr(jaxprop, name)) for name in lazy)
    assert lazy <= set(dir(jaxprop)) and lazy <= set(jaxprop.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'from_flux'"):
        _ = jaxprop.from_flux
