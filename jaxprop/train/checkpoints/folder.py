"""The folder of a kept run: one folder a checkpoint, each sealed when it is whole.

Orbax writes a checkpoint's arrays under another name and renames it last. Then `run.json` is written, the same way: it
says the rest of the run, and how long every file is and its sum. A checkpoint without it, or with a file that is not as
it says, is not whole: it is never read.
"""

import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

from jaxprop.errors import JaxpropError
from jaxprop.saved.folder import write_whole

SEAL, FORMAT = "run.json", 1
NAME = re.compile(r"checkpoint-(\d+)(\.orbax-checkpoint-tmp.*)?")


def name_of(number: int) -> str:
    """Return the name of a checkpoint's folder.

    >>> name_of(12)
    'checkpoint-000012'
    """
    return f"checkpoint-{number:06d}"


def numbers(folder: Path) -> list[int]:
    """Return the numbers of the checkpoints in a folder, whole or not, the latest first."""
    found = [NAME.fullmatch(child.name) for child in folder.iterdir()] if folder.is_dir() else []
    return sorted({int(match[1]) for match in found if match}, reverse=True)


def seal(checkpoint: Path, about: dict[str, Any]) -> None:
    """Say of a checkpoint that it is whole, and what it is besides its arrays."""
    files = {path.relative_to(checkpoint).as_posix(): [path.stat().st_size, _sum(path)] for path in _files(checkpoint)}
    body = json.dumps({"format": FORMAT, **about, "files": files}, default=_plain)
    write_whole(checkpoint / SEAL, json.dumps({"sum": zlib.crc32(body.encode()), "body": body}).encode())


def read(checkpoint: Path, check: bool = True) -> dict[str, Any]:
    """Return what a whole checkpoint says; raise JaxpropError with the reason for one that is not whole.

    check: whether the sums of its files are taken too.
    """
    try:
        sealed = json.loads((checkpoint / SEAL).read_bytes())
        if sealed["sum"] != zlib.crc32(sealed["body"].encode()):
            raise ValueError
        about = json.loads(sealed["body"])
    except FileNotFoundError:
        raise JaxpropError(f"it was not written to its end: {SEAL} is not there") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise JaxpropError(f"{SEAL} is damaged{f': {error.strerror}' if isinstance(error, OSError) else ''}") from None
    if about["format"] != FORMAT:
        raise JaxpropError(f"{SEAL} is of format {about['format']}, and this version reads {FORMAT}")
    for name, (size, total) in about["files"].items() if check else ():
        _check(checkpoint / name, name, size, total)
    return about


def clear(folder: Path, keep: int, damaged: set[int]) -> None:
    """Remove all but the latest checkpoints that are whole, and what is left of others that were being written."""
    whole = [number for number in numbers(folder) if (folder / name_of(number) / SEAL).exists()]
    kept = [number for number in whole if number not in damaged][:keep]
    for child in folder.iterdir():
        match = NAME.fullmatch(child.name)
        if match and (match[2] or int(match[1]) not in kept):
            shutil.rmtree(child, ignore_errors=True)


def _check(path: Path, name: str, size: int, total: int) -> None:
    try:
        found = path.stat().st_size
        if found != size:
            raise JaxpropError(f"{name} is {found} bytes long, expected {size}")
        if _sum(path) != total:
            raise JaxpropError(f"{name} has other bytes than were written")
    except OSError as error:
        raise JaxpropError(f"{name} cannot be read: {error.strerror}") from None


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL)


def _sum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            total = zlib.crc32(block, total)
    return total


def _plain(value: Any) -> Any:
    """A number of numpy's or JAX's as Python's: `on_epoch` may have added one to its row."""
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        return value.item()
    raise JaxpropError(
        f"fit: a row of the history holds {type(value).__name__}, which a checkpoint cannot: let on_epoch add numbers, "
        "text, or lists of them"
    )
