"""Small made-up problems, the article's functions among them. Each is made from a seed alone.

All take `rows`, how many to draw; `seed`; and `validation`, how many of them are held out, as a fraction below 1 or a
number of rows. All raise DataError for an option that is out of range.
"""

import numpy as np

from jaxprop.data.rows import Data, as_data, random_numbers, real_number, whole_number


def line(slope: float = 1.0, rows: int = 200, seed: int = 0, validation: float = 0.2) -> Data:
    """Draw y = slope · x, x uniform on [−1, 1]: x `[N, 1]`, targets `[N, 1]`. What one weight can learn.

    >>> data = line(slope=2.0)
    >>> bool((data.targets == 2 * data.x).all())
    True
    """
    x = random_numbers(seed).uniform(-1, 1, (whole_number("rows", rows, 2), 1))
    source = f"line (slope {slope}, {rows} rows, seed {seed})"
    return as_data(x, real_number("slope", slope) * x, validation, seed, source, columns=("x",), target="y")


def square(rows: int = 200, seed: int = 0, validation: float = 0.2) -> Data:
    """Draw y = x², x uniform on [−1, 1]: x `[N, 1]`, targets `[N, 1]`. What no single neuron can learn.

    >>> data = square()
    >>> bool(np.allclose(data.targets, data.x**2))
    True
    """
    x = random_numbers(seed).uniform(-1, 1, (whole_number("rows", rows, 2), 1))
    return as_data(x, x**2, validation, seed, f"square ({rows} rows, seed {seed})", columns=("x",), target="y")


def xor(noise: float = 0.1, rows: int = 200, seed: int = 0, validation: float = 0.2) -> Data:
    """Draw points `[N, 2]` around the corners (0,0), (0,1), (1,0), (1,1); label 1 where exactly one coordinate is 1.

    >>> data = xor(noise=0, validation=0, rows=4)
    >>> print(data.x.tolist(), data.targets)
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] [0 1 1 0]
    """
    corner = np.arange(whole_number("rows", rows, 2)) % 4
    corners = np.stack([corner // 2, corner % 2], 1)
    return _points("xor", corners, corners.sum(1) % 2, noise, seed, validation)


def moons(noise: float = 0.1, rows: int = 200, seed: int = 0, validation: float = 0.2) -> Data:
    """Draw two interleaving half circles: points `[N, 2]`, label 0 the upper arc, 1 the lower.

    >>> data = moons(noise=0)
    >>> upper = data.x[data.targets == 0]
    >>> bool(np.allclose((upper**2).sum(1), 1))
    True
    """
    label = np.arange(whole_number("rows", rows, 2)) % 2
    angle = random_numbers(seed).uniform(0, np.pi, rows)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    return _points("moons", np.where(label[:, None] == 0, upper, [1, 0.5] - upper), label, noise, seed, validation)


def spirals(noise: float = 0.05, turns: float = 1.5, rows: int = 300, seed: int = 0, validation: float = 0.2) -> Data:
    """Draw two spirals wound into each other `turns` times: points `[N, 2]` within the unit circle, label by arm.

    >>> data = spirals(noise=0)
    >>> bool(((data.x**2).sum(1) <= 1).all())
    True
    """
    label = np.arange(whole_number("rows", rows, 2)) % 2
    radius = random_numbers(seed).uniform(0, 1, rows)
    angle = 2 * np.pi * real_number("turns", turns) * radius + np.pi * label
    arms = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _points("spirals", arms, label, noise, seed, validation, f"turns {turns}, ")


def _points(
    name: str, x: np.ndarray, label: np.ndarray, noise: float, seed: int, validation: float, options: str = ""
) -> Data:
    x = x + random_numbers(seed, "noise").normal(0, real_number("noise", noise, 0), x.shape)
    source = f"{name} ({options}noise {noise}, {len(x)} rows, seed {seed})"
    names = {"classes": ("0", "1"), "columns": ("x1", "x2"), "target": "class"}
    return as_data(x, label, validation, seed, source, **names)


def ball(noise: float = 0.05, rows: int = 500, seed: int = 0, validation: float = 0.2) -> Data:
    """Draw throws of a ball: from Δx (1 to 20 m) and Δt (0.5 to 2 s) its average velocity v̄ = Δx/Δt in m/s.

    x `[N, 2]`, targets `[N, 1]`. `noise` is relative: v̄ is observed as v̄ (1 + noise · N(0, 1)).

    >>> data = ball(noise=0)
    >>> bool(np.allclose(data.targets[:, 0], data.x[:, 0] / data.x[:, 1]))
    True
    """
    x = random_numbers(seed).uniform([1, 0.5], [20, 2], (whole_number("rows", rows, 2), 2))
    error = random_numbers(seed, "noise").normal(0, real_number("noise", noise, 0), (rows, 1))
    velocity = x[:, :1] / x[:, 1:] * (1 + error)
    source = f"ball (noise {noise}, {rows} rows, seed {seed})"
    return as_data(x, velocity, validation, seed, source, columns=("Δx", "Δt"), target="v̄")
