"""Commands that train or serve start with huge pages: once, where the system has them, and not where they are off."""

import os
import subprocess
import sys

import pytest

from jaxprop import huge_pages

# what a process finds that was started as `python -m jaxprop` and would run the command line now
SHOW = """
import os, runpy, sys, types
import jaxprop.huge_pages as huge_pages
{before}
cli = types.ModuleType("jaxprop.cli")
def main():
    print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:], sys.stdin.read())
    sys.exit(7)
cli.main = main
sys.modules["jaxprop.cli"] = cli
"""


def started(tmp_path, *args, before="", command=("-m", "jaxprop"), **environment):
    """Run a command whose inside is replaced, and return its process and what it printed."""
    (tmp_path / "sitecustomize.py").write_text(SHOW.format(before=before))
    kept = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", "JAXPROP_HUGE_PAGES")}
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    run = subprocess.Popen(
        [sys.executable, *command, *args], env={**kept, "PYTHONPATH": path, **environment}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = run.communicate("from stdin", timeout=60)
    assert run.returncode == 7, err
    number, *rest = out.split(" ", 2)
    assert int(number) == run.pid
    return rest


HAVE = "huge_pages._available = lambda: True"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has them")
@pytest.mark.parametrize("tunables", [None, "glibc.malloc.arena_max=2"])
def test_a_command_that_trains_starts_once_more_with_the_same_arguments_streams_and_process_number(tmp_path, tunables):
    given = {} if tunables is None else {"GLIBC_TUNABLES": tunables}
    found, said = started(tmp_path, "train", "digits", "--name", "a b", before=HAVE, **given)
    assert found == (f"{tunables}:" if tunables else "") + "glibc.malloc.hugetlb=1"
    assert said == "train digits --name a b from stdin\n"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has them")
@pytest.mark.parametrize(
    ("args", "before", "environment", "found"),
    [
        (["check"], HAVE, {}, "None"),
        (["train", "--help"], HAVE, {"JAXPROP_HUGE_PAGES": "off"}, "None"),
        (["train"], HAVE, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, "glibc.malloc.hugetlb=0"),
        (["train"], "huge_pages._available = lambda: False", {}, "None"),
        (["train"], HAVE + "\nsys.settrace(lambda *_: None)", {}, "None"),
    ],
    ids=["another command", "off", "the user's own", "not available", "a debugger"],
)
def test_a_command_goes_on_as_it_is(tmp_path, args, before, environment, found):
    assert started(tmp_path, *args, before=before, **environment)[0] == found


def test_a_start_that_lost_its_tunables_does_not_go_round():
    assert huge_pages.wanted("serve", {"JAXPROP_HUGE_PAGES": str(os.getpid())}) is None


def test_a_program_that_calls_the_command_line_is_not_started_again():
    assert not huge_pages._is_the_command()


@pytest.mark.parametrize(
    ("library", "mode", "available"),
    [
        ("glibc 2.41", "always [madvise] never", True),
        ("glibc 2.34", "always [madvise] never", False),
        ("glibc 2.41", "[always] madvise never", False),
        ("glibc 2.41", None, False),
        (None, "always [madvise] never", False),
        ("musl 1.2", "always [madvise] never", False),
    ],
)
def test_only_glibc_and_a_kernel_that_gives_pages_on_demand(tmp_path, monkeypatch, library, mode, available):
    if mode is not None:
        (tmp_path / "enabled").write_text(mode + "\n")
    monkeypatch.setattr(huge_pages, "MODE", tmp_path / "enabled")
    monkeypatch.setattr(huge_pages.os, "confstr", lambda _: library, raising=False)
    assert huge_pages._available() is available
