"""How W is drawn, by name: settings hold names, never functions."""

from typing import Any

import jax
import numpy as np

_NOT_MADE_BY_NAME = ("constant", "variance_scaling", "truncated_normal", "delta_orthogonal", "Initializer")


def initializers() -> dict[str, Any]:
    """Return what `Linear` takes by name: `jax.nn.initializers`, and `standard_normal`, the book's N(0, 1).

    >>> sorted(initializers())[:3]
    ['glorot_normal', 'glorot_uniform', 'he_normal']
    """
    names = [n for n in dir(jax.nn.initializers) if n[0] != "_" and n not in _NOT_MADE_BY_NAME]
    found = {n: getattr(jax.nn.initializers, n) for n in names}
    # `ones` and `zeros` are initialisers, every other name makes one
    made = {n: f if n in ("ones", "zeros") else f() for n, f in found.items()}
    return {**made, "standard_normal": jax.nn.initializers.normal(1.0)}


def name_of(function: Any) -> str | None:
    """Return the name of an initialiser given as a function, by what it draws; None where no name draws the same.

    >>> name_of(jax.nn.initializers.zeros), name_of(jax.nn.initializers.he_normal()), name_of(len)
    ('zeros', 'he_normal', None)
    """
    known = initializers()
    if getattr(function, "__name__", None) in known:
        return function.__name__
    try:
        drawn = [f(jax.random.key(0), (3, 2), "float32") for f in (function, *known.values())]
        return next((name for name, d in zip(known, drawn[1:], strict=True) if np.array_equal(d, drawn[0])), None)
    except Exception:  # no initialiser at all
        return None
