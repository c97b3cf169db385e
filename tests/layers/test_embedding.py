"""Tables, positions and dropout: against Flax, and what their docstrings say of edges."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.check.subject import At, by_hand
from jaxprop.errors import JaxpropError, ShapeError
from tests.drawing import draw

V, D = 7, 4
IDS = jnp.asarray(np.random.default_rng(0).integers(0, V, (3, 5)))


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def test_a_table_is_that_of_flax():
    layer, module, W = jp.Embedding(V, D), nn.Embed(V, D, param_dtype=jnp.float64), normal(0, V, D)

    @jax.jit
    def both(ids, dy):
        y, vjp = jax.vjp(lambda W: module.apply({"params": {"embedding": W}}, ids), W)
        ours = by_hand(layer, At(ids, jp.EmbeddingParams(W), None, dy))
        return (ours.y, ours.params.W), (y, *vjp(dy))

    for ids in (IDS, IDS[:, 0], IDS[:, :, None]):
        ours, theirs = both(ids, normal(1, *ids.shape, D))
        assert relative(ours, theirs) <= 1e-10


@pytest.mark.parametrize("wrong", [-1, V])
def test_an_id_without_a_row_is_seen_at_once_and_moves_no_row(wrong):
    layer, params = jp.Embedding(V, D), jp.EmbeddingParams(normal(0, V, D))
    ids = IDS.at[0, 0].set(wrong)
    with pytest.raises(jp.DataError, match=rf"row 0, position 0 is id {wrong}, expected 0 to {V - 1} for a vocab"):
        layer(ids, params)
    y, cache = jax.jit(layer.forward)(ids, params)
    use = layer.backward(jnp.ones_like(y), cache, params)[1].W
    assert np.isnan(y[0, 0]).all() and np.isfinite(y[0, 1:]).all()
    assert float(use.total(None).sum()) == (IDS.size - 1) * D


@pytest.mark.parametrize("T, D", [(2, 8), (8, 3)], ids=["gram", "segments"])
def test_norms_leave_out_the_ids_that_have_no_row_as_the_gradient_does(T, D):
    ids = jnp.array([[0, 1] * (T // 2), [-1, V] * (T // 2), [1, V, 1, -2][:T] * (T // 4 or 1)])
    use = jp.Lookup(ids, normal(0, 3, T, D), (V, D), jnp.float64)
    output = jp.Outer(normal(1, 3, 1, D), normal(2, 3, 1, V), (D, V), jnp.float64)
    tied = jp.Several((use, output), (False, True), (V, D), jnp.float64)
    answers = jax.jit(lambda uses: [(use.squared_norms(), use.per_example()) for use in uses])((use, tied))
    for norms, gradients in answers:
        np.testing.assert_allclose(norms, np.sum(np.square(gradients), (1, 2)), rtol=1e-12)
    assert answers[0][0][1] == 0


def test_every_door_names_an_id_outside_of_the_vocabulary():
    ids = np.array([[1, 2, 7], [4, 0, 1]])
    net, cost = jp.Chain(jp.Transpose((0,)), jp.Parallel(jp.Embedding(5, 4)), jp.Linear(4)), jp.SoftmaxCrossEntropy()
    targets = ids % 4
    params = net.init(jax.random.key(0), ids)
    doors = [
        lambda: net(ids, params),
        lambda: jp.predict(net, ids, params),
        lambda: jp.evaluate(net, cost)(ids, params, targets),
        lambda: jp.fit(net, cost, optax.sgd(0.1), (ids, targets), epochs=1, progress=False),
        lambda: jp.auto.value_and_grad(net, cost)(ids, params, targets),
        lambda: jp.manual.uses(net, cost)(ids, params, targets),
    ]
    for door in doors:
        with pytest.raises(jp.DataError, match="row 0, position 2 is id 7, expected 0 to 4 for a vocabulary of 5"):
            door()
    assert np.isnan(jax.jit(net)(ids, params)[0, 2]).all()


@pytest.mark.parametrize("T, method", [(2, "gram"), (8, "segments")])
def test_norms_never_hold_a_table_an_example(T, method):
    """Neither in the program nor in its memory is there anything of the size [N, V, D], nor [V, D]."""
    N, V, D = 8, 1000, 8
    use = jp.Lookup(jnp.zeros((N, T), int), normal(0, N, T, D), (V, D), jnp.float64)
    assert use.norm_method == method
    sizes = [v.aval.size for e in jax.make_jaxpr(lambda u: u.squared_norms())(use).eqns for v in e.outvars]
    assert max(sizes) < V * D
    compiled = jax.jit(lambda u: u.squared_norms()).lower(use).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * V * D


def test_positions_end_where_the_table_ends():
    layer = jp.PositionalEmbedding(4)
    params = layer.init(jax.random.key(0), normal(0, 2, 3, D))
    assert params.W.shape == (4, D)
    with pytest.raises(ShapeError, match="5"):
        layer(normal(0, 2, 5, D), params)


def test_rows_that_no_position_has_cost_nothing():
    """The norms see δ `[N, T, D]` alone, the gradient is padded once and not for every example."""
    N, T, length = 4, 3, 1000
    layer = jp.PositionalEmbedding(length)
    params = jp.PositionalEmbeddingParams(normal(0, length, D))
    use = layer.backward(normal(1, N, T, D), (), params)[1].W

    def largest(f):
        return max(v.aval.size for e in jax.make_jaxpr(f)(use).eqns for v in e.outvars)

    assert largest(lambda use: use.squared_norms()) == N * T * D
    assert largest(lambda use: use.gradient()) == length * D


def test_a_table_of_positions_tied_to_another_has_its_cross_terms():
    net = jp.Shared(jp.Chain(jp.PositionalEmbedding(5), jp.Tanh(), jp.PositionalEmbedding(5)), (("0.W", "2.W", False),))
    x, targets, cost = normal(0, 3, 2, D), normal(1, 3, 2, D), jp.HalfSquaredError()

    @jax.jit
    def run(params):
        use = jp.manual.uses(net, cost)(x, params, targets)[1].inner[0].W
        each = jax.vmap(lambda x, y: jax.grad(lambda p: cost(net(x[None], p), y[None])[0])(params))(x, targets)
        expected = each.inner[0].W
        return (use.per_example(), use.squared_norms()), (expected, jnp.sum(expected**2, axis=(1, 2)))

    assert relative(*run(draw(net, x))) <= 1e-12


def test_dropout_drops_its_share_keeps_the_mean_and_sends_back_through_what_it_kept():
    layer, x, env = jp.Dropout(0.25), jnp.ones((100, 200)), jp.Env(rng=jax.random.key(0))
    y, cache = layer.forward(x, (), env)
    kept = np.asarray(y != 0)
    assert abs(kept.mean() - 0.75) < 0.01 and relative(y[kept], jnp.full(kept.sum(), 4 / 3)) < 1e-14
    dx, _ = layer.backward(3 * x, cache, ())
    assert relative(dx, 3 * y) < 1e-14
    assert np.array_equal(layer(x, (), env), y), "one key, one mask"
    assert not np.array_equal(layer(x, (), jp.Env(rng=jax.random.key(1))), y)


def test_without_a_key_or_with_rate_0_nothing_is_dropped():
    x = normal(0, 4, 3)
    for layer, env in (
        (jp.Dropout(0.9), None),
        (jp.Dropout(0.9), jp.Env()),
        (jp.Dropout(0), jp.Env(jax.random.key(0))),
    ):
        y, cache = layer.forward(x, (), env)
        assert y is x and cache is None and layer.backward(x, cache, ())[0] is x


@pytest.mark.slow
def test_fit_drops_while_it_trains_and_not_while_it_predicts():
    x = jnp.ones((4, 1000))
    net = jp.Chain(jp.Dropout(0.5), jp.GlobalAvgPool())
    value, _ = jp.manual.value_and_grad(net, jp.HalfSquaredError())(
        x[..., None], ((), ()), jnp.ones((4, 1)), rng=jax.random.key(0)
    )
    assert float(value) > 0 and relative(jp.predict(net, x[..., None], ((), ())), np.ones((4, 1))) < 1e-12


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: jp.Embedding(0, 3), JaxpropError, "vocabulary must be a whole number ≥ 1, found 0"),
        (lambda: jp.Embedding(5, 3).init(None, IDS), JaxpropError, "needs a key"),
        (lambda: jp.Embedding(5, 3).init(jax.random.key(0), normal(0, 2, 3)), ShapeError, "go to a Linear"),
        (lambda: jp.Embedding(5, 3)(IDS, jp.EmbeddingParams(normal(0, V, D))), ShapeError, r"found W \[7, 4\], exp"),
        (lambda: jp.Dropout(1.0), JaxpropError, r"up to \(not including\) 1, found 1.0"),
        (lambda: jp.Dropout(0.5)(IDS, ()), ShapeError, "ids go through an Embedding first"),
    ],
)
def test_what_does_not_fit_is_named(make, error, words):
    with pytest.raises(error, match=words):
        make()
