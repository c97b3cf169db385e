"""Arrays as pictures that a page can draw: maps, matrices and strips, a page of them at a time.

A picture's numbers are float32, little-endian, in base64: the page shows them, and computes nothing from them but
colours. `largest` is the largest magnitude of the whole array, by which every page of it is coloured alike.
"""

import base64
import math
from typing import Any

import numpy as np

MAPS = 16  # on one page
SIDE = 64  # rows and columns of a matrix, and of a map: of a larger map every second, third, … value is shown
STRIP = 128  # numbers of a vector


def picture(name: str, array: Any, page: int = 0, axes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return one page of an array without its example axis.

    Args:
        name: what it is, in symbols.
        array: a number, `[C]`, `[T, C]`, `[H, W, C]` (C maps of H × W), or a kernel `[K, K, I, O]` (I · O maps).
        page: which page, from 0 on; one that is not there is the last.
        axes: what its axes are called, for those who hear the picture.

    >>> found = picture("y", np.arange(6.0).reshape(2, 3))
    >>> found["kind"], found["shape"], found["largest"], found["pages"]
    ('matrix', [2, 3], 5.0, 1)
    """
    given = np.asarray(array)
    numbers = given.astype(np.float32)
    finite = numbers[np.isfinite(numbers)]
    about = {
        "name": name, "shape": list(given.shape), "axes": list(axes), "whole": given.dtype.kind in "iu",
        "largest": float(np.max(np.abs(finite), initial=0.0)), "finite": finite.size == numbers.size,
        "rms": float(np.sqrt(np.mean(np.square(finite, dtype=np.float64)))) if finite.size else 0.0,
    }  # fmt: skip
    if numbers.ndim >= 3:
        return about | _maps(numbers, page)
    return about | (_matrix(numbers, page) if numbers.ndim == 2 else _strip(numbers, page))


def _maps(numbers: np.ndarray, page: int) -> dict[str, Any]:
    """Maps `[H, W, …]`: what comes after the first two axes is gone through, the last one fastest."""
    h, w = numbers.shape[:2]
    flat = numbers.reshape(h, w, -1)
    pages = max(1, math.ceil(flat.shape[2] / MAPS))
    page = min(page, pages - 1)
    every = max(1, math.ceil(max(h, w) / SIDE))
    shown = flat[::every, ::every, page * MAPS : (page + 1) * MAPS]
    return {
        "kind": "maps", "page": page, "pages": pages, "first": [0, 0, page * MAPS], "every": every,
        "inner": list(numbers.shape[2:]), "size": [*shown.shape[:2]], "count": shown.shape[2],
        "values": _encoded(np.moveaxis(shown, 2, 0)),
    }  # fmt: skip


def _matrix(numbers: np.ndarray, page: int) -> dict[str, Any]:
    """A piece of a matrix, at most SIDE × SIDE; pages go along the rows first."""
    across = max(1, math.ceil(numbers.shape[1] / SIDE))
    pages = max(1, math.ceil(numbers.shape[0] / SIDE)) * across
    page = min(page, pages - 1)
    down, right = divmod(page, across)
    shown = numbers[down * SIDE : (down + 1) * SIDE, right * SIDE : (right + 1) * SIDE]
    return {
        "kind": "matrix", "page": page, "pages": pages, "first": [down * SIDE, right * SIDE], "every": 1,
        "size": list(shown.shape), "count": 1, "values": _encoded(shown),
    }  # fmt: skip


def _strip(numbers: np.ndarray, page: int) -> dict[str, Any]:
    """A vector, or one number."""
    flat = numbers.reshape(-1)
    pages = max(1, math.ceil(flat.size / STRIP))
    page = min(page, pages - 1)
    shown = flat[page * STRIP : (page + 1) * STRIP]
    return {
        "kind": "strip", "page": page, "pages": pages, "first": [page * STRIP], "every": 1,
        "size": [1, len(shown)], "count": 1, "values": _encoded(shown),
    }  # fmt: skip


def _encoded(numbers: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, "<f4").tobytes()).decode()
