"""Which classes are taken for which: the confusion matrix, and what it says of every class."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from jaxprop.errors import ShapeError


def confusion(truth: Int[ArrayLike, "..."], chosen: Int[ArrayLike, "..."], classes: int) -> Int[np.ndarray, "C C"]:
    """Count how often class i is taken for class j: rows are the truth, columns what was chosen.

    Args:
        truth: labels `[...]`, from 0 to C − 1.
        chosen: labels of the same shape.
        classes: C.

    Raises:
        ShapeError: the two have different shapes, or a label is not one of the classes.

    >>> confusion([0, 0, 1, 2], [0, 1, 1, 1], 3).tolist()
    [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    """
    first, second = np.asarray(truth, int).ravel(), np.asarray(chosen, int).ravel()
    if np.shape(truth) != np.shape(chosen):
        raise ShapeError(f"confusion: truth {np.shape(truth)} and chosen {np.shape(chosen)} must have one shape")
    wrong = [label for label in (*first, *second) if not 0 <= label < classes]
    if wrong:
        raise ShapeError(f"confusion: found label {wrong[0]}, expected 0 to {classes - 1}, one of {classes} classes")
    return np.bincount(first * classes + second, minlength=classes**2).reshape(classes, classes)


def per_class(counts: Int[np.ndarray, "C C"]) -> dict[str, Float[np.ndarray, " C"]]:
    """Return precision, recall and F1 of every class, from a confusion matrix; NaN where there is nothing to divide by.

    precision: of the rows that were taken for the class, the share that are of it. recall: of the rows of the class,
    the share that were taken for it. F1 = 2·precision·recall / (precision + recall), their harmonic mean.

    >>> found = per_class(np.array([[3, 1], [0, 4]]))
    >>> found["precision"].tolist(), found["recall"].tolist()
    ([1.0, 0.8], [0.75, 1.0])
    """
    right, taken, there = np.diagonal(counts), counts.sum(0), counts.sum(1)
    with np.errstate(invalid="ignore"):
        return {"precision": right / taken, "recall": right / there, "f1": 2 * right / (taken + there)}


def most_confused(counts: Int[np.ndarray, "C C"], classes: Sequence[str], most: int = 10) -> list[tuple[str, str, str]]:
    """Return the pairs of classes that are confused most, as (truth, prediction, rows), the largest number first.

    >>> most_confused(np.array([[3, 1], [2, 4]]), ["cat", "dog"])
    [('dog', 'cat', '2'), ('cat', 'dog', '1')]
    """
    wrong = counts - np.diag(np.diagonal(counts))
    pairs = [divmod(int(at), len(classes)) for at in np.argsort(-wrong, axis=None, kind="stable")[:most]]
    return [(classes[i], classes[j], str(wrong[i, j])) for i, j in pairs if wrong[i, j]]
