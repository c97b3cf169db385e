"""A command that trains or serves starts with huge pages, where the system gives them to those who ask.

Each step of a network allocates its temporary arrays anew, and the kernel gives fresh memory page by page: with pages
of 4 kB that is up to a third of a large step on a CPU. glibc (2.35 and later) asks for pages of 2 MB where the tunable
`glibc.malloc.hugetlb=1` is in the environment as a process starts. So such a command puts it there and starts itself
once more in the same process, before anything heavy is imported: arguments, streams, process number and what is ignored
of signals stay. Processes that it starts inherit the setting. A script sets the variable itself: nothing is changed in
a process that is not the command.

Nothing is done on systems other than Linux with glibc, nor where the kernel's mode is not `madvise`: with `always` it
gives huge pages unasked, with `never` to nobody. JAXPROP_HUGE_PAGES=off switches it off, and so does a tunable
`glibc.malloc.hugetlb` of the user's own. Source: the manual of glibc, "Memory Allocation Tunables"; the kernel's
`admin-guide/mm/transhuge.rst`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

COMMANDS = frozenset({"demo", "train", "sweep", "serve", "explore", "ray"})
SWITCH, TUNABLES, HUGE = "JAXPROP_HUGE_PAGES", "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
STARTS = frozenset({"jaxprop.__main__", "jaxprop_serve.__main__"})


def start_with_huge_pages() -> None:
    """Start this process once more with huge pages, if it is a command that gains by them and can have them."""
    environment = wanted(next(iter(sys.argv[1:]), ""), os.environ)
    if environment is None or not _is_the_command() or not _available():
        return
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    except OSError:  # then without: they are for speed alone
        return


def wanted(command: str, environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the environment to start `command` with, or None where it is to go on as it is.

    >>> wanted("train", {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"})["GLIBC_TUNABLES"]
    'glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1'
    >>> wanted("check", {}), wanted("train", {"JAXPROP_HUGE_PAGES": "off"})
    (None, None)
    """
    tunables, switch = environment.get(TUNABLES, ""), environment.get(SWITCH, "").strip().lower()
    started = str(os.getpid())  # which stays: the second start knows itself by it, whatever becomes of the tunables
    if command not in COMMANDS or switch in ("off", "no", "false", "0", started) or HUGE in tunables:
        return None
    return {**environment, TUNABLES: f"{tunables}:{HUGE}=1".lstrip(":"), SWITCH: started}


def _is_the_command() -> bool:
    """Tell whether this process is `jaxprop` and nothing else: no test, debugger or program that calls it."""
    main = sys.modules.get("__main__")
    module = getattr(getattr(main, "__spec__", None), "name", None)
    script = Path(getattr(main, "__file__", None) or "").name
    alone = module in STARTS or (module is None and script == "jaxprop")
    return alone and sys.gettrace() is None and bool(sys.executable)


def _available() -> bool:
    """Tell whether glibc can ask for huge pages, and the kernel gives them to those who ask."""
    try:
        library, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        numbers = tuple(int(part) for part in version.split(".")[:2])
        return library == "glibc" and numbers >= (2, 35) and "[madvise]" in MODE.read_text()
    except (AttributeError, OSError, ValueError):  # no confstr: Windows; no such name: another libc
        return False
