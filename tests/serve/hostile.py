"""Loads every model below a folder, one after the other, and prints what became of each: JSON, a line each.

    python -m tests.serve.hostile FOLDER WARM

WARM is a folder of good models, loaded first, so that all of our own code is imported before it is watched: from then
on an audit hook notes what an intruder would do: run code, import, start processes, open sockets, read elsewhere.
"""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from jaxprop_serve.errors import ServeError
from jaxprop_serve.models.lifecycle import Models
from jaxprop_serve.models.runtimes import exported, saved
from jaxprop_serve.models.stores import FolderStore
from jaxprop_serve.settings import Settings

FORBIDDEN = (
    "exec", "import", "marshal.loads", "pickle.find_class", "code.__new__", "ctypes.dlopen", "os.system", "os.exec",
    "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn", "subprocess.Popen", "socket.connect",
    "socket.bind", "socket.getaddrinfo", "os.remove", "os.rename", "os.mkdir", "os.symlink", "os.chmod",
)  # fmt: skip
seen: list[str] = []
watched: list[Path] = []  # the folder of the model that is being loaded


def hook(event, arguments):
    if not watched:
        return
    if event in FORBIDDEN:
        seen.append(f"{event} {str(arguments)[:200]}")
    elif event == "open" and isinstance(arguments[0], str):
        path = Path(arguments[0]).resolve()
        library = path.is_relative_to(sys.prefix) or path.is_relative_to(sys.base_prefix) or path.suffix == ".py"
        if not path.is_relative_to(watched[0]) and not library:
            seen.append(f"open {path}")


async def load(models, name, folder):
    """Try to load one; what is told of it, what the hook saw, and what it took."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen.clear()
    watched[:] = [folder]
    began = time.monotonic()
    try:
        await models.load(name)
        status, text = 200, ""
    except ServeError as error:
        status, text = error.status, error.text
    watched.clear()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return dict(name=name, status=status, text=text, seen=list(seen), mb=grown, seconds=time.monotonic() - began)


async def main(places, warm):
    for place in (warm, places):
        models = Models(FolderStore([place]), [saved, exported], Settings(max_batch=2))
        for folder in sorted(Path(place).iterdir()):
            told = await load(models, folder.name, folder)
            if place != warm:
                print(json.dumps(told), flush=True)
        await models.stop()


if __name__ == "__main__":
    sys.addaudithook(hook)
    asyncio.run(main(*sys.argv[1:]))
