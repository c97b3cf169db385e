"""Pictures that are no digits: what the digit network learns to shrug at, and what the page offers to try it with.

Each kind is a function of a seeded generator and of a count, and gives pictures `[N, 28, 28]` between 0 and 1.
Scribbles go through the same pen and the same centring as what a hand draws.
"""

from collections.abc import Callable

import numpy as np

from jaxprop_explorer.digits.strokes import SIDE, picture

Kind = Callable[[np.random.Generator, int], np.ndarray]


def grain(random: np.random.Generator, count: int) -> np.ndarray:
    """Every pixel on its own, with more or less of it set: television snow.

    >>> grain(np.random.default_rng(0), 2).shape
    (2, 28, 28)
    """
    power = np.exp(random.uniform(-1, 2.5, (count, 1, 1)))
    return (random.uniform(size=(count, SIDE, SIDE)) ** power).astype(np.float32)


def clouds(random: np.random.Generator, count: int) -> np.ndarray:
    """Grain that was smoothed and stretched to the whole range: blots with soft borders.

    >>> float(clouds(np.random.default_rng(0), 1).max())
    1.0
    """
    at = np.arange(SIDE)
    pictures = random.normal(size=(count, SIDE, SIDE))
    width = random.uniform(0.8, 3.0, (count, 1, 1))
    blur = np.exp(-0.5 * ((at[:, None] - at) / width) ** 2)
    pictures = blur @ pictures @ blur
    low, high = pictures.min(axis=(1, 2), keepdims=True), pictures.max(axis=(1, 2), keepdims=True)
    stretched = (pictures - low) / (high - low)
    floor = random.uniform(0, 0.6, (count, 1, 1))
    return (np.clip(stretched - floor, 0, None) / (1 - floor)).astype(np.float32)


def scribble_strokes(random: np.random.Generator) -> list[list[list[float]]]:
    """The strokes of one scribble: a hand that goes to and fro over the pad.

    >>> len(scribble_strokes(np.random.default_rng(0))[0]) >= 5
    True
    """
    return [random.uniform(0.1, 0.9, (int(random.integers(5, 16)), 2)).tolist() for _ in range(random.integers(1, 4))]


def scribbles(random: np.random.Generator, count: int) -> np.ndarray:
    """Scribbles as the pen draws them.

    >>> scribbles(np.random.default_rng(0), 1).shape
    (1, 28, 28)
    """
    drawn = []
    for _ in range(count):
        strokes = scribble_strokes(random)
        while sum(len(stroke) for stroke in strokes) < 9:  # few points can look like a digit
            strokes = scribble_strokes(random)
        drawn.append(picture(strokes, pen=float(random.uniform(1.8, 3.6))))
    return np.array(drawn, np.float32).reshape(count, SIDE, SIDE)


KINDS: dict[str, Kind] = {"grain": grain, "clouds": clouds, "scribble": scribbles}
