"""The command line: `jaxprop demo | train | sweep | predict | evaluate | check | summary | explain | plot | xray`.

What a command takes is one file in `commands/`, which imports nothing heavy; what it does is a thin layer over the
library, imported when it runs. A user's mistake is one line on stderr and a non-zero exit code, never a traceback.
Commands from elsewhere are entry points in the group `jaxprop.commands`.
"""

import errno
import os
import sys
import warnings
from importlib import import_module, metadata
from typing import Annotated, NoReturn

import typer

from jaxprop.cli.encoding import speak_any_encoding
from jaxprop.cli.plugins import plugins
from jaxprop.cli.words import in_shell
from jaxprop.errors import JaxpropError

app = typer.Typer(
    name="jaxprop",
    help="Backpropagation you can open: train a network, check its gradients by hand, use it, and look inside.",
    epilog="Start with `jaxprop demo`. Every command has --help with an example.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # why stdout takes no more
NAMES = ("demo", "train", "sweep", "predict", "evaluate", "report", "check", "summary", "explain", "plot", "xray")
COMMANDS = {name: import_module(f"jaxprop.cli.commands.{name}") for name in NAMES}
for name, module in COMMANDS.items():
    app.command(name, cls=getattr(module, "Command", None), epilog=module.EXAMPLE)(module.command)


def _version(asked: bool) -> None:
    if asked:
        print(f"jaxprop {metadata.version('jaxprop-nn')}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def add_plugins() -> None:
    """Add the commands that installed packages offer: a function, or a Typer app with commands of its own."""
    for name, found in plugins("jaxprop.commands"):
        if name in COMMANDS or not callable(found):
            why = f"the name {name!r} is jaxprop's own" if name in COMMANDS else f"{found!r} is not a function"
            print(f"jaxprop: a command is left out: {why}", file=sys.stderr)
        elif isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)


def main() -> NoReturn:
    """Run the command line and exit with its code: 0, 1 (it did not work), 2 (not understood), 130 (Ctrl-C).

    Training that SIGTERM ends exits with 143, as a shell calls it.
    """
    speak_any_encoding()
    add_plugins()
    warnings.filterwarnings("always", category=UserWarning, message=r"(?!.*deprecat)")
    warnings.showwarning = lambda message, *_: print(f"jaxprop: {in_shell(str(message))}", file=sys.stderr)
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="jaxprop", standalone_mode=False)
        if sys.stdout is not None:  # as with >&-
            sys.stdout.flush()  # a full disk is told here, not while Python ends
        if code != 130:
            sys.exit(code if isinstance(code, int) else 0)
    except (KeyboardInterrupt, typer.Abort):
        pass
    except OSError as error:
        unwritten(error)
    except JaxpropError as error:
        stop(in_shell(str(error)), 1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what the parser of the command line raises
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "jaxprop")
        stop(f"{error.format_message().rstrip('.')}; see {command} --help", 2)  # pyright: ignore
    stop("interrupted", 130)


def unwritten(error: OSError) -> NoReturn:
    """Exit where stdout takes no more: quietly if its reader left, as `head` does, else with the reason."""
    if error.errno not in UNWRITTEN:
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would say it again as it ends
    if error.errno == errno.EPIPE:
        sys.exit(1)
    stop(f"the output cannot be written: {error.strerror}", 1)


def stop(why: str, code: int) -> NoReturn:
    """Say why in one line, or in three where a caret points at a place, and exit."""
    print(f"jaxprop: {why if why.endswith('^') else ' '.join(why.split())}", file=sys.stderr)
    sys.exit(code)
