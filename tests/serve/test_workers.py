"""What the parent of several workers decides, on links without processes (test_server.py has real ones)."""

import asyncio
import itertools
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from jaxprop_serve.errors import ServeError
from jaxprop_serve.jobs import MOST_JOBS, Parent
from jaxprop_serve.workers import Supervisor


class Workers:
    """A supervisor with links to workers that are played by the test."""

    def __init__(self, count=2, announced=True):
        self.logged = []
        self.parent = Supervisor(lambda: 0, (), count, self.logged.append, lambda *a, **f: self.logged.append(a), 1)
        self.ends, self.told = {}, {}
        for number in range(count):
            self.join(number)
        self.parent.announced = announced
        self.numbers = itertools.count(1)

    def join(self, number):
        """A worker that has just been started."""
        self.parent.links[number], self.ends[number] = Pipe()
        self.told[number] = []
        self.parent.waiting.add(number)
        for job in self.parent.jobs:
            if job.number:
                self.parent.tell(number, job)

    def ask(self, worker, verb, name):
        number = next(self.numbers)
        self.ends[worker].send(("ask", number, verb, name))
        self.parent.hear()
        return number

    def done(self, worker, job, refusal=None, known=None):
        self.ends[worker].send(("done", job, refusal, known or {}))
        self.parent.hear()

    def heard(self, worker):
        """What this worker was sent since it was last asked."""
        found = []
        while self.ends[worker].poll():
            found.append(self.ends[worker].recv())
        return found


def test_a_load_is_answered_when_all_have_done_it():
    workers = Workers()
    asked = workers.ask(1, "load", "a")
    assert workers.heard(0) == workers.heard(1) == [("do", 1, "load", "a")]
    workers.done(1, 1, known={"a": {"1": "x"}})
    assert workers.heard(1) == []
    workers.done(0, 1, known={"a": {"1": "x"}})
    assert workers.heard(1) == [("answer", asked, None)] and workers.heard(0) == []
    assert workers.parent.known == {"a": {"1": "x"}} and workers.parent.jobs == []


@pytest.mark.parametrize(
    "refusals, answer",
    [
        ([(404, "unknown")] * 3, (404, "unknown")),
        ([None, (400, "no memory"), None], (503, "load failed in 1 of 3 workers, so ask again: worker 1: no memory")),
        (
            [(400, "a"), None, (400, "b")],
            (503, "load failed in 2 of 3 workers, so ask again: worker 0: a; worker 2: b"),
        ),
    ],
)
def test_a_refusal_is_that_of_one_server_or_names_the_workers(refusals, answer):
    workers = Workers(3)
    asked = workers.ask(0, "load", "a")
    for number, refusal in enumerate(refusals):
        workers.done(number, 1, refusal, {"a": {"1": None}} if refusal is None else {})
    assert workers.heard(0)[-1] == ("answer", asked, answer)
    assert workers.parent.known == ({"a": {"1": None}} if None in refusals else {})


def test_of_one_model_one_thing_is_done_at_a_time_and_equal_ones_that_wait_are_one():
    workers = Workers()
    asked = [workers.ask(0, *what) for what in (("load", "a"), ("load", "a"), ("load", "a"), ("unload", "a"))]
    other = workers.ask(1, "load", "b")
    assert workers.heard(1) == [("do", 1, "load", "a"), ("do", 2, "load", "b")], "another model does not wait"
    workers.heard(0)
    for number in (0, 1):
        workers.done(number, 1)
    assert workers.heard(0) == [("answer", asked[0], None), ("do", 3, "load", "a")]
    for number in (0, 1):
        workers.done(number, 3)
    assert workers.heard(0) == [("answer", asked[1], None), ("answer", asked[2], None), ("do", 4, "unload", "a")]
    assert other and workers.heard(1)[-1] == ("do", 4, "unload", "a")


def test_what_nobody_waits_for_is_not_begun_unless_it_decides_how_the_model_ends():
    workers = Workers(1)
    first, load, unload, last = (workers.ask(0, what, "a") for what in ("load", "unload", "load", "unload"))
    for asked in (first, load, unload, last):
        workers.ends[0].send(("gone", asked))
    workers.parent.hear()
    assert [job.verb for job in workers.parent.jobs] == ["load", "unload"], "what has begun is ended"
    workers.done(0, 1)
    assert workers.heard(0)[-1] == ("do", 2, "unload", "a")
    again = [workers.ask(0, "load", "b") for _ in range(3)]
    for asked in again[1:]:
        workers.ends[0].send(("gone", asked))
    workers.parent.hear()
    assert [(job.verb, job.name) for job in workers.parent.jobs] == [("unload", "a"), ("load", "b")]


def test_a_reload_waits_for_all_and_all_wait_for_it():
    workers = Workers(1)
    workers.ask(0, "load", "a")
    workers.parent.add("reload", "", None)
    workers.ask(0, "load", "b")
    assert workers.heard(0) == [("do", 1, "load", "a")]
    workers.done(0, 1)
    assert workers.heard(0)[-1] == ("do", 2, "reload", "")
    workers.done(0, 2)
    assert workers.heard(0)[-1] == ("do", 3, "load", "b")


def test_a_worker_that_dies_is_not_waited_for_and_one_that_comes_does_what_is_under_way():
    workers = Workers()
    asked = workers.ask(0, "unload", "a")
    workers.join(2)
    assert workers.heard(2) == [("do", 1, "unload", "a")]
    workers.done(0, 1)
    workers.ends[1].close()
    workers.parent.left(1)
    assert ("answer", asked, None) not in workers.heard(0), "the new one has not done it yet"
    workers.done(2, 1)
    assert workers.heard(0) == [("answer", asked, None)]


def test_what_was_saved_since_is_loaded_by_all_when_a_new_worker_has_it():
    workers = Workers()
    workers.parent.known = {"a": {"1": "old"}, "b": {"1": "same"}}
    workers.ends[1].send(("ready", [], {"a": {"1": "new"}, "b": {"1": "same"}}))
    workers.parent.hear()
    assert workers.heard(0) == workers.heard(1) == [("do", 1, "load", "a")]


def test_jobs_that_wait_are_bounded():
    workers = Workers(1)
    for i in range(MOST_JOBS):
        workers.ask(0, "load", f"m{i}")
    workers.heard(0)
    asked = workers.ask(0, "load", "one-more")
    ((kind, number, (status, _)),) = workers.heard(0)
    assert (kind, number, status) == ("answer", asked, 429)


def heard(link):
    """What comes next; no test waits for it without end."""
    assert link.poll(5)
    return link.recv()


def test_a_worker_does_as_it_is_told_asks_and_does_not_wait_for_a_parent_that_is_gone():
    async def main():
        ours, theirs = Pipe()
        parent, did = Parent(theirs), []

        async def do(verb, name):
            did.append((verb, name))
            if name == "unknown":
                raise ServeError(404, "no such model")

        parent.listen(SimpleNamespace(known=lambda: {"a": {"1": "x"}}), do)
        loading = asyncio.create_task(parent.load("a"))
        await asyncio.sleep(0)
        assert heard(ours) == ("ask", 1, "load", "a")
        for number, name in enumerate(("a", "unknown")):
            ours.send(("do", number, "load", name))
        while len(did) < 2:
            await asyncio.sleep(0.001)
        assert heard(ours) == ("done", 0, None, {"a": {"1": "x"}})
        assert heard(ours) == ("done", 1, (404, "no such model"), {"a": {"1": "x"}})
        assert not loading.done()
        ours.send(("answer", 1, (503, "not all")))
        with pytest.raises(ServeError, match="not all"):
            await loading
        abandoned = asyncio.create_task(parent.load("b"))
        await asyncio.sleep(0)
        abandoned.cancel()
        await asyncio.wait([abandoned])
        assert [heard(ours), heard(ours)] == [("ask", 2, "load", "b"), ("gone", 2)]
        unloading = asyncio.create_task(parent.unload("a"))
        await asyncio.sleep(0)
        ours.close()
        with pytest.raises(ServeError, match="parent of this worker has gone"):
            await unloading
        theirs.close()

    asyncio.run(asyncio.wait_for(main(), 20))
