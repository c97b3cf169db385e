"""The X-ray of models that nobody here wrote: every value and every error inside, and the gradient, by other means."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.xray import measures
from tests.xray.keeping import agree, both, close
from tests.xray.measuring import check_felt, check_measures
from tests.xray.models import MODELS, one_by_one

DEFAULT = {"linen/gru", "nnx/cnn", "equinox/lstm"}
SLOW = {"linen/transformer_scanned", "nnx/transformer_remat", "equinox/transformer_tied"}


@pytest.mark.parametrize("name", one_by_one(DEFAULT, SLOW))
def test_every_value_and_error_is_the_witness(name):
    model = MODELS[name]()
    _, found = both(model.loss, model.params, model.x[0], model.y[0])
    agree(found)
    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(model.loss))(model.params, model.x[0], model.y[0])
    close(np.asarray(value), found.ours[0])
    leaves = jax.tree.leaves(eqx.filter(gradient, eqx.is_inexact_array))  # nnx's counters are float0 there
    for mine, other in zip(found.ours[1], leaves, strict=True):
        close(mine, np.asarray(other), overall=1.0)


def together(runs, *args):
    """Run several functions of the same arguments in one program."""
    return eqx.filter_jit(lambda *args: [run(*args) for run in runs])(*args)


BATCHES = [
    "equinox/mlp",
    pytest.param("linen/gru", marks=pytest.mark.slow),
    pytest.param("linen/transformer_tied", marks=pytest.mark.exhaustive),
]


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_is_measured_as_numpy_measures_it(name):
    """Everything in the mean over a batch, as in a user's own training step, is measured right, and its gradient is.

    So it is lightly: fewer numbers, at fewer places.
    """
    model = MODELS[name]()
    full, light = (jp.xray.program(model.mean, light=which) for which in (False, True))
    runs = full, light, eqx.filter_value_and_grad(model.mean)
    full, light, (value, gradient) = together(runs, model.params, model.x, model.y)
    for reading, rtol in ((full, 1e-10), (light, 1e-12)):
        np.testing.assert_allclose(reading.value, value, rtol=rtol / 100)
        for mine, other in zip(jax.tree.leaves(reading.grads), jax.tree.leaves(gradient), strict=True):
            if jnp.issubdtype(mine.dtype, jnp.floating):
                np.testing.assert_allclose(mine, other, rtol=rtol, atol=1e-5 * rtol)
    _, found = both(model.mean, model.params, model.x, model.y)
    check_measures(full, found)
    agree_with_light(full, light)


def agree_with_light(full, light):
    """What a light reading has, a full one has too, with the same numbers."""
    assert set(light.errors) <= set(full.errors) and set(light.values) <= set(full.values)
    both_have = [measures.FULL.index(each) for each in measures.LIGHT]
    for few, all_of_them in ((light.values, full.values), (light.errors, full.errors)):
        for path, outputs in few.items():
            for mine, other in zip(outputs, all_of_them[path], strict=True):
                if mine is not None:
                    np.testing.assert_allclose(mine, np.asarray(other)[..., both_have], rtol=1e-10, atol=1e-15)


@pytest.mark.slow
def test_a_finite_difference_of_an_activation_of_a_model():
    """A dense layer's bias is added to what its product computes: what it is felt by is the error there."""
    model = MODELS["linen/mlp"]()
    reading = eqx.filter_jit(jp.xray.program(model.loss))(model.params, model.x[0], model.y[0])
    bias = model.params["Dense_1"]["bias"]
    h, felt = 1e-6, []
    loss = jax.jit(model.loss)
    for i in range(len(bias)):
        ends = [
            loss(
                model.params | {"Dense_1": model.params["Dense_1"] | {"bias": bias.at[i].add(s)}},
                model.x[0],
                model.y[0],
            )
            for s in (h, -h)
        ]
        felt.append((ends[0] - ends[1]) / (2 * h))
    (site,) = [s for s in reading.sites if s.scope.endswith("Dense_1") and s.primitive == "dot_general"]
    check_felt(reading.errors[site.path][0], np.asarray(felt), 1e-6)
