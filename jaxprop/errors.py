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
    """Shapes, dtypes or trees do not fit together; raised at trace time.

    >>> import jax.numpy as jnp, jaxprop as jp
    >>> try:
    ...     jp.HalfSquaredError()(jnp.zeros((3, 1)), jnp.zeros((2, 1)))
    ... except jp.ShapeError as error:
    ...     print(error)
    HalfSquaredError: targets (2, 1) do not fit outputs (3, 1): expected the same shape
    """


class DataError(JaxpropError):
    """A data file or an array cannot be used: it is missing, empty or malformed, or holds NaN or values out of range.

    >>> import jaxprop as jp
    >>> try:
    ...     jp.data.check([[1.0], [float("inf")]], [[0.0], [1.0]])
    ... except jp.DataError as error:
    ...     print(error)
    data: x row 1, column 0 is inf; expected finite numbers: remove or repair the row
    """


class ModelError(JaxpropError):
    """A saved model cannot be read or written whole.

    >>> import jaxprop as jp
    >>> try:
    ...     jp.load("no/such/folder")
    ... except jp.ModelError as error:
    ...     print(error)
    no/such/folder: is not there; ...
    """


class TrainingError(JaxpropError):
    """A training run cannot go on: its cost, say, became NaN.

    >>> import numpy as np, optax, jaxprop as jp
    >>> x, cost, optimizer = np.ones((4, 1), np.float32), jp.HalfSquaredError(), optax.sgd(0.1)
    >>> try:
    ...     jp.fit(lambda x, w: x / w, cost, optimizer, (x, x), params=0.0, progress=False)
    ... except jp.TrainingError as error:
    ...     print(error)
    training stopped at step 1 (epoch 1): the first not finite is the output of f(x, params), made by div at ...
    """


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
    near = difflib.get_close_matches(name, known, n=1) if isinstance(name, str) else []
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise JaxpropError(f"unknown {what} {name!r}{hint}; known: {', '.join(known)}")
