"""How a docstring becomes Markdown: its examples are fenced, and lines that are aligned in columns stay as written."""

import re
import textwrap

import griffe

EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*|\n(?P=indent) +\S.*)*", re.MULTILINE)
ALIGNED = re.compile(r"\S {3,}\S")


def fenced(text: str) -> str:
    """Return a docstring with a fence around every block of examples and every paragraph with columns."""

    def fence(found: re.Match[str]) -> str:
        return textwrap.indent(f"```pycon\n{textwrap.dedent(found[0])}\n```", found["indent"])

    paragraphs = EXAMPLE.sub(fence, text).split("\n\n")
    columns = (ALIGNED.search(paragraph) and paragraph[:1] not in " `" for paragraph in paragraphs)
    pairs = zip(paragraphs, columns, strict=True)
    return "\n\n".join(f"```text\n{paragraph}\n```" if aligned else paragraph for paragraph, aligned in pairs)


class Examples(griffe.Extension):
    """Fence the examples of every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite one docstring in place."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
