"""One lesson as an HTML file that opens without a server: words, formulas, pictures and numbers as of the moment."""

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import jax

from jaxprop.cli.written import write
from jaxprop.derivations import to_mathml
from jaxprop.derivations.html import STYLE, document
from jaxprop.errors import pick
from jaxprop_explorer.lessons import LESSONS, Lesson, lesson
from jaxprop_explorer.lessons.mistakes import ELSEWHERE, of_lesson
from jaxprop_explorer.lessons.parts import Shown, Widget, number

LOOK = Path(__file__).with_name("document.css")
PANEL = Path(__file__).parent.parent / "page" / "panels" / "lessons.css"


def html(number: int, values: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return a lesson as a whole HTML document.

    Args:
        number: of the row.
        values: what the controls of an interaction stand at, by its name; else they stand where they start.

    Raises:
        JaxpropError: there is no such lesson, or a control cannot stand so.
    """
    found = lesson(number)
    with jax.enable_x64(True):
        formulas = [to_mathml(each, heading=3) for each in (found.formulas() if found.formulas else ())]
    body = [
        f"<h1>{found.number}. {escape(found.title)}</h1>",
        f"<blockquote><p>{escape(found.quote)}</p></blockquote>",
        *_paragraphs(found.paragraphs),
        *(["<h2>The formula, with its numbers</h2>", *formulas] if formulas else []),
        *(part for widget in found.widgets for part in _widget(widget, (values or {}).get(widget.name))),
        *_tries(found),
        *_mistakes(found),
        *_anchors(found),
    ]
    end = f'<p class="at">One of {len(LESSONS)} lessons of jaxprop, in which every number was computed.</p>'
    return document(f"{found.number}. {found.title}", "\n".join([*body, end]), _look())


def save(number: int, path: Path | None) -> int:
    """Write a lesson to a file, if one is given; return its number, once it is known that there is such a lesson."""
    found = lesson(number)
    if path is not None:
        pick(path.suffix.lower(), (".html", ".htm"), "ending of --html")
        write(path, html(number).encode())
    return found.number


def _look() -> str:
    """The style of derivations, that of lessons, and the panel's own of drawings."""
    return STYLE + LOOK.read_text() + PANEL.read_text().partition("/* drawings */")[2]


def _paragraphs(words: Iterable[str]) -> list[str]:
    return [f"<p>{escape(each)}</p>" for each in words]


def _widget(widget: Widget, values: Mapping[str, Any] | None) -> list[str]:
    """An interaction as it stands: what its controls are at, and what it shows."""
    stand = {control.name: control.start for control in widget.controls} | dict(values or {})
    at = "; ".join(f"{c.label}: {_value(c, stand[c.name])}" for c in widget.controls)
    return [
        f"<h2>{escape(widget.title)}</h2>",
        *([f'<p class="at">{escape(at)}</p>'] if at else []),
        *_shown(widget.show(dict(values or {}))),
    ]


def _value(control: Any, value: Any) -> str:
    options = getattr(control, "options", {})
    if isinstance(value, list | tuple):
        return ", ".join(options.get(each, str(each)) for each in value) or "none yet"
    return options.get(value, number(value) if isinstance(value, int | float) else str(value))


def _shown(shown: Shown) -> list[str]:
    parts = [f"<p>{escape(shown.words)}</p>"]
    for picture in filter(None, (shown.picture, shown.beside)):
        is_image = picture.startswith("data:")
        parts.append(f'<img class="picture" src="{picture}" alt="{escape(shown.said)}">' if is_image else picture)
    if shown.rows:
        parts.append(_table(shown.rows))
    if shown.code:
        parts.append(f"<pre>{escape(shown.code)}</pre>")
    return parts + [to_mathml(each, heading=3) for each in shown.formulas]


def _table(rows: Iterable[Iterable[str]]) -> str:
    head, *body = ([escape(cell) for cell in row] for row in rows)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body)
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def _tries(found: Lesson) -> list[str]:
    rows = [("try", "and see")]
    rows += [(each.label, found.widget(each.widget).show(dict(each.values)).words) for each in found.tries]
    return ["<h2>What one can try, and what comes of it</h2>", _table(rows)]


def _mistakes(found: Lesson) -> list[str]:
    corrections = of_lesson(found.number)
    if not corrections:
        return []
    parts = ["<h2>What the article says, and what is right</h2>"]
    for i, each in corrections.items():
        shown = lesson(each.lesson).widget(each.shown.widget).show(dict(each.shown.values))
        said = f"{i}. The article: " if i < ELSEWHERE else "Elsewhere: "
        parts += _paragraphs((said + each.said, f"Right: {each.right}", f"What shows it: {shown.words}"))
    return parts


def _anchors(found: Lesson) -> list[str]:
    rows = [("number", "expected", "by the library")]
    rows += [(each.what, number(each.expected, each.digits), number(each.found())) for each in found.anchors]
    return ["<h2>Numbers to check</h2>", _table(rows)]
