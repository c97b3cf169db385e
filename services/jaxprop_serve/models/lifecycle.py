"""Models by name and version: loaded aside, warmed, swapped in at once; what runs is let go when nobody uses it.

    UNAVAILABLE → LOADING → WARMING → READY → DRAINING → UNLOADED

A request holds on to the version that it met. A load that fails leaves what runs as it is, and says why in `index`.
"""

import asyncio
import contextlib
import math
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from jaxprop.errors import JaxpropError
from jaxprop_serve.errors import ServeError
from jaxprop_serve.models import changes
from jaxprop_serve.models.batcher import INLINE_BATCH_S, INLINE_ONE_S, Batcher, Lane
from jaxprop_serve.models.catalogue import Catalogue, why
from jaxprop_serve.models.runtimes import Loaded, Runtime
from jaxprop_serve.models.statistics import Statistics
from jaxprop_serve.models.stores import Store
from jaxprop_serve.models.turns import Turns
from jaxprop_serve.models.warming import check_rows, warm
from jaxprop_serve.settings import Settings

T = TypeVar("T")
Known = dict[str, dict[str, str | None]]


class Served:
    """One version of one model that answers. `Models.pin` gives it; `infer` and `admit` are its batcher's."""

    def __init__(
        self, name: str, version: str, loaded: Loaded, batcher: Batcher, bit_exact: bool, digest: str | None = None
    ):
        self.name, self.version, self.loaded, self.batcher = name, version, loaded, batcher
        self.signature, self.statistics = loaded.signature, batcher.statistics
        self.infer, self.admit = batcher.infer, batcher.admit
        self.bit_exact = bit_exact  # whether a row's answer has the same bits alone and in the largest batch
        self.digest = digest  # of its folder, where that did not change while it was read
        self.refs = 0
        self.idle = asyncio.Event()  # once nobody holds it any more, after it was retired
        self.retired = False

    def __enter__(self) -> "Served":
        self.refs += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.refs -= 1
        if self.retired and not self.refs:
            self.idle.set()

    def retire(self) -> None:
        """Take it out of service: no request meets it from now on."""
        self.retired = True
        if not self.refs:
            self.idle.set()


class Repository(Protocol):
    """Loads and unloads."""

    async def load(self, name: str) -> None:
        """Load or reload a model."""
        ...

    async def unload(self, name: str) -> None:
        """Unload a model."""
        ...


class Models:
    """All models of one server. Everything but the loading itself happens in the event loop's thread.

    Args:
        store: where the models are.
        runtimes: what can load a folder; the first that accepts it does.
        settings: versions, max_batch, batching, max_delay_us, max_queue_rows, max_queue_bytes, drain_timeout_s.

    `log(level, event, **fields)` hears of every load and unload; a server sets it.
    """

    def __init__(self, store: Store, runtimes: Iterable[Runtime], settings: Settings):
        self.store, self.runtimes, self.settings = store, tuple(runtimes), settings
        self.catalogue = Catalogue(store, self.runtimes, settings.versions)
        self.log: Callable[..., None] = lambda *_, **__: None
        self.statistics: defaultdict[tuple[str, str], Statistics] = defaultdict(Statistics)
        self._served: dict[str, dict[str | None, Served]] = {}  # by version; None is the highest
        self._states: dict[tuple[str, str], tuple[str, str]] = {}  # (state, reason)
        self.turns = Turns()
        self._loader = ThreadPoolExecutor(1, "load")
        self._computer = ThreadPoolExecutor(1, "compute")
        self._lanes = Lane(), Lane(self._computer)
        self._answering = False
        self.everywhere: Repository = self  # who loads and unloads in all processes of a server: see workers.py

    async def start(self, known: Known | None = None) -> None:
        """Load and warm everything in the store. JaxpropError or ServeError, naming the model, if no version of one can
        be; where others can, a version that cannot (half written, say) is UNAVAILABLE and does not hold up the rest.

        With `known`, load these versions alone, and all of them: the rest counts as unloaded.
        """
        for name in await self._aside(self.catalogue.names):
            if known is not None and name not in known:
                versions = await self._aside(self.catalogue.versions, name)
                self._states |= {(name, version): ("UNLOADED", "") for version in versions}
                continue
            only = known and known[name]
            try:
                await self.turns.take(name, "load", lambda name=name, only=only: self._load(name, only))
            except ServeError:
                if not self.versions(name) or known is not None:
                    raise
        await self._aside(_give_way)  # not before: threads that XLA starts for computing would inherit it
        self._answering = True

    def ready(self) -> bool:
        """Return whether requests should come here: not before `start` is done, nor after `drain`."""
        return self._answering

    def drain(self) -> None:
        """Let `ready` be False from now on. Requests are still answered."""
        self._answering = False

    async def stop(self) -> None:
        """Let go of everything. Requests under way have `drain_timeout_s` to end."""
        self.drain()
        await asyncio.gather(*(self._drained(name, None) for name in list(self._served)))
        for pool in (self._loader, self._computer):
            pool.shutdown(wait=False, cancel_futures=True)

    def pin(self, name: str, version: str | None = None) -> Served:
        """Return the highest version that is ready, or that one, for a `with`. Raises ServeError 404 or 503."""
        try:
            return self._served[name][version or None]
        except KeyError:
            raise self._absent(name, version) from None

    def versions(self, name: str) -> list[str]:
        """Return the versions that are ready, oldest first."""
        return sorted((version for version in self._served.get(name, ()) if version), key=int)

    def known(self) -> Known:
        """Return what is ready, as another process can be told: {name: {version: digest of its folder}}."""
        return {
            name: {version: served.digest for version, served in versions.items() if version}
            for name, versions in self._served.items()
        }

    def index(self) -> list[dict[str, str]]:
        """Return the state of every version that was to be loaded and is still in the store, and the reason."""
        return [
            {"name": name, "version": version, "state": state, "reason": reason}
            for (name, version), (state, reason) in sorted(self._states.items(), key=_in_order)
        ]

    async def load(self, name: str) -> None:
        """Load the versions of a model that are new or have changed. ServeError 404 if the store has none, 400 with the
        reason if one cannot be loaded; those that ran go on."""
        await self.turns.take(name, "load", lambda: self._load(name))

    async def reload(self) -> None:
        """Load all that is in the store and was not unloaded. What cannot be is logged, and what runs goes on."""
        try:
            names = await self._aside(self.catalogue.names)
        except JaxpropError as error:
            self.log("error", "reload failed", reason=str(error))
            return
        unloaded = {name for (name, _), (state, _) in self._states.items() if state == "UNLOADED"}
        for name in names:
            if name not in unloaded or self.versions(name):
                with contextlib.suppress(ServeError):  # it is in the log
                    await self.load(name)

    async def unload(self, name: str) -> None:
        """Take no more requests for a model, answer those that run, let go. ServeError 404 if it is unknown."""
        await self.turns.take(name, "unload", lambda: self._unload(name))

    async def _load(self, name: str, only: Iterable[str] | None = None, once_more: bool = True) -> None:
        try:
            versions = await self._aside(self.catalogue.versions, name)
        except JaxpropError as error:
            self.log("error", "load failed", model=name, reason=str(error), kept=bool(self.versions(name)))
            raise ServeError(400, str(error)) from None
        if not versions:
            self._forget(name, self.versions(name))
            raise ServeError(404, f"unknown model '{name[:128]}': the store has no such model")
        if only is not None:
            versions = [version for version in versions if version in only]
        failed, paths = "", dict[str, Path | None]()
        for version in versions:
            failed = await self._load_version(name, version, paths) or failed
        if failed and once_more and await self._aside(self.catalogue.moved, name, paths):
            return await self._load(name, only, once_more=False)
        if failed:
            raise ServeError(400, failed)
        for version in set(self.versions(name)) - set(versions):
            await self._drained(name, version)
            reason = f"not in the store, or not among versions = {self.settings.versions}"
            self.log("info", "unloaded", model=name, version=version, reason=reason)
        self._forget(name, versions)

    async def _load_version(self, name: str, version: str, paths: dict[str, Path | None]) -> str:
        """Load one version beside the one that runs, and swap; nothing if that one is the same. Return why it failed,
        or "". Its folder is put into `paths`."""
        key, old = (name, version), self._served.get(name, {}).get(version)
        loop, began = asyncio.get_running_loop(), time.monotonic()

        def say(state: str) -> None:
            if old is None:
                loop.call_soon_threadsafe(self._states.__setitem__, key, (state, ""))

        say("LOADING")
        try:
            served = await self._aside(self._prepare, name, version, old and old.digest, paths, say)
        except Exception as error:  # whatever a runtime raises: what runs must go on
            failed = why(name, version, error)
            self._states[key] = ("UNAVAILABLE", failed) if old is None else ("READY", f"the reload failed: {failed}")
            self.log("error", "load failed", model=name, version=version, reason=failed, kept=old is not None)
            return failed
        self._states[key] = "READY", ""
        if served is None:
            self.log("info", "unchanged", model=name, version=version)
            return ""
        self._served.setdefault(name, {})[version] = served
        self._choose(name)
        self.log("info", "loaded", model=name, version=version, seconds=round(time.monotonic() - began, 3))
        if old is not None:
            old.retire()
        return ""

    def _prepare(
        self, name: str, version: str, old: str | None, paths: dict[str, Path | None], say: Callable[[str], None]
    ) -> Served | None:
        """Load a version, then compile, run and check every bucket; None if the digest of its folder is still `old`.

        This runs in the loader's thread.
        """
        settings, paths[version] = self.settings, None
        paths[version] = path = self.catalogue.path(name, version)
        before, digest = changes.stamp(path), changes.digest(path)
        if digest is not None and digest == old:
            return None
        loaded = self.catalogue.runtime(path).load(path)
        check_rows(loaded, settings.max_body_bytes)
        say("WARMING")
        executables, seconds, bit_exact = warm(loaded, settings.max_batch if settings.batching else 1)
        statistics = self.statistics[name, version]
        statistics.compile_count += len(executables)
        quick = seconds[1] < INLINE_ONE_S and seconds[max(seconds)] < INLINE_BATCH_S
        batcher = Batcher(
            name, executables, seconds, self._lanes[0 if quick else 1], statistics,
            max_queue_rows=settings.max_queue_rows, max_queue_bytes=settings.max_queue_bytes,
            max_delay=settings.max_delay_us * 1e-6,
            answer_bytes=sum(math.prod(spec.shape[1:]) * spec.dtype.itemsize for spec in loaded.signature.outputs),
        )  # fmt: skip
        return Served(name, version, loaded, batcher, bit_exact, digest if changes.stamp(path) == before else None)

    async def _unload(self, name: str) -> None:
        if name not in self._served and not any(known == name for known, _ in self._states):
            raise ServeError(404, f"unknown model '{name[:128]}'")
        await self._drained(name, None)
        for key in [key for key in self._states if key[0] == name]:
            self._states[key] = "UNLOADED", ""
        self.log("info", "unloaded", model=name)

    async def _drained(self, name: str, version: str | None) -> None:
        """Take a version (None: all) out of service, and wait until nobody holds it."""
        versions = self._served.get(name, {})
        leaving = [served for key, served in versions.items() if key and version in (None, key)]
        for served in leaving:
            self._states[name, served.version] = "DRAINING", ""
            del versions[served.version]
            served.retire()
        self._choose(name)
        ends = time.monotonic() + self.settings.drain_timeout_s
        for served in leaving:
            try:
                await asyncio.wait_for(served.idle.wait(), max(0.0, ends - time.monotonic()))
            except TimeoutError:
                pass  # whoever still holds it keeps it alive, and is answered
            self._states[name, served.version] = "UNLOADED", ""

    def _forget(self, name: str, versions: Iterable[str]) -> None:
        """Forget the versions of a model that are neither in the store nor served any longer."""
        for key in [key for key in self._states if key[0] == name and key[1] not in versions]:
            del self._states[key]
            self.statistics.pop(key, None)

    def _choose(self, name: str) -> None:
        """Let the highest version that is ready be the one without a version."""
        versions = self._served[name] if name in self._served else {}
        versions.pop(None, None)
        if versions:
            versions[None] = versions[max(versions, key=lambda version: int(version or 0))]
        else:
            self._served.pop(name, None)

    def _absent(self, name: str, version: str | None) -> ServeError:
        found = [(v, *why) for (known, v), why in self._states.items() if known == name and version in (None, "", v)]
        if not found:
            wanted = f"unknown model '{name[:128]}'"
            known = self.versions(name)
            return ServeError(
                404,
                f"model '{name}' has no version '{str(version)[:20]}', it has {', '.join(known)}" if known else wanted,
            )
        number, state, reason = found[-1]
        text = f"model '{name}', version {number}, is not ready: {state}" + (f": {reason}" if reason else "")
        return ServeError(503, text, retry_after=1.0 if state in ("LOADING", "WARMING") else None)

    async def _aside(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loader, work, *arguments)


def _give_way() -> None:
    """Lower the priority of this thread: whoever loads a model beside others must not take the cores from requests."""
    with contextlib.suppress(OSError):  # only Linux has priorities of threads
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _in_order(entry: tuple[tuple[str, str], Any]) -> tuple[str, int]:
    (name, version), _ = entry
    return name, int(version)
