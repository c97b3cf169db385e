"""The costs."""

import math

import numpy as np

import jaxprop as jp
from tests.cases.basic import sigmoid, softmax
from tests.cases.case import CostCase


def by_example(values):
    return values.reshape(len(values), -1)


def numbers(rng, shape):
    return rng.normal(size=shape)


def labels(rng, shape):
    return rng.integers(0, shape[-1], shape[:-1])


def one_hot(rng, shape):
    return np.eye(shape[-1])[labels(rng, shape)]


def probabilities(rng, shape):
    return softmax(rng.normal(size=shape))


def amounts(rng, shape):
    """Not normalised: rows of Σp ≠ 1."""
    return rng.uniform(0, 2, size=shape)


def softmax_cross_entropy(y, targets):
    p = np.eye(y.shape[-1])[targets] if targets.ndim < y.ndim else targets
    return by_example(-(p * np.log(softmax(y))).sum(axis=-1)).mean(axis=1)


def sigmoid_cross_entropy(y, targets):
    return by_example(-targets * np.log(sigmoid(y)) - (1 - targets) * np.log(1 - sigmoid(y))).sum(axis=1)


def half_squared(y, targets):
    return 0.5 * by_example((y - targets) ** 2).sum(axis=1)


def mean_squared(y, targets):
    return by_example((y - targets) ** 2).mean(axis=1)


def counts(rng, shape):
    return rng.poisson(2.0, size=shape).astype(float)


def signs(rng, shape):
    return np.sign(rng.normal(size=shape))


def halves(rng, shape):
    """Targets of half y's outputs."""
    return rng.normal(size=(*shape[:-1], shape[-1] // 2))


def sparse(rng, shape):
    """Probabilities, some of them 0."""
    p = rng.uniform(size=shape) * (rng.uniform(size=shape) < 0.6) + np.eye(shape[-1])[0]
    return p / p.sum(axis=-1, keepdims=True)


def padded(rng, shape):
    """Labels, the last of each example ignored, all of the last example."""
    found = labels(rng, shape)
    found[:, -2:] = found[-1:] = -1
    return found


def absolute(y, targets):
    return by_example(np.abs(y - targets)).sum(axis=1)


def huber(y, targets, t):
    r = np.abs(y - targets)
    return by_example(np.where(r <= t, r**2 / 2, t * r - t**2 / 2)).sum(axis=1)


def multiclass_hinge(y, targets):
    costs = np.empty(targets.shape)
    for at, label in np.ndenumerate(targets):
        rivals = [y[at][c] + 1 - y[at][label] for c in range(y.shape[-1]) if c != label]
        costs[at] = max(0, *rivals)
    return by_example(costs).mean(axis=1)


def binary_hinge(y, targets):
    return by_example(np.maximum(0, 1 - targets * y)).sum(axis=1)


def poisson(y, k):
    rate, factorial = np.exp(y), np.vectorize(math.gamma)(k + 1)
    return by_example(-np.log(rate**k * np.exp(-rate) / factorial)).sum(axis=1)


def gaussian(y, targets):
    mean, variance = y[..., : y.shape[-1] // 2], np.exp(y[..., y.shape[-1] // 2 :])
    density = np.exp(-((targets - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    return by_example(-np.log(density)).sum(axis=1)


def kl_divergence(y, p):
    ratio = np.where(p > 0, p, 1) / np.where(p > 0, softmax(y), 1)
    return by_example((p * np.log(ratio)).sum(axis=-1)).mean(axis=1)


def special_cross_entropy(smoothing=0.0, weights=None, ignore=None):
    """Position by position, as the docstring has it."""

    def reference(y, targets):
        found, classes = [], y.shape[-1]
        for n in range(len(y)):
            costs = []
            rows, answers = y[n].reshape(-1, classes), targets[n].reshape(-1, *targets.shape[y.ndim - 1 :])
            for row, target in zip(rows, answers, strict=True):
                if ignore is not None and target == ignore:
                    continue
                p = target if targets.ndim == y.ndim else np.eye(classes)[target]
                p = (1 - smoothing) * p + smoothing * p.sum() / classes
                costs.append(-(p * (1 if weights is None else np.array(weights)) * np.log(softmax(row))).sum())
            found.append(sum(costs) / max(len(costs), 1))
        return np.array(found)

    return reference


HALF, MEAN_SQUARED = jp.HalfSquaredError(), jp.MeanSquaredError()
SOFTMAX, SIGMOID = jp.SoftmaxCrossEntropy(), jp.SigmoidCrossEntropy()
HINGE, KL, POISSON = jp.Hinge(), jp.KLDivergence(), jp.PoissonNegativeLogLikelihood()
GAUSSIAN = jp.GaussianNegativeLogLikelihood()
WEIGHTS = (0.5, 2.0, 0.0)
ALL = {"label_smoothing": 0.1, "class_weights": WEIGHTS, "ignore": -1}
WEIGHTED, SMOOTH = jp.SoftmaxCrossEntropy(class_weights=WEIGHTS), jp.SoftmaxCrossEntropy(label_smoothing=0.2)

COSTS = [
    CostCase("HalfSquaredError", HALF, (4, 3), numbers, half_squared),
    CostCase("HalfSquaredError, one output", HALF, (4, 1), numbers, half_squared),
    CostCase("HalfSquaredError, T", HALF, (2, 3, 2), numbers, half_squared),
    CostCase("HalfSquaredError, one-hot", HALF, (4, 3), one_hot, half_squared),
    CostCase("MeanSquaredError", MEAN_SQUARED, (4, 3), numbers, mean_squared),
    CostCase("MeanSquaredError, T", MEAN_SQUARED, (2, 3, 2), numbers, mean_squared),
    CostCase("SoftmaxCrossEntropy, labels", SOFTMAX, (4, 3), labels, softmax_cross_entropy),
    CostCase("SoftmaxCrossEntropy, labels, T", SOFTMAX, (2, 5, 3), labels, softmax_cross_entropy),
    CostCase("SoftmaxCrossEntropy, probabilities", SOFTMAX, (4, 3), probabilities, softmax_cross_entropy),
    CostCase("SoftmaxCrossEntropy, probabilities, T", SOFTMAX, (2, 5, 3), probabilities, softmax_cross_entropy),
    CostCase("SoftmaxCrossEntropy, Σp ≠ 1", SOFTMAX, (4, 3), amounts, softmax_cross_entropy),
    CostCase("SigmoidCrossEntropy", SIGMOID, (4, 3), probabilities, sigmoid_cross_entropy),
    CostCase("SigmoidCrossEntropy, 0 and 1", SIGMOID, (4, 3), one_hot, sigmoid_cross_entropy),
    CostCase("SigmoidCrossEntropy, T", SIGMOID, (2, 3, 2), probabilities, sigmoid_cross_entropy),
    CostCase("AbsoluteError", jp.AbsoluteError(), (4, 3), numbers, absolute),
    CostCase("AbsoluteError, T", jp.AbsoluteError(), (2, 3, 2), numbers, absolute),
    CostCase("Huber", jp.Huber(), (4, 3), numbers, lambda y, t: huber(y, t, 1.0)),
    CostCase("Huber(0.3), T", jp.Huber(threshold=0.3), (2, 3, 2), numbers, lambda y, t: huber(y, t, 0.3)),
    CostCase("Hinge, labels", HINGE, (4, 3), labels, multiclass_hinge),
    CostCase("Hinge, labels, T", HINGE, (2, 5, 3), labels, multiclass_hinge),
    CostCase("Hinge, signs", HINGE, (4, 3), signs, binary_hinge),
    CostCase("PoissonNegativeLogLikelihood", POISSON, (4, 3), counts, poisson),
    CostCase("GaussianNegativeLogLikelihood", GAUSSIAN, (4, 6), halves, gaussian),
    CostCase("GaussianNegativeLogLikelihood, T", GAUSSIAN, (2, 3, 2), halves, gaussian),
    CostCase("KLDivergence", KL, (4, 3), sparse, kl_divergence),
    CostCase("KLDivergence, T", KL, (2, 5, 3), sparse, kl_divergence),
    CostCase("SoftmaxCrossEntropy, smoothed", SMOOTH, (4, 3), labels, special_cross_entropy(0.2)),
    CostCase("SoftmaxCrossEntropy, smoothed amounts", SMOOTH, (4, 3), amounts, special_cross_entropy(0.2)),
    CostCase("SoftmaxCrossEntropy, weighted", WEIGHTED, (4, 3), labels, special_cross_entropy(weights=WEIGHTS)),
    CostCase(
        "SoftmaxCrossEntropy, all settings, T",
        jp.SoftmaxCrossEntropy(**ALL),
        (3, 5, 3),
        padded,
        special_cross_entropy(0.1, WEIGHTS, -1),
    ),
]
