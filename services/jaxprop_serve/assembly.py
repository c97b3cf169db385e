"""From settings and places to running servers: what is loaded through which plugins, in one process or in several."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection

import jax
import uvicorn

from jaxprop.errors import JaxpropError
from jaxprop_serve.certificates import certificate_of
from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1.routes import Mount, Route
from jaxprop_serve.jobs import Parent
from jaxprop_serve.models.lifecycle import Known, Models, Served
from jaxprop_serve.plugins import find, made
from jaxprop_serve.protocol.by_column import example_row
from jaxprop_serve.protocol.tensors import TensorSpec
from jaxprop_serve.seen.logs import Log
from jaxprop_serve.server import Server
from jaxprop_serve.settings import Settings
from jaxprop_serve.sockets import TakenError, bind, bound_to_file, check_file, url
from jaxprop_serve.systemd import ended_by_hangup
from jaxprop_serve.why.explain import Explain
from jaxprop_serve.workers import Supervisor

MOST_NAMES = 20  # of columns, in the lines for people


def run(settings: Settings, places: Sequence[str]) -> int:
    """Serve the models at these places until a signal comes, and return the exit code."""
    signal.signal(signal.SIGHUP, ended_by_hangup)
    if settings.workers == 1:
        with listening_on(settings) as listening:
            server = Server(settings, *assemble(settings, places))
            return _serve(server, listening, lambda server: say(about(server)))
    with contextlib.ExitStack() as stack:
        # The parent's sockets never listen: they keep the ports, which may have been "any", while workers come and go.
        shared = None
        for name in ("port", "grpc_port"):
            if name == "port" and settings.unix_socket is not None:
                shared = stack.enter_context(bound_to_file(settings.unix_socket))
            elif (port := getattr(settings, name)) is not None:
                flag = "--" + name.replace("_", "-")
                kept = stack.enter_context(bind(settings.host, port, shared=True, flag=flag))
                settings = settings.model_copy(update={name: kept.getsockname()[1]})
        log = Log(settings.log_level, worker="parent")
        stack.callback(log.close)
        patience = settings.drain_timeout_s + 5
        release = shared.close if shared is not None else lambda: None
        arguments = (settings, list(places), shared)
        return Supervisor(worker, arguments, settings.workers, say, log, patience, release).run()


def worker(
    settings: Settings,
    places: Sequence[str],
    shared: socket.socket | None,
    number: int,
    known: Known | None,
    link: Connection,
) -> int:
    """Run one of several processes. What `about` says, or why it cannot serve, goes to the parent.

    Args:
        settings: all of them.
        places: where the models are.
        shared: the Unix socket, if there is one: it cannot be bound twice, as a port can.
        number: this worker's.
        known: what it is to load, if it replaces another.
        link: to the parent.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent's to understand, as is the service manager
    os.environ.pop("NOTIFY_SOCKET", None)
    parent = Parent(link)
    try:
        settings = settings.renewed()
        with shared or bind(settings.host, settings.port, shared=True) as listening:
            server = Server(settings, *assemble(settings, places), number, parent, known)
            return _serve(server, listening, lambda server: parent.ready(about(server)))
    except JaxpropError as error:
        parent.failed(error)
        return 1


def _serve(server: Server, listening: socket.socket, ready: Callable[[Server], None]) -> int:
    # A forward of a few microseconds is not worth a hand-over to XLA's thread and back, which costs as much again.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    loop_factory = uvicorn.Config(server.app, log_config=None).get_loop_factory()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(server.run(listening, ready))
    except ServeError as error:
        raise JaxpropError(error.text) from None


def listening_on(settings: Settings) -> contextlib.AbstractContextManager[socket.socket]:
    """Return the bound socket of the HTTP door, for a `with`."""
    if settings.unix_socket is not None:
        return bound_to_file(settings.unix_socket)
    return bind(settings.host, settings.port)


def check(settings: Settings, places: Sequence[str]) -> list[str]:
    """Check all that can be checked before a start without loading a model. JaxpropError says what would prevent one.

    Return what else is to be known: a port that a server has now may well be that of the one which runs.
    """
    certificate = certificate_of(settings)
    notes = [certificate.warning()] if certificate and certificate.warning() else []
    for name in ("unix_socket" if settings.unix_socket else "port", "grpc_port"):
        try:
            if name == "unix_socket" and settings.unix_socket is not None:
                check_file(settings.unix_socket)
            elif (port := getattr(settings, name)) is not None:
                bind(settings.host, port, flag="--" + name.replace("_", "-")).close()
        except TakenError as error:
            notes.append(f"{error} (now, at least)")
    if settings.tracing:
        from jaxprop_serve.seen.traces import Traces

        Traces().close()
    models, _ = assemble(settings, places)
    models.catalogue.check()
    return notes


def assemble(settings: Settings, places: Sequence[str]) -> tuple[Models, list[Route | Mount]]:
    """Return the models at these places, not yet started, and all routes beside the protocol's, from the allowed
    plugins."""
    if len(settings.stores) != 1:
        raise JaxpropError(f"setting stores: models come from one store, found {', '.join(settings.stores) or 'none'}")
    ((name, store),) = find("jaxprop.stores", settings.stores).items()
    runtimes = list(find("jaxprop.runtimes", settings.runtimes).values())
    models = Models(made("jaxprop.stores", name, store, places), runtimes, settings)
    routes: list[Route | Mount] = [*Explain(find("jaxprop.explainers", settings.explainers), settings).routes()]
    for name, service in find("jaxprop.services", settings.services).items():
        routes += made("jaxprop.services", name, lambda service=service: list(service(models, settings)))
    return models, routes


def say(lines: list[str]) -> None:
    """Print the lines. A full disk or a reader that has gone does not stop a server."""
    try:
        print("\n".join(lines), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else it fails once more on exit


def about(server: Server) -> list[str]:
    """Return a few lines for people: each model with its address and a request to try."""
    base = url(server.settings, server.port)
    lines = []
    for entry in server.models.index():
        if entry["state"] != "READY":
            continue
        with server.models.pin(entry["name"], entry["version"]) as served:
            tensors = [_tensors(served.signature.inputs), _tensors(served.signature.outputs)]
            lines.append(f"{served.name} (version {served.version})  {' → '.join(tensors)}")
            lines.append(f"  {base}/v2/models/{served.name}/infer")
            if served.signature.table is not None:
                lines.append(f"  columns: {_few(served.signature.table.names)}")
            lines.append(f"  try: {example(served, base, server.settings)}")
    if (path := server.settings.unix_socket) is not None:
        lines.append(f"HTTP on the Unix socket {path}")
    if server.grpc_port is not None:
        lines.append(
            f"gRPC on {url(server.settings.model_copy(update={'unix_socket': None}), server.grpc_port).partition('://')[2]}"
        )
    return [*lines, "Ctrl-C stops the server."]


def example(served: Served, base: str, settings: Settings) -> str:
    """Return a command line that asks the model for something."""
    spec = served.signature.inputs[0]
    zero = {"BOOL": False, "BYTES": ""}.get(spec.datatype, 0 if "INT" in spec.datatype else 0.0)
    count = 1
    for size in spec.shape[1:]:
        count *= size
    token = f"$(cat {shlex.quote(str(settings.token_file))})" if settings.token_file else "$JAXPROP_TOKEN"
    options = f' -H "Authorization: Bearer {token}"' if settings.token else ""
    if settings.unix_socket is not None:
        options += f" --unix-socket {shlex.quote(str(settings.unix_socket))}"
    elif settings.tls_cert is not None:
        options += f" --cacert {shlex.quote(str(settings.tls_cert))}"
    target = f"{base}/predict/{served.name}"
    if len(served.signature.inputs) != 1:
        return f"curl{options} {base}/v2/models/{served.name}"
    table = served.signature.table
    if table is not None and len(table.names) <= MOST_NAMES:
        rows = json.dumps({"rows": [example_row(table)]}, ensure_ascii=False)
        return f"curl{options} {target} -d {shlex.quote(rows)}"
    if count <= 8:
        return f"curl{options} {target} -d '{json.dumps({'rows': [[zero] * count]})}'"
    python = f"import json; print(json.dumps([[{zero!r}] * {count}]))".replace('"', "'")
    return f'python3 -c "{python}" | curl{options} {target} -d @-'


def _few(names: Sequence[str]) -> str:
    """Return the names, or the first three of very many.

    >>> _few(["age", "sex"]), _few([f"pixel_{i}" for i in range(64)])
    ('age, sex', 'pixel_0, pixel_1, pixel_2 and 61 more')
    """
    few = len(names) <= MOST_NAMES
    return ", ".join(names) if few else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _tensors(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype} [{','.join(map(str, spec.shape))}]" for spec in specs)
