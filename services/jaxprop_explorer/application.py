"""The web application: the page's files, its sessions, their commands and their events.

It binds no address and works under any prefix, so that the model server can mount it.
"""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxprop.errors import JaxpropError
from jaxprop_explorer.experiments import wanted
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.settings import read
from jaxprop_explorer.panels import PANELS
from jaxprop_explorer.sessions import Session, SessionEndedError, Sessions

T = TypeVar("T")
PAGE = Path(__file__).parent / "page"
LARGEST_BODY = 8_000_000  # bytes: room for a table of one's own
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Begin = Callable[[dict[str, Any]], Experiment]
"""Makes the experiment of a new page from the state in its address."""


@dataclass(frozen=True)
class Place:
    """Where the application answers, and what it may take there.

    hosts: the names under which it may be asked; if empty, whoever serves it has checked Host and Origin already.
    pages: how many may be open at once.    threads: how many answers may be computed at once.
    niceness: how far these threads stand back behind others.    over: whether all is to end now.
    panels: those whose commands are answered; None for all.
    """

    hosts: frozenset[str] = frozenset(("127.0.0.1", "localhost"))
    pages: int = 24
    threads: int = 8
    niceness: int = 0
    over: Callable[[], bool] = lambda: False
    panels: frozenset[str] | None = None


HERE = Place()


def of_state(state: dict[str, Any]) -> Experiment:
    """Return the experiment that the state in a page's address describes."""
    made = Experiment.of(read(state.get("settings", {})), state.get("history", ()), state.get("steps", 0))
    if state.get("example"):
        made.look(state["example"])
    return made


def application(
    begin: Begin = of_state, place: Place = HERE, opened: Callable[[Session], None] = lambda session: None
) -> ASGIApp:
    """Return the application; `opened` is told of every new session."""
    sessions = Sessions(place.pages)
    pool = ThreadPoolExecutor(place.threads, "explorer", stand_back, (place.niceness,))

    async def computed(work: Callable[[], T], request: Request) -> T:
        left = threading.Event()
        watching = asyncio.create_task(_leaving(request, left))
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, wanted.unless, left, work)
        finally:
            watching.cancel()

    async def open_session(request: Request) -> Response:
        state = await _body(request)
        sessions.check_room()
        experiment = await computed(lambda: begin(state), request)
        session = Session(experiment, asyncio.get_running_loop())
        sessions.open(session)
        opened(session)
        shown = await computed(session.frame, request)
        pool.submit(experiment.prepare)
        return JSONResponse({"session": session.id, "frame": shown})

    async def command(request: Request) -> Response:
        session = sessions[request.path_params["session"]]
        panel, name = request.path_params["panel"], request.path_params["command"]
        found = PANELS.get(panel, {}).get(name)
        if found is None or (place.panels is not None and panel not in place.panels):
            raise JaxpropError(f"there is no command {panel}/{name}")
        try:
            asked = found.asked(**await _body(request))
        except ValidationError as error:
            raise JaxpropError(_told(error)) from None

        def answer() -> dict[str, Any]:
            with session.lock if found.locked else contextlib.nullcontext():
                return found.handler(session, asked)

        return JSONResponse(await computed(answer, request))

    async def events(request: Request) -> Response:
        session = sessions[request.path_params["session"]]

        async def lines() -> AsyncIterator[str]:
            session.listeners += 1
            session.rests_since = None
            try:
                yield ": welcome\n\n"
                async for event in session.listen():
                    yield ": alive\n\n" if event is None else f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n"
                    if place.over():
                        break
            finally:
                session.listeners -= 1
                sessions.end_if_left(session)

        return StreamingResponse(lines(), media_type="text/event-stream")

    async def rest(request: Request) -> Response:
        session, asked = sessions[request.path_params["session"]], await _body(request)
        sessions.rest(session, asked.get("resting") is True)
        return JSONResponse({})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        sessions.end()
        pool.shutdown(wait=False, cancel_futures=True)

    routes = [
        Route("/api/sessions", open_session, methods=["POST"]),
        Route("/api/sessions/{session}/events", events),
        Route("/api/sessions/{session}/rest", rest, methods=["POST"]),
        Route("/api/sessions/{session}/{panel}/{command}", command, methods=["POST"]),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    return Starlette(
        routes=routes, lifespan=lifespan, middleware=[Middleware(Guard, hosts=place.hosts)],
        exception_handlers={JaxpropError: _refused, Exception: _unforeseen},
    )  # fmt: skip


def pages(place: Place = HERE) -> ASGIApp:
    """Return the application's files alone: no question is answered."""
    return Guard(Starlette(routes=[Mount("/", StaticFiles(directory=PAGE, html=True))]), place.hosts)


class Guard:
    """Answers only under its own names and to its own pages, and sends the headers that keep a page to itself."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a foreign Host or Origin; else pass on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = dict(message["headers"])
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in given]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        request = Request(scope)
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self.hosts and name not in self.hosts:
            refused = JSONResponse({"error": f"this server does not answer for the host {name[:100]!r}"}, 403)
            return await refused(scope, receive, with_headers)
        if self.hosts and origin is not None and origin.partition("://")[2] != host:
            refused = JSONResponse({"error": "this server answers its own pages only"}, 403)
            return await refused(scope, receive, with_headers)
        await self.app(scope, receive, with_headers)


def stand_back(niceness: int) -> None:
    """Lower the priority of this thread, where threads have one."""
    if niceness:
        with contextlib.suppress(AttributeError, OSError):  # only Linux has priorities of threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


async def _body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request; raise `JaxpropError` for anything else."""
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > LARGEST_BODY:
            raise JaxpropError(f"this is larger than {LARGEST_BODY // 1_000_000} MB, the most that a page may send")
    try:
        found = json.loads(read or b"{}")
    except (ValueError, RecursionError) as error:
        raise JaxpropError(f"expected JSON, found something else: {error}") from None
    if not isinstance(found, dict):
        raise JaxpropError(f"expected a JSON object, found {type(found).__name__}")
    return found


async def _leaving(request: Request, left: threading.Event) -> None:
    """Set `left` when whoever sent a request, whose body was read, no longer waits for the answer."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    left.set()


async def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 410 if isinstance(error, SessionEndedError) else 400)


async def _unforeseen(_: Request, error: Exception) -> Response:
    """Answer for an error of ours; whoever serves the application writes its traceback down."""
    return JSONResponse({"error": f"the explorer failed: {type(error).__name__}: {error}"}, 500)


def _told(error: ValidationError) -> str:
    """Return what is wrong with what was asked, in words."""
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
