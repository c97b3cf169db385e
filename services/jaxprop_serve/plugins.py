"""What installed packages add to the server: entry points, found by name, loaded only if the settings allow them.

The groups, and what their objects must offer, are in api.py. A model folder names no code; only an installed package
that the settings allow by name is ever imported.
"""

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any

from jaxprop.errors import JaxpropError


def find(group: str, allowed: Iterable[str]) -> dict[str, Any]:
    """The allowed entry points of a group, loaded, in the order of `allowed`.

    Raises JaxpropError for a name that no package offers, that two offer, or that cannot be loaded.

    >>> list(find("jaxprop.stores", ("folder",)))
    ['folder']
    """
    offered: dict[str, list[Any]] = {}
    for entry in entry_points(group=group):
        if entry not in offered.setdefault(entry.name, []):
            offered[entry.name].append(entry)
    return {name: _load(group, name, offered) for name in allowed}


def made(group: str, name: str, make: Callable[..., Any], *arguments: Any) -> Any:
    """`make(*arguments)`, whose failure is a JaxpropError that names the plugin."""
    try:
        return make(*arguments)
    except JaxpropError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise JaxpropError(f"plugin {name!r} of {group} failed: {why}") from error


def _load(group: str, name: str, offered: dict[str, list[Any]]) -> Any:
    found = offered.get(name, [])
    if not found:
        known = ", ".join(sorted(offered)) or "none"
        raise JaxpropError(f"plugin {name!r} of {group} is allowed, but no installed package offers it; found: {known}")
    if len(found) > 1:
        values = " and ".join(sorted(entry.value for entry in found))
        raise JaxpropError(f"plugin {name!r} of {group} is offered twice, by {values}; uninstall one")
    try:
        return found[0].load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise JaxpropError(f"plugin {name!r} of {group} ({found[0].value}) cannot be loaded: {why}") from error
