"""The Dockerfile and the systemd unit of the documentation against the server that they start.

No image is built here: its files are copied and installed as Docker would, and its commands run on this machine.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxprop_serve.settings import read
from tests.cli.commands import JAXPROP
from tests.serve.doors import an_app, settings
from tests.serve.running import running

ROOT = Path(__file__).parents[2]
DEPLOYMENT = ROOT / "docs" / "serving"
TOKENS = {
    "JAXPROP_TOKEN": "a-token-of-32-characters-for-all",
    "JAXPROP_ADMIN_TOKEN": "another-token-of-32-characters-x",
}


def instructions():
    """[(instruction, rest)] of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOYMENT / "Dockerfile").read_text("utf-8"), flags=re.M)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def stages():
    """The instructions of each stage."""
    found = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def of(stage, wanted):
    return [rest for word, rest in stage if word == wanted]


def environment():
    """What the image's ENV sets for the server."""
    (text,) = of(stages()[-1], "ENV")
    return dict(pair.split("=", 1) for pair in text.split())


def test_the_image_is_small_and_nobodys():
    """The last stage runs nothing and copies one folder; its user is a number, its program no shell."""
    build, last = stages()
    assert build[0][1].split()[0] == last[0][1] == "python:3.13-slim" and not of(last, "RUN")
    (copied,) = of(last, "COPY")
    assert copied.split()[0] == "--from=build" and copied.split()[1] in of(build, "RUN")[0]
    (user,) = of(last, "USER")
    assert re.fullmatch(r"(\d{4,}):(\d{4,})", user)
    assert json.loads(*of(last, "ENTRYPOINT")) == ["jaxprop", "serve"] and json.loads(*of(last, "CMD")) == ["/models"]
    assert environment()["PATH"].startswith(copied.split()[2] + "/bin:")


def test_its_settings_are_the_servers_and_need_tokens():
    given = {name: value for name, value in environment().items() if name.startswith("JAXPROP_")}
    with pytest.raises(
        ValueError, match="can be reached from other machines: set JAXPROP_TOKEN and JAXPROP_ADMIN_TOKEN"
    ):
        read({}, environment=given)
    found = read({}, environment=given | TOKENS)
    assert found.host == "0.0.0.0" and found.drain_timeout_s < 10  # `docker stop` kills after 10 seconds
    assert of(stages()[-1], "EXPOSE") == [f"{found.port} {found.grpc_port}"]


def is_left_out(path, patterns):
    """Whether .dockerignore leaves a path out: the last pattern that matches it, or a folder that holds it, decides."""
    out = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        expression = re.escape(bare).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(expression, str(one)) for one in (path, *path.parents)):
            out = not pattern.startswith("!")
    return out


def context(folder):
    """Copy what Docker would send to the build into this folder."""
    text = (DEPLOYMENT / "Dockerfile.dockerignore").read_text("utf-8")
    patterns = [line for line in text.splitlines() if line and not line.startswith("#")]
    for path in ROOT.rglob("*"):
        inside = path.relative_to(ROOT)
        if path.is_file() and inside.parts[0] not in (".git", ".venv") and not is_left_out(inside, patterns):
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / inside)


def test_docker_is_sent_the_sources_and_nothing_else(tmp_path):
    context(tmp_path)
    top = {path.name for path in tmp_path.iterdir()}
    assert top == {"pyproject.toml", "README.md", "LICENSE", "jaxprop", "services"}
    assert not [*tmp_path.rglob("__pycache__")] and (tmp_path / "services/jaxprop_serve/server.py").exists()
    copied = [word for rest in of(stages()[0], "COPY") for word in rest.split()[:-1]]
    assert set(copied) == top
    assert (DEPLOYMENT / ".dockerignore").read_bytes() == (DEPLOYMENT / "Dockerfile.dockerignore").read_bytes()


@pytest.mark.slow
def test_what_the_image_installs_serves(tmp_path):
    """The build's pip, without what it would download: the packages of this environment are there already."""
    context(tmp_path)
    (run,) = of(stages()[0], "RUN")
    ((place, extra),) = re.findall(r"pip install --no-cache-dir \"(\.)\[(\w+)\]\"", run)
    assert extra in (tmp_path / "pyproject.toml").read_text("utf-8")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", "site"]
    subprocess.run([*command, place], cwd=tmp_path, check=True)
    code = "import jaxprop_serve.assembly as a, jaxprop_serve.grpc_door.messages as m; print(a.__file__, m.__file__)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PYTHONPATH": str(tmp_path / "site")
    }
    ran = subprocess.run([sys.executable, "-c", code], cwd="/", env=env, check=True, capture_output=True, text=True)
    assert all(file.startswith(str(tmp_path / "site")) for file in ran.stdout.split())


@pytest.mark.slow
def test_its_health_check_is_the_servers(monkeypatch):
    """0 of a server that is ready; not of one that is loading or draining, nor where none is."""
    ((options, command),) = (rest.split("CMD ", 1) for rest in of(stages()[-1], "HEALTHCHECK"))
    assert "--start-period" in options
    program, *rest = json.loads(command)
    assert program == "python"

    def asked(port):
        env = os.environ | {"JAXPROP_PORT": str(port)}
        return subprocess.run([sys.executable, *rest], env=env, capture_output=True, timeout=10).returncode

    app = an_app()
    with running(app, settings(), "off") as port:
        assert asked(port) == 0
        app.models.is_ready = False
        assert asked(port) != 0
    assert asked(port) != 0


READ_ONLY = """
mount --make-rprivate / || exit 9
for place in $(cut -d' ' -f2 /proc/mounts); do mount -o remount,bind,ro "$place" 2>/dev/null; done
touch "$1/file" 2>/dev/null && exit 9
exec "$2" serve "$1" --port 0 --grpc-port 0
"""


@pytest.mark.slow
def test_nothing_is_written(folder):
    """All is read-only, as under `docker run --read-only` and ProtectSystem=strict: it starts and stops."""
    command = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", folder, JAXPROP]
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    try:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here")
    with process:
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                process.terminate()
        logged = process.stderr.read()
    if process.returncode in (1, 9) and not said:
        pytest.skip(f"file systems cannot be made read-only here: {logged[-200:]}")
    assert process.returncode == 0 and said and "rror" not in logged, logged
