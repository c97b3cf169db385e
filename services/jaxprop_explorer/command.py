"""`jaxprop explore`: the page, on this machine.

This module is imported whenever `jaxprop` runs, also without the `explore` extra: `command` imports the rest.
"""

import sys
import webbrowser
from typing import Annotated

import typer

from jaxprop.errors import JaxpropError


def command(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is any free one.")] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Open a page where backpropagation can be watched, questioned and steered.

    Example: `jaxprop explore`.
    """
    try:
        import uvicorn

        from jaxprop_explorer.application import application
    except ImportError as error:
        raise JaxpropError(
            f'jaxprop explore needs the extra `explore` ({error.name} is missing): pip install ".[explore]"'
        ) from None
    import socket

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise JaxpropError(
                f"cannot serve on 127.0.0.1:{port}: {error.strerror}; choose another with --port"
            ) from None
        listening.listen()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        print(f"{address}\nCtrl-C ends it.", flush=True)
        if browser and not webbrowser.open(address):
            print("No browser was found: open the address in one.", file=sys.stderr)
        config = uvicorn.Config(application(), log_level="warning", lifespan="on", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run([listening])
