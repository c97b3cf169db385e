"""What installed packages offer to the commands."""

import itertools
import sys
from collections.abc import Iterator
from typing import Any

from jaxprop.entry_points import load, offered
from jaxprop.errors import JaxpropError


def plugins(group: str) -> Iterator[tuple[str, Any]]:
    """Yield the name and object of all that installed packages offer in a group of entry points.

    What cannot be loaded is left out, and standard error says so.
    """
    for entry in itertools.chain.from_iterable(offered(group).values()):
        try:
            yield entry.name, load(entry)
        except JaxpropError as error:
            print(f"jaxprop: {error}; it is left out", file=sys.stderr)
