"""A folder whose files change all at once: the new ones are written first, the one that names them is replaced last.

A reader sees the old files or the new ones, whole, also if the writer is killed at any instant; what a killed writer
left behind is removed by the next one. Nothing here needs JAX.
"""

import contextlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxprop.errors import ModelError

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None

Place = str | os.PathLike[str]
DESCRIPTIONS = ("model.json", "export.json")  # each names its files: {"weights": {"file": ..., "sha256": ...}, ...}
_DATA = r"params-[0-9a-f]{12}\.safetensors|model-[0-9a-f]{12}\.stablehlo"
_OURS = re.compile(rf"{_DATA}|\.({_DATA}|model\.json|export\.json)\.\w+")


def commit(folder: Path, files: dict[str, bytes]) -> None:
    """Write `files` in their order, the description last; then remove what no description names any more.

    Raises ModelError, with what the operating system refused; what was there before then stays whole.

    >>> folder = Path(tempfile.mkdtemp())
    >>> for data in (b"old", b"new"):
    ...     name = f"params-{data.hex():0>12}.safetensors"
    ...     commit(folder, {name: data, "model.json": json.dumps({"weights": {"file": name}}).encode()})
    >>> sorted(file.name for file in folder.iterdir())
    ['model.json', 'params-0000006e6577.safetensors']
    """
    with writing(folder), _alone(folder):
        try:
            for name, data in files.items():
                write_whole(folder / name, data)
        finally:
            _sweep(folder)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make the folder, and turn what the operating system refuses into a ModelError that says what to do.

    A folder that was made here goes again if it is left empty by an error.
    """
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        yield
    except OSError as error:
        _remove_empty(absent)
        reason = "a file of that name exists" if isinstance(error, FileExistsError) else error.strerror or error
        raise ModelError(f"{folder}: cannot be written: {reason}; choose another folder") from None
    except BaseException:
        _remove_empty(absent)
        raise


def check_writable(folder: Path) -> None:
    """Raise ModelError unless files can be written to the folder; none is left behind, not even the folder itself.

    >>> place = Path(tempfile.mkdtemp(), "runs", "new")
    >>> check_writable(place)
    >>> place.parent.exists()
    False
    """
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    with writing(folder):
        _remove_empty(absent)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, as far as they are empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other writers of the folder out, so that none removes files that another is about to name.

    Some file systems and Windows have no such lock; there, who writes one folder twice at once must know it.
    """
    descriptor = None
    if fcntl is not None:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def write_whole(file: Path, data: bytes) -> None:
    """Write a file whole, durably, or not at all; who may read it is the umask's to say, as for any file."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # not every file system can open or sync a folder
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _sweep(folder: Path) -> None:
    """Remove files of our own kinds that no description names: nothing, as long as one of them cannot be read."""
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        named = set()
        for description in DESCRIPTIONS:
            with contextlib.suppress(FileNotFoundError):
                parts = json.loads((folder / description).read_bytes()).values()
                named |= {str(part.get("file")) for part in parts if isinstance(part, dict)}
        for file in folder.iterdir():
            if _OURS.fullmatch(file.name) and file.name not in named:
                file.unlink(missing_ok=True)
