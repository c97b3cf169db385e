"""`jaxprop explain`: the chain rule written out, for one parameter of a saved model or for an expression."""

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
from typer import Context
from typer.core import TyperCommand

from jaxprop.cli import choices
from jaxprop.errors import JaxpropError, pick

EXAMPLE = (
    "Examples: `jaxprop explain runs/digits` · `jaxprop explain runs/digits '1.W[12,3]' --row 5 --json` · "
    "`jaxprop explain '3*(x**2+1)' --at 2` · `jaxprop explain '(x+y)*z' --at x=-2,y=5,z=-4`"
)


class Command(TyperCommand):
    """A command whose first argument may be an expression that begins with a minus sign."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Move an expression such as -x^2 behind the options, where it is none."""
        taking = {name for each in self.params if not getattr(each, "is_flag", True) for name in each.opts}
        for i, (before, word) in enumerate(pairwise(("", *args))):
            if before not in taking and re.match(r"-[^-]", word) and "--" not in args:
                args = [*args[:i], *args[i + 1 :], "--", word]
                break
        return super().parse_args(ctx, args)


def command(
    target: Annotated[str, typer.Argument(help="Folder of a saved model, or an expression such as '3*(x**2+1)'.")],
    number: Annotated[
        str | None,
        typer.Argument(help="Of a model: 1.W[12,3], an input x[2], a column, or one of --names; else what tells most."),
    ] = None,
    param: Annotated[str | None, typer.Option(help="A parameter of the model by its path, e.g. 1.W or 1.b.")] = None,
    index: Annotated[str | None, typer.Option(help="Which number of it: input,unit of a W, unit of a b.")] = None,
    names: Annotated[
        str | None, typer.Option(help="Your own names: w5=2.W[0,0],w6=2.W[1,0],i1=x[0],h1=a1[0],E=C.")
    ] = None,
    row: Annotated[int, typer.Option(min=0, help="Which of the held-out rows.")] = 0,
    data: Annotated[str | None, typer.Option(help="Where rows come from; what it was trained on by default.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Step size η of the update; 0.1, over std² where y is unstandardised.")
    ] = None,
    quantity: Annotated[
        str | None, typer.Option(help=f"What all rows say of it beside: {', '.join(choices.QUANTITIES)}.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Expression: where the derivative is taken, e.g. 2, pi/2 or x=-2,y=5.")
    ] = None,
    digits: Annotated[
        int | None, typer.Option(min=1, max=17, help="How many digits numbers have: 6 by default, all in JSON.")
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="As LaTeX.")] = False,
    document: Annotated[bool, typer.Option("--document", help="As a whole LaTeX document, to be compiled.")] = False,
    mathml: Annotated[bool, typer.Option("--mathml", help="As HTML with MathML in it, a part of a page.")] = False,
    html: Annotated[Path | None, typer.Option(help="File to write, one that opens by itself: .html.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Write out the chain rule for one weight, bias or input of the model in TARGET, or for the expression TARGET.

    Every path back from the cost with its numbers, jax.grad beside it, and what the update changes.
    """
    from jaxprop.cli.explain import columns, names_of, of_expression, of_run, unasked, with_references
    from jaxprop.cli.written import write
    from jaxprop.derivations import dumps, to_html, to_latex, to_mathml, to_text

    forms = {"--latex": latex or document, "--mathml": mathml, "--html": html is not None, "--json": json}
    if len(chosen := [form for form, wanted in forms.items() if wanted]) > 1:
        first = "--document" if chosen[0] == "--latex" and not latex else chosen[0]
        raise JaxpropError(f"{first} and {chosen[1]}: choose one of them")
    if html is not None:
        pick(html.suffix.lower(), (".html", ".htm"), "ending of --html")
    head, source = {}, ""
    if Path(target).is_dir():
        if at is not None:
            raise JaxpropError(f"--at is for an expression, and {target} is a folder; leave one of the two out")
        known = names_of(names or "")
        derivation, source = of_run(Path(target), number, param, index, row, data, learning_rate, known, quantity)
        head, source = {"model": target, "data": source}, f"{target} on {source}"
    elif quantity is not None:
        raise JaxpropError(f"--quantity is of a model's parameter, and {target!r} is no folder; leave it out")
    else:
        derivation = of_expression(target, param or index, at if number is None else unasked(number))
    if json:
        print(dumps(derivation, digits, head))
    elif latex or document:
        print(to_latex(derivation, digits or 6, document))
    elif mathml:
        print(with_references(to_mathml(derivation, digits or 6), sys.stdout.encoding))
    elif html is not None:
        write(html, to_html(derivation, digits or 6, source).encode())
        print(html)
    else:
        written = to_text(derivation, digits or 6, columns())
        print(*filter(None, (source, written)), sep="\n")
