"""New releases of a model: what a load takes and what it leaves, links that move, which versions are served."""

import asyncio
import os
import shutil
import threading

import numpy as np
import pytest

from jaxprop_serve.errors import ServeError
from tests.serve.plain import Plain, number_of, put, serving, states


def said_by(models):
    """What is logged from now on: (event, version)."""
    said = []
    models.log = lambda level, event, **fields: said.append((event, fields.get("version")))
    return said


def again(folder):
    """The same bytes in a new file."""
    put(folder, 2)
    return "unchanged"


def behind_its_back(folder):
    """Another number, in a file whose size and time stay."""
    file = folder / "number"
    times = file.stat()
    file.write_text("7")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (times.st_size, times.st_mtime_ns, times.st_ino) == (
        file.stat().st_size, file.stat().st_mtime_ns, file.stat().st_ino
    )  # fmt: skip
    return "loaded"


def one_more_file(folder):
    (folder / "notes").mkdir()
    (folder / "notes/b").touch()
    return "loaded"


def another_name(folder):
    os.rename(folder / "notes/b", folder / "notes/c")
    return "loaded"


def no_number(folder):
    put(folder, "seven")
    return "load failed"


def whole(folder):
    put(folder, 2)
    return "loaded"


def test_a_load_takes_what_is_new_and_what_has_changed_and_leaves_the_rest(tmp_path):
    for version in range(1, 5):
        put(tmp_path / f"m/{version}", version)

    async def test(models):
        said, served = said_by(models), dict(models._served["m"])
        put(tmp_path / "m/5", 5)
        await models.load("m")
        assert said == [*(("unchanged", version) for version in "1234"), ("loaded", "5")]
        assert all(models._served["m"][version] is served[version] for version in "1234")
        assert [await number_of(models, "m", version) for version in "12345"] == [1, 2, 3, 4, 5]
        for change in (again, behind_its_back, one_more_file, another_name, no_number, whole):
            said.clear()
            event = change(tmp_path / "m/2")
            if event == "load failed":
                with pytest.raises(ServeError, match="could not convert string to float: 'seven'"):
                    await models.load("m")
            else:
                await models.load("m")
            assert said == [("unchanged", "1"), (event, "2"), *(("unchanged", version) for version in "345")], change
        assert await number_of(models, "m", "2") == 2
        assert {entry["reason"] for entry in models.index()} == {""}

    serving(test, tmp_path, kinds=(Plain(),))


def test_a_failed_load_of_what_is_put_back_as_it_was_says_nothing_any_more(tmp_path):
    put(tmp_path / "m", 1)

    async def test(models):
        said = said_by(models)
        put(tmp_path / "m", "one")
        with pytest.raises(ServeError, match="'one'"):
            await models.load("m")
        assert "'one'" in models.index()[0]["reason"]
        put(tmp_path / "m", 1)
        await models.load("m")
        assert models.index() == [{"name": "m", "version": "1", "state": "READY", "reason": ""}]
        assert [event for event, _ in said] == ["load failed", "unchanged"]
        await models.unload("m")
        await models.load("m")
        assert await number_of(models, "m") == 1, "after an unload all is loaded"

    serving(test, tmp_path, kinds=(Plain(),))


def test_a_folder_that_changes_while_it_is_loaded_is_loaded_again(tmp_path):
    """1 is there, 2 is put there and read, 1 is put back: what runs is 2, though the folder looks as before."""
    put(tmp_path / "m", 0)
    folder, meddle = tmp_path / "m", []

    class Meddled(Plain):
        def load(self, path):
            if meddle:
                put(folder, 2)
            return super().load(path)

    async def test(models):
        meddle.append(True)
        put(folder, 1)
        await models.load("m")
        assert await number_of(models, "m") == 2
        meddle.clear()
        await models.load("m")
        assert await number_of(models, "m") == 1

    serving(test, tmp_path, kinds=(Meddled(lambda _: meddle and put(folder, 1)),))


def moved(link, target):
    (link.parent / "next").symlink_to(target)
    os.replace(link.parent / "next", link)


@pytest.mark.parametrize("named", ["", "m="])
def test_a_release_by_a_link_is_served_after_the_load(named, tmp_path):
    for number in (1, 2):
        put(tmp_path / f"release-{number}", number)
    moved(tmp_path / "current", "release-1")

    async def test(models):
        name = "m" if named else "current"
        assert await number_of(models, name) == 1
        moved(tmp_path / "current", "release-2")
        assert await number_of(models, name) == 1
        await models.load(name)
        assert await number_of(models, name) == 2
        assert states(models) == {(name, "1"): "READY"}

    serving(test, f"{named}{tmp_path}/current", kinds=(Plain(),))


@pytest.mark.parametrize("old_release", ["stays", "is removed"])
def test_a_link_moved_during_a_load_gives_one_release_whole(old_release, tmp_path):
    """All versions are of the release that the load began with, or, if that has gone meanwhile, of the next one."""
    for number in (1, 2):
        put(tmp_path / f"a/{number}", 10 + number)
        put(tmp_path / f"b/{number}", 20 + number)
    moved(tmp_path / "m", "a")

    def move(path):
        if path.parent.name == "a":
            moved(tmp_path / "m", "b")
            if old_release == "is removed":
                shutil.rmtree(tmp_path / "a")

    async def test(models):
        numbers = [await number_of(models, "m", version) for version in "12"]
        assert numbers == ([11, 12] if old_release == "stays" else [21, 22])
        await models.load("m")
        assert [await number_of(models, "m", version) for version in "12"] == [21, 22]
        assert {(entry["state"], entry["reason"]) for entry in models.index()} == {("READY", "")}

    serving(test, tmp_path / "m", kinds=(Plain(move),))


def test_loads_that_nobody_waits_for_are_not_carried_out(tmp_path):
    for name in ("m", "other"):
        put(tmp_path / name, 1)
    began, go_on = threading.Event(), threading.Event()
    go_on.set()

    def wait(path):
        began.set()
        assert go_on.wait(10)

    async def test(models):
        said = said_by(models)
        began.clear(), go_on.clear()
        put(tmp_path / "m", 2)
        first = asyncio.create_task(models.load("m"))
        while not began.is_set():
            await asyncio.sleep(0.001)
        put(tmp_path / "m", 3)
        put(tmp_path / "other", 3)
        given_up = [asyncio.create_task(models.load(name)) for name in ("m", "other") for _ in range(20)]
        await asyncio.sleep(0.01)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        go_on.set()
        await first
        assert said == [("loaded", "1")] and not models.turns.tasks
        assert [await number_of(models, name) for name in ("m", "other")] == [2, 1]
        await asyncio.gather(*(models.load(name) for name in ("m", "other") for _ in range(20)))
        assert [await number_of(models, name) for name in ("m", "other")] == [3, 3]
        assert [event for event, _ in said].count("loaded") == 3

    serving(test, tmp_path, kinds=(Plain(wait),))


def test_an_unload_during_the_start_is_what_counts(tmp_path):
    put(tmp_path / "m", 1)
    began, go_on = threading.Event(), threading.Event()

    def wait(path):
        began.set()
        assert go_on.wait(10)

    async def test(models):
        start = asyncio.create_task(models.start())
        while not began.is_set():
            await asyncio.sleep(0.001)
        unload = asyncio.create_task(models.unload("m"))
        await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.gather(start, unload)
        assert models.ready() and states(models) == {("m", "1"): "UNLOADED"}

    serving(test, tmp_path, kinds=(Plain(wait),), started=False)


@pytest.mark.parametrize("versions, served", [("all", "123"), ("latest", "3"), ("latest:2", "23"), ("1,3", "13")])
def test_the_versions_that_the_policy_names_are_served(versions, served, tmp_path):
    for version in "123":
        put(tmp_path / "m" / version, version)
    now = {"all": "1234", "latest": "4", "latest:2": "34", "1,3": "13"}[versions]
    left = sorted(set(served) - set(now))

    async def test(models):
        said = said_by(models)
        assert models.versions("m") == list(served)
        put(tmp_path / "m/4", 4)
        assert models.catalogue.check() == {"m": dict.fromkeys(now, "plain")}
        with models.pin("m", min(left, default=served[0])) as held:
            load = asyncio.create_task(models.load("m"))
            while left and states(models).get(("m", left[0])) != "DRAINING":
                await asyncio.sleep(0.001)
            answer = await held.infer({"x": np.ones((1, 1))})
            assert answer["y"] == float(held.version), "who met a version is answered by it"
        await load
        assert models.versions("m") == list(now) and await number_of(models, "m") == float(now[-1])
        assert states(models) == {("m", version): "READY" for version in now}
        assert [version for event, version in said if event == "unloaded"] == left
        assert [version for event, version in said if event == "loaded"] == ["4"] * ("4" in now)

    serving(test, tmp_path, kinds=(Plain(),), versions=versions)


def test_a_policy_that_leaves_no_version_and_a_new_version_that_is_broken(tmp_path):
    put(tmp_path / "m/1", 1)
    with pytest.raises(ServeError, match="model 'm': the store has 1, versions = 7 is none of them"):
        serving(None, tmp_path, versions="7", kinds=(Plain(),))

    async def test(models):
        put(tmp_path / "m/2", "two")
        with pytest.raises(ServeError, match=r"version 2: .*'two'"):
            await models.load("m")
        assert await number_of(models, "m") == 1, "until the next one can be loaded"

    serving(test, tmp_path, versions="latest", kinds=(Plain(),))
