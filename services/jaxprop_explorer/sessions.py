"""One tab of a browser is one session: an experiment, a lock, and the events that its page is to hear of.

A session lives as long as its page listens. A page that is slow gets the latest frame, never a queue of old ones.
A page out of sight may rest instead: a browser keeps only six connections to a server, for all of its tabs.
"""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from jaxprop.errors import JaxpropError
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.frame import frame

GRACE = 10.0  # seconds for a page to come back, as it does when it is loaded again
REST = 3600.0  # seconds that a session is kept whose page is out of sight
HEARTBEAT = 2.0  # seconds between signs of life, by which a page that has gone is noticed
FRAMES_A_SECOND = 20
UNHEARD = 1.0  # seconds that training goes on though no page listens
BREATH = 0.002  # seconds between two pieces of work, in which a command gets the lock


class SessionEndedError(JaxpropError):
    """A page asks in the name of a session that is no longer there."""


class Session:
    """What one page works on. `memory` is what its panels keep, each under its own name."""

    def __init__(self, experiment: Experiment, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.id = secrets.token_urlsafe(16)
        self.experiment = experiment
        self.lock = threading.RLock()
        self.memory: dict[str, Any] = {}
        self.told: dict[str, Any] = {}  # what else every frame says
        self.events: dict[str, dict[str, Any]] = {}  # the latest of each kind that the page has not taken yet
        self.player: threading.Thread | None = None
        self.playing = self.ended = False
        self.listeners = 0
        self.rests_since: float | None = None  # as its page says when it lets go of its connection
        self._loop, self._news = loop, asyncio.Event()

    def frame(self) -> dict[str, Any]:
        """Return what the page draws now."""
        with self.lock:
            return frame(self.experiment) | {"playing": self.playing} | self.told

    def publish(self, kind: str, event: dict[str, Any]) -> None:
        """Let the page know, from any thread."""
        self.events[kind] = event
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
                self._loop.call_soon_threadsafe(self._news.set)

    def play(self, work: Callable[[float], bool]) -> None:
        """Run `work(seconds)` again and again in a thread, a frame after each, until it answers False or `pause`."""
        if self.playing or self.ended:
            return
        self.playing = True
        self.player = threading.Thread(target=self._play, args=(work,), daemon=True)
        self.player.start()

    def _play(self, work: Callable[[float], bool]) -> None:
        last_heard = time.monotonic()
        try:
            while self.playing:
                began = time.monotonic()
                with self.lock:
                    if not (self.playing and work(1 / FRAMES_A_SECOND)):
                        self.playing = False  # set here only to False: `pause` may have been asked for meanwhile
                if self.listeners or self._loop is None:
                    last_heard = began
                elif began - last_heard > UNHEARD:
                    self.playing = False  # its page has gone
                if "frame" not in self.events:  # else the page has not taken the last one yet
                    self.publish("frame", self.frame())
                time.sleep(max(BREATH, 1 / FRAMES_A_SECOND - (time.monotonic() - began)))
            self.publish("frame", self.frame())
        except Exception as error:
            self.playing = False
            self.publish("notice", {"error": f"training stopped: {error}"})

    def pause(self) -> None:
        """Stop playing, and wait until the last piece of work is done."""
        self.playing = False
        if self.player is not None and self.player is not threading.current_thread():
            self.player.join()

    def end(self, why: str | None = None) -> None:
        """Stop all work of this session, and tell its page why."""
        self.ended, self.playing = True, False
        self.publish("end", {"text": why})

    async def listen(self) -> AsyncIterator[tuple[str, dict[str, Any]] | None]:
        """Yield events as (kind, event), and None now and then as a sign of life."""
        while True:
            try:
                await asyncio.wait_for(self._news.wait(), HEARTBEAT)
            except TimeoutError:
                yield None
                continue
            self._news.clear()
            for kind in list(self.events):
                yield kind, self.events.pop(kind)
                if kind == "end":
                    return


class Sessions:
    """The sessions of one server, by id."""

    def __init__(self, most: int = 24) -> None:
        self.most, self._all = most, dict[str, Session]()

    def check_room(self) -> None:
        """Raise `JaxpropError` if as many pages are open as may be; one that rests gives way."""
        resting = {one.rests_since: one for one in self._all.values() if one.rests_since and not one.listeners}
        if resting and len(self._all) >= self.most:
            self._end(resting[min(resting)])
        if len(self._all) >= self.most:
            raise JaxpropError(f"{self.most} pages are open on this server already; close one of them and try again")

    def open(self, session: Session) -> None:
        """Take in a new session; it ends unless a page listens within the time of grace."""
        self.check_room()
        self._all[session.id] = session
        self.end_if_left(session)

    def __getitem__(self, name: str) -> Session:
        if name not in self._all:
            raise SessionEndedError("this page's session has ended; load the page again")
        return self._all[name]

    def end_if_left(self, session: Session) -> None:
        """End the session after the time of grace, unless somebody listens by then."""
        asyncio.get_running_loop().call_later(GRACE, self._end_if_left, session)

    def rest(self, session: Session, resting: bool) -> None:
        """Keep a session for long though its page does not listen, or no longer."""
        session.rests_since = time.monotonic() if resting else None
        self.end_if_left(session)

    def _end_if_left(self, session: Session) -> None:
        if session.listeners or session.id not in self._all:
            return
        rested = REST if session.rests_since is None else time.monotonic() - session.rests_since
        if rested < REST:
            asyncio.get_running_loop().call_later(REST - rested, self._end_if_left, session)
        else:
            self._end(session)

    def _end(self, session: Session) -> None:
        session.end()
        self._all.pop(session.id, None)

    def end(self) -> None:
        """End all of them, and wait a little for what they are at."""
        ended = list(self._all.values())
        self._all.clear()
        for session in ended:
            session.end()
        for session in ended:
            if session.player is not None:
                session.player.join(2)
