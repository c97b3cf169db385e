"""Entry points: what installed packages add to jaxprop, in groups such as `jaxprop.layers` and `jaxprop.commands`."""

from importlib import metadata
from importlib.metadata import EntryPoint
from typing import Any

from jaxprop.errors import JaxpropError


def offered(group: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of a group by name, without loading them.

    A name has several where several packages offer it; a package that is found twice on the path counts once.

    >>> offered("jaxprop.no_such_group")
    {}
    """
    found: dict[str, list[EntryPoint]] = {}
    for entry in metadata.entry_points(group=group):
        same_name = found.setdefault(entry.name, [])
        if entry not in same_name:
            same_name.append(entry)
    return found


def load(entry: EntryPoint) -> Any:
    """Import what an entry point names; raise JaxpropError, whatever it is that fails.

    >>> load(EntryPoint("layer", "no_such_package:Layer", "jaxprop.layers"))
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: 'layer' of jaxprop.layers (no_such_package:Layer) cannot be loaded: \
ModuleNotFoundError: No module named 'no_such_package'
    """
    try:
        return entry.load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise JaxpropError(f"{entry.name!r} of {entry.group} ({entry.value}) cannot be loaded: {why}") from error


def load_all(group: str) -> list[Any]:
    """Load all that is offered in a group; raise JaxpropError for the first that cannot be loaded.

    >>> load_all("jaxprop.no_such_group")
    []
    """
    return [load(entry) for entries in offered(group).values() for entry in entries]
