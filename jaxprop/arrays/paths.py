"""One dotted path for every layer and array: params, tapes, files and messages share it."""

from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import KeyPath
from jaxtyping import PyTree


def join(path: str, child: object) -> str:
    """Return the dotted path of a child.

    >>> join("", 0), join("0", "W")
    ('0', '0.W')
    """
    return f"{path}.{child}" if path else str(child)


def place(what: object, path: str) -> str:
    """Return what an error calls a layer, with its path: "Chain at 0.inner", or "Chain" for the whole network.

    >>> place("Chain", "0.inner"), place("Chain", "")
    ('Chain at 0.inner', 'Chain')
    """
    return f"{what} at {path}" if path else str(what)


def dotted(path: KeyPath) -> str:
    """Return a path of JAX's as a dotted one.

    >>> [(path, leaf)] = jax.tree_util.tree_leaves_with_path(({"W": 1.0}, ()))
    >>> dotted(path)
    '0.W'
    """
    return jax.tree_util.keystr(path, simple=True, separator=".")


def by_path(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Return every leaf of a tree, as `jax.tree` sees them, under its dotted path.

    >>> by_path(({"W": 1.0, "b": 2.0}, ()))
    {'0.W': 1.0, '0.b': 2.0}
    """
    return {dotted(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf)}
