"""The builders: what they return is a plain network that trains by hand, is checked, saved, and refuses nonsense."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import tolerance
from jaxprop.check.quantities import QUANTITIES, some_weights
from jaxprop.errors import JaxpropError
from jaxprop.uses import is_use
from tests.drawing import draw

SOFTMAX = jp.SoftmaxCrossEntropy()
NORMS = QUANTITIES["squared norms"]
IDS = np.random.default_rng(0).integers(0, 7, (2, 5))
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
SEQUENCES = np.random.default_rng(0).normal(size=(2, 5, 3))

NETWORKS = {
    "mlp": (jp.models.mlp(sizes=(3, 4, 2), activation=jp.Tanh()), SEQUENCES[:, 0], (2, 2)),
    "convnet": (jp.models.convnet(classes=3, width=2), IMAGES, (2, 3)),
    "resnet": (jp.models.resnet(classes=3, width=4, blocks=1), IMAGES, (2, 3)),
    "gpt": (jp.models.gpt(vocabulary=7, width=8, depth=2, heads=2, context=6), IDS, (2, 5, 7)),
    "rnn": (jp.models.rnn_classifier(cell="rnn", features=4, classes=2), SEQUENCES, (2, 2)),
    "gru": (jp.models.rnn_classifier("gru", 4, 2), SEQUENCES, (2, 2)),
    "lstm": (jp.models.rnn_classifier("lstm", 4, 2), SEQUENCES, (2, 2)),
}


ALIKE = {"rnn", "lstm"}  # but for the cell, which has its own tests, as `gru`
EACH = [pytest.param(name, marks=pytest.mark.exhaustive if name in ALIKE else pytest.mark.slow) for name in NETWORKS]


@pytest.mark.parametrize("name", EACH)
def test_by_hand_is_by_jax_and_what_is_saved_comes_back(name, tmp_path):
    net, x, shape = NETWORKS[name]
    x = jnp.asarray(x)
    params = draw(net, x)
    assert jax.eval_shape(net, x, params).shape == shape
    targets = jnp.zeros(shape[:-1], int)
    ways = [way.value_and_grad(net, SOFTMAX) for way in (jp.manual, jp.auto)]
    by_hand, by_jax = jax.jit(lambda *given: [way(*given) for way in ways])(x, params, targets)
    assert relative(by_hand, by_jax) <= tolerance("float64")
    jp.save(tmp_path / "net", net, params, inputs=x, cost=SOFTMAX)
    again, loaded = jp.load(tmp_path / "net")
    assert again == net and relative(loaded, params) == 0 and eval(repr(net), vars(jp)) == net
    counted = jp.summary(net, x).total("parameters")
    assert counted == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_a_gpt_is_causal_and_ties_its_table():
    net, x, _ = NETWORKS["gpt"]
    params = draw(net, x)
    changed = x.copy()
    changed[:, 3] = (changed[:, 3] + 1) % 7
    run = jax.jit(net)
    y, other = run(jnp.asarray(x), params), run(jnp.asarray(changed), params)
    assert relative(y[:, :3], other[:, :3]) == 0 and relative(y[:, 3:], other[:, 3:]) > 1e-3
    assert params.inner[0].W.shape == (7, 8) and params.inner[4].W is None


@pytest.mark.slow
def test_per_example_norms_of_a_gpt_are_one_example_at_a_time():
    """The tied table, stacked blocks and attention at once."""
    net, x, _ = NETWORKS["gpt"]
    x, targets = jnp.asarray(x), jnp.asarray(IDS[:, ::-1])
    params = draw(net, x)

    @jax.jit
    def both(x, params, targets):
        _, uses = jp.manual.uses(net, SOFTMAX)(x, params, targets)
        alone = jax.vmap(lambda x, t: jp.auto.value_and_grad(net, SOFTMAX)(x[None], params, t[None])[1])(x, targets)
        weights = some_weights(len(x), jnp.float64)
        by_use = jax.tree.map(lambda use: NORMS.by_use(use, weights), uses, is_leaf=is_use)
        return by_use, jax.tree.map(lambda grads: NORMS.by_examples(grads, weights), alone)

    assert relative(*both(x, params, targets)) <= tolerance("float64")


def test_arguments_have_the_names_that_are_promised():
    expected = {
        "mlp": ["sizes", "activation"],
        "convnet": ["classes"],
        "resnet": ["classes", "width", "blocks"],
        "gpt": ["vocabulary", "width", "depth", "heads", "context"],
        "rnn_classifier": ["cell", "features", "classes"],
    }
    for name, arguments in expected.items():
        assert list(inspect.signature(getattr(jp.models, name)).parameters)[: len(arguments)] == arguments


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: jp.models.mlp((10,)), "at least two, inputs first"),
        (lambda: jp.models.resnet(10, 8, 0), "blocks must be whole numbers ≥ 1"),
        (lambda: jp.models.rnn_classifier("lstn", 4, 2), "did you mean 'lstm'"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(JaxpropError, match=words):
        make()
