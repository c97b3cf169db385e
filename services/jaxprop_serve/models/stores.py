"""Where models come from: folders. The disk is read anew on each call, so what is published later is found.

    runs/digits                a model (a runtime accepts the folder): version "1" of `digits`
    digits=runs/a              the same under a name of your own
    models/                    a repository: digits/1/, digits/2/, ... or folders of models, unversioned

A place may be a symbolic link, or lie behind one (`current` → `release-7`): it is followed anew at each load, and its
own name is the model's. Nothing outside of what it then leads to is ever opened: names follow one regular expression,
and a link further down that leads out is refused.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from jaxprop.errors import ModelError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")
Found = dict[str, tuple[Path, Path]]  # by version: the place, with its links followed, and the folder in it


class Store(Protocol):
    """Says where models come from. It is made of the places on the command line and asked anew at each load.

    A load asks for `versions` once and then for the `path` of each, so a store that knows them from one look at its
    place should give paths of that look. A store that looks for models in folders may have an attribute `accepts`: the
    server puts a function there, `accepts(folder)`, which says whether a runtime that the settings allow can load it.
    """

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

    `accepts(folder)` says whether a folder is a model's; the server sets it. By itself any folder is that holds files.

    >>> FolderStore(["no/such/folder"]).names()
    []
    """

    def __init__(self, places: Iterable[str]):
        self.places = [_place(str(place)) for place in places]
        self.accepts: Callable[[Path], bool] = _holds_files
        self._looked: dict[str, Found] = {}  # what the last `versions` of a model found: its load reads that

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(self._found())

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first; none if it is unknown."""
        found = self._found(name).get(name, {})
        self._looked.pop(name, None)
        if found:
            self._looked[name] = found
        return sorted(found, key=int)

    def path(self, name: str, version: str) -> Path:
        """Return the folder of one version, with all links followed. Raises ModelError if it is not there, cannot be
        read or leads out of its place."""
        found = self._looked.get(name, {})
        if version not in found:
            found = self._found(name).get(name, {})
        if version not in found:
            raise ModelError(f"model {name[:128]!r}, version {version[:20]!r}: not in this store")
        root, folder = found[version]
        try:
            return _checked(folder, root)
        except OSError as error:
            raise ModelError(f"{error.filename or folder}: cannot be read: {error.strerror}") from None

    def _found(self, only: str | None = None) -> dict[str, Found]:
        """Return {name: {version: (root, folder)}}, of a repository only the model of that name, if one is given."""
        found: dict[str, Found] = {}
        for name, place in self.places:
            root = _real(place)  # once: all that is found here is of one release, though the link moves meanwhile
            for key, versions in self._models_in(root, name, _name(place), only).items():
                if key in found:
                    other = next(iter(found[key].values()))[1]
                    raise ModelError(f"two models are named {key!r}: {other} and {place}; rename one by NAME=FOLDER")
                found[key] = {version: (root, folder) for version, folder in versions.items()}
        return found

    def _models_in(self, root: Path, name: str | None, own_name: str, only: str | None) -> dict[str, dict[str, Path]]:
        """Return {name: {version: folder}} of one place."""
        own = self._versions_in(root)
        if own or name:
            return {name or own_name: own} if own and (name or NAME.fullmatch(own_name)) else {}
        folders = _folders(root, lambda child: only in (None, child) and bool(NAME.fullmatch(child)))
        children = {folder.name: self._versions_in(folder) for folder in folders}
        return {key: versions for key, versions in children.items() if versions}

    def _versions_in(self, folder: Path) -> dict[str, Path]:
        """Return {version: folder} of one model: the folder itself, or its numbered folders.

        A folder that cannot be looked into counts as a model: its load says why it cannot be read, and no other model
        suffers from it.
        """
        try:
            if self._is_model(folder):
                return {"1": folder}
            children = _folders(_real(folder), lambda child: bool(VERSION.fullmatch(child)))
            return {child.name: child for child in children if self._is_model(child)}
        except OSError:
            return {"1": folder}

    def _is_model(self, folder: Path) -> bool:
        try:
            return self.accepts(folder)
        except Exception:
            return True  # its load says what is wrong


def _place(text: str) -> tuple[str | None, Path]:
    """'a=folder' -> ('a', folder); 'folder' -> (None, folder)."""
    name, equals, folder = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text).absolute()
    if not NAME.fullmatch(name):
        raise ModelError(f"{text}: {name!r} is no name for a model: expected letters, digits, '.', '_' and '-'")
    return name, Path(folder).absolute()


def _name(place: Path) -> str:
    """Return what a place is called: by its own name, not by that of what it leads to, unless it is `..`."""
    return _real(place).name if place.name == ".." else place.name


def _real(path: Path) -> Path:
    """Follow all links. Links that go round in a circle lead nowhere, and are no error yet."""
    return Path(os.path.realpath(path))


def _folders(folder: Path, wanted: Callable[[str], bool]) -> list[Path]:
    try:
        return [child for child in folder.iterdir() if wanted(child.name) and child.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(child.is_file() for child in folder.iterdir())


def _checked(folder: Path, root: Path) -> Path:
    """Return the folder with its links followed.

    Raises ModelError for a link that leads out of `root`, and for what is neither a file nor a folder.
    """
    real = _release(_real(folder))
    for file in (folder, *below(real)):
        if not (real if file is folder else _real(file)).is_relative_to(root):
            raise ModelError(f"{file}: a link that leads out of {root}; put the files themselves there")
        if not (file.is_file() or file.is_dir()):  # reading a pipe has no end
            raise ModelError(f"{file}: neither a file nor a folder, expected the files of a model alone")
    return real


def _release(folder: Path) -> Path:
    """Return the one folder that all files of `folder` are links into, if there is one.

    A ConfigMap of Kubernetes is such a folder (model.json → ..data/model.json, ..data → ..2026_11_27). What is read
    from there is of one release, though the link moves meanwhile.
    """
    before: list[Path] = []
    while True:
        files = [child for child in sorted(folder.iterdir()) if not child.name.startswith("..")]
        real = [_real(file) for file in files]
        if [file.name for file in files] == [file.name for file in real] and len({file.parent for file in real}) == 1:
            return real[0].parent
        if real == before:  # else the link has moved while we looked
            return folder
        before = real


def below(folder: Path) -> Iterator[Path]:
    """Yield all that is in a folder and in the folders in it, once each, links included.

    A folder in it that may not be read is left out: `lost+found` of a volume, from which no runtime reads either.
    """
    waiting, seen = [folder], set[Path]()
    while waiting:
        here = waiting.pop()
        try:
            found = [(child, child.is_dir()) for child in sorted(here.iterdir())]
        except PermissionError:
            if here == folder:
                raise
            continue
        for child, is_folder in found:
            yield child
            if is_folder and (real := _real(child)) not in seen:
                seen.add(real)
                waiting.append(child)
