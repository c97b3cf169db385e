"""A Ray Serve application whose replicas are whole servers: the same models, limits, tokens and answers.

Ray's proxies take the connections and choose a replica; what a replica does with a request is `jaxprop_serve`'s ASGI
application, unchanged.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprop.errors import JaxpropError

NAME = "jaxprop"
ASGI = Callable[..., Awaitable[None]]


class Replica:
    """One replica: it takes requests once every model is loaded and warm, and lets go of the models when it ends.

    Args:
        settings: a `jaxprop_serve` Settings. What belongs to connections (timeouts of headers, TLS) is the proxies'.
        places: where the models are, for the store.
    """

    async def __init__(self, settings: Any, places: Sequence[str]):
        from ray import serve

        from jaxprop_serve.assembly import assemble
        from jaxprop_serve.errors import ServeError
        from jaxprop_serve.http1.routes import Mount
        from jaxprop_serve.server import Server

        models, routes = assemble(settings, places)
        refused = Mount("/v2/repository/models", _refuse_load, "admin")
        rank = serve.get_replica_context().rank.rank
        self.server = Server(settings, models, [refused, *routes], worker=rank)
        try:
            await models.start()
        except ServeError as error:  # it cannot be pickled on its way to whoever deploys
            raise JaxpropError(error.text) from None

    def __serve_build_asgi_app__(self) -> Any:
        return here_only(self.server.app) if self.server.app.access.loopback else self.server.app

    def check_health(self) -> None:
        """Raise if a model is not ready; Ray replaces a replica for which this raises."""
        if not self.server.models.ready():
            raise JaxpropError("the models of this replica are not ready")

    async def __del__(self) -> None:
        """Let go of the models; Ray calls it once the requests under way are answered, or `drain_timeout_s` is over."""
        if hasattr(self, "server"):
            await self.server.models.stop()
            if self.server.traces is not None:
                self.server.traces.close()
            self.server.log.close()


async def _refuse_load(*_: object) -> None:
    from jaxprop_serve.errors import ServeError

    raise ServeError(501, "load and unload would reach one replica of several: deploy again, and all load anew")


def here_only(app: ASGI) -> ASGI:
    """`app` for this machine's clients alone: which addresses the proxies are bound to is Ray's setting, not ours.

    Without it, proxies on 0.0.0.0 would show to the network a server whose settings say 127.0.0.1, without a token.
    """
    from jaxprop_serve.settings import is_loopback

    text = b'{"error":"this server answers its own machine only: deploy it with host=0.0.0.0 and tokens"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]

    async def guarded(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "http" and not is_loopback((scope.get("client") or ("",))[0]):
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": text})
        else:
            await app(scope, receive, send)

    return guarded


def application(places: Sequence[str], settings: Any = None, **options: Any) -> Any:
    """The application that `ray.serve.run` takes.

    Args:
        places: what `jaxprop serve` takes; folders that every node finds under the same path.
        settings: a Settings; by default what the environment says (JAXPROP_...).
        options: of a Ray Serve deployment: `num_replicas`, `autoscaling_config`, `ray_actor_options`, ...
    """
    from ray import serve

    from jaxprop_serve.settings import read

    settings = settings or read({})
    ours = {
        "max_ongoing_requests": settings.max_connections,  # with Ray's 5 there would be nothing to batch
        "graceful_shutdown_timeout_s": settings.drain_timeout_s,
        "max_constructor_retry_count": 2,  # what cannot be loaded twice cannot be loaded
    }
    deployment = serve.deployment(serve.ingress()(Replica))
    return deployment.options(name=NAME, **(ours | options)).bind(settings, [from_root(place) for place in places])


def build(arguments: Mapping[str, str]) -> Any:
    """The application from words: `serve run jaxprop_ray:build paths=runs/digits min_replicas=1 max_replicas=8`.

    `paths` are separated by commas; `replicas` is a number, `min_replicas` and `max_replicas` let Ray choose; any other
    name is a setting.

    Raises JaxpropError for a name that is no setting and a value that is none.
    """
    from jaxprop_serve.settings import read

    given = dict(arguments)
    places = given.pop("paths", "runs").split(",")
    counts = {name: _count(name, given.pop(name)) for name in COUNTS if name in given}
    settings = read(given)
    return application(places, settings, **scaling(settings.max_batch, **counts))


COUNTS = ("replicas", "min_replicas", "max_replicas")


def scaling(
    max_batch: int, replicas: int | None = None, min_replicas: int | None = None, max_replicas: int | None = None
) -> dict[str, Any]:
    """Options of a deployment: so many replicas, or as many, between two numbers, as have a full batch under way.

    >>> scaling(64, replicas=2)
    {'num_replicas': 2}
    >>> scaling(64, max_replicas=8)["autoscaling_config"]
    {'min_replicas': 1, 'max_replicas': 8, 'target_ongoing_requests': 64}
    """
    if min_replicas is None and max_replicas is None:
        return {"num_replicas": replicas or 1}
    if replicas is not None:
        raise JaxpropError(
            "replicas is one number; min_replicas and max_replicas let Ray choose: give one or the other"
        )
    least, most = min_replicas or 1, max_replicas or min_replicas or 1
    if most < least:
        raise JaxpropError(f"found min_replicas {least} and max_replicas {most}, expected the first to be no larger")
    counts = {"min_replicas": least, "max_replicas": most}
    return {"autoscaling_config": {**counts, "target_ongoing_requests": max_batch}}


def _count(name: str, text: str) -> int:
    if not str(text).isdecimal() or int(text) < 1:
        raise JaxpropError(f"{name}: found {text!r}, expected a whole number ≥ 1")
    return int(text)


def from_root(place: str) -> str:
    """Return a place that other processes find too: `a=runs/a` and `runs/a` with the folder's full path.

    Links are not followed: each replica does that when it loads.
    """
    name, equals, folder = place.partition("=")
    if equals and not Path(place).exists():
        return f"{name}={Path(folder).absolute()}"
    return str(Path(place).absolute())
