"""Rules against references written without the engine, and against backpropagation where B = W."""

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import jaxprop as jp
from jaxprop.arrays.paths import by_path
from jaxprop.arrays.relative import relative
from tests.cases import LAYERS, one_of_each
from tests.drawing import draw

FA, KP, DFA = jp.rules.FeedbackAlignment(), jp.rules.KolenPollack(), jp.rules.DirectFeedbackAlignment()


@dataclass(frozen=True, eq=False)
class Case:
    """A network, the shape of its x, and what else it needs."""

    net: jp.Layer
    shape: tuple[int, ...]
    ids: int = 0
    mask: Any = None

    def rows(self, seed=0):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, self.ids, self.shape) if self.ids else rng.normal(size=self.shape)
        x = jnp.asarray(x, jnp.int32 if self.ids else float)
        params = draw(self.net, x, seed)
        y = jax.eval_shape(self.net, x, params)
        return x, params, jnp.asarray(rng.normal(size=y.shape))

    def feedback(self, rule, seed=7):
        x, params, _ = self.rows()
        spec = jax.eval_shape(lambda key: rule.init(key, self.net, params, x), jax.random.key(0))
        rng = np.random.default_rng(seed)
        return jax.tree.map(lambda B: jnp.asarray(rng.normal(size=B.shape) / 2, B.dtype), spec)


def mlp(*widths):
    return [layer for width in widths for layer in (jp.Linear(width), jp.Tanh())]


SEQUENCE = (2, 3, 4)
CASES = {
    "dense": Case(jp.Chain(*mlp(5, 4), jp.Linear(2, bias=False)), (6, 3)),
    "combinators": Case(
        jp.Chain(
            jp.Linear(4),
            jp.Residual(jp.Chain(*mlp(4))),
            jp.Repeat(jp.Residual(jp.Chain(jp.LayerNorm(), *mlp(4))), 2),
            jp.Remat(jp.Repeat(jp.Remat(jp.Chain(*mlp(4))), 2)),
            jp.Parallel(jp.Linear(3), jp.Chain(jp.Linear(3), jp.Sigmoid()), join="multiply"),
            jp.Shared(jp.Chain(jp.Linear(2), jp.Tanh(), jp.Linear(3)), ties=(("0.W", "2.W", True),)),
        ),
        (5, 3),
    ),
    "convolution": Case(
        jp.Chain(
            jp.Conv(4, (3, 3), groups=2), jp.BatchNorm(), jp.Tanh(), jp.MaxPool((2, 2)),
            jp.ConvTranspose(3, (2, 2), strides=2), jp.Affine(), jp.Flatten(), jp.Linear(2),
        ),
        (2, 4, 4, 2),
    ),
    "attention": Case(
        jp.Shared(
            jp.Chain(
                jp.Embedding(7, 4), jp.PositionalEmbedding(3), jp.MultiHeadAttention(2, causal=True),
                jp.MultiHeadAttention(2, features=6, bias=False), jp.RMSNorm(), jp.Linear(7),
            ),
            ties=(("0.W", "5.W", True),),
        ),
        (2, 3), ids=7, mask=np.array([[True, True, False], [True, True, True]]),
    ),
    "recurrent": Case(jp.Chain(jp.RNN(3), jp.GRU(3), jp.LSTM(3), jp.LSTM(3, sequence=False), jp.Linear(2)), SEQUENCE),
}  # fmt: skip


@functools.cache
def run(case, rule, way="value_and_grad"):
    """(x, params, targets, feedback, rng) -> what `manual` finds, compiled."""
    made = getattr(jp.manual, way)(case.net, jp.HalfSquaredError(), rule=rule)
    given = {"mask": case.mask} if rule is None or case.mask is not None else {}
    return jax.jit(lambda x, p, t, feedback=None, rng=None: made(x, p, t, feedback=feedback, rng=rng, **given))


def same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for path, a in by_path(one).items():
        assert np.array_equal(a, by_path(other)[path]), path


@pytest.mark.parametrize("name", [n if n == "combinators" else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_feedback_that_is_W_is_backpropagation_bit_for_bit(name):
    """And other feedback is not: every B is used, but those that only x would hear from."""
    case = CASES[name]
    rows = case.rows()
    fed = case.feedback(FA)
    as_W = jax.tree.map(lambda W, B: None if B is None else W, rows[1], fed)
    by_rule, backprop = run(case, FA), run(case, None)
    same_bits(by_rule(*rows, as_W), backprop(*rows))
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), by_rule(*rows, fed)[1], backprop(*rows)[1])
    last = list(by_path(changed))[-2:]
    assert all(was for path, was in by_path(changed).items() if path not in last), changed


def test_every_layer_and_every_block_has_feedback_of_its_own():
    net, x = jp.Chain(jp.Linear(40), jp.Linear(40), jp.Repeat(jp.Repeat(jp.Linear(40), 2), 2)), jnp.ones((2, 40))
    fed = FA.init(jax.random.key(0), net, jax.eval_shape(net.init, jax.random.key(0), x))
    assert fed[2].inner.inner.W.shape == (2, 2, 40, 40)
    fed = jax.device_get(fed)
    B = np.stack([fed[0].W.ravel(), fed[1].W.ravel(), *fed[2].inner.inner.W.reshape(4, -1)])
    assert np.max(np.abs(np.corrcoef(B) - np.eye(6))) < 0.15
    assert np.allclose(np.std(B, axis=1), np.sqrt(2 / 80), rtol=0.05)  # as `glorot_uniform` draws one of them


# References


def numpy_mlp(x, params, targets, B):
    """Feedback alignment of a chain of tanh layers with a linear one on top, loop by loop."""
    a, kept = x, []
    weights = [p for p in params if p != ()]
    for i, p in enumerate(weights):
        z = np.array(
            [[sum(a[n, k] * p.W[k, o] for k in range(a.shape[1])) for o in range(p.W.shape[1])] for n in range(len(a))]
        )
        z = z if p.b is None else z + np.asarray(p.b)
        kept.append(a)
        a = np.tanh(z) if i + 1 < len(weights) else z
    delta, grads = a - targets, []
    for i in reversed(range(len(weights))):
        grads.insert(0, (kept[i].T @ delta / len(x), delta.mean(0)))
        delta = (delta @ B[i].T) * (1 - kept[i] ** 2)
    return grads


def test_feedback_alignment_is_what_numpy_finds():
    case = CASES["dense"]
    x, params, targets = case.rows()
    feedback = case.feedback(FA)
    _, grads = run(case, FA)(x, params, targets, feedback)
    B = [np.asarray(feedback[i].W) for i in (0, 2, 4)]
    for i, (W, b) in zip((0, 2, 4), numpy_mlp(np.asarray(x), params, np.asarray(targets), B), strict=True):
        assert relative(grads[i].W, W) <= 1e-12
        assert grads[i].b is None or relative(grads[i].b, b) <= 1e-12


@jax.custom_vjp
def through(x, W, B):
    """x W, whose way back to x is B's."""
    return x @ W


through.defvjp(
    lambda x, W, B: (x @ W, (x, B)),
    lambda kept, dy: (
        dy @ kept[1].T,
        jnp.tensordot(kept[0], dy, [tuple(range(dy.ndim - 1))] * 2),
        jnp.zeros_like(kept[1]),
    ),
)


def convolved(x, W):
    dims = jax.lax.conv_dimension_numbers(x.shape, W.shape, ("NHWC", "HWIO", "NHWC"))
    return jax.lax.conv_general_dilated(x, W, (1, 1), "SAME", dimension_numbers=dims)


@jax.custom_vjp
def through_kernel(x, W, B):
    return convolved(x, W)


through_kernel.defvjp(
    lambda x, W, B: (convolved(x, W), (x, W, B)),
    lambda kept, dy: (
        jax.vjp(lambda x: convolved(x, kept[2]), kept[0])[1](dy)[0],
        jax.vjp(lambda W: convolved(kept[0], W), kept[1])[1](dy)[0],
        jnp.zeros_like(kept[2]),
    ),
)


def attention(x, p, B, heads=2):
    N, T, _ = x.shape
    q, k, v = (through(x, getattr(p, w), getattr(B, w)) for w in ("W_query", "W_key", "W_value"))
    q, k, v = (a.reshape(N, T, heads, -1) for a in (q + p.b_query, k, v + p.b_value))
    scores = jnp.einsum("nthd,nshd->nhts", q, k) / np.sqrt(q.shape[-1])
    u = jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(scores), v).reshape(N, T, -1)
    return through(u, p.W_output, B.W_output) + p.b_output


def gru(x, p, B, F=3):
    h, hs = jnp.zeros((len(x), F)), []
    for t in range(x.shape[1]):
        z = jnp.split(through(x[:, t], p.W_input, B.W_input) + p.b, 3, axis=1)
        a = jnp.split(through(h, p.W_hidden, B.W_hidden), 3, axis=1)
        r, u = jax.nn.sigmoid(z[0] + a[0]), jax.nn.sigmoid(z[1] + a[1])
        h = (1 - u) * jnp.tanh(z[2] + r * (a[2] + p.b_hidden)) + u * h
        hs.append(h)
    return jnp.stack(hs, 1)


def lstm(x, p, B, F=3):
    h, c = jnp.zeros((len(x), F)), jnp.zeros((len(x), F))
    for t in range(x.shape[1]):
        z = through(x[:, t], p.W_input, B.W_input) + p.b + through(h, p.W_hidden, B.W_hidden)
        i, f, g, o = jnp.split(z, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return h


def rnn(x, p, B, F=3):
    h, hs = jnp.zeros((len(x), F)), []
    for t in range(x.shape[1]):
        h = jnp.tanh(through(x[:, t], p.W_input, B.W_input) + p.b + through(h, p.W_hidden, B.W_hidden))
        hs.append(h)
    return jnp.stack(hs, 1)


def dense(x, p, B):
    return through(x, p.W, B.W) + (0.0 if p.b is None else p.b)


def kernel(x, p, B):
    return through_kernel(x, p.W, B.W) + p.b


def tanh(x, p, B):
    return jnp.tanh(x)


def flat(x, p, B):
    return x.reshape(len(x), -1)


WRITTEN_OUT = {
    "dense": (Case(jp.Chain(*mlp(5, 4), jp.Linear(2, bias=False)), (6, 3)), (dense, tanh, dense, tanh, dense)),
    "convolution": (
        Case(jp.Chain(jp.Conv(3, (3, 3)), jp.Tanh(), jp.Conv(2, (2, 2)), jp.Flatten(), jp.Linear(2)), (2, 4, 4, 2)),
        (kernel, tanh, kernel, flat, dense),
    ),
    "attention": (
        Case(jp.Chain(jp.Linear(4), jp.MultiHeadAttention(2), jp.MultiHeadAttention(2), jp.Linear(1)), SEQUENCE),
        (dense, attention, attention, dense),
    ),
    "recurrent": (
        Case(jp.Chain(jp.RNN(3), jp.GRU(3), jp.LSTM(3, sequence=False), jp.Linear(1)), SEQUENCE),
        (rnn, gru, lstm, dense),
    ),
}


def uniform(W):
    *K, I, O = W.shape
    return np.sqrt(2 / (np.prod(K) * (I + O))) * jnp.sign(W)


SUBSTITUTES = {  # what stands in W's place, of W and what the rule drew
    FA: lambda W, B: B,
    KP: lambda W, B: B,
    jp.rules.SignSymmetry(): lambda W, _: uniform(W),
    jp.rules.SignSymmetry("fixed"): lambda W, M: jnp.abs(M) * jnp.sign(W),
}


DEAR = [pytest.param(name, marks=pytest.mark.slow) for name in list(WRITTEN_OUT)[1:]]


def each_rule():
    """Every one of dense layers, and two of each other kind: the others differ from these in what they draw alone."""
    for name, rule in itertools.product(WRITTEN_OUT, SUBSTITUTES):
        two = rule in (FA, jp.rules.SignSymmetry())
        marks = () if name == "dense" and rule != KP else pytest.mark.slow if two else pytest.mark.exhaustive
        yield pytest.param(name, rule, marks=marks, id=f"{name}-{rule}")


@pytest.mark.parametrize("name, rule", [*each_rule()])
def test_a_rule_is_jax_grad_through_another_matrix(name, rule):
    case, layers = WRITTEN_OUT[name]
    x, params, targets = case.rows()
    feedback = case.feedback(rule)
    stands = jax.tree.map(lambda W, B: SUBSTITUTES[rule](W, B) if W.ndim > 1 else W, params, feedback)

    def C(params):
        y = x
        for layer, p, B in zip(layers, params, stands, strict=True):
            y = layer(y, p, B)
        return jnp.sum(jnp.square(y - targets)) / 2 / len(x)

    value, grads = run(case, rule)(x, params, targets, feedback)
    assert relative((value, grads), jax.jit(jax.value_and_grad(C))(params)) <= 1e-12


@pytest.mark.parametrize("name", ["dense", *DEAR])
def test_direct_feedback_is_each_layers_own_derivative_of_e_B(name):
    """Layer by layer: the output of layer l−1 gets e B_l where layer l has weights, else what layer l hands back."""
    case, _ = WRITTEN_OUT[name]
    x, params, targets = case.rows()
    feedback = case.feedback(DFA)
    layers = case.net.layers

    def by_hand(params):
        xs, pulls = x, []
        for layer, p in zip(layers, params, strict=True):
            xs, pull = jax.vjp(layer, xs, p)
            pulls.append((pull, xs))
        e = (xs - targets) / len(x)
        dy, grads, start = e, [], [x, *(y for _, y in pulls)]
        for l in reversed(range(len(layers))):
            dx, grad = pulls[l][0](dy)
            grads.insert(0, grad)
            Bs = jax.tree.leaves(feedback[l])
            if Bs:
                a, positions = start[l], start[l].shape[1:-1] == e.shape[1:-1]
                B = Bs[0].reshape(Bs[0].shape[0], -1)
                dx = e @ B if positions else (e.reshape(len(e), -1) @ B).reshape(a.shape)
            dy = dx
        return tuple(grads)

    assert relative(run(case, DFA)(x, params, targets, feedback)[1], jax.jit(by_hand)(params)) <= 1e-12


@pytest.mark.slow
def test_direct_feedback_goes_to_the_memory_of_cross_attention_too():
    layer = jp.MultiHeadAttention(2, cross=True)
    x = (jnp.ones((2, 3, 4)), jnp.ones((2, 5, 6)))
    params = draw(layer, x)
    feedback = DFA.init(jax.random.key(0), layer, params, x)
    assert feedback.W_query.shape == (4, 4) and feedback.W_key.shape == (12, 5, 6)
    walk, fed = jp.rules.prepare(DFA, layer, params, feedback)
    y, cache = walk.push(layer, x, fed, None, "")
    (dx, dm), uses, _ = walk.pull(layer, jnp.ones_like(y), cache, fed, "")
    assert relative(dx, jnp.ones_like(y) @ feedback.W_query) <= 1e-14
    assert relative(dm, jnp.einsum("nE,Esj->nsj", jnp.ones((2, 12)), feedback.W_key)) <= 1e-14
    by_layer = layer.backward(jnp.ones_like(y), layer.forward(x, params)[1], params)[1]
    assert relative(uses.W_output.gradient(), by_layer.W_output.gradient()) == 0


def test_direct_feedback_through_combinators_adds_up_what_comes():
    """x of a residual gets the error of y, here e B of the layer after it, and e B of its own first layer."""
    case = Case(jp.Chain(jp.Linear(3), jp.Residual(jp.Chain(*mlp(3))), jp.Linear(2)), (4, 3))
    x, params, targets = case.rows()
    feedback = case.feedback(DFA)
    found = run(case, DFA, "uses")(x, params, targets, feedback)[1]
    e = np.asarray(jax.jit(case.net)(x, params) - targets)
    assert relative(found[0].W.delta, e @ (np.asarray(feedback[2].W) + feedback[1].inner[0].W)) <= 1e-13
    blocks = Case(jp.Chain(jp.Repeat(jp.Chain(*mlp(3)), 2), jp.Linear(2)), (4, 3))
    x, params, targets = jax.device_get(blocks.rows())
    feedback = jax.device_get(blocks.feedback(DFA))
    assert feedback[0].inner[0].W.shape == (2, 2, 3)
    W = params[0].inner[0].W[0], params[0].inner[0].b[0]
    z = x @ W[0] + W[1]
    e = np.asarray(jax.jit(blocks.net)(x, params)) - targets
    delta = (e @ feedback[0].inner[0].W[1]) * (1 - np.tanh(z) ** 2)  # of the first block, from the second's B
    stacked = run(blocks, DFA, "uses")(x, params, targets, feedback)[1][0].inner[0].W
    found = np.asarray(jax.jit(lambda use: use.per_example())(stacked))
    assert relative(found[:, 0], np.einsum("ni,no->nio", x, delta)) <= 1e-12


# Properties


@settings(max_examples=20, deadline=None, database=None, derandomize=True)
@given(st.integers(0, 9), st.floats(-3, 3), st.floats(-3, 3))
@pytest.mark.parametrize(
    "rule", [DFA, *(pytest.param(r, marks=pytest.mark.exhaustive) for r in (FA, jp.rules.SignSymmetry()))], ids=str
)
def test_what_a_rule_makes_of_an_error_is_linear_in_it(rule, seed, a, b):
    pull, errors = linear_pull(rule)
    rng = np.random.default_rng(seed)
    one, other = (rng.normal(size=errors) for _ in range(2))
    together = jax.tree.map(lambda p, q: a * np.asarray(p) + b * np.asarray(q), pull(one), pull(other))
    found = pull(a * one + b * other)
    for path, expected in by_path(together).items():
        assert np.allclose(by_path(found)[path], expected, rtol=1e-12, atol=1e-12), path


@functools.cache
def linear_pull(rule):
    case = CASES["dense"]
    x, params, _ = case.rows()
    walk, params = jp.rules.prepare(rule, case.net, params, case.feedback(rule))

    @jax.jit
    def pull(e):
        _, cache = walk.push(case.net, x, params, None, "")
        dx, uses, _ = walk.pull(case.net, e, cache, params, "")
        return dx, jp.gradients(uses, 1.0)

    return pull, (6, 2)


ALL = [
    jp.rules.Backprop(), FA, DFA, KP, jp.rules.SignSymmetry(), jp.rules.SignSymmetry("fixed"),
    jp.rules.SignSymmetry("redrawn"), jp.rules.Clip(0.3, then=FA), jp.rules.Noise(0.1), jp.rules.Quantize(3),
    jp.rules.Drop(0.2), jp.rules.at({"2": jp.rules.Noise(0.1, then=FA), jp.Linear: DFA}),
]  # fmt: skip


def marks(rule):
    """Directly fed, drawing, and of several rules: the others go the ways of these."""
    return pytest.mark.slow if rule in (DFA, ALL[6], ALL[-1]) else pytest.mark.exhaustive


@pytest.mark.parametrize("rule", [pytest.param(rule, marks=marks(rule)) for rule in ALL], ids=str)
def test_a_rule_inside_jit_vmap_scan_and_on_sharded_rows(rule, compilations):
    case = CASES["dense"]
    x, params, targets = case.rows()
    feedback, rng = case.feedback(rule), jax.random.key(3)
    found = run(case, rule)(x, params, targets, feedback, rng)
    others = jax.block_until_ready((2 * x, params, targets, jax.tree.map(lambda B: B + 1, feedback), jax.random.key(4)))
    with compilations() as count:
        jax.block_until_ready(run(case, rule)(*others))
    assert count[0] == 0
    plain = jp.manual.value_and_grad(case.net, jp.HalfSquaredError(), rule=rule)

    def once(x, params, targets, feedback, rng):
        return plain(x, params, targets, feedback=feedback, rng=rng)

    @jax.jit
    def transformed(x, params, targets, feedback, rng):
        stacked = jax.tree.map(lambda leaf: jnp.stack([leaf + 1, leaf]), (params, feedback))
        mapped = jax.vmap(once, (None, 0, None, 0, None))(x, stacked[0], targets, stacked[1], rng)
        scanned = jax.lax.scan(lambda c, two: (c, once(x, two[0], targets, two[1], rng)), (), stacked)[1]
        return [jax.tree.map(lambda leaf: leaf[1], made) for made in (mapped, scanned)]

    for made in transformed(x, params, targets, feedback, rng):
        assert relative(made, found) <= 1e-12
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (("d",), ()))
    across = jax.device_put((x, targets), rows), jax.device_put((params, feedback), whole)
    made = jax.jit(once)(across[0][0], across[1][0], across[0][1], across[1][1], jax.device_put(rng, whole))
    assert relative(made, found) <= 1e-12
    if not rule_draws(rule):  # each shard draws alike

        def shard(x, targets):
            return jax.lax.pmean(plain(x, params, targets, feedback=feedback), "d")

        spec = PartitionSpec("d")
        by_shards = jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=spec, out_specs=PartitionSpec()))
        assert relative(by_shards(x, targets), found) <= 1e-12


def rule_draws(rule):
    return "Noise" in str(rule) or "Drop" in str(rule) or "redrawn" in str(rule)


def test_uses_and_tape_are_by_the_rule():
    case = CASES["dense"]
    x, params, targets = case.rows()
    feedback = case.feedback(DFA)
    value, uses = run(case, DFA, "uses")(x, params, targets, feedback)
    by_uses = value, jax.jit(jp.gradients)(uses)
    assert relative(by_uses, run(case, DFA)(x, params, targets, feedback)) <= 1e-13
    tape, feedback = jax.device_get((run(case, DFA, "trace")(x, params, targets, feedback), feedback))
    e = tape["4"].y - targets
    assert relative(tape["4"].dx, e @ feedback[4].W) <= 1e-14 and relative(tape["2"].dx, e @ feedback[2].W) <= 1e-14
    assert relative(tape["3"].dx, tape["4"].dx * (1 - tape["3"].y ** 2)) <= 1e-13
    assert relative(tape["3"].derivative, 1 - tape["3"].y ** 2) <= 1e-13


@pytest.mark.slow
def test_weights_and_a_rule_where_examples_are_mixed():
    """BatchNorm: weights are in the error from the start, and linear rules do not notice where they come in."""
    case = CASES["convolution"]
    x, params, targets = case.rows()
    made = jp.manual.value_and_grad(case.net, jp.HalfSquaredError(), rule=FA)
    feedback = case.feedback(FA)
    even, plain = (
        jax.jit(lambda w: made(x, params, targets, weights=w, feedback=feedback))(w) for w in (jnp.full(2, 0.5), None)
    )
    assert relative(even, plain) <= 1e-12
    with pytest.raises(jp.JaxpropError, match="mix the examples"):
        jp.manual.uses(case.net, jp.HalfSquaredError(), rule=FA)


@pytest.mark.parametrize("case", [*one_of_each(LAYERS, first=pytest.mark.slow, rest=pytest.mark.exhaustive)])
def test_every_layer_goes_back_by_a_rule_in_its_own_shapes_and_half_precision(case):
    """In shapes and dtypes alone: of x for dx, of θ for gradients, whatever the layer is."""
    x, params, env = case.x("bfloat16"), case.params("bfloat16"), case.env() or jp.Env()

    def of(tree):
        return jax.tree.map(lambda a: (a.shape, a.dtype), tree)

    redrawn = jp.rules.Quantize(4, then=jp.rules.Clip(1.0, by="norm", then=jp.rules.SignSymmetry("redrawn")))
    for rule in (redrawn,) if "Shared" in str(case) else (redrawn, DFA):

        def both(x, params, feedback, key, rule=rule):
            walk, fed = jp.rules.prepare(rule, case.layer, params, feedback, key)
            y, cache = walk.push(case.layer, x, fed, env._replace(rng=key), "")
            dy = y if jnp.issubdtype(y.dtype, jnp.floating) else None
            dx, uses, _ = walk.pull(case.layer, dy, cache, fed, "")
            uses = walk.close_all(uses)
            return x if dx is None else dx, jp.gradients(uses) if jax.tree.leaves(uses) else params

        key = jax.random.key(0)
        feedback = jax.eval_shape(lambda key, rule=rule: rule.init(key, case.layer, params, x), key)
        dx, grads = jax.eval_shape(both, x, params, feedback, key)
        for made, expected in ((dx, x), (grads, params)):
            assert jax.tree.map(lambda a: (a.shape, a.dtype), made) == jax.tree.map(
                lambda a: (a.shape, a.dtype), expected
            )
