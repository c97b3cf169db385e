"""Whether the folder of a model holds anything else than when it was loaded.

The bytes decide. A release by a link brings the same weights in a new file, and a network file system may be late with
the times of a file; reading and hashing takes a small part of what compiling does.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from jaxprop_serve.models.stores import below


def digest(folder: Path) -> str | None:
    """Return a SHA-256 of all files in a folder, their names and their bytes; None if one cannot be read."""
    found = hashlib.sha256()
    try:
        for file in _files(folder):
            with file.open("rb") as data:
                of_file = hashlib.file_digest(data, "sha256").hexdigest()
            found.update(f"{str(file.relative_to(folder))!r} {of_file}\n".encode())
    except OSError:
        return None
    return found.hexdigest()


def stamp(folder: Path) -> list[tuple[str, int, int, int]] | None:
    """Return what changes with every write to a file in a folder; None if it cannot be known."""
    try:
        stats = [(str(file), file.stat()) for file in _files(folder)]
    except OSError:
        return None
    return [(name, found.st_ino, found.st_mtime_ns, found.st_ctime_ns) for name, found in stats]


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in below(folder) if file.is_file())
