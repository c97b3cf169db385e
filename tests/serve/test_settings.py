"""Where settings come from, which one wins, and that no typo passes, wherever it was made."""

import asyncio
import json
import tomllib
from pathlib import Path

import pytest

from jaxprop.errors import JaxpropError
from jaxprop_serve.command import as_toml
from jaxprop_serve.grpc_door import server as grpc_server
from jaxprop_serve.settings import Settings, read
from tests.cli.commands import is_a_mistake, run
from tests.serve.doors import an_app, settings as needed_by_the_doors


def test_flags_before_the_environment_before_the_file_before_defaults(tmp_path):
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nmax_rows = 1\nworkers = 3\nallowed_hosts = ["a", "b"]\nmax_body_bytes = "1MiB"\n')
    environment = {
        "JAXPROP_PORT": "2",
        "JAXPROP_MAX_ROWS": "2",
        "JAXPROP_CONFIG": str(file),
        "HOME": "/",
        "JAXPROP_HUGE_PAGES": "7",
        "JAX_X": "1",
    }
    found = read({"port": "3"}, environment=environment)
    assert (found.port, found.max_rows, found.workers, found.max_batch) == (3, 2, 3, 64)
    assert found.allowed_hosts == ("a", "b") and found.max_body_bytes == 1 << 20
    assert read({}, file, {}).port == 1, "a file passed in is read too"
    words = read(
        {}, environment={"JAXPROP_ALLOWED_HOSTS": "a, b,", "JAXPROP_GRPC_PORT": "off", "JAXPROP_BATCHING": "no"}
    )
    assert (words.allowed_hosts, words.grpc_port, words.batching) == (("a", "b"), None, False)


@pytest.mark.parametrize(
    "given, versions",
    [("all", "all"), ("latest:3", "latest:3"), (" 1, 3 ", "1,3"), ([2, 1], "2,1"), (7, "7")],
)
def test_versions_by_number_or_by_age(given, versions):
    assert read({"versions": given}, environment={}).versions == versions


def test_the_settings_of_the_doors_are_all_there():
    defaults = Settings()
    for name in vars(needed_by_the_doors()):
        assert hasattr(defaults, name)
    assert defaults.host == "127.0.0.1" and defaults.max_body_bytes == 16 << 20 and defaults.max_queue_bytes == 64 << 20


@pytest.mark.parametrize("where", ["flag", "environment", "file"])
def test_a_typo_is_refused_with_the_nearest_name(where, tmp_path):
    file = tmp_path / "s.toml"
    file.write_text("max_row = 5\n" if where == "file" else "")
    flags = {"max_row": 5} if where == "flag" else {}
    environment = {"JAXPROP_MAX_ROW": "5"} if where == "environment" else {}
    with pytest.raises(JaxpropError, match="did you mean 'max_rows'") as caught:
        read(flags, file, environment)
    assert {"flag": "", "environment": "JAXPROP_MAX_ROW", "file": "s.toml"}[where] in str(caught.value)


@pytest.mark.parametrize(
    "flags, says",
    [
        ({"port": "eighty"}, "setting port: .*'eighty'"),
        ({"port": 70000}, "setting port: .*65535"),
        ({"workers": 0}, "setting workers"),
        ({"drain_timeout_s": "nan"}, "drain_timeout_s"),
        ({"max_queue_bytes": "0"}, "max_queue_bytes"),
        ({"max_body_bytes": "16 apples"}, "max_body_bytes"),
        ({"log_level": "loud"}, "log_level.*'loud'"),
        ({"versions": "newest"}, "setting versions: expected all, latest, latest:2 .*, found 'newest'"),
        *(
            ({"versions": bad}, "setting versions: ")
            for bad in ("", "latest:0", "latest:-1", "0", "1,,2", "1-3", "01", [])
        ),
        ({"host": "0.0.0.0"}, "JAXPROP_TOKEN and JAXPROP_ADMIN_TOKEN"),
        ({"host": "0.0.0.0", "token": "secret-a"}, "JAXPROP_ADMIN_TOKEN"),
        ({"host": "::", "admin_token": "secret-a"}, "JAXPROP_TOKEN"),
        ({"tls_cert": "/etc/hostname"}, "go together"),
        ({"tls_cert": "/nowhere/c.pem", "tls_key": "/nowhere/k.pem"}, "/nowhere/c.pem cannot be read"),
        ({"port": 5, "grpc_port": 5}, "both 5"),
        ({"token": ["secret-a"]}, "setting token"),
        ({"token": "secret-a", "admin_token": "secret-a"}, "are the same"),
        ({"token": "secret-a b"}, "ASCII without spaces"),
        ({"host": ""}, "setting host"),
    ],
)
def test_values_that_cannot_be_are_refused_in_one_line(flags, says):
    with pytest.raises(JaxpropError, match=says) as caught:
        read(flags, environment={})
    assert "\n" not in str(caught.value) and "secret-a" not in str(caught.value)


def test_beyond_loopback_with_both_tokens():
    tokens = {"JAXPROP_TOKEN": "secret-a-of-sixteen", "JAXPROP_ADMIN_TOKEN": "secret-b-of-sixteen"}
    found = read({"host": "0.0.0.0"}, environment=tokens)
    assert found.token is not None and found.token.get_secret_value() == "secret-a-of-sixteen"
    assert "secret" not in repr(found) + str(found) + json.dumps(found.shown())


@pytest.mark.parametrize("text, says", [("port = ", "is not TOML"), (None, "No such file")])
def test_a_file_that_cannot_be_read(text, says, tmp_path):
    file = tmp_path / "s.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(JaxpropError, match=says):
        read({}, file, {})


def test_check_config_prints_a_file_that_means_the_same_without_tokens(monkeypatch, tmp_path, folder):
    monkeypatch.setenv("JAXPROP_TOKEN", "secret-a")
    flags = ("--port", "9", "--grpc-port", "off", "--no-batching", "--set", "max-rows=7")
    ran = run("serve", "--check-config", folder, *flags)
    assert ran.code == 0 and ran.err == "" and "secret-a" not in ran.out and "# token: set, not shown" in ran.out
    file = tmp_path / "again.toml"
    file.write_text(ran.out)
    again = read({}, file, {})
    assert (again.port, again.grpc_port, again.batching, again.max_rows) == (9, None, False, 7)
    assert tomllib.loads(as_toml(again.shown())) == tomllib.loads(ran.out)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("--set", "max_row=1"), "did you mean 'max_rows'"),
        (("--set", "max_rows"), "NAME=VALUE"),
        (("--set", "token=secret-a"), "JAXPROP_TOKEN"),
        (("--port", "x"), "setting port"),
        (("--config", "/nowhere.toml"), "/nowhere.toml"),
        (("--host", "0.0.0.0"), "JAXPROP_ADMIN_TOKEN"),
        (("nowhere/digits",), "nothing there yet"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(arguments, says):
    ran = run("serve", "--check-config", *arguments)
    is_a_mistake(ran, 1, says)
    assert "secret-a" not in ran.err


@pytest.mark.parametrize("make", [None, "empty", "file"])
def test_nothing_trained_yet_says_how_to_get_a_model(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "runs" / "digits"
    if make == "empty":
        place.mkdir(parents=True)
    elif make == "file":
        place.parent.mkdir()
        place.write_text("x")
    is_a_mistake(run("serve", "runs/digits"), 1, "jaxprop demo --out runs/d")
    is_a_mistake(run("serve", "name=runs/digits"), 1, "jaxprop demo --out runs/d")
    if make is None:
        is_a_mistake(run("serve"), 1, "`jaxprop demo --out runs/demo`")


def test_a_link_to_nothing_and_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "current").symlink_to("release-1")
    is_a_mistake(run("serve", f"m={tmp_path}/current"), 1, "current: a link to release-1, where nothing is")

    def refused(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)  # root may read everything
    is_a_mistake(run("serve", str(tmp_path)), 1, f"{tmp_path}: cannot be read: Permission denied")


MOST = {
    "max_body_bytes": 2**31 - 1, "max_connections": 2**30 - 1, "max_queue_rows": 2**30 - 1,
    "idle_timeout_s": 2147483, "header_timeout_s": 2147483,
}  # fmt: skip


@pytest.mark.parametrize("name", MOST)
def test_more_than_grpc_can_be_told_is_refused(name):
    with pytest.raises(JaxpropError, match=name):
        read({name: str(MOST[name] + 1)}, environment={})


def test_the_most_of_every_setting_starts():
    async def start():
        limits = Settings(**MOST)
        door = await grpc_server.start(an_app(**dict(limits)), limits, 0)
        await door.stop()

    asyncio.run(start())


def test_a_file_may_begin_as_windows_editors_begin_it(tmp_path):
    (tmp_path / "a.toml").write_bytes("\ufeffmax_batch = 8\r\n".encode())
    assert read({}, tmp_path / "a.toml", {}).max_batch == 8
