"""What the combinators promise beyond the battery: depth costs no compile time, memory falls, ties are exact."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError, ShapeError
from tests.drawing import draw

HALF = jp.HalfSquaredError()


def block(width=4, hidden=8):
    return jp.Residual(jp.Chain(jp.Linear(hidden), jp.Tanh(), jp.Linear(width)))


def rows(N=4, I=4, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(N, I))), jnp.asarray(rng.normal(size=(N, I)))


def lowered(net, x, targets, way):
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    return jax.jit(way.value_and_grad(net, HALF)).lower(x, params, targets)


@pytest.mark.parametrize("way", [jp.manual, jp.auto], ids=["manual", "auto"])
def test_the_program_of_a_repeat_does_not_grow_with_depth(way):
    x, targets = rows()
    shallow, deep = (lowered(jp.Repeat(block(), times), x, targets, way).as_text() for times in (2, 40))
    assert abs(len(deep) - len(shallow)) < 0.02 * len(shallow)  # numbers have more digits, nothing else


def test_a_repeat_is_the_chain_of_its_blocks():
    x, targets = rows()
    repeat, chain = jp.Repeat(block(), 3), jp.Chain(*[block()] * 3)
    params = draw(repeat, x)
    unrolled = tuple(jax.tree.map(lambda p, i=i: np.asarray(p)[i], params.inner) for i in range(3))
    value, grads = jax.jit(jp.manual.value_and_grad(repeat, HALF))(x, params, targets)
    expected, chain_grads = jax.jit(jp.manual.value_and_grad(chain, HALF))(x, unrolled, targets)
    assert relative(value, expected) < 1e-14
    assert relative(grads.inner, jax.tree.map(lambda *p: np.stack(p), *chain_grads)) < 1e-12
    drawn = repeat.init(jax.random.key(0), x).inner.inner[0].W
    assert len(np.unique(np.asarray(drawn))) == drawn.size  # each drawn anew


def test_uses_of_a_repeat_are_stacked_and_say_what_the_chain_says():
    x, targets = rows()
    repeat = jp.Repeat(block(), 3)
    params = draw(repeat, x)

    @jax.jit
    def run(x, targets):
        W = jp.manual.uses(repeat, HALF)(x, params, targets)[1].inner.inner[0].W
        each = jax.vmap(lambda x, t: jp.auto.value_and_grad(repeat, HALF)(x[None], params, t[None])[1])(x, targets)
        return W, W.per_example(), W.squared_norms(), each.inner.inner[0].W

    W, per_example, norms, each = run(x, targets)
    assert isinstance(W, jp.Stacked) and W.shape == (3, 4, 8) and W.examples == 4
    assert relative(per_example, each) < 1e-12
    assert relative(norms, np.sum(np.square(each), axis=(1, 2, 3))) < 1e-12


def test_what_closes_inside_a_repeat_comes_stacked():
    class Norms(jp.Walk):
        def close(self, use, path):
            return use.squared_norms()

    x, targets = rows()
    net = jp.Chain(jp.Repeat(block(), 3), jp.Linear(4))
    params = draw(net, x)

    @jax.jit
    def run(x, targets):
        uses = jp.manual.uses(net, HALF)(x, params, targets)[1]
        return jp.manual.uses(net, HALF, Norms())(x, params, targets)[1], uses[0].inner.inner[0].W.squared_norms()

    norms, expected = run(x, targets)
    assert norms[0].inner.inner[0].W.shape == (3, 4) and norms[1].W.shape == (4,)
    assert relative(np.sum(norms[0].inner.inner[0].W, axis=0), expected) < 1e-12


def test_paths_are_one_name_everywhere():
    x, targets = rows()
    net = jp.Chain(jp.Tanh(), jp.Repeat(block(), 2), jp.Remat(jp.Parallel(jp.Linear(4), jp.Identity())))
    params = draw(net, x)
    tape = jax.eval_shape(jp.manual.trace(net, HALF), x, params, targets)
    expected = ["0", "1.inner.inner.0", "1.inner.inner.1", "1.inner.inner.2", "2.inner.0", "2.inner.1"]
    assert list(tape) == expected == [row.path for row in jp.summary(net, x).rows]
    assert tape["1.inner.inner.1"].derivative.shape == (2, 4, 8)
    assert list(jp.network.by_path(params))[:1] == ["1.inner.inner.0.W"]


def gpt_like(remat):
    inner = jp.Chain(*[jp.Linear(64), jp.Tanh()] * 6)
    return jp.Repeat(jp.Remat(inner) if remat else inner, 6)


@pytest.mark.parametrize("way", [jp.manual, pytest.param(jp.auto, marks=pytest.mark.slow)], ids=["manual", "auto"])
def test_remat_lowers_memory_and_changes_no_number(way):
    x, targets = rows(256, 64)
    plain, remat = (lowered(gpt_like(remat), x, targets, way).compile() for remat in (False, True))
    assert memory(remat) < 0.6 * memory(plain)
    params = draw(gpt_like(False), x)
    value, grads = plain(x, params, targets)
    again, remat_grads = remat(x, type(params)(type(params)(params.inner)), targets)
    assert relative((again, remat_grads.inner.inner), (value, grads.inner)) < 1e-12


def memory(compiled):
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_outside_of_a_scan_remat_is_what_jax_checkpoint_is():
    """XLA:CPU drops the barrier there and merges both ways forward (docs/sharp_edges.md): no worse than JAX's own."""
    x, targets = rows(256, 64)
    net = jp.Chain(*[jp.Remat(jp.Chain(*[jp.Linear(64), jp.Tanh()] * 6))] * 3)
    by_hand, by_jax = (memory(lowered(net, x, targets, way).compile()) for way in (jp.manual, jp.auto))
    assert by_hand <= by_jax


@pytest.mark.slow
def test_closing_inside_the_scan_needs_less_memory_than_jax_grad():
    x, targets = rows(256, 64)
    net = jp.Repeat(jp.Chain(jp.Linear(64), jp.Tanh()), 12)
    by_hand, by_jax = (memory(lowered(net, x, targets, way).compile()) for way in (jp.manual, jp.auto))
    assert by_hand <= by_jax


TIED = jp.Shared(jp.Chain(jp.Linear(16), jp.Tanh(), jp.Linear(16)), ties=(("0.W", "2.W", True),))


def test_tied_norms_have_their_cross_terms_and_build_no_example_gradients():
    rng = np.random.default_rng(0)
    x, targets = (jnp.asarray(rng.normal(size=(64, 2, 16))) for _ in range(2))
    params = draw(TIED, x)

    @jax.jit
    def run(x, targets):
        uses = jp.manual.uses(TIED, HALF)(x, params, targets)[1]
        use = uses.inner[0].W
        return uses, use.per_example(), sum(part.squared_norms() for part in use.uses)

    uses, each, apart = run(x, targets)
    use = uses.inner[0].W
    assert isinstance(use, jp.Several) and use.norm_method == "gram" and uses.inner[2].W is None
    compiled = jax.jit(lambda use: use.squared_norms()).lower(use).compile()
    assert memory(compiled) < each.nbytes / 2
    norms = compiled(use)
    assert relative(norms, np.sum(np.square(each), axis=(1, 2))) < 1e-12
    assert relative(norms, apart) > 1e-3  # the cross terms are there


@functools.cache
def mlp():
    return jp.Chain(jp.Linear(3), jp.Linear(3))


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: jp.Repeat(jp.Tanh(), 0), JaxpropError, "times must be a whole number ≥ 1, found 0"),
        (lambda: jp.Parallel(join="sum"), JaxpropError, "expected one or more layers"),
        (
            lambda: jp.Parallel(jp.Tanh(), join="product"),
            JaxpropError,
            "join must be 'sum' or 'concatenate' or",
        ),
        (lambda: jp.Shared(mlp(), (("0.W", "7.W", False),)), JaxpropError, "'7.W' leads nowhere"),
        (lambda: jp.Shared(jp.Repeat(jp.Linear(3), 2), (("inner.W", "inner.b", False),)), JaxpropError, "Repeat"),
        (lambda: jp.Shared(mlp(), (("0.W", "0.W", False),)), JaxpropError, "no owner among them"),
        (lambda: start(jp.Shared(mlp(), (("0.W", "1.V", False),))), JaxpropError, "no parameter at '1.V'"),
        (lambda: start(jp.Shared(mlp(), (("0.W", "1.b", False),))), ShapeError, "0.W is [3, 3], 1.b needs [3]"),
        (lambda: jp.Residual(jp.Linear(2))(jnp.ones((4, 3)), start(jp.Residual(jp.Linear(2)))), ShapeError, "[4, 2]"),
        (lambda: jp.Repeat(jp.Linear(2), 2)(jnp.ones((4, 3)), start(jp.Repeat(jp.Linear(2), 2))), ShapeError, "keep"),
        (lambda: jp.Repeat(jp.Linear(3), 3)(jnp.ones((4, 3)), start(jp.Repeat(jp.Linear(3), 2))), ShapeError, "of 3"),
        (lambda: start(jp.Chain(jp.Parallel(jp.Linear(2), jp.Linear(3)), jp.Tanh())), ShapeError, "one shape"),
        (lambda: jp.Residual(jp.Linear(3))(jnp.ones((4, 3)), ((), ())), ShapeError, "found 2 items"),
    ],
)
def test_mistakes_are_named(make, error, words):
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


def start(net):
    return draw(net, np.ones((4, 3)))


@pytest.mark.slow
def test_a_network_of_all_of_them_is_trained_saved_and_checked(tmp_path):
    x, targets = rows(32, 4)
    net = jp.Chain(
        jp.Repeat(jp.Remat(block()), 2),
        jp.Shared(jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(4)), ties=(("0.W", "2.W", True),)),
        jp.Parallel(jp.Linear(4), jp.Chain(jp.Linear(4), jp.Sigmoid()), join="multiply"),
    )
    options = {"epochs": 30, "batch_size": 8, "progress": False, "key": jax.random.key(1)}
    ways = ("manual", "auto")
    by_hand, by_jax = (jp.fit(net, HALF, optax.adam(0.01), (x, targets), grad=way, **options) for way in ways)
    assert relative(by_hand.params, by_jax.params) < 1e-6  # 120 steps of Adam magnify 1e-15
    assert by_hand.history[-1]["cost"] < 0.7 * by_hand.history[0]["cost"]
    report = jp.compare(net, HALF)(x, by_hand.params, targets)
    assert report.ok, report
    jp.save(tmp_path / "net", net, by_hand.params, inputs=x, cost=HALF)
    again, params = jp.load(tmp_path / "net")
    assert again == net and relative(params, by_hand.params) == 0
    value = jax.jit(jax.grad(lambda p: jnp.mean(HALF(jp.mixed(net)(x, p), targets))))(params)
    assert relative(value, jax.jit(jp.auto.value_and_grad(net, HALF))(x, params, targets)[1]) < 1e-12
    assert jp.summary(net, x).total("parameters") == sum(math.prod(p.shape) for p in jax.tree.leaves(params))


def test_every_block_draws_with_a_key_of_its_own():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Noise(jp.Layer):
        def forward(self, x, params, env=None):
            return x + jax.random.normal(env.rng, x.shape, x.dtype), ()

        def backward(self, dy, cache, params):
            return dy, ()

    x = jnp.zeros((1, 1000))
    once, thrice = (jp.Repeat(Noise(), n)(x, ((),), jp.Env(rng=jax.random.key(0))) for n in (1, 3))
    assert abs(float(jnp.std(thrice)) - math.sqrt(3)) < 0.15 and abs(float(jnp.std(once)) - 1) < 0.1
    y, _ = jp.Repeat(Noise(), 3).forward(x, ((),), jp.Env(rng=jax.random.key(0)))
    assert relative(y, thrice) == 0


@pytest.mark.parametrize("block, x", [(jp.Flatten(), np.array([[1, 2], [0, 3]])), (jp.Tanh(), None)], ids=["ids", "x"])
def test_a_repeat_of_a_layer_without_parameters(block, x):
    """Also before integers, where nothing comes back through the scan."""
    x = rows()[0] if x is None else x
    net = jp.Chain(jp.Repeat(block, 2), jp.Embedding(5, 6) if x.dtype == int else jp.Linear(6))
    params = draw(net, x)
    targets = np.ones(jax.eval_shape(net, x, params).shape)
    ways = [way.value_and_grad(net, HALF) for way in (jp.manual, jp.auto)]
    by_hand, by_jax = jax.jit(lambda *given: [way(*given) for way in ways])(x, params, targets)
    assert relative(by_hand, by_jax) < 1e-12


def test_a_residual_of_a_pair_is_refused():
    x = jnp.ones((2, 3, 4))
    net = jp.Residual(jp.MultiHeadAttention(2, cross=True))
    with pytest.raises(ShapeError, match="found x of 2 arrays, expected one"):
        net((x, x), jp.network.Inner(draw(net.inner, (x, x))))
