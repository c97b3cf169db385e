"""The network panel: train, step, stop, edit a weight, look at another example."""

from typing import Any

from pydantic import Field

from jaxprop_explorer.panels.command import Asked, Command
from jaxprop_explorer.sessions import Session


class Steps(Asked):
    """How many steps of the optimizer."""

    steps: int = Field(1, ge=1, le=10_000)


class Edit(Asked):
    """One number of θ, and what it shall be."""

    path: str
    index: tuple[int, ...]
    value: float


def step(session: Session, asked: Steps) -> dict[str, Any]:
    """Take some steps."""
    session.experiment.advance(asked.steps)
    return _shown(session)


def play(session: Session, asked: Asked) -> dict[str, Any]:
    """Train until told to stop."""

    def work(seconds: float) -> bool:
        session.experiment.advance(1)
        return True

    session.play(work)
    return {}


def pause(session: Session, asked: Asked) -> dict[str, Any]:
    """Stop training."""
    session.pause()
    return _shown(session)


def edit(session: Session, asked: Edit) -> dict[str, Any]:
    """Set one number of θ."""
    session.experiment.edit(asked.path, asked.index, asked.value)
    return _shown(session)


def backward(session: Session, asked: Asked) -> dict[str, Any]:
    """Run a backward pass for the example in view."""
    session.experiment.pulled = True
    return _shown(session)


def _shown(session: Session) -> dict[str, Any]:
    shown = session.frame()
    session.publish("frame", shown)
    return shown


COMMANDS = {
    "step": Command(step, Steps),
    "play": Command(play),
    "pause": Command(pause, locked=False),  # it waits for the player, which needs the lock
    "edit": Command(edit, Edit),
    "backward": Command(backward),
}
