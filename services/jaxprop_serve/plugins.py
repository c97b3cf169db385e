"""What installed packages add to the server: entry points, found by name, loaded only if the settings allow them.

The groups, and what their objects must offer, are in api.py. A model folder names no code; only an installed package
that the settings allow by name is ever imported.
"""

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from typing import Any, TypeVar

from jaxprop.entry_points import load, offered
from jaxprop.errors import JaxpropError

T = TypeVar("T")


def find(group: str, allowed: Iterable[str]) -> dict[str, Any]:
    """The allowed entry points of a group, loaded, in the order of `allowed`.

    Raises JaxpropError for a name that no package offers, that two offer, or that cannot be loaded.

    >>> list(find("jaxprop.stores", ("folder",)))
    ['folder']
    """
    found = offered(group)
    return {name: _one(group, name, found) for name in allowed}


def made(group: str, name: str, make: Callable[..., T], *arguments: object) -> T:
    """Return `make(*arguments)`; its failure becomes a JaxpropError that names the plugin."""
    try:
        return make(*arguments)
    except JaxpropError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise JaxpropError(f"plugin {name!r} of {group} failed: {why}") from error


def _one(group: str, name: str, found: dict[str, list[EntryPoint]]) -> Any:
    entries = found.get(name, [])
    if not entries:
        known = ", ".join(sorted(found)) or "none"
        raise JaxpropError(f"plugin {name!r} of {group} is allowed, but no installed package offers it; found: {known}")
    if len(entries) > 1:
        values = " and ".join(sorted(entry.value for entry in entries))
        raise JaxpropError(f"plugin {name!r} of {group} is offered twice, by {values}; uninstall one")
    try:
        return load(entries[0])
    except JaxpropError as error:
        raise JaxpropError(f"plugin {error}") from error
