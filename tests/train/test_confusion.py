"""The confusion matrix and what it says of every class, against scikit-learn."""

import numpy as np
import pytest

from jaxprop.errors import ShapeError
from jaxprop.train.confusion import confusion, per_class


@pytest.mark.slow
def test_the_same_figures_as_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 200)
    chosen = np.where(rng.random(200) < 0.6, truth, rng.integers(0, 5, 200))  # class 4 has no row of its own
    counts = confusion(truth, chosen, 6)  # class 5 is nowhere
    assert np.array_equal(counts, metrics.confusion_matrix(truth, chosen, labels=range(6)))
    theirs = metrics.precision_recall_fscore_support(truth, chosen, labels=range(6), zero_division=np.nan)
    found = per_class(counts)
    for key, expected in zip(("precision", "recall", "f1"), theirs, strict=False):
        np.testing.assert_allclose(found[key], expected, rtol=1e-15, err_msg=key)
    assert np.array_equal(counts.sum(1), theirs[3])


@pytest.mark.parametrize("truth, chosen", [([0, 3], [0, 0]), ([0, 0], [-1, 0]), ([0, 1], [0])])
def test_labels_that_are_no_classes_are_refused(truth, chosen):
    with pytest.raises(ShapeError, match=r"expected 0 to 2|must have one shape"):
        confusion(truth, chosen, 3)
