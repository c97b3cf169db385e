"""Where models come from: folders. The disk is read anew on each call, so what is published later is found.

    runs/digits                a model (it has model.json or export.json): version "1" of `digits`
    digits=runs/a              the same under a name of your own
    models/                    a repository: digits/1/, digits/2/, ... or folders of models, unversioned

Nothing outside a place is ever opened: names follow one regular expression, and a link that leads out is refused.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from jaxprop.errors import ModelError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")
FILES = ("model.json", "export.json")


class Store(Protocol):
    """Says where models come from. It is made of the places on the command line and asked anew at each load."""

    def names(self) -> list[str]:
        """Return the names of all models."""
        ...

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, whole numbers as text, oldest first; none if it is unknown."""
        ...

    def path(self, name: str, version: str) -> Path:
        """Return the folder of one version, for a runtime. It must be on this machine when this returns."""
        ...


class FolderStore:
    """The models in the folders `places`.

    >>> FolderStore(["no/such/folder"]).names()
    []
    """

    def __init__(self, places: Iterable[str]):
        self.places = [_place(str(place)) for place in places]

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(self._found())

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first; none if it is unknown."""
        return sorted(self._found().get(name, ()), key=int)

    def path(self, name: str, version: str) -> Path:
        """Return the folder of one version. Raises ModelError if it is not there or leads out of its place."""
        try:
            root, folder = self._found()[name][version]
        except KeyError:
            raise ModelError(f"model {name[:128]!r}, version {version[:20]!r}: not in this store") from None
        for file in (folder, *folder.iterdir()):
            if not file.resolve().is_relative_to(root):
                raise ModelError(f"{file}: a link that leads out of {root}; put the files themselves there")
            if not (file.is_file() or file.is_dir()):  # reading a pipe has no end
                raise ModelError(f"{file}: neither a file nor a folder, expected the files of a model alone")
        return folder

    def _found(self) -> dict[str, dict[str, tuple[Path, Path]]]:
        """Return {name: {version: (root, folder)}}."""
        found: dict[str, dict[str, tuple[Path, Path]]] = {}
        for name, root in self.places:
            for key, versions in _models_in(root, name).items():
                if key in found:
                    other = next(iter(found[key].values()))[1]
                    raise ModelError(f"two models are named {key!r}: {other} and {root}; rename one by NAME=FOLDER")
                found[key] = {version: (root, folder) for version, folder in versions.items()}
        return found


def _place(text: str) -> tuple[str | None, Path]:
    """'a=folder' -> ('a', folder); 'folder' -> (None, folder)."""
    name, equals, folder = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text).resolve()
    if not NAME.fullmatch(name):
        raise ModelError(f"{text}: {name!r} is no name for a model: expected letters, digits, '.', '_' and '-'")
    return name, Path(folder).resolve()


def _models_in(root: Path, name: str | None) -> dict[str, dict[str, Path]]:
    """Return {name: {version: folder}} of one place."""
    own = _versions_in(root)
    if own or name:
        return {name or root.name: own} if own and (name or NAME.fullmatch(root.name)) else {}
    children = {folder.name: _versions_in(folder) for folder in _folders(root) if NAME.fullmatch(folder.name)}
    return {key: versions for key, versions in children.items() if versions}


def _versions_in(folder: Path) -> dict[str, Path]:
    """Return {version: folder} of one model: the folder itself, or its numbered folders."""
    if _is_model(folder):
        return {"1": folder}
    return {child.name: child for child in _folders(folder) if VERSION.fullmatch(child.name) and _is_model(child)}


def _is_model(folder: Path) -> bool:
    return any((folder / file).is_file() for file in FILES)


def _folders(folder: Path) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if child.is_dir()]
    except OSError:
        return []
