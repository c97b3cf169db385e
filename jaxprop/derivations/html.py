"""A derivation as one HTML file, and in a notebook: MathML and a style, without a script and without any request."""

from html import escape

from jaxprop.derivations.derivation import Derivation, to_text
from jaxprop.derivations.mathml import to_mathml

# As in the explorer's page: six colours that differ in lightness and hue, each 4.5:1 against its paper.
LIGHT = ("#00716b", "#9b2f7f", "#7a5c00", "#5a45b8", "#3d7315", "#a23a35")
DARK = ("#4fc4ba", "#ec8fd2", "#dcb84e", "#b3a5fa", "#93cd63", "#f39a90")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
OF_DARK_NOTEBOOKS = ('[data-jp-theme-light="false"]', ".vscode-dark", "html[theme=dark]")

OF_DERIVATIONS = """
.derivation math { font-size: 1.08em; }
.derivation .equation, .derivation .rows { margin: 0.6em 0; padding: 0.15em 0; overflow-x: auto; }
.derivation .equation .label { display: block; font-size: 0.875em; opacity: 0.75; }
.derivation .equation math { display: block math; width: max-content; max-width: none; margin: 0 auto 0 0; }
.derivation .sides mtd { text-align: left; padding: 0.3em 0.2em; }
.derivation .sides mtd:first-child:not([columnspan]) { text-align: right; padding-left: 0; }
.derivation table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.derivation th, .derivation td { padding: 0.3em 0.9em 0.3em 0; text-align: left; border-bottom: 1px solid #8884; }
.derivation th { font-weight: 600; border-bottom-color: #888b; }
.derivation .number { text-align: right; }
"""

STYLE = f"""
:root {{ color-scheme: light dark; --ink: #1b222c; --paper: #fbfbfa; --muted: #59636f; --line: #dcdfe3; }}
:root {{ {" ".join(f"--term-{i}: {colour};" for i, colour in enumerate(LIGHT, 1))} }}
@media (prefers-color-scheme: dark) {{
:root {{ --ink: #e7eaee; --paper: #15181d; --muted: #a1aab5; --line: #343a42; }}
:root {{ {" ".join(f"--term-{i}: {colour};" for i, colour in enumerate(DARK, 1))} }}
}}
* {{ box-sizing: border-box; }}
html {{ background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%; }}
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }}
h1, h2, h3 {{ line-height: 1.3; font-weight: 600; text-wrap: balance; }}
h1 {{ font-size: 1.6rem; margin: 0 0 1.25rem; padding: 0.25rem 0; overflow-x: auto; }}
h2 {{ font-size: 1.125rem; margin: 0 0 0.4rem; }}
h3 {{ font-size: 1rem; margin: 1.5rem 0 0.4rem; }}
p {{ margin: 0.4rem 0; }}
a {{ color: inherit; }}
.source {{ color: var(--muted); font-size: 0.875rem; }}
.step {{ border-top: 1px solid var(--line); padding: 1.1rem 0 0.7rem; }}
{" ".join(f".term-{i} {{ color: var(--term-{i}); }}" for i in range(1, 7))}
{OF_DERIVATIONS.replace(".derivation .sides", ".sides")}
@media print {{
:root {{ --ink: #000; --paper: #fff; --muted: #444; --line: #bbb; color-scheme: light; }}
:root {{ {" ".join(f"--term-{i}: {colour};" for i, colour in enumerate(LIGHT, 1))} }}
body {{ font-size: 10.5pt; max-width: none; padding: 0; }}
h1, .derivation .equation, .derivation .rows {{ overflow: visible; break-inside: avoid; }}
h1, h2, h3 {{ break-after: avoid; }}
}}
"""


def to_html(derivation: Derivation, digits: int | None = 6, source: str = "") -> str:
    """Print a derivation as one HTML file that opens without a server, in dark and light, on a phone and on paper.

    Nothing in it is a script, and nothing is loaded: the file itself says so to the browser.

    Args:
        derivation: of `explain` or `derive`.
        digits: how many significant digits numbers get; None for as many as it takes.
        source: a line above the title, plain text, on what it is about.

    >>> from jaxprop.derivations import derive
    >>> page = to_html(derive("3*(x**2+1)", at=2.0))
    >>> page.startswith("<!DOCTYPE html>"), "<script" in page, page.count("<section")
    (True, False, 5)
    """
    title = "".join(each if isinstance(each, str) else to_text(each, digits) for each in derivation.title)
    above = f'<p class="source">{escape(source)}</p>\n' if source else ""
    return document(title, above + to_mathml(derivation, digits, heading=1))


def document(title: str, body_html: str, style: str = STYLE) -> str:
    """Return a whole HTML file around a body, which may hold what `to_mathml` prints.

    Args:
        title: plain text, the name of the page in its window.
        body_html: the body. It is taken as it is, so what comes from elsewhere has to be escaped in it already.
        style: the CSS; `STYLE`, which has the look of derivations, and what you add to it.

    >>> print(document("a < b", "<p>Hello</p>", style=""))
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
    <title>a &lt; b</title>
    </head>
    <body>
    <p>Hello</p>
    </body>
    </html>
    <BLANKLINE>
    """
    lines = (
        *("<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">'),
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{escape(title)}</title>",
        *((f"<style>{style}</style>",) if style else ()),
        *("</head>", "<body>", body_html, "</body>", "</html>", ""),
    )
    return "\n".join(lines)


def in_notebook(body_html: str) -> str:
    """Return what `to_mathml` prints with a style of its own, for a notebook, dark or light.

    >>> in_notebook("<p>Hello</p>").startswith('<div class="jaxprop-derivation"><style>')
    True
    """
    inside = ".jaxprop-derivation"
    light = " ".join(f"{inside} .term-{i} {{ color: {colour}; }}" for i, colour in enumerate(LIGHT, 1))
    dark = "\n".join(
        f"{theme} {inside} .term-{i} {{ color: {colour}; }}"
        for theme in OF_DARK_NOTEBOOKS
        for i, colour in enumerate(DARK, 1)
    )
    own = OF_DERIVATIONS.replace(".derivation", inside).strip()
    return f'<div class="jaxprop-derivation"><style>\n{own}\n{light}\n{dark}\n</style>\n{body_html}\n</div>'
