"""Tabs: they do not disturb each other, a slow one gets the latest frame, and one that is closed ends its work."""

import asyncio
import http.client
import json
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest

from jaxprop.errors import JaxpropError
from jaxprop.network import by_path
from jaxprop_explorer import sessions as room
from jaxprop_explorer.application import application
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.settings import Settings
from jaxprop_explorer.panels.network import Play, Steps, pause, play, step
from jaxprop_explorer.sessions import Session, Sessions
from tests.explorer.conftest import serving
from tests.waiting import until

SMALL = Settings(data="xor", layers=(3,), batch_size=4)


def bits(experiment: Experiment) -> dict[str, bytes]:
    return {path: np.asarray(leaf).tobytes() for path, leaf in by_path(experiment.params).items()}


def test_two_sessions_that_step_at_once_do_what_each_does_alone():
    seeds, alone = (1, 2), {}
    for seed in seeds:
        experiment = Experiment.of(SMALL.model_copy(update={"seed": seed}))
        experiment.advance(200)
        alone[seed] = bits(experiment)
    both = {seed: Session(Experiment.of(SMALL.model_copy(update={"seed": seed}))) for seed in seeds}

    def work(session: Session) -> None:
        for _ in range(40):
            with session.lock:
                step(session, Steps(steps=5))

    threads = [threading.Thread(target=work, args=(session,)) for session in both.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {seed: bits(session.experiment) for seed, session in both.items()} == alone


def test_playing_trains_as_stepping_does_and_a_command_comes_between():
    session = Session(Experiment.of(SMALL))
    play(session, Play(speed=200))
    until(lambda: session.experiment.step > 20, 20)
    with session.lock:
        session.experiment.edit("0.W", (0, 0), 0.25)
    pause(session, None)
    assert session.player is not None and not session.player.is_alive()
    found = session.experiment.given()
    again = Experiment.of(SMALL, found["history"], found["steps"])
    assert found["history"][0]["at"] > 0 and bits(again) == bits(session.experiment)


def test_a_page_that_is_slow_gets_the_latest_frame_alone():
    async def slow() -> list:
        session = Session(Experiment.of(SMALL), asyncio.get_running_loop())
        for version in range(50):
            session.publish("frame", {"version": version})
        session.end()
        return [event async for event in session.listen()]

    assert asyncio.run(asyncio.wait_for(slow(), 5)) == [("frame", {"version": 49}), ("end", {"text": None})]


def test_divergence_stops_playing_and_says_so():
    session = Session(Experiment.of(Settings(data="chain", learning_rate=50.0)))
    play(session, Play())
    until(lambda: not session.player.is_alive(), 20)
    assert not session.playing and "learning rate 50" in session.events["frame"]["diverged"]


def test_a_page_that_nobody_hears_stops_training(monkeypatch):
    monkeypatch.setattr(room, "UNHEARD", 0.2)

    async def left() -> Session:
        session = Session(Experiment.of(SMALL), asyncio.get_running_loop())
        play(session, Play(speed=100))
        until(lambda: not session.player.is_alive(), 20)
        return session

    session = asyncio.run(left())
    assert not session.playing and session.experiment.step > 0


def test_too_many_pages_are_refused_and_the_end_ends_all():
    async def many() -> list[Session]:
        found, opened = Sessions(most=2), []
        for _ in range(2):
            opened.append(Session(Experiment.of(SMALL), asyncio.get_running_loop()))
            found.open(opened[-1])
        with pytest.raises(JaxpropError, match="2 pages are open on this server already"):
            found.open(Session(Experiment.of(SMALL)))
        play(opened[0], Play(speed=50))
        found.end()
        with pytest.raises(JaxpropError, match="load the page again"):
            found[opened[0].id]
        return opened

    opened = asyncio.run(many())
    assert all(session.ended for session in opened) and not opened[0].player.is_alive()


def test_a_tab_that_is_closed_ends_its_work(monkeypatch):
    monkeypatch.setattr(room, "HEARTBEAT", 0.1)
    monkeypatch.setattr(room, "UNHEARD", 0.2)
    monkeypatch.setattr(room, "GRACE", 2.0)
    pages: list[Session] = []
    with serving(application(opened=pages.append)) as server:
        opened = server.post("api/sessions", {"settings": {"data": "chain"}})[1]["session"]
        at = urlsplit(server.address)
        stream = http.client.HTTPConnection(at.hostname, at.port)
        stream.request("GET", f"/api/sessions/{opened}/events")
        reading = stream.getresponse()
        assert server.post(f"api/sessions/{opened}/network/play", {"speed": 50})[0] == 200
        for line in reading:
            if line.startswith(b"data: ") and json.loads(line[6:])["step"] > 5:
                break
        reading.close()
        stream.close()
        until(lambda: not pages[0].player.is_alive(), 20)
        assert not pages[0].playing and not pages[0].ended  # it may come back
        until(lambda: pages[0].ended, 20)
        status, answer = server.post(f"api/sessions/{opened}/network/look", {"by": 0})
        assert status == 410 and "session has ended" in answer["error"]


def test_a_page_out_of_sight_keeps_its_session_until_it_goes_or_room_is_needed(monkeypatch):
    monkeypatch.setattr(room, "GRACE", 0.02)

    async def live() -> None:
        all_, experiment = Sessions(2), Experiment.of(SMALL)
        first, second, third = (Session(experiment) for _ in range(3))
        for session in (first, second):
            all_.open(session)
            all_.rest(session, True)
        await asyncio.sleep(0.1)
        assert all_[first.id] is first and all_[second.id] is second
        all_.open(third)
        assert first.ended and not second.ended
        all_.rest(second, False)
        await asyncio.sleep(0.1)
        assert second.ended and third.ended
        monkeypatch.setattr(room, "REST", 0.05)
        last = Session(experiment)
        all_.open(last)
        all_.rest(last, True)
        await asyncio.sleep(0.2)
        assert last.ended

    asyncio.run(live())
