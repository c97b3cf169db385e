"""How a docstring becomes Markdown: its examples are fenced, so that `>>>` is not taken for a quotation."""

import re
import textwrap

import griffe

EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*|\n(?P=indent) +\S.*)*", re.MULTILINE)


def fenced(text: str) -> str:
    """Return a docstring with a fence around every block of examples.

    >>> print(fenced("Adds.\\n\\n>>> 1 + 1\\n2").replace("`", "'"))
    Adds.
    <BLANKLINE>
    '''pycon
    >>> 1 + 1
    2
    '''
    """

    def fence(found: re.Match[str]) -> str:
        indent = found["indent"]
        return textwrap.indent(f"```pycon\n{textwrap.dedent(found[0])}\n```", indent)

    return EXAMPLE.sub(fence, text)


class Examples(griffe.Extension):
    """Fence the examples of every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite one docstring in place."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
