"""In which precision a step is computed, while θ is kept in another."""

from typing import Literal, get_args

from jaxprop.errors import pick

Precision = Literal["float64", "float32", "bfloat16", "float16"]


def read_precision(given: str | None) -> Precision | None:
    """Return the precision that was asked for; None is that of the rows and θ as they are given.

    >>> read_precision("bfloat16")
    'bfloat16'
    """
    return None if given is None else pick(given, get_args(Precision), "fit: precision")  # pyright: ignore
