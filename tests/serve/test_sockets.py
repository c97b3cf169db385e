"""Where the server listens: what cannot be had is said in one line, and a Unix socket is left as it was found."""

import os
import socket
import stat

import pytest

from jaxprop.errors import JaxpropError
from jaxprop_serve.sockets import TakenError, bind, bound_to_file, check_file
from jaxprop_serve.systemd import notify
from tests.cli.commands import did, is_a_mistake, run


def refused_by(path):
    """What binding says, after what looking says, which must be the same."""
    said = []
    for attempt in (check_file, lambda path: bound_to_file(path).__enter__()):
        with pytest.raises(JaxpropError) as caught:
            attempt(path)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    return said[0]


def test_a_unix_socket_is_its_owners_and_groups_and_is_removed(tmp_path):
    path = tmp_path / "s.sock"
    with bound_to_file(path) as listening:
        listening.listen()
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        kind, text = refused_by(path)
        assert kind is TakenError and "a server listens there already" in text
    assert not path.exists()


def test_what_a_dead_server_left_is_replaced_and_what_is_no_socket_is_not(tmp_path):
    path, file = tmp_path / "s.sock", tmp_path / "file"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    check_file(path)
    assert path.exists(), "looking changes nothing"
    with bound_to_file(path) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.listen()
        client.connect(str(path))
    file.write_text("mine")
    assert "not a socket" in refused_by(file)[1] and file.read_text() == "mine"


def test_another_servers_socket_is_not_removed(tmp_path):
    path = tmp_path / "s.sock"
    with bound_to_file(path):
        path.unlink()
        path.write_text("another's")
    assert path.exists()


@pytest.mark.parametrize("name", ["nowhere/s.sock", "file/s.sock", "s" * 120])
def test_a_path_that_cannot_be_is_said_by_the_check_and_by_the_start(tmp_path, name, folder):
    (tmp_path / "file").write_text("")
    path = tmp_path / name
    for command in (("serve", "--check-config"), ("serve",)):
        ran = run(*command, folder, "--grpc-port", "off", "--set", f"unix_socket={path}")
        is_a_mistake(ran, 1, f"cannot serve on unix_socket {path}: ")


@pytest.mark.parametrize(
    "host, says",
    [("no-such-host.invalid", "choose another with --host"), ("192.0.2.1", "this machine has no such address")],
)
def test_a_host_that_is_none_is_said_by_the_check_and_by_the_start(host, says, folder, monkeypatch):
    monkeypatch.setenv("JAXPROP_TOKEN", "a-token-of-22-characters")
    monkeypatch.setenv("JAXPROP_ADMIN_TOKEN", "b-token-of-22-characters")
    for command in (("serve", "--check-config"), ("serve",)):
        is_a_mistake(run(*command, folder, "--host", host), 1, f"cannot serve on {host}:8000: ", says)


def test_localhost_is_where_clients_of_127_0_0_1_look(monkeypatch):
    both = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))]
    both.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with bind("localhost", 0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_is_a_note_of_the_check_since_the_server_that_runs_may_have_it(folder):
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        for flags in (("--port", port, "--grpc-port", "off"), ("--port", 0, "--grpc-port", port)):
            said = did("serve", "--check-config", folder, *flags).err
            assert said.startswith("jaxprop: note: ") and f"127.0.0.1:{port}" in said
            assert f"choose another with {flags[flags.index(port) - 1]} " in said
    assert did("serve", "--check-config", folder, "--port", 0, "--grpc-port", 0).err == ""


def test_the_check_looks_at_the_default_folder_and_for_runtimes_and_plugins(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ("serve", "--check-config", "--port", 0, "--grpc-port", 0)
    is_a_mistake(run(*flags), 1, "runs: nothing there yet")
    (tmp_path / "runs").mkdir()
    is_a_mistake(run(*flags), 1, "runs: empty, no model yet")
    is_a_mistake(run(*flags, folder, "--set", "runtimes=export"), 1, "no runtime of export")
    is_a_mistake(run(*flags, folder, "--set", "explainers=magic"), 1, "plugin 'magic' of jaxprop.explainers")


def test_a_service_manager_is_told_and_a_missing_one_is_not_missed(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    for path in (str(tmp_path / "notify"), f"@jaxprop-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path.replace("@", "\0"))
            manager.settimeout(5)
            monkeypatch.setenv("NOTIFY_SOCKET", path)
            notify("READY=1")
            assert manager.recv(100) == b"READY=1"
            notify("RELOADING=1")
            assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")
