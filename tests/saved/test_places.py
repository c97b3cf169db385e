"""Where a model is saved: file systems without locks, modes and folders that sync, the umask, and what stays behind."""

import errno
import os
import stat

import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.saved import folder as saved_folder
from jaxprop.saved.folder import check_writable
from tests.drawing import draw

NET, X = jp.Linear(1), np.ones((4, 3), np.float32)


@pytest.fixture(scope="module")
def params():
    return draw(NET, X)


def refused(*_, **__):
    raise OSError(errno.ENOSYS, "Function not implemented")


def refuses_folders(call, says):
    def instead(place, *rest, **named):
        is_folder = stat.S_ISDIR(os.fstat(place).st_mode) if isinstance(place, int) else os.path.isdir(place)
        if is_folder:
            raise OSError(says, os.strerror(says))
        return call(place, *rest, **named)

    return instead


@pytest.mark.parametrize("extra", ["open a folder", "sync a folder", "chmod", "lock"])
def test_what_a_file_system_lacks_does_not_stop_saving(monkeypatch, tmp_path, params, extra):
    match extra:
        case "open a folder":
            monkeypatch.setattr(os, "open", refuses_folders(os.open, errno.EACCES))
        case "sync a folder":
            monkeypatch.setattr(os, "fsync", refuses_folders(os.fsync, errno.EINVAL))
        case "chmod":
            monkeypatch.setattr(os, "chmod", refused)
        case "lock":
            monkeypatch.setattr(saved_folder.fcntl, "flock", refused)
    jp.save(tmp_path / "m", NET, params, inputs=X)
    assert jp.load(tmp_path / "m")[0] == NET


@pytest.mark.parametrize("mask", [0o022, 0o007, 0o077])
def test_the_umask_says_who_may_read(tmp_path, params, mask):
    before = os.umask(mask)
    try:
        jp.save(tmp_path / "m", NET, params, inputs=X)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "m").iterdir()} == {0o666 & ~mask}


def test_nothing_stays_behind_where_nothing_was_saved(tmp_path, params):
    check_writable(tmp_path / "a" / "b")
    with pytest.raises(jp.ModelError):
        jp.save(tmp_path / "c", NET, {"W": 1}, inputs=X)
    with pytest.raises(KeyboardInterrupt), saved_folder.writing(tmp_path / "d"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_training_gave_is_saved_as_plain_data(tmp_path, params):
    rows = (X, X[:, :1])
    result = jp.fit(NET, jp.HalfSquaredError(), optax.sgd(0.1), rows, params=params, epochs=1, progress=False)
    row = {"cost": np.float32(0.5), "validation_cost": float("inf"), "all": np.arange(2)}
    info = {"classes": np.unique([1, 0]), "training": {"history": (*result.history, row)}}
    jp.save(tmp_path / "m", NET, result.params, inputs=X, info=info)
    found = jp.describe(tmp_path / "m").info
    assert found.classes == ("0", "1") and found.training is not None
    assert found.training["history"] == [
        dict(result.history[0]), {"cost": 0.5, "validation_cost": None, "all": [0, 1]}
    ]  # fmt: skip
