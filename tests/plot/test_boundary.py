"""Regions over two features: what is drawn is what the network answers there."""

import numpy as np
import pytest

from jaxprop import JaxpropError, plot
from tests.plot.pictures import said

X = np.array([[-2.0, 0.0], [2.0, 1.0], [3.0, -1.0]])


def test_regions_and_rows_are_those_of_the_answers():
    calls = []

    def predict(x):
        calls.append(x.shape)
        right = 1 / (1 + np.exp(-x[:, 0]))
        return np.stack([1 - right, right], axis=1)

    held_out = (np.array([[0.5, 0.5], [-1.0, 0.0]]), np.array([1, 1]))
    ax = plot.boundary(predict, (X, np.array([0, 1, 1])), held_out, columns=["age", "income"], classes=["no", "yes"])
    assert len(calls) == 1  # one forward pass for grid and rows
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("age", "income")
    assert "50 % of 2 held-out rows" in said(ax) and "yes, held out" in said(ax)
    (image,) = [image for image in ax.images if image.get_gid() == "regions"]
    colors, (left, right, *_) = np.asarray(image.get_array()), image.get_extent()
    across = np.linspace(left, right, colors.shape[1])
    blue = colors[0, :, 2] > colors[0, :, 0]
    assert np.array_equal(blue, across < 0)
    assert colors[0, 0, 3] > colors[0, np.argmin(np.abs(across)), 3]  # shaded by how sure it is
    assert np.allclose(ax.collections[0].get_offsets(), X[:1])


def test_a_number_has_contours_in_its_own_unit():
    ax = plot.boundary(lambda x: 10 * x[:, :1], (X, 10 * X[:, 0] + 3), target="price")
    assert "Predicted price: root mean squared error 3 on 3 rows" in said(ax)


def test_boundary_refuses():
    with pytest.raises(JaxpropError, match=r"two features to draw over, found \[3, 3\]"):
        plot.boundary(lambda x: x, (np.ones((3, 3)), np.ones(3)))
    with pytest.raises(JaxpropError, match="3 rows of x and 2 targets"):
        plot.boundary(lambda x: x, (X, np.ones(2)))
