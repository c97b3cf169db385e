"""Where models are looked for, and where they are not."""

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
