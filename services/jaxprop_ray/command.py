"""`jaxprop ray PATH...`: the models behind several replicas, on a Ray started here.

This module is imported whenever `jaxprop` runs, also without the `ray` extra: `command` imports the rest.
"""

from pathlib import Path
from typing import Annotated

import typer

from jaxprop.errors import JaxpropError


def command(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="What `jaxprop serve` takes; by default `runs`.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="How many replicas (1).")] = None,
    min_replicas: Annotated[int | None, typer.Option(min=1, help="The fewest, if Ray is to choose (1).")] = None,
    max_replicas: Annotated[int | None, typer.Option(min=1, help="The most, if Ray is to choose.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to serve on (127.0.0.1); others need tokens.")] = None,
    port: Annotated[str | None, typer.Option(help="HTTP port (8000); 0 is any free one.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings, as for `jaxprop serve`.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated.")
    ] = None,
) -> None:
    """Serve trained models over HTTP from several replicas, on a Ray of this machine (Ray Serve).

    Example: `jaxprop ray runs/digits --replicas 2`. On a cluster: `serve run jaxprop_ray:build paths=/models`.
    """
    try:
        import ray.serve  # noqa: F401

        from jaxprop_ray import local_cluster
        from jaxprop_ray.application import scaling
        from jaxprop_serve.command import check_places, pairs
        from jaxprop_serve.settings import read
    except ImportError as error:
        raise JaxpropError(
            f'jaxprop ray needs the extra `ray` ({error.name} is missing): pip install ".[ray]"'
        ) from None
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = read(given | pairs(setting or []), config)
    options = scaling(settings.max_batch, replicas, min_replicas, max_replicas)
    places = paths or ["runs"]
    check_places(places)
    code = local_cluster.run(settings, places, options)
    if code:
        raise SystemExit(code)
