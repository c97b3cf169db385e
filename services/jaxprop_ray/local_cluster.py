"""A Ray on this machine for as long as `jaxprop ray` runs: start it, deploy, wait for a signal, drain, stop it.

Ray is imported where it is used: importing this module costs nothing, and works without the `ray` extra.
"""

import contextlib
import logging
import os
import re
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from jaxprop.errors import JaxpropError
from jaxprop_ray.application import NAME, application
from jaxprop_serve.assembly import assemble
from jaxprop_serve.settings import Settings
from jaxprop_serve.sockets import bind, url


class Terminated(BaseException):
    """SIGTERM came."""


def run(settings: Settings, places: Sequence[str], options: dict[str, Any]) -> int:
    """Serve the models at these places until a signal comes, and return the exit code. `options`: see `application`."""
    from ray import serve

    names = assemble(settings, places)[0].store.names()
    target = application(places, settings, **options)
    with bind(settings.host, settings.port) as free:  # Ray's own complaint would come late, from another process
        port = free.getsockname()[1]
    try:
        with _ray(options):
            _deploy(target, settings, port)
            try:
                for name in names:
                    print(f"{name}  {url(settings, port)}/v2/models/{name}/infer")
                print("Logs are in Ray's folder, session_latest/logs. Ctrl-C stops all replicas.", flush=True)
                while True:
                    signal.pause()
            finally:
                serve.delete(NAME)  # once the requests under way are answered
    except Terminated:
        return 0
    except KeyboardInterrupt:
        return 130


@contextlib.contextmanager
def _ray(options: dict[str, Any]) -> Iterator[None]:
    """Run a Ray with nothing but what serving needs; on leaving, all its processes are gone."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        cpus = int(ray.cluster_resources().get("CPU", 0))
        least = options.get("num_replicas") or options["autoscaling_config"]["min_replicas"]
        if least > cpus:
            raise JaxpropError(
                f"{least} replicas need as many CPUs, this machine has {cpus}: ask for fewer, or a cluster"
            )
        yield
    finally:
        ray.shutdown()


def _deploy(target: Any, settings: Settings, port: int) -> None:
    """Return when the replicas answer; raise JaxpropError with a replica's own reason if they do not."""
    from ray import serve

    http = {"host": settings.host, "port": port, "keep_alive_timeout_s": int(settings.idle_timeout_s)}
    if settings.tls_cert:
        http |= {"ssl_certfile": str(settings.tls_cert), "ssl_keyfile": str(settings.tls_key)}
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    serve.start(http_options=http, logging_config=quiet)
    try:
        serve.run(target, name=NAME, logging_config=quiet)
    except RuntimeError as error:
        message = serve.status().applications[NAME].deployments[NAME].message
        reasons = re.findall(r"^jaxprop\.errors\.\w+: (.+)", message, re.MULTILINE)
        raise JaxpropError(reasons[-1] if reasons else f"{error} {message[-2000:]}") from None


def _terminated(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # said twice, it stops no faster
    raise Terminated
