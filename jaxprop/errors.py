"""What can be wrong with what a user gave, each error naming what was found, expected, and what to do.

All are `ValueError`s, so code that catches `ValueError` keeps working; the command line turns them into one line.
"""

import difflib
from collections.abc import Iterable


class JaxpropError(ValueError):
    """Any mistake jaxprop can name: catch this one to catch them all.

    >>> import jaxprop as jp
    >>> try:
    ...     jp.Linear(0)
    ... except jp.JaxpropError as error:
    ...     print(error)
    Linear: features must be a whole number ≥ 1, found 0
    """


class ShapeError(JaxpropError):
    """Shapes, dtypes or trees that do not fit together (raised at trace time)."""


class DataError(JaxpropError):
    """A data file or array that cannot be used: missing, empty, malformed, NaN, out of range."""


class ModelError(JaxpropError):
    """A saved model that cannot be read or written whole."""


class TrainingError(JaxpropError):
    """A training run that cannot go on, such as one whose cost became NaN."""


def pick(name: str, known: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `known`, else raise with the nearest known name.

    >>> pick("relu", ["relu", "tanh"], "activation")
    'relu'
    >>> pick("rellu", ["relu", "tanh"], "activation")
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: unknown activation 'rellu' (did you mean 'relu'?); known: relu, tanh
    """
    known = sorted(known)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise JaxpropError(f"unknown {what} {name!r}{hint}; known: {', '.join(known)}")
