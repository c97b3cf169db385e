"""A training run that is watched while it runs: what `fit(..., explore=True)` starts.

The thread that trains hands over θ between chunks of steps and goes on; a thread of ours makes the frames. A page may
let training wait, and changes nothing of it.
"""

import sys
import threading
import time
from typing import Any

import jax

from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer
from jaxprop.train.progress import describe_row
from jaxprop.train.result import Row
from jaxprop.train.watching import Moment, Watched
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.settings import read
from jaxprop_explorer.opened import Given, Opened, introduce, problem
from jaxprop_explorer.sessions import Session

SECONDS_A_FRAME = 0.12  # at the least, from one frame to the next
PATIENCE = 1.0  # seconds for pages to take the last frame
FIXED = "this network is trained by a program of yours: it can be watched here, and held, but not changed"
ENDED = {
    "finished": "Training has finished",
    "early": "Training has stopped early, since the cost had not become better for a while,",
    "callback": "Training was stopped by on_epoch",
    "interrupted": "Training was interrupted",
    "failed": "Training ended with an error",
}


class Followed(Opened):
    """An experiment that is where a run is."""

    epochs = 0

    @property
    def epoch(self) -> int:
        """How many epochs are over."""
        return self.epochs

    def follow(self, moment: Moment) -> None:
        """Be where the run is."""
        self.params, self.step, self.epochs = moment.params, moment.steps, moment.epochs
        self.changed()
        self.pulled = moment.steps > 0


class Watch:
    """What pages see of one run: its latest moment, and whether it is held."""

    def __init__(self, watched: Watched, given: Given) -> None:
        self.watched, self.given = watched, given
        self.moment: Moment | None = None
        self.row: Row = {}
        self.sessions: list[Session] = []
        self.ended = False
        self._going, self._news, self._over = threading.Event(), threading.Event(), threading.Event()
        self._going.set()
        self._wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
        self._showing = threading.Thread(target=self._show_all, name="explorer frames", daemon=True)
        self._showing.start()

    # What a page asks.
    def begin(self, state: dict[str, Any]) -> Experiment:
        """Return what a new page works on."""
        moment = self.moment
        if moment is None:
            raise JaxpropError("the training has not begun yet: load the page again")
        return Followed(self.given._replace(params=moment.params), state)

    def opened(self, session: Session) -> None:
        """Show the run to a new page from now on."""
        introduce(session)
        session.memory["watch"] = self
        self._put(session)
        self.sessions = [one for one in self.sessions if not one.ended] + [session]

    def hold(self, held: bool) -> None:
        """Let training wait after the steps that it is taking, or go on."""
        (self._going.clear if held else self._going.set)()
        self._news.set()

    @property
    def held(self) -> bool:
        """Whether training waits."""
        return not self._going.is_set()

    # What the run tells.
    @property
    def looking(self) -> bool:
        """Whether a page is open."""
        return any(not session.ended for session in self.sessions)

    def report(self, moment: Moment) -> None:
        """Keep the moment for whoever looks; wait while training is held and a page is open that can let it go on."""
        self.moment = moment
        self._news.set()
        while self.looking and not self._going.wait(0.2):
            pass

    def epoch(self, row: Row) -> None:
        """Keep the epoch's row of the history."""
        self.row = row

    def close(self, moment: Moment, stopped: str) -> None:
        """Show the last moment, and say that training is over."""
        self.moment, self.ended = moment, True
        self._over.set()
        self._going.set()
        self._news.set()
        self._showing.join(5 * PATIENCE)
        why = f"{ENDED[stopped]} after {moment.steps:,} steps. This page keeps its last state."
        for session in self.sessions:
            session.end(why)
        until = time.monotonic() + PATIENCE
        while any(session.listeners for session in self.sessions) and time.monotonic() < until:
            time.sleep(0.01)

    # Our own.
    def _show_all(self) -> None:
        """Make frames as moments come, for every open page that has taken its last one."""
        with jax.enable_x64(self._wide):  # a thread does not see the setting of the one that started it
            last = False
            while not last:
                self._news.wait()
                self._news.clear()
                last, began = self.ended, time.monotonic()
                for session in self.sessions:
                    if not session.ended and (last or "frame" not in session.events):
                        with session.lock:
                            self._put(session)
                            session.publish("frame", session.frame())
                if not last:
                    self._over.wait(SECONDS_A_FRAME - (time.monotonic() - began))

    def _put(self, session: Session) -> None:
        """Let a page's experiment be where the run is."""
        moment, seen = self.moment, session.experiment
        if moment is not None and isinstance(seen, Followed) and (seen.params is not moment.params or not seen.step):
            seen.follow(moment)
        session.told["training"] = self.told()

    def told(self) -> dict[str, Any]:
        """Return what a page says of the run."""
        moment, about = self.moment, self.watched
        steps = 0 if moment is None else moment.steps
        epochs = 0 if moment is None else moment.epochs
        return {
            "steps": steps, "epochs": epochs, "of_epochs": about.epochs, "held": self.held, "ended": self.ended,
            "row": describe_row(self.row) if self.row else None,
        }  # fmt: skip


class Served(Watch):
    """A watch with its page on this machine: what `fit` reports to."""

    def __init__(self, watched: Watched, given: Given, port: int) -> None:
        from jaxprop_explorer.application import application
        from jaxprop_explorer.listening import address, bound, server

        super().__init__(watched, given)
        self._listening = bound(port, or_any=True)
        self._listening.listen()
        self.address = address(self._listening)
        self._server = server(application(self.begin, opened=self.opened))
        self._serving = threading.Thread(
            target=self._server.run, args=([self._listening],), name="explorer", daemon=True
        )
        self._serving.start()

    def close(self, moment: Moment, stopped: str) -> None:
        """Show the last moment, and end the server."""
        super().close(moment, stopped)
        self._server.should_exit = True
        self._serving.join(5 * PATIENCE)
        self._listening.close()


def start(watched: Watched) -> Served:
    """Serve the page of a run until it ends, and print its address; JaxpropError says why it cannot be shown."""
    try:
        from jaxprop_explorer.listening import PORT
    except ImportError as error:
        raise JaxpropError(
            f'fit: explore=True needs the extra `explore` ({error.name} is missing): pip install ".[explore]"'
        ) from None
    served = Served(watched, given(watched), PORT)
    print(f"jaxprop: watch the training at {served.address}", file=sys.stderr, flush=True)
    return served


def given(watched: Watched) -> Given:
    """Return the network of a run with the rows that it is seen on."""
    recipe, rows, held = watched.recipe, watched.data, watched.validation
    if not isinstance(recipe.net, Layer):
        raise JaxpropError("fit: explore=True shows a network layer by layer, found a plain function f(x, params)")
    if len(jax.tree.leaves(rows.x)) != 1 or not hasattr(rows.x, "shape"):
        raise JaxpropError("fit: explore=True shows networks of one input array, found several arrays as x")
    notes = ["Rows: those it is trained on."]
    if rows.mask is not None:
        notes.append("The mask of the rows is left out here, so that padding is seen like anything else.")
    shown = problem(rows.x, rows.targets, None, (), None if held is None else (held.x, held.targets))
    settings = read({"batch_size": watched.batch_size})
    return Given("The network that is trained", recipe.net, recipe.cost, shown, None, tuple(notes), settings, FIXED)
