"""One dotted path for every layer and array: params, tapes, files and messages share it."""

from typing import Any

import jax


def join(path: str, child: object) -> str:
    """Dotted path of a child: the one name that params, tapes, files and messages share.

    >>> join("", 0), join("0", "W")
    ('0', '0.W')
    """
    return f"{path}.{child}" if path else str(child)


def by_path(tree: Any) -> dict[str, Any]:
    """Every leaf of a tree under its dotted path.

    >>> by_path(({"W": 1.0, "b": 2.0}, ()))
    {'0.W': 1.0, '0.b': 2.0}
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
