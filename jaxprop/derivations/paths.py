r"""Every path from one unit to the cost, and the largest of them, exactly, without walking them all.

A network between one unit and the cost is a row of matrices, E_1 [n_0, n_1], E_2 [n_1, n_2], …: E[j, k] says how much
unit k of the next level moves when unit j moves. With e = ∂C/∂(last level), the chain rule is a sum over paths,

    ∂C/∂(unit j)  =  Σ_k Σ_m …  E_1[j, k] · E_2[k, m] · … · e[…]

with n_1 · n_2 · … terms. The K largest products are found backwards: the largest paths through a unit begin with an
edge and go on along one of the K largest paths of the unit where it leads, since a product grows in size with each of
its factors. That takes Σ n·n'·K steps instead of Π n.
"""

import math
from collections.abc import Sequence

import numpy as np


def count(edges: Sequence[np.ndarray]) -> int:
    """Return how many paths there are from one unit.

    >>> count([np.ones((1, 32)), np.ones((32, 10))])
    320
    """
    return math.prod(int(edge.shape[1]) for edge in edges)


def largest(edges: Sequence[np.ndarray], end: np.ndarray, start: int, most: int) -> list[tuple[int, ...]]:
    """Return the units along the `most` paths of the largest product in size, the largest first.

    >>> first, second = np.array([[1.0, -3.0]]), np.array([[1.0, 5.0], [2.0, 0.1]])
    >>> largest([first, second], np.array([1.0, 1.0]), start=0, most=2)
    [(0, 1, 0), (0, 0, 1)]
    """
    products = end[:, None]  # [units, ranks]: of the largest paths from each unit on
    trails: list[np.ndarray] = []  # for each level [units, ranks, 2]: the next unit, and its rank there
    for level in reversed(range(len(edges))):
        rows = edges[level][[start]] if level == 0 else edges[level]
        ranks = [_ranked(row[:, None] * products, most) for row in rows]
        trails.insert(0, np.array([np.stack(np.unravel_index(rank, products.shape), axis=1) for rank in ranks]))
        products = np.array([(row[:, None] * products).ravel()[r] for row, r in zip(rows, ranks, strict=True)])
    found = []
    for rank in range(products.shape[1] if trails else 1):
        units, unit = [start], 0
        for trail in trails:
            unit, rank = (int(v) for v in trail[unit, rank])
            units.append(unit)
        found.append(tuple(units))
    return found


def _ranked(candidates: np.ndarray, most: int) -> np.ndarray:
    """Return the flat indices of the largest in size, the largest first, of equal ones the first."""
    sizes = np.abs(candidates.ravel())
    kept = np.sort(np.argpartition(-sizes, most)[:most]) if most < sizes.size else np.arange(sizes.size)
    return kept[np.argsort(-sizes[kept], kind="stable")]
