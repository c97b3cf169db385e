"""`jaxprop serve PATH...`: trained models behind HTTP and gRPC.

This module is imported whenever `jaxprop` runs, also without the `serve` extra: `command` imports the rest.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxprop.errors import JaxpropError, ModelError

EXAMPLE = (
    "Examples: `jaxprop serve runs/digits` · `jaxprop serve a=runs/digits b=runs/moons --port 9000 --grpc-port off` · "
    "`jaxprop serve --set max_queue_rows=1024 --check-config`"
)


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Folders of saved models, name=FOLDER, or a repository of NAME/1/, NAME/2/; by default `runs`.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to serve on (127.0.0.1); others need tokens.")] = None,
    port: Annotated[str | None, typer.Option(help="HTTP port (8000); 0 is any free one.")] = None,
    grpc_port: Annotated[str | None, typer.Option(help="gRPC port (8001), or `off`.")] = None,
    workers: Annotated[str | None, typer.Option(help="Processes that share the ports (1).")] = None,
    max_batch: Annotated[str | None, typer.Option(help="Most rows computed at once (64).")] = None,
    batching: Annotated[
        bool | None, typer.Option("--batching/--no-batching", help="Compute waiting requests together (yes).")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(help="PEM file of the certificate, with --tls-key.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM file of its key.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug (each request), info, warning or error.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; JAXPROP_CONFIG names it too.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated.")
    ] = None,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check settings and paths, print the settings in force, and exit.")
    ] = False,
) -> None:
    """Serve trained models over HTTP and gRPC (the Open Inference Protocol).

    Settings come from these flags, then from JAXPROP_NAME in the environment, then from the TOML file. Tokens are set
    there (JAXPROP_TOKEN, JAXPROP_ADMIN_TOKEN) or read from files (--set token_file=FILE): other people on this machine
    can read its command lines.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its failures are ours to tell; read when grpc is imported
    try:
        from jaxprop_serve import assembly
        from jaxprop_serve.settings import read
    except ImportError as error:
        raise JaxpropError(
            f'jaxprop serve needs the extra `serve` ({error.name} is missing): pip install ".[serve]"'
        ) from None
    flags = {
        "host": host, "port": port, "grpc_port": grpc_port, "workers": workers, "max_batch": max_batch,
        "batching": batching, "tls_cert": tls_cert, "tls_key": tls_key, "log_level": log_level,
    }  # fmt: skip
    given = {name: value for name, value in flags.items() if value is not None}
    settings = read(given | pairs(setting or []), config)
    places = paths or ["runs"]
    check_places(places)
    if check_config:
        for note in assembly.check(settings, places):
            print(f"jaxprop: note: {note}", file=sys.stderr)
        print(as_toml(settings.shown()))
        return
    code = assembly.run(settings, places)
    if code:
        raise SystemExit(code)


def check_places(places: list[str]) -> None:
    """Refuse places where nothing is, and name the one command that makes a model."""
    for place in places:
        folder = Path(place.partition("=")[2] if "=" in place and not Path(place).exists() else place)
        try:
            _check_place(folder)
        except OSError as error:
            raise ModelError(f"{error.filename or folder}: cannot be read: {error.strerror}") from None


def _check_place(folder: Path) -> None:
    if folder.is_symlink() and not folder.exists():
        raise ModelError(f"{folder}: a link to {folder.readlink()}, where nothing is; let it lead to a model's folder")
    if not folder.is_dir():
        found = f"{folder} is a file, not the folder of a model" if folder.exists() else f"{folder}: nothing there yet"
        raise ModelError(f"{found}; `{_recipe(folder)}` trains a model in under a minute")
    if not any(folder.iterdir()):
        raise ModelError(f"{folder}: empty, no model yet; `{_recipe(folder)}` trains one in under a minute")


def _recipe(folder: Path) -> str:
    return f"jaxprop demo --out {folder if folder.name != 'runs' and not folder.is_file() else 'runs/demo'}"


def pairs(given: list[str]) -> dict[str, Any]:
    """Return what `--set` was given, `NAME=VALUE` each. Raises JaxpropError for anything else, and for tokens."""
    found = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise JaxpropError(f"--set: found {pair!r}, expected NAME=VALUE, such as max_queue_rows=1024")
        if name.replace("-", "_") in ("token", "admin_token"):
            raise JaxpropError(f"--set {name}: tokens do not belong on a command line; set JAXPROP_{name.upper()}")
        found[name.strip().replace("-", "_")] = value
    return found


def as_toml(values: dict[str, Any]) -> str:
    """Return settings as a file that --config takes; tokens are comments."""
    import json

    lines = []
    for name, value in values.items():
        if name in ("token", "admin_token"):
            lines.append(f"# {name}: {'set, not shown' if value else 'not set'}")
        else:
            lines.append(f"{name} = {json.dumps('off' if value is None else value, ensure_ascii=False)}")
    return "\n".join(lines)
