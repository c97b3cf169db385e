"""What the site adds to the pages of docs/: the READMEs of the repository, formulas as MathML, and the reference.

A page keeps the place that it has in the repository, so a link that is right there is right here: docs/guide.md is
guide.md, README.md is the first page, services/README.md stands at services/README.md. The reference is derived from
the package: a name that `jaxprop/names.py` exports is in it, with its docstring, without another word.
"""

import inspect
import pathlib
import posixpath
import re
import types
from importlib import import_module

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

import jaxprop as jp
from jaxprop import derivations, errors, plot

ROOT = pathlib.Path(__file__).parents[2]
CODE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
MINUS = re.compile(r"((?:&#x0003D;|&#x02248;|&#x00028;)</mo>(?:<mrow>)?)<mo>(?=&#x02212;)")  # after =, ≈ or (: a sign
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")

# The rooms in the order of the data flow: a page's title, and the public modules whose names it shows. What
# `jaxprop/names.py` exports goes to the page of the room that it is defined in.
ROOMS = {
    "layers": ("Layers", ()),
    "uses": ("Uses", ()),
    "costs": ("Costs", ()),
    "network": ("Networks", ()),
    "models": ("Models to start from", (jp.models,)),
    "backward": ("Gradients", (jp.auto, jp.manual, jp.rules, jp.saliency)),
    "stats": ("Quantities", (jp.stats,)),
    "check": ("Checks", ()),
    "xray": ("X-ray", (jp.xray,)),
    "derivations": ("Derivations", (derivations,)),
    "train": ("Training", (jp.train,)),
    "saved": ("Saved models", ()),
    "flax": ("Flax", ()),
    "data": ("Data", (jp.data,)),
    "plot": ("Pictures", (plot,)),
    "reports": ("Reports", ()),
    "errors": ("Errors", (errors,)),
}

# The reference


def exported(module: types.ModuleType) -> dict[str, object]:
    """Return the public functions and classes of a module: its own, and what it hands on by `import x as x`."""
    handed_on = re.findall(r"\b(\w+) as \1\b", inspect.getsource(module))  # also what is imported when first asked for

    def public(name: str, value: object) -> bool:
        home = str(getattr(value, "__module__", ""))
        inside = name in handed_on or hasattr(module, "__path__") or module.__name__ == "jaxprop.names"
        return callable(value) and (home == module.__name__ or (inside and home.startswith("jaxprop.")))

    values = {name: getattr(module, name) for name in [*vars(module), *handed_on] if name[0] != "_"}
    return {name: value for name, value in values.items() if public(name, value)}


def reference() -> dict[str, dict[str, dict[str, str]]]:
    """Return {room: {the module that defines it: {name: the path users write}}} for every public name."""
    found: dict[str, dict[str, dict[str, str]]] = {room: {} for room in ROOMS}
    for module in (import_module("jaxprop.names"), *(module for _, shown in ROOMS.values() for module in shown)):
        for name, value in exported(module).items():
            home = value.__module__
            place = re.sub(r"^jaxprop(\.backward|\.names)?", "jp", module.__name__)
            written = f"{place}.{name}"
            found[home.split(".")[1]].setdefault(home, {}).setdefault(name, written)
    return found


def room_page(room: str, modules: dict[str, dict[str, str]]) -> str:
    """Return the Markdown of a room's page: each module's docstring, which is the derivation, and its public names."""
    title, _ = ROOMS[room]
    blocks = [
        f"## `{module.removeprefix('jaxprop.').replace('.', '/')}.py`\n\n::: {module}\n    options:\n"
        f"      members: [{', '.join(names)}]\n      show_root_heading: false\n      show_root_toc_entry: false\n"
        "      heading_level: 3\n"
        for module, names in modules.items()
    ]
    return "\n".join([f"# {title}\n", *blocks])


def overview(found: dict[str, dict[str, dict[str, str]]]) -> str:
    """Return the Markdown that lists every public name by room, each with what its docstring says first."""
    lines = []
    for room, modules in found.items():
        lines += [f"\n## [{ROOMS[room][0]}](reference/{room}.md)\n"]
        for module, names in modules.items():
            for name, written in names.items():
                text = inspect.getdoc(getattr(__import__(module, fromlist=[name]), name)) or ""
                said = " ".join(text.split("\n\n")[0].split())
                lines += [f"- [`{written}`](reference/{room}.md#{module}.{name}): {said}"]
    return "\n".join(lines)


# Pages


def readmes() -> list[pathlib.Path]:
    """Return the READMEs outside of docs/: the first page, and those of the rooms."""
    rooms = sorted([*ROOT.glob("jaxprop/*/*.md"), *ROOT.glob("services/**/*.md")])
    return [ROOT / "README.md", *rooms]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Draw ```math blocks as MathML, and name the pages that are made in the navigation."""
    config.mdx_configs["toc"]["slugify"] = slugify(
        case="lower"
    )  # anchors as a repository's page has them: #δ-the-error
    fence = {"name": "math", "class": "math", "format": mathml}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    entries = {title: pages for entry in config.nav for title, pages in entry.items()}
    entries["Reference"] += [{title: f"reference/{room}.md"} for room, (title, _) in ROOMS.items()]
    decisions = sorted(ROOT.glob("docs/decisions/[0-9]*.md"), key=lambda path: int(path.name.split("-")[0]))
    entries["Decisions"] += [f"decisions/{path.name}" for path in decisions]
    entries["Write your own"] += [path.relative_to(ROOT).as_posix() for path in readmes()[1:]]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the READMEs of the repository and the pages of the reference."""
    for path in readmes():
        uri = "index.md" if path.parent == ROOT else path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    for room, modules in reference().items():
        files.append(File.generated(config, f"reference/{room}.md", content=room_page(room, modules)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links between files of the repository into links between pages; list the reference where it is asked."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    if page.file.src_uri.startswith("reference/"):
        return markdown
    here = posixpath.dirname(in_repository(page.file.src_uri))

    def moved(found: re.Match[str]) -> str:
        text, link, anchor = found.groups("")
        path = posixpath.normpath(posixpath.join(here, link))
        target = "index.md" if path == "README.md" else path.removeprefix("docs/")
        if files.get_file_from_path(target) is None and (ROOT / path).exists():
            return text  # a file of the repository that is no page
        return f"[{text}]({posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    parts = CODE.split(markdown)
    markdown = "".join(part if i % 2 else LINK.sub(moved, part) for i, part in enumerate(parts))
    return markdown.replace("<!-- reference -->", overview(reference()))


def in_repository(uri: str) -> str:
    """Return where the source of a page lies: guide.md is docs/guide.md."""
    outside = [path.relative_to(ROOT).as_posix() for path in readmes()]
    return "README.md" if uri == "index.md" else uri if uri in outside else f"docs/{uri}"


# Formulas


def mathml(source: str, *_: object, **__: object) -> str:
    """Return a ```math block as MathML, which browsers draw without a script."""
    body = re.sub(r"\\(begin|end)\{gathered\}", "", source)
    # one word, not a product of letters
    body = re.sub(r"\\mathrm\{([^{}]{2,})\}", lambda word: rf"\text{{{word[1].replace('-', '−')}}}", body)
    lines = [convert(line.strip(), display="block") for line in re.split(r"\\\\\[4pt\]", body)]
    signed = [MINUS.sub(r'\1<mo form="prefix">', line) for line in lines]
    return f'<div class="math">{"".join(signed)}</div>'
