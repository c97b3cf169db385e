"""The explorer within the model server: `jaxprop serve runs --set services=explorer`, at /explorer/.

It opens the models that are served, by name, and changes none: nothing is trained there. The page's files are open to
everybody, as they tell nothing; its questions need the server's token, which the page asks for. What it computes stands
back behind the server's answers: one question at a time, in a thread of low priority.
"""

from typing import Any

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from jaxprop.errors import JaxpropError
from jaxprop_explorer.application import Place, application, pages
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.opened import Given, Opened, introduce, of_served
from jaxprop_explorer.sessions import Session
from jaxprop_serve.api import Models, Mount, ServeError, Settings

PREFIX, API = "/explorer", "/explorer/api"
PANELS = ("network", "chain_rule", "rules", "model")  # those that show a network, and train or invent none
PAGES = 4  # that may be open at once
NICENESS = 10


def service(models: Models, settings: Settings) -> list[Mount]:
    """Return what the server answers under /explorer/."""
    if settings.workers > 1:
        raise JaxpropError(
            f"services: the explorer keeps what a page works on in one process, found workers = {settings.workers}: "
            "serve with one worker, or without the explorer"
        )
    place = Place(
        frozenset(), PAGES, threads=1, niceness=NICENESS, over=lambda: not models.ready(), panels=frozenset(PANELS)
    )
    shelf = Shelf(models)
    return [
        Mount(API, rooted(application(shelf.begin, place, shelf.opened))),
        Mount(PREFIX, with_slash(pages(place)), "open"),
    ]


class Shelf:
    """The served models, as pages open them."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._given: dict[str, tuple[Any, Given]] = {}

    def names(self) -> list[str]:
        """Return the names of the models that are ready and have layers."""
        ready = sorted({entry["name"] for entry in self.models.index() if entry["state"] == "READY"})
        return [name for name in ready if self.models.pin(name).loaded.net is not None]

    def begin(self, state: dict[str, Any]) -> Experiment:
        """Return the experiment of the model that the page's address names, by default of the first."""
        name = state.get("served") or next(iter(self.names()), None)
        if not isinstance(name, str):
            raise JaxpropError("no model that is served here has layers to open")
        try:
            served = self.models.pin(name)
        except ServeError as error:
            raise JaxpropError(error.text) from None
        kept = self._given.get(name)
        if kept is None or kept[0] is not served.loaded:
            kept = self._given[name] = served.loaded, of_served(name, served.loaded)
        return Opened(kept[1], state)

    def opened(self, session: Session) -> None:
        """Tell a page which model it sees, and which others there are."""
        introduce(session)
        session.told["opened"]["others"] = self.names()
        session.told["panels"] = list(PANELS)


def rooted(app: ASGIApp) -> Any:
    """Return the application for a mount of its questions alone, whose paths it knows from the root of its page."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": scope["root_path"].removesuffix("/api")}, receive, send)

    return asked


def with_slash(app: ASGIApp) -> Any:
    """Return the application behind an address that ends with a slash, to which its files' addresses are relative."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        bare = scope["path"] == scope["root_path"]
        await (RedirectResponse(PREFIX.strip("/") + "/") if bare else app)(scope, receive, send)

    return asked
