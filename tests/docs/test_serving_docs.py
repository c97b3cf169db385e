"""The pages of serving: every command in them runs, and prints what is shown; their tables are the server's."""

import csv
import os
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from jaxprop_serve.http1.endpoints import ROUTES
from jaxprop_serve.http1.openapi import describing
from jaxprop_serve.settings import Settings, read
from jaxprop_serve.why.explain import Explain
from tests.cli.commands import JAXPROP
from tests.docs.pages import Reader, commands, is_shown
from tests.docs.test_docs import ROOT

SERVING = ROOT / "docs" / "serving.md"
PAGES = ROOT / "docs" / "serving"


def test_what_is_shown_is_compared():
    said = '{"model":"ship","rows":[[0.8795,0.5548]],"labels":["no"]}\n'
    assert is_shown('{"model":"ship","rows":[[0.8799,0.5548]],\n "labels":["no"]}', said)
    assert is_shown('{"model":"ship",...}', said) and not is_shown('{"model":"ship","rows":[[0.5,0.5548]],...}', said)
    assert not is_shown('{"model":"ship"', said) and not is_shown('{"labels":["no"]}', said)


def test_commands_end_where_bash_ends_them():
    text = "a 'x\ny' \\\n  --b\nc \"it's\"\n# d"
    assert commands(text) == ["a 'x\ny' \\\n  --b", 'c "it\'s"', "# d"]


def ship(path, rows=400):
    """A table of passengers."""
    r = np.random.default_rng(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["age", "sex", "port", "fare", "boarded", "survived"])
        for _ in range(rows):
            age, sex = int(r.integers(1, 80)), r.choice(["female", "male"])
            fare, day = (
                f"${r.lognormal(3, 0.6):.2f}",
                np.datetime64("1912-04-10") + np.timedelta64(int(r.integers(0, 2)), "D"),
            )
            survived = r.random() < 1 / (1 + np.exp(1 + 0.02 * (age - 30) - 2 * (sex == "female")))
            known = age if r.random() < 0.9 else ""
            table.writerow([known, sex, r.choice(["S", "C"]), fare, day, "yes" if survived else "no"])


@pytest.mark.slow
def test_the_pages_of_serving_print_what_they_show(tmp_path):
    """One reader for all pages, in the order of the site, with the server that the pages before left running."""
    ship(tmp_path / "ship.csv")
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "runs").symlink_to(tmp_path / "runs")
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    for name in ("docs", "jaxprop", "services", "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).symlink_to(ROOT / name)
    with Reader(tmp_path, PIP_NO_DEPS="1", PIP_NO_BUILD_ISOLATION="0", PIP_QUIET="1") as reader:
        reader.read(SERVING)
        reader.read(PAGES / "explanations.md")
        reader.read(PAGES / "operating.md")
        every_metric_is_named(reader.run('curl -H "Authorization: Bearer $(cat token)" http://127.0.0.1:8000/metrics'))
        reader.read(PAGES / "deployment.md", "docker ", "systemctl ", "kubectl ")
        the_plugin_of_the_readme_explains(tmp_path / "plugin")
        (tmp_path / "srv").mkdir()
        (tmp_path / "runs").rename(tmp_path / "srv" / "models")
        the_unit_serves(tmp_path / "etc/systemd/system/jaxprop.service", reader)


def the_plugin_of_the_readme_explains(folder):
    """In an environment of its own, which `pip install` and the server share."""
    site = str(folder / "site")
    paths = os.pathsep.join([site, *sys.path])
    with Reader(folder, PIP_TARGET=site, PIP_NO_BUILD_ISOLATION="0", PIP_QUIET="1", PYTHONPATH=paths) as reader:
        reader.read(ROOT / "services" / "README.md", files="occlusion")


def the_unit_serves(file, reader):
    """Its command, with what the page has put into /opt, /etc and /srv; it says when it is ready and reloads."""
    unit = [line.partition("=")[::2] for line in file.read_text("utf-8").splitlines() if "=" in line and line[0] != "#"]
    one = dict(unit)
    assert "DynamicUser" in one and one["ExecReload"] == "kill -HUP $MAINPID"
    credentials = dict(value.split(":") for name, value in unit if name == "LoadCredential")
    environment = dict(pair.split("=") for name, value in unit if name == "Environment" for pair in value.split())
    assert {value.removeprefix("%d/") for name, value in environment.items() if "TOKEN" in name} == set(credentials)
    environment = {name: value.replace("%d", "/etc/jaxprop") for name, value in environment.items()}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(reader.folder / "notify"))
        told.settimeout(20)
        given = {name: reader.here(value) for name, value in environment.items()}
        reader.environment |= given | {"NOTIFY_SOCKET": told.getsockname()}
        assert "Ctrl-C stops" in reader.run(one["ExecStart"])
        assert told.recv(100) == b"READY=1"
        reader.run(one["ExecReload"].replace("$MAINPID", str(reader.servers["8000"].pid)))
        assert told.recv(100).startswith(b"RELOADING=1") and told.recv(100) == b"READY=1"
        drained = read({}, reader.folder / "etc/jaxprop/serve.toml", {}).drain_timeout_s
        assert drained < int(one["TimeoutStopSec"])
        reader.stop("8000")
        assert told.recv(100) == b"STOPPING=1"


@pytest.mark.slow
def test_systemd_takes_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not here")
    text = (PAGES / "jaxprop.service").read_text("utf-8").replace("/opt/jaxprop/bin/jaxprop", JAXPROP)
    (tmp_path / "jaxprop.service").write_text(text)
    said = subprocess.run(["systemd-analyze", "verify", tmp_path / "jaxprop.service"], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")


def table(page, title):
    """Rows of the tables in this section of a page, as lists of cells."""
    (section,) = re.findall(rf"^## {title}$(.*?)(?=^## |\Z)", page.read_text("utf-8"), re.M | re.S)
    lines = re.findall(r"^\|(.*)\|$", section, re.M)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_the_table_of_settings_is_the_servers():
    """Each setting once, with its default."""
    found = {}
    for row in table(PAGES / "operating.md", "Settings"):
        names = re.findall(r"`(\w+)`", row[0])
        if names:
            values = row[1].split(", ") if len(names) > 1 and row[1] != "ours" else [row[1]] * len(names)
            values *= len(names) if len(values) == 1 else 1
            assert not set(names) & set(found) and len(names) == len(values), row
            found |= dict(zip(names, values, strict=True))
    assert set(found) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        given = found[name].removesuffix(" rows")
        if given == "none":
            assert field.default in (None, ()), name
        elif given != "ours":
            assert getattr(Settings(**{name: given}), name) == field.default, name


def test_every_route_is_in_the_table_of_what_is_answered():
    named = set()
    for row in table(SERVING, "What it answers"):
        full = ""
        for path in re.findall(r"`(?:GET |POST )?([/.]\S*)`", row[1]) if len(row) == 3 else ():
            path = path.replace("...", "/v2/models/{m}").replace("{m}", "{model}")
            full = full.rpartition("/")[0] + path if full and not path.startswith("/v2") else path
            named.add(full)
    all_routes = [*ROUTES, *Explain({}, Settings()).routes(), describing([], Settings())]
    routes = {route.path.replace("/versions/{version}", "") for route in all_routes}
    assert named == routes - {"/v2/"}


def every_metric_is_named(text):
    """In a table, and no other; those of Prometheus' own collectors by what they begin with."""
    rows = table(PAGES / "operating.md", "Metrics")
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} - {"jaxprop_"}
    families = re.findall(r"^# TYPE (\w+)", text, re.M)
    assert {name.removeprefix("jaxprop_") for name in families if name.startswith("jaxprop_")} == named
    assert {name.partition("_")[0] for name in families} == {"jaxprop", "process", "python"}
