"""A derivation in the forms that people take away: LaTeX, MathML, JSON, text, and a page of its own."""

from typing import Any

from jaxprop.derivations import Derivation, dumps, to_html, to_latex, to_mathml, to_text

ENDINGS = {"latex": "tex", "document": "tex", "mathml": "html", "json": "json", "text": "txt", "html": "html"}


def exported(derivation: Derivation, form: str) -> dict[str, Any]:
    """Return the text of a derivation in a form, and a name for its file.

    The JSON is that of `jaxprop explain --json` without the model's folder and its rows, which stand before it there.
    """
    write = {
        "latex": to_latex, "document": lambda d: to_latex(d, document=True), "mathml": to_mathml,
        "html": to_html, "json": dumps, "text": to_text,
    }  # fmt: skip
    facts = derivation.facts
    number = "-".join(map(str, [facts["path"].replace(".", "-"), *facts["index"]]))
    return {"name": f"derivation-{number}.{ENDINGS[form]}", "text": write[form](derivation)}
