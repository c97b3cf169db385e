"""The costs."""

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


HALF, MEAN_SQUARED = jp.HalfSquaredError(), jp.MeanSquaredError()
SOFTMAX, SIGMOID = jp.SoftmaxCrossEntropy(), jp.SigmoidCrossEntropy()

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
]
