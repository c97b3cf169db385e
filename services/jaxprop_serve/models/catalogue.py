"""What there is to serve: the store's models, of which the setting `versions` chooses and which a runtime can load."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jaxprop.errors import JaxpropError, ModelError
from jaxprop_serve.errors import ServeError
from jaxprop_serve.models import policy
from jaxprop_serve.models.runtimes import Runtime
from jaxprop_serve.models.stores import Store

T = TypeVar("T")


class Catalogue:
    """A store as the server asks it. All of this may read a disk: call it in the loader's thread.

    Args:
        store: where the models are. If it has an attribute `accepts`, ours is put there.
        runtimes: what can load a folder; the first that accepts it does.
        versions: which are served, as the setting has it.
    """

    def __init__(self, store: Store, runtimes: Sequence[Runtime], versions: str):
        self.store, self.runtimes, self.policy = store, runtimes, versions
        if hasattr(store, "accepts"):
            asking: Any = store
            asking.accepts = self.accepts

    def accepts(self, folder: Path) -> bool:
        """Return whether a runtime can load this folder."""
        return any(one.accepts(folder) for one in self.runtimes)

    def names(self) -> list[str]:
        """Return the names of all models; ModelError if there are none."""
        names = _asked(self.store.names)
        if not names:
            places = ", ".join(str(place) for _, place in getattr(self.store, "places", ())) or "the store"
            raise ModelError(
                f"{places}: no models found, no runtime of {self._kinds()} accepts a folder there; "
                "`jaxprop demo --out runs/demo` trains one in under a minute"
            )
        return names

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model to serve, none if it is unknown; ModelError if the policy leaves none."""
        found = _asked(self.store.versions, name)
        versions = policy.chosen(self.policy, found)
        if found and not versions:
            has = ", ".join(found)
            raise ModelError(f"model '{name}': the store has {has}, versions = {self.policy} is none of them")
        return versions

    def path(self, name: str, version: str) -> Path:
        """Return the folder of one version, as the last look at its `versions` found it."""
        return self.store.path(name, version)

    def runtime(self, path: Path) -> Runtime:
        """Return the runtime that loads this folder; ModelError if there is none."""
        for one in self.runtimes:
            if one.accepts(path):
                return one
        raise ModelError(f"{path}: no runtime of {self._kinds()} accepts it")

    def moved(self, name: str, paths: dict[str, Path | None]) -> bool:
        """Return whether these versions are in other folders by now: a link was moved while they were read."""
        _asked(self.store.versions, name)
        for version, path in paths.items():
            with contextlib.suppress(Exception):  # it is gone, or still cannot be read
                if self.store.path(name, version) != path:
                    return True
        return False

    def check(self) -> dict[str, dict[str, str]]:
        """Return what a start would load, without loading it: {name: {version: name of its runtime}}.

        Raises ModelError, naming the place or the model, if nothing is found or no version of a model can be loaded.
        """
        found = {}
        for name in self.names():
            versions, failure = {}, None
            for version in self.versions(name):
                try:
                    versions[version] = self.runtime(self.path(name, version)).name
                except Exception as error:
                    failure = ModelError(why(name, version, error))
            if failure and not versions:
                raise failure
            found[name] = versions
        return found

    def _kinds(self) -> str:
        return ", ".join(one.name for one in self.runtimes)


def why(name: str, version: str, error: Exception) -> str:
    """Return in one line why a version cannot be loaded."""
    known = isinstance(error, JaxpropError | ServeError)
    return f"model '{name}', version {version}: {error if known else f'{type(error).__name__}: {error}'}"


def _asked(work: Callable[..., T], *arguments: object) -> T:
    """Return what a store says; whatever it raises becomes a ModelError."""
    try:
        return work(*arguments)
    except JaxpropError:
        raise
    except Exception as error:
        raise ModelError(f"the store failed: {type(error).__name__}: {error}") from error
