"""Where models are looked for, and where they are not."""

import contextlib
import os
import tempfile
from pathlib import Path

import pytest

from jaxprop.errors import ModelError
from jaxprop_serve.models.stores import FolderStore


def a_model(folder, file="model.json"):
    folder.mkdir(parents=True)
    (folder / file).write_text("{}")
    return folder


def listing(*places):
    store = FolderStore(map(str, places))
    return {name: store.versions(name) for name in store.names()}


def test_a_model_a_renamed_one_and_a_repository(tmp_path):
    one = a_model(tmp_path / "one")
    for version in ("2", "10", "1"):
        a_model(tmp_path / "models/digits" / version, "export.json")
    a_model(tmp_path / "models/plain")
    for nothing in ("digits/tmp.4", "digits/x", "digits/0", "digits/-1", ".hidden", "a b"):
        a_model(tmp_path / "models" / nothing)
    assert listing(one) == {"one": ["1"]}
    assert listing(f"other={one}") == {"other": ["1"]}
    assert listing(tmp_path / "models") == {"digits": ["1", "2", "10"], "plain": ["1"]}
    assert listing(tmp_path / "models/digits") == {"digits": ["1", "2", "10"]}
    assert listing(f"d={tmp_path}/models/digits", one) == {"d": ["1", "2", "10"], "one": ["1"]}
    store = FolderStore([str(tmp_path / "models")])
    assert store.path("digits", "10") == tmp_path / "models/digits/10"
    a_model(tmp_path / "models/digits/11")  # published later
    assert store.versions("digits")[-1] == "11" and store.versions("unknown") == []


def test_nothing_outside_is_reached(tmp_path):
    secret = a_model(tmp_path / "secret")
    a_model(tmp_path / "models/good")
    (tmp_path / "models/linked").symlink_to(secret)
    a_model(tmp_path / "models/half", "export.json")
    (tmp_path / "models/half/model.json").symlink_to(secret / "model.json")
    store = FolderStore([str(tmp_path / "models")])
    for name in ("linked", "half"):
        with pytest.raises(ModelError, match="leads out of"):
            store.path(name, "1")
    for name, version in (("../secret", "1"), ("good", "../../secret"), ("good", ".."), ("/etc", "1"), ("a\0", "1")):
        with pytest.raises(ModelError, match="not in this store"):
            store.path(name, version)
    assert store.path("good", "1") == tmp_path / "models/good"


def test_two_models_of_one_name_and_a_bad_name(tmp_path):
    places = [a_model(tmp_path / "a/m"), a_model(tmp_path / "b/m")]
    with pytest.raises(ModelError, match=r"two models are named 'm'.*NAME=FOLDER"):
        listing(*places)
    assert listing(places[0], f"n={places[1]}") == {"m": ["1"], "n": ["1"]}
    with pytest.raises(ModelError, match="no name for a model"):
        FolderStore([f"a/b={places[0]}"])


def move(link, target):
    """Let the link lead elsewhere, at one instant."""
    (link.parent / "next").symlink_to(target)
    os.replace(link.parent / "next", link)


def test_a_place_that_is_a_link_is_followed_anew_and_keeps_its_name(tmp_path):
    for release in ("release-1", "release-2"):
        a_model(tmp_path / release)
    current = tmp_path / "current"
    move(current, "release-1")
    store, named = FolderStore([str(current)]), FolderStore([f"m={current}"])
    assert store.names() == ["current"] and named.names() == ["m"]
    assert store.path("current", "1") == named.path("m", "1") == tmp_path / "release-1"
    move(current, "release-2")
    assert store.path("current", "1") == named.path("m", "1") == tmp_path / "release-2"
    assert FolderStore([f"{tmp_path}/release-1/../current/."]).names() == ["current"]
    assert FolderStore([f"{tmp_path}/release-1/.."]).names() == ["current", "release-1", "release-2"]


@pytest.mark.parametrize("place", ["current/digits", "current", "."])
def test_a_load_reads_one_release_though_the_link_moves_meanwhile(place, tmp_path):
    for release, versions in (("a", "12"), ("b", "123")):
        for version in versions:
            a_model(tmp_path / f".releases/{release}/digits/{version}")
    name = "current" if place == "." else "digits"
    current = tmp_path / "current"
    move(current, ".releases/a/digits" if place == "." else ".releases/a")
    store = FolderStore([str(tmp_path / place)])
    assert store.versions(name) == ["1", "2"]
    move(current, ".releases/b/digits" if place == "." else ".releases/b")
    assert [store.path(name, v) for v in "12"] == [tmp_path / f".releases/a/digits/{v}" for v in "12"]
    assert store.versions(name) == ["1", "2", "3"]
    assert store.path(name, "1") == tmp_path / ".releases/b/digits/1"


def test_versions_that_are_links(tmp_path):
    digits = tmp_path / "models/digits"
    for release in ("a", "b"):
        a_model(tmp_path / f"models/.releases/{release}")
    digits.mkdir()
    (digits / "1").symlink_to("../.releases/a")
    (digits / "2").symlink_to(tmp_path / "models/.releases/b")
    (digits / "3").symlink_to(a_model(tmp_path / "elsewhere"))
    store = FolderStore([str(tmp_path / "models")])
    assert store.versions("digits") == ["1", "2", "3"]
    assert store.path("digits", "1") == tmp_path / "models/.releases/a"
    assert store.path("digits", "2") == tmp_path / "models/.releases/b"
    with pytest.raises(ModelError, match="digits/3: a link that leads out of"):
        store.path("digits", "3")


def test_files_that_are_links_into_one_release_are_read_from_there(tmp_path):
    """As Kubernetes mounts a ConfigMap or a Secret."""
    for day in ("..day1", "..day2"):
        (a_model(tmp_path / "m" / day) / "params-0.safetensors").touch()
    move(tmp_path / "m/..data", "..day1")
    for file in ("model.json", "params-0.safetensors"):
        (tmp_path / "m" / file).symlink_to(f"..data/{file}")
    store = FolderStore([str(tmp_path / "m")])
    assert store.path("m", "1") == tmp_path / "m/..day1"
    move(tmp_path / "m/..data", "..day2")
    assert store.path("m", "1") == tmp_path / "m/..day2"
    (tmp_path / "m/params-0.safetensors").unlink()
    (tmp_path / "m/params-0.safetensors").touch()  # one file of its own: the folder is what it looks like
    assert store.path("m", "1") == tmp_path / "m"
    move(tmp_path / "m/..data", a_model(tmp_path / "elsewhere"))
    with pytest.raises(ModelError, match="leads out of"):
        store.path("m", "1")


def test_links_further_down_and_links_in_a_circle(tmp_path):
    model = a_model(tmp_path / "models/deep")
    (model / "assets/more").mkdir(parents=True)
    (model / "assets/more/up").symlink_to("..")  # goes round, but stays inside
    store = FolderStore([str(tmp_path / "models")])
    assert store.path("deep", "1") == model
    (model / "assets/more/passwd").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="more/passwd: a link that leads out of"):
        store.path("deep", "1")
    circle = a_model(tmp_path / "models/circle")
    (circle / "params").symlink_to("params")
    with pytest.raises(ModelError, match="circle/params: "):
        store.path("circle", "1")
    (tmp_path / "models/round").symlink_to("round")
    assert store.names() == ["circle", "deep"]
    (tmp_path / "a").symlink_to("b"), (tmp_path / "b").symlink_to("a")
    with pytest.raises(ModelError, match="cannot be read: Too many levels of symbolic links"):
        FolderStore([f"m={tmp_path}/a"]).path("m", "1")


def test_a_folder_is_a_model_if_it_is_accepted(tmp_path):
    a_model(tmp_path / "models/words", "words.txt")
    a_model(tmp_path / "models/broken", "fails.txt")
    a_model(tmp_path / "models/other")
    a_model(tmp_path / "models/many/1", "words.txt")
    (tmp_path / "models/README.md").touch()
    store = FolderStore([str(tmp_path / "models")])

    def accepts(folder):
        assert not (folder / "fails.txt").exists(), "its runtime fails"
        return (folder / "words.txt").is_file()

    store.accepts = accepts
    assert store.names() == ["broken", "many", "words"], "a folder that its runtime fails on is told of by its load"
    assert store.path("many", "1") == tmp_path / "models/many/1"


def test_one_model_of_many_is_looked_for_alone(tmp_path):
    """A thousand models are started in a thousand looks, not in a million."""
    for i in range(50):
        a_model(tmp_path / f"m{i}")
    store, asked = FolderStore([str(tmp_path)]), []
    store.accepts = lambda folder: asked.append(folder.name) or (folder / "model.json").is_file()
    assert store.versions("m7") == ["1"] and store.path("m7", "1") == tmp_path / "m7"
    assert asked == [tmp_path.name, "m7"]
    assert store.versions("m77") == store.versions("") == store.versions("..") == []


@contextlib.contextmanager
def as_nobody(*closed, mode):
    """These folders may not be read; root may read everything."""
    root = os.geteuid() == 0
    for folder in closed:
        folder.chmod(mode)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for folder in closed:
            folder.chmod(0o755)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_that_may_not_be_read_is_told_of_and_holds_up_no_other(mode):
    with tempfile.TemporaryDirectory() as text:  # not below tmp_path, which nobody else may enter
        place = Path(text)
        place.chmod(0o755)
        for folder in ("good", "half/1", "half/2", "bad", "deep/1"):
            a_model(place / folder)
        (place / "good/lost+found/x").mkdir(parents=True)
        closed = [place / folder for folder in ("bad", "half/2", "deep", "good/lost+found")]
        with as_nobody(*closed, mode=mode):
            store, alone = FolderStore([text]), FolderStore([f"{text}/bad"])
            store.accepts = alone.accepts = lambda folder: (folder / "model.json").is_file()
            assert alone.names() == ["bad"]
            found = {name: len(store.versions(name)) for name in store.names()}
            assert found == {"bad": 1, "deep": 1, "good": 1, "half": 2}
            assert store.path("good", "1") and store.path("half", "1")
            for name, version in (("bad", "1"), ("half", "2"), ("deep", "1")):
                with pytest.raises(ModelError, match="cannot be read: Permission denied"):
                    store.path(name, version)
