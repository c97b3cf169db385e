"""The command line: `jaxprop demo | train | predict | check | summary | explain | plot`.

Each command is one file here, a thin layer over the library. A user's mistake is one line on stderr and a non-zero exit
code, never a traceback. Commands from elsewhere are entry points in the group `jaxprop.commands`.
"""

import sys
from importlib import metadata

import typer

from jaxprop.cli import check, demo, predict, summary, train
from jaxprop.errors import JaxpropError

app = typer.Typer(
    name="jaxprop",
    help="Backpropagation you can open: train a network, check its gradients by hand, use it, and look inside.",
    epilog="Start with `jaxprop demo`. Every command has --help with an example.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
COMMANDS = {"demo": demo, "train": train, "predict": predict, "check": check, "summary": summary}
for name, module in COMMANDS.items():
    app.command(name, epilog=module.EXAMPLE)(module.command)


def add_plugins() -> None:
    """Add the commands that installed packages offer; a broken one is said and left out."""
    for entry in metadata.entry_points(group="jaxprop.commands"):
        try:
            found = entry.load()
        except Exception as error:
            print(f"jaxprop: the command {entry.name!r} of {entry.value} cannot be loaded: {error}", file=sys.stderr)
            continue
        add = app.add_typer if isinstance(found, typer.Typer) else lambda f, name: app.command(name)(f)
        add(found, name=entry.name)


def main() -> None:
    """Run the command line and exit with its code."""
    add_plugins()
    try:
        app()
    except JaxpropError as error:
        print(f"jaxprop: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("jaxprop: interrupted", file=sys.stderr)
        sys.exit(130)
