"""The leaves of a network: every combinator is gone through, in the order of the forward pass, as θ holds it."""

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.network import in_order, leaves

NET = jp.Shared(
    jp.Chain(
        jp.Linear(2),
        jp.Residual(jp.Chain(jp.Remat(jp.Tanh()), jp.Repeat(jp.Repeat(jp.Linear(2, bias=False), 3), 4))),
        jp.Parallel(jp.Linear(2), jp.Sigmoid(), join="multiply"),
    ),
    ties=(("0.W", "2.0.W", False),),
)
PATHS = ["inner.0", "inner.1.inner.0.inner", "inner.1.inner.1.inner.inner", "inner.2.0", "inner.2.1"]


def test_every_combinator_is_gone_through_in_order():
    found = list(leaves(NET))
    assert [leaf.path for leaf in found] == PATHS
    assert [type(leaf.layer).__name__ for leaf in found] == ["Linear", "Tanh", "Linear", "Linear", "Sigmoid"]
    assert [leaf.repeats for leaf in found] == [0, 0, 2, 0, 0]
    assert [path for path, _ in found[1].inside] == ["", "inner", "inner.1", "inner.1.inner", "inner.1.inner.0"]
    assert all(leaf.params is None for leaf in found)


def test_a_leafs_params_are_as_theta_holds_them():
    params = jax.eval_shape(NET.init, jax.random.key(0), np.ones((1, 2)))
    found = {leaf.path: leaf.params for leaf in leaves(NET, params)}
    assert found["inner.0"].W.shape == (2, 2) and found["inner.2.1"] == ()
    assert found["inner.1.inner.1.inner.inner"].W.shape == (4, 3, 2, 2)
    assert found["inner.2.0"].W is None and found["inner.2.0"].b.shape == (2,)


def test_params_of_another_network_are_refused():
    with pytest.raises(jp.JaxpropError, match="Chain at inner: params must be a tuple of 3, one per layer, found 1"):
        list(leaves(NET, jp.network.Inner(((),))))


def test_a_lone_layer_is_a_leaf():
    assert list(leaves(jp.Tanh(), ())) == [("", jp.Tanh(), (), ())]


def test_in_order_is_the_order_of_the_forward_pass():
    twelve = jp.Chain(*[jp.Tanh()] * 12)
    assert list(in_order(twelve, {str(i): i for i in reversed(range(12))})) == [str(i) for i in range(12)]
    assert list(in_order(NET, dict.fromkeys(["inner.2.0", "elsewhere", "inner.0"]))) == ["inner.0", "inner.2.0"]
