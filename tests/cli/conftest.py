"""The folder of the trained runs, one for the session, and a folder for what a test makes itself."""

import signal

import pytest

from tests.cli.commands import Runs, write_files


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    write_files(folder)
    return Runs(folder)


@pytest.fixture
def runs(workspace, monkeypatch):
    """The shared folder with the files and the runs, and we are in it."""
    monkeypatch.chdir(workspace.folder)
    return workspace


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A folder of this test's own, with the files but no runs, and we are in it."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ctrl_c():
    """SIGINT is Ctrl-C, here and in programs that are started: a run in the background inherits that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
