"""What a page can ask a panel: a handler, and the JSON that it takes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from jaxprop_explorer.sessions import Session


class Asked(BaseModel):
    """The JSON that a command takes; a field that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Command(NamedTuple):
    """`handler(session, asked)` answers with what becomes JSON; the session's lock is held.

    What a person did wrong is raised as `JaxpropError`, whose text the page shows.
    """

    handler: Callable[[Session, Any], dict[str, Any]]
    asked: type[Asked] = Asked
    locked: bool = True
