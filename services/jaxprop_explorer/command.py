"""`jaxprop explore [RUN]`: the page, on this machine.

This module is imported whenever `jaxprop` runs, also without the `explore` extra: `command` imports the rest.
"""

import contextlib
import functools
import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from jaxprop.errors import JaxpropError

EXAMPLE = "Examples: `jaxprop explore` · `jaxprop explore runs/digits` · `jaxprop explore runs/houses --data new.csv`"


def command(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A saved model's folder, of any architecture.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Rows to see RUN on; by default what it was trained on. Without RUN, rows to learn: a .csv or .npz "
            "file, or a folder with MNIST's IDX files."
        ),
    ] = None,
    lesson: Annotated[int | None, typer.Option(min=1, help="Open the page at the lesson of this row.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write --lesson as one HTML file here, and open nothing.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 is any free one.")] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Open a page where backpropagation can be watched, questioned and steered.

    Only programs on this machine can reach it. Example: `jaxprop explore runs/digits`.
    """
    if html is not None and lesson is None:
        raise JaxpropError(f"--html {html} writes a lesson: say which one, such as --lesson 17")
    try:
        from jaxprop_explorer.application import application
        from jaxprop_explorer.listening import address, bound, server
        from jaxprop_explorer.opened import Opened, introduce, of_run
    except ImportError as error:
        raise JaxpropError(
            f'jaxprop explore needs the extra `explore` ({error.name} is missing): pip install ".[explore]"'
        ) from None
    at = ""
    if run is None and data is not None:
        from jaxprop_explorer.experiments.problems import offer

        at = "#" + "&".join(f"{name}={value}" for name, value in offer(Path(data)).items())
    if lesson is not None:
        from jaxprop_explorer.lessons.document import save

        at = f"#panel=lessons&lessons.at={save(lesson, html)}"
        if html is not None:
            return print(f"Wrote {html}: lesson {lesson} in one file, which opens without a server.")
    with bound(port) as listening:
        app = (
            application()
            if run is None
            else application(functools.partial(Opened, of_run(run, data)), opened=introduce)
        )
        listening.listen()
        print(f"{address(listening)}{at}\nCtrl-C ends it.", flush=True)
        if browser and not webbrowser.open(address(listening) + at):
            print("No browser was found: open the address in one.", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again, once all has ended
            server(app).run([listening])
    if any(thread.name.startswith("explorer") and not thread.daemon for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(0)  # what is compiled at this moment cannot be interrupted, and nobody waits for it any more
